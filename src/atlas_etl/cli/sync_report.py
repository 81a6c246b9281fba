"""A sync as people follow it, and the runs that came of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from atlas_etl.cli import quantities
from atlas_etl.cli.event_report import EventReport
from atlas_etl.cli.output import Output
from atlas_etl.cli.quantities import counted
from atlas_etl.cli.stream_warnings import stream_warnings
from atlas_etl.model import Deletion, Run, RunStatus, StreamRun
from atlas_etl.pipeline.events import (
    BatchLoaded,
    Event,
    KeysRead,
    RowsRefused,
    RunFinished,
    StreamFinished,
    StreamReconciled,
    StreamRetrying,
    StreamStarted,
    WindowCommitted,
)


class SyncReport(EventReport):
    """Tells each event and keeps the runs that ended; `next_slot` is when a connector runs next."""

    def __init__(
        self, output: Output, next_slot: Callable[[str], datetime | None] = lambda _connector: None
    ) -> None:
        super().__init__(output)
        self._next_slot = next_slot
        self.runs: list[Run] = []

    @property
    def status(self) -> RunStatus:
        """One word for all runs: the one status that they share, else `partial`."""
        statuses = {run.status for run in self.runs}
        return (
            statuses.pop() if len(statuses) == 1 else RunStatus.PARTIAL if statuses else RunStatus.COMPLETED
        )

    def tell(self, event: Event) -> None:
        match event:
            case StreamStarted():
                self._started(event.connector, event.stream, event.estimated_rows)
                if self._line is None:
                    since = event.resumed_from
                    begin = f"from {since.cursor} {since.tail_from.text}" if since else "everything"
                    self._say(
                        event.connector, event.stream, f"{event.disposition} {begin} into {event.table}"
                    )
            case BatchLoaded():
                note = f"waits for the {event.slower}" if event.slower is not None else ""
                self._moved(event.connector, event.stream, event.rows, event.bytes, note)
            case WindowCommitted() if self._line is None:
                outcome = event.outcome
                told = f"{counted(outcome.rows_loaded, 'row')} committed so far"
                self._say(event.connector, outcome.name, told)
            case KeysRead() if self._line is not None:
                self._line.compared(event.connector, event.stream, event.keys)
            case StreamReconciled():
                done = "deleted" if event.how is Deletion.HARD else "marked as deleted"
                gone = f"{counted(event.deleted, 'row')} {done} that the source no longer has"
                told = f"{gone} ({event.kept:,} kept)"
                self._say(event.connector, event.stream, told, rows_deleted=event.deleted)
            case RowsRefused() | StreamRetrying():
                self._ended(event.connector, event.stream)
                self._say(event.connector, event.stream, _why_again(event))
            case StreamFinished():
                self._ended(event.connector, event.outcome.name)
                self._finished(event.connector, event.outcome)
            case RunFinished():
                self._run_finished(event.run)

    def _finished(self, connector: str, outcome: StreamRun) -> None:
        if outcome.loads or outcome.error is None:
            place = f" into {outcome.table}" if outcome.table is not None else ""  # no row has ever come
            text = f"{counted(outcome.rows_loaded, 'row')}{place} ({outcome.rows_read:,} read)"
            self._say(connector, outcome.name, text, rows=outcome.rows_loaded)
        for change in outcome.schema_changes:
            self._say(connector, outcome.name, f"{outcome.table}: {change}")
        if outcome.rows_quarantined:
            were = "was" if outcome.rows_quarantined == 1 else "were"
            text = f"warning: {counted(outcome.rows_quarantined, 'row')} {were} refused and kept aside: "
            self._say(
                connector,
                outcome.name,
                f"{text}atlas quarantine list {connector}",
                quarantined=outcome.rows_quarantined,
            )
        for what, count in outcome.nulled.items():
            self._say(connector, outcome.name, f"warning: {counted(count, 'cell')} became NULL ({what})")
        for warning in stream_warnings(outcome):
            self._say(connector, outcome.name, f"warning: {warning}")
        if outcome.error is not None:
            self._output.error(outcome.error, connector=connector, stream=outcome.name)

    def _run_finished(self, run: Run) -> None:
        self.runs.append(run)
        if run.error is not None and not run.streams:
            self._output.error(run.error, connector=run.connector)
        coming = None if self._output.quiet else self._next_slot(run.connector)
        told = quantities.ended(run, coming)
        self._say(run.connector, None, told, run_id=run.run_id, status=run.status, next_sync_at=coming)


def _why_again(event: RowsRefused | StreamRetrying) -> str:
    if isinstance(event, RowsRefused):
        return f"rows were refused, loading again without them: {event.reason}"
    return f"attempt {event.attempt} failed, trying again: {event.error.message}"
