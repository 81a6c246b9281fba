"""What the history keeps: the runs of connectors, and what each did to its streams."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from atlas_etl.model.checkpoint import Checkpoint
from atlas_etl.model.stream import Disposition


class RetryPolicy(Struct, frozen=True):
    """How often a stream is tried where a retry may help, and how long is waited in between.

    The wait doubles from `first_wait` up to `longest_wait`, with up to a second of jitter.
    """

    attempts: int = 3
    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(minutes=1)


class RunStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"

    @property
    def is_failure(self) -> bool:
        """Whether something that was to be done was not."""
        return self in (RunStatus.FAILED, RunStatus.PARTIAL, RunStatus.INTERRUPTED)


class Side(StrEnum):
    """Which end of a load the other one waits for."""

    SOURCE = "source"
    DESTINATION = "destination"


class RunError(Struct, frozen=True):
    """An error as history keeps it: no secret, no row values."""

    code: str
    message: str
    hint: str | None = None
    exit_code: int = 1
    retryable: bool = False  # whether the same run may succeed later


class StreamRun(Struct, frozen=True):
    """What one run did to one stream."""

    name: str
    status: RunStatus
    disposition: Disposition | None = None
    table: str | None = None
    rows_read: int = 0
    rows_loaded: int = 0
    rows_quarantined: int = 0
    rows_left_out: int = 0  # by the table itself, without an error
    rows_deleted: int = 0  # at the destination, because the source no longer has their keys
    bytes_processed: int = 0
    loads: int = 0
    slower: Side | None = None  # of what was read and written at the same time
    checkpoint: Checkpoint | None = None
    nulled: Mapping[str, int] = field(default_factory=dict)  # "column: hazard" -> cells loaded as NULL
    warnings: tuple[str, ...] = ()
    schema_changes: tuple[str, ...] = ()  # of a table that was there before
    error: RunError | None = None

    def after(self, earlier: StreamRun) -> StreamRun:
        """Both together, where an earlier attempt had committed a part."""
        return replace(
            self,
            rows_read=earlier.rows_read + self.rows_read,
            rows_loaded=earlier.rows_loaded + self.rows_loaded,
            rows_quarantined=earlier.rows_quarantined + self.rows_quarantined,
            rows_left_out=earlier.rows_left_out + self.rows_left_out,
            bytes_processed=earlier.bytes_processed + self.bytes_processed,
            loads=earlier.loads + self.loads,
            warnings=tuple(dict.fromkeys((*earlier.warnings, *self.warnings))),
            schema_changes=(*earlier.schema_changes, *self.schema_changes),
            nulled={
                what: earlier.nulled.get(what, 0) + self.nulled.get(what, 0)
                for what in {**earlier.nulled, **self.nulled}
            },
        )


class Run(Struct, frozen=True):
    """One execution of one connector; its rows are the history."""

    run_id: str
    connector: str
    status: RunStatus
    triggered_by: str
    started_at: datetime
    completed_at: datetime | None = None
    destination: str | None = None
    streams: tuple[StreamRun, ...] = ()
    rows_processed: int = 0
    bytes_processed: int = 0
    error: RunError | None = None
    scheduled_at: datetime | None = None  # the slot that it was run for

    @property
    def retryable(self) -> bool:
        """Whether the run, or one of its streams, failed in a way that may pass."""
        errors = [self.error, *(stream.error for stream in self.streams)]
        return any(error is not None and error.retryable for error in errors)

    @property
    def duration_seconds(self) -> float | None:
        if self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()
