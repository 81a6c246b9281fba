"""`atlas connector add | update | remove | enable | disable`: the files of connectors.d/."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from atlas_etl.cli.completion import Name
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.definitions import (
    add_definition,
    load_definition,
    read_definition,
    remove_definition,
    update_definition,
)
from atlas_etl.config.folder import definition_path
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.scalars import plain_scalar
from atlas_etl.config.secrecy import is_secret_name, secret_fields
from atlas_etl.config.yaml_source import Value
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, ConfigError, UsageError
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
    if from_file is not None:
        values = dict(read_definition(from_file, name, session.environ))
    else:
        values = _definition(
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
    path = add_definition(session.project, name, values, session.environ)
    try:
        open_atlas(session).check(name, reach=not no_test)
    except AtlasError:
        path.unlink(missing_ok=True)
        raise
    shown = path.relative_to(session.project)
    if session.output.as_json:
        session.output.document({"connector": name, "file": str(shown), "tested": not no_test})
        return
    session.output.line(f"wrote {shown}")
    session.output.line(f"next: atlas connector sync {name}")


def _protocol(given: str | None) -> str:
    if given is not None:
        return registry.canonical(given)
    if not sys.stdin.isatty():
        raise UsageError("--protocol is missing", hint="`atlas connector types` lists the protocols")
    return registry.canonical(typer.prompt("protocol", err=True))


def _definition(  # noqa: PLR0917  # the flags of one command
    protocol: str,
    settings: list[str],
    tables: list[str],
    query: str | None,
    stream: Mapping[str, Value | list[str]],
    name: str,
) -> dict[str, Value]:
    assigned = _assignments(settings, secrets=_secrets(protocol))
    _prompt_for_secrets(protocol, assigned)
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
    return values


def _assignments(settings: list[str], *, secrets: set[str]) -> dict[KeyPath, Value]:
    """KEY=VALUE pairs as paths of a definition; keys that are none of its own are the connection's."""
    found: dict[KeyPath, Value] = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key:
            raise UsageError(f"--set takes KEY=VALUE, not {key!r}", hint="e.g. --set host=db.example.com")
        parts: KeyPath = tuple(key.split("."))
        at = parts if parts[0] in ConnectorDefinition.model_fields else ("connection", *parts)
        if text == "-":
            text = _read_secret(key)
        secret = at[0] == "connection" and (str(at[-1]) in secrets or is_secret_name(str(at[-1])))
        found[at] = text if secret else plain_scalar(text)
    return found


def _secrets(protocol: str) -> set[str]:
    return {str(path[0]) for path in secret_fields(registry.load(protocol).connection)}


def _read_secret(key: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(key, hide_input=True, err=True))
    text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise UsageError(f"nothing on stdin for {key!r}", hint=f"echo the value into `--set {key}=-`")
    return text


def _prompt_for_secrets(protocol: str, assigned: dict[KeyPath, Value]) -> None:
    """On a terminal, ask for a password that a username begs for."""
    given = {str(at[1]) for at in assigned if len(at) == 2}
    if sys.stdin.isatty() and "username" in given and "password" in _secrets(protocol) - given:
        answer = typer.prompt(
            "password (empty for none)", hide_input=True, default="", show_default=False, err=True
        )
        if answer:
            assigned["connection", "password"] = answer


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
    changes = _assignments(settings, secrets=_secrets(definition.protocol))
    previous = definition_path(session.project, name).read_text(encoding="utf-8")
    path = update_definition(session.project, name, changes, session.environ)
    try:
        open_atlas(session).check(name, reach=False)
    except ConfigError:
        path.write_text(previous, encoding="utf-8")
        raise
    _changed(session, name, "updated")


def remove(context: typer.Context, name: Name) -> None:
    """Delete a definition; what it loaded and its history stay.

    Example: atlas connector remove shop
    """
    session: Session = context.obj
    remove_definition(session.project, name)
    open_atlas(session).forget(name)
    _changed(session, name, "removed")


def enable(context: typer.Context, name: Name) -> None:
    """Let `sync --all` and the schedule run a connector.

    Example: atlas connector enable shop
    """
    _switch(context.obj, name, True)


def disable(context: typer.Context, name: Name) -> None:
    """Keep `sync --all` and the schedule from running a connector.

    Example: atlas connector disable shop
    """
    _switch(context.obj, name, False)


def _switch(session: Session, name: str, enabled: bool) -> None:
    update_definition(session.project, name, {("enabled",): enabled}, session.environ)
    _changed(session, name, "enabled" if enabled else "disabled")


def _changed(session: Session, name: str, what: str) -> None:
    if session.output.as_json:
        session.output.document({"connector": name, "result": what})
    else:
        session.output.line(f"{what} {name}")
