"""`atlas connector add`: a new file of connectors.d/, by flags, from a file, or as a conversation."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from atlas_etl.api.atlas import Atlas
from atlas_etl.cli.completion import DESTINATIONS, PROTOCOLS
from atlas_etl.cli.connector_settings import (
    Flags,
    Settings,
    assignments,
    put,
    schedule_text,
    tell_what_is_kept,
    tell_what_was_seen,
)
from atlas_etl.cli.conversation.begin import begin, can_converse
from atlas_etl.cli.opening import open_atlas, recording
from atlas_etl.cli.session import Session
from atlas_etl.config.annotations import fields_of
from atlas_etl.config.definitions import add_definition, check_free, read_definition
from atlas_etl.config.keys import KeyPath
from atlas_etl.config.references import holds_reference
from atlas_etl.config.secret_names import reference_to, secret_name
from atlas_etl.config.stored_secrets import take_secrets
from atlas_etl.config.yaml_source import Value
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, UsageError
from atlas_etl.model import Disposition


def add(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="The new connector's name; asked for on a terminal.", show_default=False),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="`atlas connector types` lists them.", autocompletion=PROTOCOLS)
    ] = None,
    settings: Settings = None,
    table: Annotated[list[str] | None, typer.Option(help="A table to read; may be repeated.")] = None,
    query: Annotated[str | None, typer.Option(help="A query to read.")] = None,
    cursor: Annotated[str | None, typer.Option(help="The column that grows.")] = None,
    primary_key: Annotated[
        list[str] | None, typer.Option(help="A key column; may be repeated. Default: the catalog's.")
    ] = None,
    disposition: Annotated[Disposition | None, typer.Option(help="How rows meet what is there.")] = None,
    destination: Annotated[
        str | None, typer.Option(help="A destination of atlas.yaml.", autocompletion=DESTINATIONS)
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="CRON", help='E.g. "0 * * * *", or "every day at 06:30".')
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="The schedule's IANA zone.")] = None,
    description: Annotated[str | None, typer.Option(help="What this is, for people.")] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Not run by --all and the schedule.")] = False,
    no_test: Annotated[bool, typer.Option("--no-test", help="Write it without trying it.")] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Ask nothing, on a terminal either.")] = False,
    from_file: Annotated[
        Path | None,
        typer.Option("--from-file", help="A definition in YAML or JSON, the older form included."),
    ] = None,
) -> None:
    """Write connectors.d/NAME.yaml, after trying the connection and looking for the tables.

    On a terminal it asks for what is left out: without --protocol, or without --table and --query, it leads
    through the connection, the tables, their cursors and a schedule, and writes when all is answered.

    Example: atlas connector add

    Example: atlas connector add shop --protocol postgresql --set host=db --set database=shop
    --set username=etl --set password=- --table public.orders --cursor updated_at
    """
    session: Session = context.obj
    flags: dict[str, Value] = {
        "destination": destination,
        "schedule": schedule_text(schedule, "--schedule") if schedule else None,
        "timezone": timezone,
        "description": description,
        "enabled": False if disabled else None,
    }
    others = {key: value for key, value in flags.items() if value is not None}
    given = Flags(
        protocol, settings or (), table or (), query, cursor, primary_key or (), disposition, others
    )
    if from_file is None and not given.is_complete and not no_input and can_converse(session.output):
        draft = begin(session, context.command_path, name, given, tests=not no_test)
        _write(context, draft.name, {**draft.values}, draft.secrets, reach=False, tested=not no_test)
        return
    if name is None:
        raise UsageError(
            "Missing argument 'NAME'.", hint="e.g. atlas connector add shop --protocol postgresql ..."
        )
    check_free(session.project, name)
    secrets: Mapping[str, str]
    if from_file is not None:
        values, secrets = _from_file(from_file, name, session.environ)
        values |= others
    else:
        values, secrets = _definition(name, given, asks=not no_input)
    tell_what_was_seen(session, settings, secrets)
    _write(context, name, values, secrets, reach=not no_test, tested=not no_test, tables=given.tables)


def _write(
    context: typer.Context,
    name: str,
    values: Mapping[str, Value],
    secrets: Mapping[str, str],
    *,
    reach: bool,
    tested: bool,
    tables: Sequence[str] = (),
) -> None:
    """Write the file and keep the secrets, or neither. Raises AtlasError."""
    session: Session = context.obj
    with recording(context, name):
        atlas, pending = open_atlas(session, context.command_path), {**secrets}
        path = add_definition(session.project, name, values, session.environ)
        try:
            atlas.adopt(name, pending, reach=reach, tables=tables)
        except (AtlasError, KeyboardInterrupt):
            path.unlink(missing_ok=True)
            replaced = {each: value for each, value in pending.items() if secrets[each] != value}
            atlas.keep(replaced)
            tell_what_is_kept(session.output, {each: each for each in replaced})
            raise
    shown = path.relative_to(session.project)
    if session.output.as_json:
        answer = {"connector": name, "file": str(shown), "tested": tested, "secrets": sorted(secrets)}
        session.output.document(answer)
        return
    session.output.line(f"wrote {shown}")
    if secrets:
        session.output.line(f"encrypted {', '.join(sorted(secrets))}")
    if values.get("streams") or _offers_streams(atlas, name):
        session.output.line(f"next: atlas connector sync {name}")
    else:
        session.output.line(f"next: atlas connector discover {name}, and `streams:` in the file")


def _offers_streams(atlas: Atlas, name: str) -> bool:
    """Whether something is read where nothing is named: True also where that is not known yet."""
    try:
        return bool(atlas.connector(name).streams())
    except AtlasError:
        return True


def _protocol(given: str | None, *, asks: bool) -> str:
    if given is not None:
        return registry.canonical(given)
    if not asks or not sys.stdin.isatty():
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


def _definition(name: str, given: Flags, *, asks: bool) -> tuple[dict[str, Value], dict[str, str]]:
    protocol = _protocol(given.protocol, asks=asks)
    model = registry.load(protocol).connection
    assigned, secrets = assignments(given.settings, name, model)
    if asks:
        _prompt_for_password(name, model, assigned, secrets)
    values: dict[str, Value] = {"protocol": protocol}
    for at, value in assigned.items():
        put(values, at, value)
    if streams := given.streams(name):
        values["streams"] = streams
    return values | dict(given.others), secrets


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
