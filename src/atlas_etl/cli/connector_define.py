"""`atlas connector add | update | remove | enable | disable`: the files of connectors.d/."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from atlas_etl.cli.asking import ask_secret
from atlas_etl.cli.completion import Name
from atlas_etl.cli.opening import open_atlas, recording
from atlas_etl.cli.session import Session
from atlas_etl.config.annotations import fields_of
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.definitions import (
    add_definition,
    check_free,
    load_definition,
    read_definition,
    remove_definition,
    update_definition,
)
from atlas_etl.config.folder import definition_path
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.references import holds_reference, literal
from atlas_etl.config.scalars import plain_scalar
from atlas_etl.config.secret_names import reference_to, secret_name
from atlas_etl.config.stored_secrets import is_secret_field, take_secrets
from atlas_etl.config.yaml_source import Value
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, UsageError
from atlas_etl.model import Disposition

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A connection's key; `-` as VALUE reads it from stdin."),
]


def add(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The new connector's name.")],
    protocol: Annotated[str | None, typer.Option(help="`atlas connector types` lists them.")] = None,
    settings: Settings = None,
    table: Annotated[list[str] | None, typer.Option(help="A table to read; may be repeated.")] = None,
    query: Annotated[str | None, typer.Option(help="A query to read.")] = None,
    cursor: Annotated[str | None, typer.Option(help="The column that grows.")] = None,
    primary_key: Annotated[
        list[str] | None, typer.Option(help="A key column; may be repeated. Default: the catalog's.")
    ] = None,
    disposition: Annotated[Disposition | None, typer.Option(help="How rows meet what is there.")] = None,
    destination: Annotated[str | None, typer.Option(help="A destination of atlas.yaml.")] = None,
    schedule: Annotated[str | None, typer.Option(metavar="CRON", help='E.g. "0 * * * *".')] = None,
    timezone: Annotated[str | None, typer.Option(help="The schedule's IANA zone.")] = None,
    description: Annotated[str | None, typer.Option(help="What this is, for people.")] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Not run by --all and the schedule.")] = False,
    no_test: Annotated[bool, typer.Option("--no-test", help="Write it without trying it.")] = False,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", help="A definition in YAML or JSON, the older form included."),
    ] = None,
) -> None:
    """Write connectors.d/NAME.yaml, after trying the connection.

    Example: atlas connector add shop --protocol postgresql --set host=db --set database=shop
    --set username=etl --set password=- --table public.orders --cursor updated_at
    """
    session: Session = context.obj
    check_free(session.project, name)
    secrets: Mapping[str, str]
    if from_file is not None:
        values, secrets = _from_file(from_file, name, session.environ)
    else:
        values, secrets = _definition(
            _protocol(protocol),
            settings or [],
            table or [],
            query,
            {
                "cursor": cursor,
                "primary_key": primary_key or None,
                "disposition": disposition.value if disposition else None,
            },
            name,
        )
    flags: dict[str, Value] = {
        "destination": destination,
        "schedule": schedule,
        "timezone": timezone,
        "description": description,
        "enabled": False if disabled else None,
    }
    values |= {key: value for key, value in flags.items() if value is not None}
    _tell_what_was_seen(session, settings, secrets)
    with recording(context, name):
        path = add_definition(session.project, name, values, session.environ)
        try:
            open_atlas(session, context.command_path).adopt(name, secrets, reach=not no_test)
        except AtlasError:
            path.unlink(missing_ok=True)
            raise
    shown = path.relative_to(session.project)
    if session.output.as_json:
        answer = {"connector": name, "file": str(shown), "tested": not no_test, "secrets": sorted(secrets)}
        session.output.document(answer)
        return
    session.output.line(f"wrote {shown}")
    if secrets:
        session.output.line(f"encrypted {', '.join(sorted(secrets))}")
    session.output.line(f"next: atlas connector sync {name}")


def _protocol(given: str | None) -> str:
    if given is not None:
        return registry.canonical(given)
    if not sys.stdin.isatty():
        raise UsageError("--protocol is missing", hint="`atlas connector types` lists the protocols")
    return registry.canonical(typer.prompt("protocol", err=True))


def _from_file(
    file: Path, name: str, environ: Mapping[str, str]
) -> tuple[dict[str, Value], Mapping[str, str]]:
    """A definition that refers to its secrets, and these. Raises ConfigError."""
    values = read_definition(file, name, environ)
    connection, protocol = values.get("connection"), values.get("protocol")
    if not isinstance(connection, dict) or not isinstance(protocol, str) or holds_reference(protocol):
        return values, {}
    taken = take_secrets(name, connection, registry.load(protocol).connection)
    return {**values, "connection": taken.connection}, taken.secrets


def _definition(  # noqa: PLR0917  # the flags of one command
    protocol: str,
    settings: list[str],
    tables: list[str],
    query: str | None,
    stream: Mapping[str, Value | list[str]],
    name: str,
) -> tuple[dict[str, Value], dict[str, str]]:
    model = registry.load(protocol).connection
    assigned, secrets = _assignments(settings, name, model)
    _prompt_for_password(name, model, assigned, secrets)
    values: dict[str, Value] = {"protocol": protocol}
    for at, value in assigned.items():
        _put(values, at, value)
    details: dict[str, Value] = {
        key: [*value] if isinstance(value, list) else value
        for key, value in stream.items()
        if value is not None
    }
    streams: list[Value] = [{"table": table, **details} for table in tables]
    if query is not None:
        streams.append({"name": name, "query": query, **details})
    if streams:
        values["streams"] = streams
    elif details:
        raise UsageError("--cursor, --primary-key and --disposition need a --table or a --query")
    return values, secrets


def _assignments(
    settings: list[str], name: str, model: type[BaseModel]
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
        parts: KeyPath = tuple(key.split("."))
        at = parts if parts[0] in ConnectorDefinition.model_fields else ("connection", *parts)
        secret = ask_secret(key) if text == "-" else literal(text)
        if secret and at[0] == "connection" and len(at) > 1 and is_secret_field(model, at[1:]):
            reference = secret_name(name, at[1:])
            secrets[reference] = secret
            found[at] = reference_to(reference)
        else:
            found[at] = plain_scalar(secret if text == "-" and secret else text)
    return found, secrets


def _tell_what_was_seen(session: Session, settings: list[str] | None, secrets: Mapping[str, str]) -> None:
    for setting in settings or []:
        key, _, text = setting.partition("=")
        if literal(text) in secrets.values():
            session.output.event(
                f"warning: a command line is no secret: others saw {key}; next time --set {key}=-"
            )


def _prompt_for_password(
    name: str, model: type[BaseModel], assigned: dict[KeyPath, Value], secrets: dict[str, str]
) -> None:
    """On a terminal, ask for a password that a username begs for."""
    given = {str(at[1]) for at in assigned if len(at) == 2}
    wanted = "password" in fields_of(model) and "password" not in given
    if sys.stdin.isatty() and "username" in given and wanted:
        answer = typer.prompt(
            "password (empty for none)", hide_input=True, default="", show_default=False, err=True
        )
        if answer:
            reference = secret_name(name, ("password",))
            secrets[reference] = answer
            assigned["connection", "password"] = reference_to(reference)


def _put(values: dict[str, Value], at: KeyPath, value: Value) -> None:
    for part in at[:-1]:
        inner = values.setdefault(str(part), {})
        if not isinstance(inner, dict):
            raise UsageError(f"{part!r} is set both as a value and as a mapping")
        values = inner
    values[str(at[-1])] = value


def update(context: typer.Context, name: Name, settings: Settings = None) -> None:
    """Set keys of a definition; an empty VALUE removes the key.

    Example: atlas connector update shop --set schedule="0 6 * * *" --set host=db2.example.com
    """
    session: Session = context.obj
    if not settings:
        raise UsageError("nothing to change", hint="--set KEY=VALUE, e.g. --set host=db2.example.com")
    definition = load_definition(session.project, name, session.environ).definition
    changes, secrets = _assignments(settings, name, registry.load(definition.protocol).connection)
    _tell_what_was_seen(session, settings, secrets)
    change(context, name, changes, secrets, reach=False)
    _changed(session, name, "updated")


def change(
    context: typer.Context,
    name: str,
    changes: Mapping[KeyPath, Value],
    secrets: Mapping[str, str],
    *,
    reach: bool,
) -> None:
    """Change a definition and its secrets where the connector is valid, and with `reach` works, with them.

    Raises AtlasError; then both are as they were.
    """
    session: Session = context.obj
    file = definition_path(session.project, name)
    previous = file.read_text(encoding="utf-8")
    with recording(context, name):
        update_definition(session.project, name, changes, session.environ)
        try:
            open_atlas(session, context.command_path).adopt(name, secrets, reach=reach)
        except AtlasError:
            file.write_text(previous, encoding="utf-8")
            raise


def remove(context: typer.Context, name: Name) -> None:
    """Delete a definition and its secrets; what it loaded and its history stay.

    Example: atlas connector remove shop
    """
    session: Session = context.obj
    with recording(context, name):
        remove_definition(session.project, name)
    atlas = open_atlas(session, context.command_path)
    atlas.forget(name)
    gone = atlas.forget_secrets(name)
    if session.output.as_json:
        session.output.document({"connector": name, "result": "removed", "secrets": gone})
        return
    session.output.line(f"removed {name}" + (f" and its secrets {', '.join(gone)}" if gone else ""))


def enable(context: typer.Context, name: Name) -> None:
    """Let `sync --all` and the schedule run a connector.

    Example: atlas connector enable shop
    """
    _switch(context, name, True)


def disable(context: typer.Context, name: Name) -> None:
    """Keep `sync --all` and the schedule from running a connector.

    Example: atlas connector disable shop
    """
    _switch(context, name, False)


def _switch(context: typer.Context, name: str, enabled: bool) -> None:
    session: Session = context.obj
    with recording(context, name):
        update_definition(session.project, name, {("enabled",): enabled}, session.environ)
    _changed(session, name, "enabled" if enabled else "disabled")


def _changed(session: Session, name: str, what: str) -> None:
    if session.output.as_json:
        session.output.document({"connector": name, "result": what})
    else:
        session.output.line(f"{what} {name}")
