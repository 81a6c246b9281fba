"""`atlas connector sync | history`: bring the warehouse up to date, and see what was done."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import Names, connectors
from atlas_etl.cli.instants import instant
from atlas_etl.cli.opening import chosen, open_atlas
from atlas_etl.cli.session import Session
from atlas_etl.cli.sparkline import FAILED, SKIPPED, history_lines
from atlas_etl.cli.sync_report import SyncReport
from atlas_etl.config.folder import definition_path
from atlas_etl.errors import InterruptedRunError
from atlas_etl.model import RunStatus
from atlas_etl.pipeline.run import exit_code


def sync(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every enabled connector.")] = False,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; may be repeated.")] = None,
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Read everything and replace what is there.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="How many streams run side by side.")] = 1,
    record: Annotated[
        Path | None,
        typer.Option(
            help="Also write the API's answers to this new file, without credentials.", dir_okay=False
        ),
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Read such a file instead of the API.", dir_okay=False)
    ] = None,
    triggered_by: Annotated[str, typer.Option(help="What history shows as the run's cause.")] = "manual",
    slot: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The slot of the schedule that this runs; a slot is run once."),
    ] = None,
) -> None:
    """Copy what is new since the last sync, exactly once.

    Example: atlas connector sync shop

    Example: atlas connector sync hub --record hub.yaml
    """
    session: Session = context.obj
    atlas = open_atlas(session)
    wanted = chosen(atlas, names, every)
    report = SyncReport(session.output)
    events = atlas.sync(
        None if every else wanted,
        streams=stream or (),
        full_refresh=full_refresh,
        jobs=jobs,
        triggered_by=triggered_by,
        record=record,
        replay=replay,
        scheduled_at=instant(slot, "--slot") if slot else None,
    )
    with interruptible(), closing(events), report:
        for event in events:
            report.tell(event)
    if session.output.as_json:
        runs = [documents.run_document(run) for run in report.runs]
        session.output.document({"status": report.status, "runs": runs})
    raise typer.Exit(exit_code(report.runs))


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the run as SIGINT does: what was committed stays, the rest is undone."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError("stopped by SIGTERM", hint="what was committed stays; sync again to go on")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def history(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="The connector; all without it.", autocompletion=connectors)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many runs.")] = 20,
    status: Annotated[RunStatus | None, typer.Option(help="Only runs that ended so.")] = None,
) -> None:
    """The runs, the latest first; on a terminal also as bars, with × for those that failed.

    Example: atlas connector history shop --limit 5
    """
    session: Session = context.obj
    with open_atlas(session).state() as store:
        runs = store.history(name, limit=limit, status=status)
        total = store.count_runs(name, status=status)
    if name is not None and not runs:
        definition_path(session.project, name)
    if session.output.as_json:
        lines = [documents.run_document(run, with_streams=False) for run in runs]
        session.output.document({"connector": name, "total_runs": total, "runs": lines})
        return
    rows = [
        (
            run.started_at,
            run.connector,
            run.status,
            run.rows_processed,
            f"{run.duration_seconds:.1f} s" if run.duration_seconds is not None else "",
            run.triggered_by,
            run.error.message if run.error else "",
        )
        for run in runs
    ]
    render.table(("started", "connector", "status", "rows", "took", "by", "error"), rows)
    if runs and render.is_terminal_out() and render.draws(FAILED + SKIPPED):
        session.output.line("")
        render.table(("the last on the right", "rows", "took"), history_lines(runs))
