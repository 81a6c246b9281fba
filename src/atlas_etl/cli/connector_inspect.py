"""`atlas connector types | list | show | test | discover | preview`: look, and touch nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas_etl.api.atlas import Atlas, TestOutcome
from atlas_etl.api.examination import Examined, examine_connector
from atlas_etl.api.report import latest_of
from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import STREAMS, Name, Names
from atlas_etl.cli.connector_doctor import show_findings, worst_exit
from atlas_etl.cli.health import health_document, told_health
from atlas_etl.cli.opening import chosen, open_atlas, tell_nothing
from atlas_etl.cli.output import error_document
from atlas_etl.cli.session import Session
from atlas_etl.cli.upcoming import upcoming
from atlas_etl.config.definitions import load_definition
from atlas_etl.connectors import registry
from atlas_etl.errors import AtlasError, ConfigError, ExitCode
from atlas_etl.model import Breaker, BreakerState, Run, Verification


def types(context: typer.Context) -> None:
    """The protocols: what each reads and writes, and whether its driver is installed.

    Example: atlas connector types
    """
    session: Session = context.obj
    found = registry.protocols()
    if session.output.as_json:
        lines = [documents.protocol_document(info) for info in found]
        session.output.document({"connector_types": lines, "total": len(lines)})
        return
    rows = [
        (info.protocol, info.summary, _yes(info.reads), _yes(info.writes), _installed(info)) for info in found
    ]
    render.table(("protocol", "summary", "reads", "writes", "installed"), rows)


def _installed(info: registry.ProtocolInfo) -> str:
    return "yes" if info.installed else info.install_hint


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def show_list(context: typer.Context) -> None:
    """The connectors of this project, when each ran last and runs next, and how its last test went.

    One whose definition is wrong is listed by its name, with its error; the exit code is 2 then.

    Example: atlas connector list
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    standing = atlas.standing()
    lines: list[dict[str, object]] = []
    wrong: list[AtlasError] = []
    for name in atlas.names():
        try:
            lines.append(
                _line(atlas, session, name, standing.runs.get(name), standing.verified)
                | {
                    "breaker": _state(standing.breakers.get(name)),
                    "health": health_document(standing.health.get(name)),
                }
            )
        except ConfigError as failure:
            wrong.append(failure.located(connector=name))
            lines.append({"name": name, "error": error_document(failure)})
    columns = (
        "name",
        "protocol",
        "enabled",
        "schedule",
        "destination",
        "last_sync_at",
        "last_sync_status",
        "breaker",
        "health",
    )
    if session.output.as_json:
        session.output.document({"connectors": lines})
    elif lines:
        told = {name: told_health(found) for name, found in standing.health.items()}
        shown = [line | {"health": told.get(str(line["name"]), "never tested")} for line in lines]
        headings = [column.replace("_", " ") for column in columns]
        render.table(headings, [[_shown(line.get(column)) for column in columns] for line in shown])
    else:
        session.output.line("no connectors yet; `atlas connector add` makes one")
    for each in wrong:
        session.output.failure(each)
    if wrong:
        raise typer.Exit(ExitCode.USAGE)


def _state(breaker: Breaker | None) -> BreakerState:
    return BreakerState.CLOSED if breaker is None else breaker.state


def _line(
    atlas: Atlas, session: Session, name: str, run: Run | None, verified: Sequence[Verification]
) -> dict[str, object]:
    definition = load_definition(atlas.project.folder, name, session.environ).definition
    streams = [stream.name for stream in definition.streams]
    latest = latest_of(verified, {name: streams})[name]
    return {
        "name": name,
        "protocol": registry.canonical(definition.protocol),
        "enabled": definition.enabled,
        "schedule": definition.schedule,
        "destination": atlas.project.destination_name(definition.destination),
        "streams": streams,
        "last_sync_at": run.completed_at or run.started_at if run else None,
        "last_sync_status": run.status if run else None,
        "next_sync_at": upcoming(definition, atlas.project.settings.timezone, datetime.now(UTC)),
        "last_verify_at": max((each.verified_at for each in latest), default=None),
        "last_verify_status": _verify_status(latest),
    }


def _verify_status(latest: Sequence[Verification]) -> str | None:
    """That of the streams together; None where none was ever compared."""
    wrong = [each for each in latest if not each.is_equal]
    return documents.verify_status((wrong or latest)[0]) if latest else None


