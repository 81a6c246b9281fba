"""`atlas schedule next | list`: what is scheduled, from the definitions alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas_etl.cli import render
from atlas_etl.cli.completion import Names
from atlas_etl.cli.instants import instant
from atlas_etl.cli.output import iso
from atlas_etl.cli.session import Session
from atlas_etl.config.folder import definition_path
from atlas_etl.config.schedule import NEVER
from atlas_etl.errors import ConfigError, ExitCode
from atlas_etl.scheduler.agenda import Agenda, of_connectors, read_agenda
from atlas_etl.scheduler.overview import coming_slots


def coming(
    context: typer.Context,
    names: Names = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many slots.")] = 10,
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="After this time; default: now.")
    ] = None,
) -> None:
    """The coming slots, in UTC and in each connector's local time.

    Example: atlas schedule next --count 20

    Example: atlas schedule next shop --from 2026-11-01T00:00:00Z
    """
    session: Session = context.obj
    agenda = _agenda(session, names)
    slots = coming_slots(agenda, instant(since, "--from") if since else datetime.now(UTC), count)
    if session.output.as_json:
        lines = [
            {
                "connector": slot.connector,
                "scheduled_at": slot.scheduled_at,
                "local_time": slot.local_time.isoformat(),
            }
            for slot in slots
        ]
        session.output.document({"slots": lines})
    elif slots:
        rows = [
            (slot.connector, iso(slot.scheduled_at), f"{slot.local_time:%a %Y-%m-%d %H:%M %Z}")
            for slot in slots
        ]
        render.table(("connector", "scheduled at", "local time"), rows)
    else:
        session.output.line(_NOTHING)
    _tell_problems(session, agenda)


_NOTHING = "nothing is scheduled; `schedule:` in a definition says when a connector runs"


def listed(context: typer.Context) -> None:
    """What is scheduled: when, in which zone, under which rules.

    Example: atlas schedule list
    """
    session: Session = context.obj
    agenda = _agenda(session, None)
    now = datetime.now(UTC)
    lines: list[dict[str, object]] = []
    for name, scheduled in agenda.scheduled.items():
        timing = scheduled.timing
        upcoming = coming_slots(of_connectors(agenda, [name]), now, 1)
        lines.append(
            {
                "connector": name,
                "schedule": timing.expression,
                "timezone": timing.timezone,
                "next_sync_at": upcoming[0].scheduled_at if upcoming else None,
                "catch_up": timing.catch_up,
                "jitter_seconds": timing.delay.total_seconds(),
                "timeout_seconds": scheduled.timeout.total_seconds() if scheduled.timeout else None,
                "retries": scheduled.retry.retries,
                "test": agenda.tested[name].timing.expression if name in agenda.tested else NEVER,
            }
        )
    if session.output.as_json:
        session.output.document({"schedules": lines})
    elif lines:
        columns = ("connector", "schedule", "timezone", "next_sync_at", "catch_up", "retries", "test")
        render.table(columns, [[line[column] for column in columns] for line in lines])
    else:
        session.output.line(_NOTHING)
    _tell_problems(session, agenda)


def _agenda(session: Session, names: list[str] | None) -> Agenda:
    agenda = read_agenda(session.project, session.environ)
    if not names:
        return agenda
    for name in names:
        definition_path(session.project, name)
    for name in names:
        if name not in agenda.scheduled and name not in {wrong.connector for wrong in agenda.problems}:
            raise ConfigError(
                "is not scheduled: it is disabled, or has no `schedule`",
                hint=f'`atlas connector update {name} --set schedule="0 6 * * *"` gives it one',
                code="not_scheduled",
                connector=name,
            )
    return of_connectors(agenda, names)


def _tell_problems(session: Session, agenda: Agenda) -> None:
    for problem in agenda.problems:
        session.output.failure(problem)
    if agenda.problems:
        raise typer.Exit(ExitCode.USAGE)
