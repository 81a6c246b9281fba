"""`atlas schedule status`: what runs, waits, is late or rests now."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import typer

from atlas_etl.cli import render
from atlas_etl.cli.health import health_document
from atlas_etl.cli.output import iso
from atlas_etl.cli.session import Session
from atlas_etl.model import BreakerState
from atlas_etl.scheduler.agenda import Agenda, read_agenda
from atlas_etl.scheduler.overview import Overview, overview
from atlas_etl.scheduler.stores import Stores, looking_at_stores

_REFRESH = 2.0


def status(context: typer.Context) -> None:
    """What runs, waits, is late or rests now; live on a terminal, until Ctrl-C.

    Example: atlas schedule status

    Example: atlas schedule status --json
    """
    session: Session = context.obj
    agenda = read_agenda(session.project, session.environ)
    with looking_at_stores(agenda.project) as look:
        if session.output.as_json:
            session.output.document(_document(_now(agenda, look())))
        elif render.is_terminal_out():
            _live(session, agenda, look)
        else:
            session.output.line(_text(_now(agenda, look())))


def _live(session: Session, agenda: Agenda, look: Callable[[], Stores]) -> None:
    with render.Screen() as screen:
        try:
            while True:
                screen.show(_text(_now(agenda, look())))
                time.sleep(_REFRESH)
                agenda = read_agenda(session.project, session.environ, agenda)
        except KeyboardInterrupt:
            return


def _now(agenda: Agenda, stores: Stores) -> Overview:
    return overview(agenda, stores, datetime.now(UTC))


def _text(seen: Overview) -> str:
    """One section for each thing that there is; every line is safe for a terminal."""
    resting = [breaker for breaker in seen.breakers if breaker.state is not BreakerState.CLOSED]
    sections: Mapping[str, list[str]] = {
        "daemons": [
            f"{daemon.host} pid {daemon.pid}, since {_time(daemon.since)}" for daemon in seen.daemons
        ],
        "running": [
            f"{run.connector} for {(seen.at - run.started_at).total_seconds():.0f} s ({run.triggered_by})"
            for run in seen.running
        ],
        "late": [f"{late.connector} by {late.seconds:.0f} s" for late in seen.late],
        "tried again": [
            f"{slot.connector} {_time(slot.scheduled_at)}: attempt {slot.attempts + 1} at {_time(at)}"
            for slot in seen.retries
            if (at := slot.retry_at) is not None
        ],
        "resting": [
            f"{breaker.connector}: {breaker.failures} failures in a row"
            + (f", next try after {_time(breaker.probe_at)}" if breaker.probe_at else "")
            for breaker in resting
        ],
        "failing tests": [
            f"{found.connector} since {_time(found.since)}: {found.last.error.message}"
            for found in seen.health
            if found.last.error is not None
        ],
        "dead letters": [f"{_time(slot.scheduled_at)}  {slot.connector}" for slot in seen.dead],
        "next": [f"{_time(slot.scheduled_at)}  {slot.connector}" for slot in seen.coming],
    }
    lines = [f"{iso(seen.at.replace(microsecond=0))}"]
    if not seen.daemons:
        lines.append("no scheduler runs; `atlas schedule` starts one")
    for title, entries in sections.items():
        if entries:
            lines += [f"{title}:", *(f"  {render.safe(entry)}" for entry in entries)]
    return "\n".join(lines)


def _time(moment: datetime) -> str:
    return iso(moment.replace(microsecond=0))


def _document(seen: Overview) -> dict[str, object]:
    return {
        "daemons": [
            {
                "host": daemon.host,
                "pid": daemon.pid,
                "since": daemon.since,
                "heartbeat_at": daemon.heartbeat_at,
            }
            for daemon in seen.daemons
        ],
        "running": [
            {
                "connector": run.connector,
                "run_id": run.run_id,
                "scheduled_at": run.scheduled_at,
                "started_at": run.started_at,
                "triggered_by": run.triggered_by,
            }
            for run in seen.running
        ],
        "late": [
            {"connector": late.connector, "scheduled_at": late.scheduled_at, "seconds": late.seconds}
            for late in seen.late
        ],
        "retries": [
            {
                "connector": slot.connector,
                "scheduled_at": slot.scheduled_at,
                "attempts": slot.attempts,
                "retry_at": slot.retry_at,
            }
            for slot in seen.retries
        ],
        "breakers": [
            {
                "connector": breaker.connector,
                "state": breaker.state,
                "failures": breaker.failures,
                "opened_at": breaker.opened_at,
                "probe_at": breaker.probe_at,
            }
            for breaker in seen.breakers
        ],
        "dead": len(seen.dead),
        "health": [{"connector": found.connector, **health_document(found)} for found in seen.health],
        "next": [{"connector": slot.connector, "scheduled_at": slot.scheduled_at} for slot in seen.coming],
    }
