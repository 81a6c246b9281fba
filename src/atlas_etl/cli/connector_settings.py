"""`--set KEY=VALUE`: keys of a definition as flags give them, with references in the place of secrets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer
from pydantic import BaseModel

from atlas_etl.cli.asking import ask_secret
from atlas_etl.cli.output import Output
from atlas_etl.cli.session import Session
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.keys import KeyPath, dotted, parse_key
from atlas_etl.config.references import literal
from atlas_etl.config.scalars import plain_scalar
from atlas_etl.config.schedule_words import schedule_of
from atlas_etl.config.secret_names import reference_to, secret_name
from atlas_etl.config.stored_secrets import is_secret_field
from atlas_etl.config.yaml_source import Value
from atlas_etl.errors import UsageError
from atlas_etl.model import Disposition

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A connection's key; `-` as VALUE reads it from stdin."),
]


@dataclass(frozen=True, slots=True)
class Flags:
    """What a command line says of a new connector; `others` are further keys of its definition."""

    protocol: str | None
    settings: Sequence[str] = field(repr=False)
    tables: Sequence[str]
    query: str | None
    cursor: str | None
    primary_key: Sequence[str]
    disposition: Disposition | None
    others: Mapping[str, Value]

    @property
    def is_complete(self) -> bool:
        """Whether nothing has to be asked that only a person knows."""
        return self.protocol is not None and bool(self.tables or self.query)

    def streams(self, name: str) -> list[Value]:
        """The streams that are named, with what is said of each. Raises UsageError."""
        details: dict[str, Value] = {}
        if self.cursor is not None:
            details["cursor"] = self.cursor
        if self.primary_key:
            details["primary_key"] = [*self.primary_key]
        if self.disposition is not None:
            details["disposition"] = self.disposition.value
        streams: list[Value] = [{"table": table, **details} for table in self.tables]
        if self.query is not None:
            streams.append({"name": name, "query": self.query, **details})
        if details and not streams:
            raise UsageError("--cursor, --primary-key and --disposition need a --table or a --query")
        return streams


def schedule_text(text: str, option: str) -> str:
    """The schedule that is meant, which may be said in words. Raises UsageError."""
    try:
        return schedule_of(text)
    except ValueError as wrong:
        raise UsageError(f"{option}: {wrong}") from None


def assignments(
    settings: Sequence[str], name: str, model: type[BaseModel]
) -> tuple[dict[KeyPath, Value], dict[str, str]]:
    """KEY=VALUE pairs as paths of a definition, with references in the place of secrets, and these by name.

    Keys that are none of a definition's own are the connection's.
    """
    found: dict[KeyPath, Value] = {}
    secrets: dict[str, str] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise UsageError(f"--set takes KEY=VALUE, not {key!r}", hint="e.g. --set host=db.example.com")
        parts = parse_key(key)
        at = parts if parts[0] in ConnectorDefinition.model_fields else ("connection", *parts)
        secret = ask_secret(key) if text == "-" else literal(text)
        if secret and at[0] == "connection" and len(at) > 1 and is_secret_field(model, at[1:]):
            reference = secret_name(name, at[1:])
            secrets[reference] = secret
            found[at] = reference_to(reference)
        else:
            found[at] = plain_scalar(secret if text == "-" and secret else text)
            if at == ("schedule",) and text:
                found[at] = schedule_text(text, "--set schedule")
    return found, secrets


def tell_what_was_seen(session: Session, settings: Sequence[str] | None, secrets: Mapping[str, str]) -> None:
    for setting in settings or []:
        key, _, text = setting.partition("=")
        if literal(text) in secrets.values():
            session.output.event(
                f"warning: a command line is no secret: others saw {key}; next time --set {key}=-"
            )


def put(values: dict[str, Value], at: KeyPath, value: Value) -> None:
    for part in at[:-1]:
        if isinstance(part, int):
            raise UsageError(
                f"{dotted(at)} cannot be set: a new definition has no list to change",
                hint="name its streams by --table and --cursor, or give a whole file by --from-file",
            )
        inner = values.setdefault(str(part), {})
        if not isinstance(inner, dict):
            raise UsageError(f"{part!r} is set both as a value and as a mapping")
        values = inner
    values[str(at[-1])] = value


def tell_what_is_kept(output: Output, secrets: Mapping[str, str]) -> None:
    """Of secrets that a source replaced while a definition was tried that is not written.

    They are by their names, with the names under which the new ones are.
    """
    for name, kept in sorted(secrets.items()):
        output.error_line(
            f"the source replaced {name} while it was tried, and what it was given is spent: the new one is "
            f"kept. Give ${{secret:{kept}}} for it the next time; `atlas secret remove {kept}` removes it"
        )