def _shown(value: object) -> object:
    return _yes(value) if isinstance(value, bool) else value


def show(context: typer.Context, name: Name) -> None:
    """One connector's effective settings, secrets masked.

    Example: atlas connector show shop
    """
    session: Session = context.obj
    settings = open_atlas(session).effective(name)
    if session.output.as_json:
        session.output.document(
            {"connector": name, "settings": {found.key: found.value for found in settings}}
        )
        return
    render.table(("setting", "value"), [(found.key, found.value) for found in settings])


def try_connections(
    context: typer.Context,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every connector.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also look closely at both ends, as `connector doctor` does.")
    ] = False,
) -> None:
    """Reach each source, log in, and say what is there.

    Example: atlas connector test shop
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    wanted = chosen(atlas, names, every)
    if not wanted:
        tell_nothing(session, "test", wanted)
    if deep:
        raise typer.Exit(_test_deeply(session, atlas, wanted))
    outcomes = list(atlas.test(wanted))
    if session.output.as_json:
        session.output.document({"results": [documents.test_document(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            _say(session, outcome)
    raise typer.Exit(_exit_code([outcome.error for outcome in outcomes if outcome.error], len(outcomes)))


def _test_deeply(session: Session, atlas: Atlas, names: Sequence[str]) -> int:
    """The same with each connector's findings; the exit code."""
    tested = [_examined(atlas, name) for name in names]
    if session.output.as_json:
        lines = [
            documents.test_document(each.outcome)
            | {"findings": [documents.finding_document(found) for found in each.findings]}
            for each in tested
        ]
        session.output.document({"results": lines})
    else:
        for each in tested:
            _say(session, each.outcome)
            show_findings(session.output, each.findings)
    code = _exit_code([each.outcome.error for each in tested if each.outcome.error], len(tested))
    return code or worst_exit(found for each in tested for found in each.findings)


def _examined(atlas: Atlas, name: str) -> Examined:
    try:
        return examine_connector(atlas, name)
    except AtlasError as failure:
        return Examined(TestOutcome(name, None, failure.located(connector=name), 0.0), ())


def _say(session: Session, outcome: TestOutcome) -> None:
    if outcome.error is not None:
        session.output.failure(outcome.error)
        return
    if outcome.status is not None:
        version = f", {outcome.status.server_version}" if outcome.status.server_version else ""
        took = f"{outcome.latency_ms:.0f} ms"
        session.output.line(f"{outcome.connector}: ok, {outcome.status.message}{version} ({took})")
        for warning in outcome.status.warnings:
            session.output.event(f"warning: {outcome.connector}: {warning}")


def _exit_code(errors: list[AtlasError], tried: int) -> int:
    if not errors:
        return ExitCode.DONE
    return ExitCode.PARTIAL if len(errors) < tried else min(error.exit_code for error in errors)


def discover(context: typer.Context, name: Name) -> None:
    """What a connector can read: streams, columns, keys, cursor candidates, estimated rows.

    Example: atlas connector discover shop
    """
    session: Session = context.obj
    streams = open_atlas(session).discover(name)
    if session.output.as_json:
        found = [documents.stream_document(stream) for stream in streams]
        session.output.document({"connector": name, "streams": found})
        return
    rows = [
        (
            stream.name,
            stream.estimated_rows,
            ", ".join(stream.primary_key),
            ", ".join(stream.cursor_candidates),
            ", ".join(f"{column.name} {column.type}" for column in stream.columns),
        )
        for stream in streams
    ]
    render.table(("stream", "rows (about)", "primary key", "cursor candidates", "columns"), rows)


def preview(
    context: typer.Context,
    name: Name,
    stream: Annotated[
        str | None,
        typer.Option(help="The stream; the first one without it.", autocompletion=STREAMS),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 10,
) -> None:
    """The first rows of a stream, as they would arrive.

    Example: atlas connector preview shop --stream orders --limit 5
    """
    session: Session = context.obj
    shown, columns, rows = open_atlas(session).preview(name, stream, limit)
    if session.output.as_json:
        document = {"connector": name, "stream": shown, "columns": columns, "rows": rows}
        session.output.document(document)
        return
    render.data(columns, rows)
