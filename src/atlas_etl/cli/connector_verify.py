"""`atlas connector verify`: is the copy equal to the source, and where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Annotated

import typer

from atlas_etl.api.verify import ResultNotKept, StreamNotVerified, VerificationEvent, verify_connector
from atlas_etl.cli import documents, render
from atlas_etl.cli.completion import Name, Streams
from atlas_etl.cli.connector_sync import interruptible
from atlas_etl.cli.event_report import EventReport
from atlas_etl.cli.opening import open_atlas
from atlas_etl.cli.output import Output, error_document
from atlas_etl.cli.quantities import counted
from atlas_etl.cli.session import Session
from atlas_etl.cli.stream_warnings import stream_warnings
from atlas_etl.errors import AtlasError, ExitCode, VerifyError
from atlas_etl.pipeline.differences import Example
from atlas_etl.pipeline.events import BatchLoaded, StreamFinished, StreamReconciled, StreamStarted
from atlas_etl.pipeline.verify import Comparison, RowsCompared, StreamVerified, VerifyStarted

_COLUMNS = (
    "name",
    "status",
    "source_rows",
    "destination_rows",
    "missing",
    "extra",
    "changed",
    "pending",
    "quarantined",
)


def verify(
    context: typer.Context,
    name: Name,
    stream: Streams = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Bring the rows that differ, then compare again.")
    ] = False,
) -> None:
    """Compare source and destination, row by row, as of the last sync. Exit code 8: they differ.

    What the next sync brings is pending, and no difference. A repair deletes the rows that only the
    destination has. How many rows were equal is kept for `connector history --verifications` and `report`.

    A stream that fails does not stop the others; the exit code is 5 then, where these are equal.

    Example: atlas connector verify shop
    """
    session: Session = context.obj
    events = verify_connector(
        open_atlas(session, context.command_path), name, streams=stream or (), repair=repair
    )
    report = _VerifyReport(session.output)
    with interruptible() as look, closing(events), report:
        for event in events:
            look()
            report.tell(event)
    found, failures = list(report.comparisons.values()), report.failures
    _show(session.output, name, found, failures)
    codes = [session.output.failure(failure) for failure in failures.values()]
    compared = [comparison for comparison in found if comparison.stream not in failures]
    differing = [comparison.stream for comparison in compared if not comparison.is_equal]
    if differing:
        raise VerifyError(
            f"{', '.join(differing)} {'differs' if len(differing) == 1 else 'differ'} from the source",
            hint="what is written there now may have come between; verify again"
            if repair
            else f"`atlas connector verify {name} --repair` brings the rows that differ",
            connector=name,
        )
    if codes:
        raise typer.Exit(ExitCode.PARTIAL if compared else min(codes))


def _show(output: Output, name: str, found: Sequence[Comparison], failures: Mapping[str, AtlasError]) -> None:
    lines = {comparison.stream: documents.comparison_document(comparison) for comparison in found}
    for stream, failure in failures.items():
        known = lines.get(stream, {"name": stream})
        lines[stream] = known | {"status": "failed", "error": error_document(failure)}
    if output.as_json:
        first = next(iter(failures.values()), None)
        failed = {"error": error_document(first)} if first else {}
        output.document({"connector": name, "streams": [*lines.values()], **failed})
        return
    headings = [column.replace("_", " ") for column in _COLUMNS]
    render.table(headings, [[line.get(column) for column in _COLUMNS] for line in lines.values()])
    for comparison in found:
        for example in comparison.examples:
            output.line(render.safe(f"{comparison.stream}: {example.kind} {_key(example)}"))
        more = (comparison.differing_keys or 0) - len(comparison.examples)
        if more:
            output.line(f"{comparison.stream}: and {more:,} more")


def _key(example: Example) -> str:
    return ", ".join(f"{name}={'NULL' if text is None else text}" for name, text in example.key)


class _VerifyReport(EventReport):
    """Tells each event, and keeps what was found last of each stream, and what failed."""

    def __init__(self, output: Output) -> None:
        super().__init__(output)
        self.comparisons: dict[str, Comparison] = {}
        self.failures: dict[str, AtlasError] = {}

    def tell(self, event: VerificationEvent) -> None:
        match event:
            case VerifyStarted():
                until = f" up to {event.high}" if event.high is not None else ""
                self._started(event.connector, event.stream, event.estimated_rows)
                if self._line is None:
                    self._say(event.connector, event.stream, f"comparing with {event.table}{until}")
            case StreamStarted():
                self._started(event.connector, event.stream, event.estimated_rows)
            case RowsCompared() | BatchLoaded():
                self._moved(event.connector, event.stream, event.rows, event.bytes)
            case ResultNotKept():
                more = "" if event.alone else "; a sync at the same time may look like a difference"
                self._say(
                    event.connector, None, f"warning: the result is not kept: {event.error.message}{more}"
                )
            case StreamVerified():
                self.comparisons[event.comparison.stream] = event.comparison
                self._ended(event.connector, event.comparison.stream)
            case StreamNotVerified():
                self.failures[event.stream] = event.error
                self._ended(event.connector, event.stream)
            case StreamFinished():
                self._ended(event.connector, event.outcome.name)
                rows = event.outcome.rows_read
                self._say(event.connector, event.outcome.name, f"repaired: {counted(rows, 'row')} read again")
                for warning in stream_warnings(event.outcome):
                    self._say(event.connector, event.outcome.name, f"warning: {warning}")
            case StreamReconciled():
                text = f"{counted(event.deleted, 'row')} deleted or marked that the source no longer has"
                self._say(event.connector, event.stream, text)
