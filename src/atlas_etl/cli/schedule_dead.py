"""`atlas schedule dead list | retry | drop`: runs that failed for good."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from atlas_etl.cli import render
from atlas_etl.cli.completion import CONNECTORS, Name
from atlas_etl.cli.instants import instant
from atlas_etl.cli.session import Session
from atlas_etl.config.project import load_project
from atlas_etl.errors import UsageError
from atlas_etl.scheduler.stores import looking_at_stores, open_stores

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Runs that failed for good: list, retry or drop them.\n\nExample: atlas schedule dead list",
)

OneSlot = Annotated[
    str | None,
    typer.Option("--slot", metavar="TIME", help="This slot only; default: all of the connector."),
]


@app.command("list")
def listed(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="The connector; all without it.", autocompletion=CONNECTORS)
    ] = None,
) -> None:
    """The slots whose run failed for good, and why; the oldest first.

    Example: atlas schedule dead list
    """
    session: Session = context.obj
    with looking_at_stores(load_project(session.project, session.environ)) as look:
        found = look().schedule.dead(name)
    if session.output.as_json:
        lines = [
            {
                "connector": slot.connector,
                "scheduled_at": slot.scheduled_at,
                "attempts": slot.attempts,
                "failed_at": slot.changed_at,
                "run_id": slot.run_id,
                "error": {"code": slot.error.code, "message": slot.error.message, "hint": slot.error.hint}
                if slot.error
                else None,
            }
            for slot in found
        ]
        session.output.document({"dead": lines})
    elif found:
        rows = [
            (
                slot.connector,
                slot.scheduled_at,
                slot.attempts,
                slot.changed_at,
                slot.error.message if slot.error else "",
            )
            for slot in found
        ]
        render.table(("connector", "slot", "attempts", "failed at", "error"), rows)
    else:
        session.output.line("no dead letters")


@app.command()
def retry(context: typer.Context, name: Name, slot: OneSlot = None) -> None:
    """Have a scheduler run them again, with all their retries.

    Example: atlas schedule dead retry shop --slot 2026-03-01T06:00:00Z
    """
    session: Session = context.obj
    at = instant(slot, "--slot") if slot else None
    with open_stores(load_project(session.project, session.environ), context.command_path) as stores:
        count = stores.schedule.revive(name, at, datetime.now(UTC))
        alive = bool(stores.schedule.daemons())
    _answer(session, name, "retried", count)
    if not alive:
        session.output.event("no scheduler runs; `atlas schedule` starts one, and it begins with them")


@app.command()
def drop(context: typer.Context, name: Name, slot: OneSlot = None) -> None:
    """Take them from the list; they are not run again.

    Example: atlas schedule dead drop shop
    """
    session: Session = context.obj
    at = instant(slot, "--slot") if slot else None
    with open_stores(load_project(session.project, session.environ), context.command_path) as stores:
        count = stores.schedule.drop(name, at)
    _answer(session, name, "dropped", count)


def _answer(session: Session, name: str, done: str, count: int) -> None:
    if not count:
        raise UsageError(
            "there is no such dead letter",
            hint="`atlas schedule dead list` shows them",
            code="no_dead_letter",
            connector=name,
        )
    if session.output.as_json:
        session.output.document({"connector": name, done: count})
    else:
        session.output.line(f"{name}: {count} {done}")
