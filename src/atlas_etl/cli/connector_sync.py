"""`atlas connector sync`: bring the warehouse up to date."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from atlas_etl.cli import documents
from atlas_etl.cli.completion import Names, Streams
from atlas_etl.cli.instants import instant
from atlas_etl.cli.opening import chosen, open_atlas, tell_nothing
from atlas_etl.cli.session import Session
from atlas_etl.cli.sync_report import SyncReport
from atlas_etl.cli.upcoming import upcoming
from atlas_etl.config.definitions import load_definition
from atlas_etl.errors import ConfigError, InterruptedRunError
from atlas_etl.pipeline.run import exit_code


def sync(  # noqa: PLR0917  # Typer passes by name
    context: typer.Context,
    names: Names = None,
    every: Annotated[bool, typer.Option("--all", help="Every enabled connector.")] = False,
    stream: Streams = None,
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

    With --all, a connector whose definition is wrong is told and the others run; the exit code is 5 then.

    Example: atlas connector sync shop

    Example: atlas connector sync hub --record hub.yaml
    """
    session: Session = context.obj
    atlas = open_atlas(session, context.command_path)
    wanted = chosen(atlas, names, every)

    def next_slot(name: str) -> datetime | None:
        try:
            definition = load_definition(session.project, name, session.environ).definition
        except ConfigError:  # somebody changed it meanwhile, which is nothing of this run's
            return None
        return upcoming(definition, atlas.project.settings.timezone, datetime.now(UTC))

    report = SyncReport(session.output) if slot else SyncReport(session.output, next_slot)
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
    with interruptible() as look, closing(events), report:
        for event in events:
            look()
            report.tell(event)
    if every and not report.runs:
        tell_nothing(session, "sync", wanted)
    if session.output.as_json:
        runs = [documents.run_document(run) for run in report.runs]
        session.output.document({"status": report.status, "runs": runs})
    raise typer.Exit(exit_code(report.runs))


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """SIGTERM ends the run as SIGINT does: what was committed stays, the rest is undone.

    What is given raises as the signal did, where that was swallowed: by a library that called Python, or by
    Python itself, which lets nothing out of a `__del__` or a weak reference's callback. A SIGINT that this
    process was started to ignore stays ignored.
    """
    came: int | None = None

    def look() -> None:
        if came == signal.SIGTERM:
            raise InterruptedRunError(
                "stopped by SIGTERM", hint="what was committed stays; sync again to go on"
            )
        if came == signal.SIGINT:
            raise KeyboardInterrupt

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came = number
        look()

    taken = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        taken.append(signal.SIGINT)
    previous = {number: signal.signal(number, stop) for number in taken}
    try:
        yield look
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
