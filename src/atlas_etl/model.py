"""The frozen values that travel between the rooms: streams, cursors, checkpoints, plans and runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import uuid4

from atlas_etl.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa


class Disposition(StrEnum):
    """How a load meets what is already in its table."""

    APPEND = "append"
    MERGE = "merge"
    REPLACE = "replace"


class NullCursor(StrEnum):
    """What happens to rows whose cursor is NULL, which no later read would find."""

    ERROR = "error"
    INCLUDE = "include"
    EXCLUDE = "exclude"


class Hazard(StrEnum):
    """The ways in which a source's value can have no exact Arrow form."""

    INFINITY = "infinity"  # a date or timestamp of plus or minus infinity
    OUT_OF_RANGE = "out_of_range"  # a date or timestamp outside the years 0001 to 9999
    ZERO_DATE = "zero_date"  # MySQL's 0000-00-00, 2024-00-15 and their timestamps
    TIME_RANGE = "time_range"  # a time of day outside 00:00:00 to 23:59:59.999999
    DECIMAL_SPECIAL = "decimal_special"  # NaN or infinity in a column of exact decimals
    PRECISION = "precision"  # a number with more digits than its declared type holds
    INTERVAL = "interval"  # an interval whose nanoseconds pass 64 bits
    ARRAY_SHAPE = "array_shape"  # a nested array, or one that does not begin at 1
    TYPE_MISMATCH = "type_mismatch"  # a value of another type than its column declares (SQLite)
    INVALID_TEXT = (
        "invalid_text"  # text that its system calls UTF-8 and that is not (MySQL stores surrogates)
    )


class HazardPolicy(StrEnum):
    """What to do about a hazard: refuse the load, load NULL, carry the column as text, or refuse the row."""

    ERROR = "error"
    NULL = "null"
    TEXT = "text"
    QUARANTINE = "quarantine"


class Deletion(StrEnum):
    """What becomes of a row whose key its source no longer has."""

    HARD = "hard"  # it is deleted
    SOFT = "soft"  # it stays, and its column DELETED_AT says when it was found to be gone


DELETED_AT = "_atlas_deleted_at"  # NULL in rows that the source has


@dataclass(frozen=True, slots=True)
class Deletes:
    """That a stream's table is reconciled with the keys of its source: a cursor does not show deletes."""

    how: Deletion = Deletion.HARD
    every: timedelta | None = None  # at most once in this time; None: at each sync
    max_share: float = 0.1  # of the rows that are there, from 0 to 1: no more may go at once


@dataclass(frozen=True, slots=True)
class HazardCells:
    """The cells of one column of one batch that a decoder could not express; they are NULL in the batch."""

    column: str
    hazard: Hazard
    rows: tuple[int, ...]  # indices into the batch
    texts: tuple[str, ...]  # the source's own text form of each
    hint: str | None = None  # a better way out than the policies, where the decoder knows one


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that is not loaded, and why."""

    row: pa.RecordBatch  # one row
    why: DataError
    texts: Mapping[str, str] = field(default_factory=dict)  # column -> its cell, where `row` cannot hold it


class CursorKind(StrEnum):
    """The types by which rows can be ordered; fixes the text form of a CursorValue."""

    INTEGER = "integer"  # 42
    DECIMAL = "decimal"  # 12.50
    FLOAT = "float"  # the shortest text that reads back as the same double
    TEXT = "text"
    DATE = "date"  # 2026-03-01
    TIMESTAMP = "timestamp"  # 2026-03-01T12:30:45.123456 (up to nanoseconds), no zone known
    TIMESTAMPTZ = "timestamptz"  # 2026-03-01T12:30:45.123456Z
    UUID = "uuid"


@dataclass(frozen=True, slots=True)
class CursorValue:
    """One value of a cursor column as typed, lossless text."""

    kind: CursorKind
    text: str


@dataclass(frozen=True, slots=True)
class Watermark:
    """A past look at the source: transactions that began after `at` give out cursors past `high`."""

    at: datetime
    high: CursorValue


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one stream is committed: everything before `tail_from` is final, the rest is read again.

    `tail_from <= high` in the source's own order. `tail_values` is set for text cursors only: the
    spellings that the tail's cursors have, because a destination may order text in another way.
    `watermarks` is set for cursors that are no times, the oldest first: they tell where rows of
    transactions that are still open may appear.
    """

    cursor: str  # the column's name: another one makes the checkpoint meaningless
    high: CursorValue
    tail_from: CursorValue
    tail_values: tuple[str, ...] = ()
    watermarks: tuple[Watermark, ...] = ()

    def reaches_as_far_as(self, other: Checkpoint | None) -> bool:
        """Whether both end at the same rows and read the same ones again, whatever else they remember."""
        return other is not None and (
            (self.cursor, self.high, self.tail_from, self.tail_values)
            == (other.cursor, other.high, other.tail_from, other.tail_values)
        )


@dataclass(frozen=True, slots=True)
class CommittedCheckpoint:
    """A checkpoint with the load that committed it, as `state show` prints it."""

    stream: str
    checkpoint: Checkpoint
    committed_at: datetime
    run_id: str  # empty: set by a person


class CheckpointAction(StrEnum):
    """What changed a checkpoint."""

    LOAD = "load"
    SET = "set"
    RESET = "reset"
    REPAIR = "repair"


@dataclass(frozen=True, slots=True)
class CheckpointChange:
    """One line of `state history`: what became of a stream's checkpoint, by whom and why.

    `changed_by` is `user@host`; None where the change was found at the destination afterwards, because
    the process died before it could record it, or has another state store.
    """

    change_id: int  # greater than that of every change before it
    connector: str
    stream: str
    action: CheckpointAction
    before: Checkpoint | None
    after: Checkpoint | None  # None: forgotten, so that everything is read again
    changed_at: datetime
    changed_by: str | None
    run_id: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class TableName:
    """Where a stream lands. `schema` is None where the destination has none (SQLite, files)."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, slots=True)
class Stream:
    """One thing read, as the definition describes it; exactly one of table, query and path is set."""

    name: str
    table: str | None = None
    query: str | None = None
    path: str | None = None
    cursor: str | None = None
    primary_key: tuple[str, ...] = ()  # empty: taken from the catalog where there is one
    disposition: Disposition | None = None  # None: chosen from cursor and key
    null_cursor: NullCursor = NullCursor.ERROR
    lag: timedelta | None = None
    columns: tuple[str, ...] = ()  # empty: all
    exclude: tuple[str, ...] = ()
    hazards: Mapping[Hazard, HazardPolicy] = field(default_factory=dict)
    timezone: str | None = None  # the IANA zone of the naive timestamps; None keeps them naive
    into: TableName | None = None  # None: schema = connector, table = stream
    metadata_columns: bool = False
    deletes: Deletes | None = None  # None: rows that the source deleted stay
    quarantine_limit: int = 0  # rows of the stream that may be in quarantine

    def policy(self, hazard: Hazard) -> HazardPolicy:
        """What the definition says; else such a row is refused like any other."""
        refuse = HazardPolicy.QUARANTINE if self.quarantine_limit else HazardPolicy.ERROR
        return self.hazards.get(hazard, refuse)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a record batch may grow; whichever comes first."""

    bytes: int = 16 * 1024 * 1024
    rows: int = 131_072


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a long load is committed at once; whichever comes first."""

    rows: int = 500_000
    bytes: int = 512 * 1024 * 1024

    def is_full(self, rows: int, size: int) -> bool:
        return rows >= self.rows or size >= self.bytes


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a stream is tried where a retry may help, and how long is waited in between.

    The wait doubles from `first_wait` up to `longest_wait`, with up to a second of jitter.
    """

    attempts: int = 3
    first_wait: timedelta = timedelta(seconds=1)
    longest_wait: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What to read of one stream: rows with `cursor >= since`, all rows without one, at most `limit`.

    `watermarks` and `past` (its `high`) are those of the checkpoint that `since` comes from. `window` asks
    for the cursor's order where more is to be read than one commit should hold. `until` leaves out rows
    with `cursor > until`, and `after` all but those with `cursor > after`, so also rows without a cursor.
    """

    stream: Stream
    since: CursorValue | None = None
    limit: int | None = None
    limits: BatchLimits = BatchLimits()
    watermarks: tuple[Watermark, ...] = ()
    past: CursorValue | None = None
    window: Window | None = None
    until: CursorValue | None = None
    after: CursorValue | None = None


@dataclass(frozen=True, slots=True)
class ColumnInfo:
    """A column as its system's catalog describes it."""

    name: str
    type: str  # the system's own name for the type
    nullable: bool


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A table, view or file pattern as `connector discover` shows it."""

    name: str
    columns: tuple[ColumnInfo, ...]
    primary_key: tuple[str, ...] = ()
    cursor_candidates: tuple[str, ...] = ()
    estimated_rows: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """What `connector test` found out."""

    message: str
    server_version: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateTable:
    """The stream's table does not exist yet."""


@dataclass(frozen=True, slots=True)
class DropTable:
    """A full refresh meets a table that cannot take the new types; it is made again."""


@dataclass(frozen=True, slots=True)
class AddColumn:
    """The source has a column that the table lacks."""

    field: pa.Field


@dataclass(frozen=True, slots=True)
class WidenColumn:
    """The table's column must hold more than it can; every value it has stays exact."""

    name: str
    before: pa.DataType
    after: pa.Field


SchemaChange = CreateTable | DropTable | AddColumn | WidenColumn


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row in quarantine: whole, and why it is not in its table.

    `row` has the text form (values.to_text) of every cell by the table's column names, and `key` those
    that tell it from other rows; it is empty where rows do not go by a key.
    """

    quarantine_id: str  # the same whenever the same row is refused
    stream: str
    key: Mapping[str, str]
    row: Mapping[str, str | None]
    code: str
    reason: str
    column: str | None
    run_id: str
    load_id: str
    quarantined_at: datetime

    @property
    def order(self) -> tuple[datetime, str]:
        """By which rows are listed."""
        return self.quarantined_at, self.quarantine_id


@dataclass(frozen=True, slots=True)
class QuarantineChange:
    """What a load does to its stream's quarantine when it commits: rows leave by their ids, others come."""

    leave: frozenset[str] = frozenset()
    come: tuple[QuarantinedRow, ...] = ()  # each in the place of one with the same id


@dataclass(frozen=True, slots=True)
class TableState:
    """What a destination holds of one stream: its table, the checkpoint, and whether Atlas loaded it.

    `schema` is what the table's columns read as in Arrow; None where there is no table. A checkpoint
    whose table is gone is not reported, so that the next sync reads everything. `version` counts the
    commits of this stream. `quarantine` has the rows that were refused and not loaded since, in their order.
    """

    schema: pa.Schema | None = None
    checkpoint: Checkpoint | None = None
    loaded_by_atlas: bool = False
    empty: bool = True
    version: int = 0
    quarantine: tuple[QuarantinedRow, ...] = ()


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """One load: which rows meet which table, and how.

    `schema` is what every batch written to the session has: the incoming columns in the types of the
    table after `changes`. `tail` is the checkpoint whose tail an append deletes first; None where
    there is nothing to delete. `version` is that of the state the plan was made from: where the
    destination has another one when the load commits, somebody else's load came between.
    """

    run_id: str
    connector: str
    stream: str
    table: TableName
    disposition: Disposition
    schema: pa.Schema
    primary_key: tuple[str, ...]
    cursor: str | None
    changes: tuple[SchemaChange, ...] = ()
    tail: Checkpoint | None = None
    tail_has_nulls: bool = False  # rows with a NULL cursor are read again every time: they belong to the tail
    keyed: bool = False  # no two rows will share the primary key, so a table that is made may declare it
    by_key: bool = False  # of rows that share the key the latest stays, in a replace too
    version: int | None = None  # None: whatever the destination has
    deletes: bool = False  # rows will be deleted by their key
    careful: bool = False  # rows that the table refuses are told from the others
    load_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def merges(self) -> bool:
        """Whether rows go by their key: they are gathered first, and the latest of each is kept."""
        return self.by_key or self.disposition is Disposition.MERGE


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a committed load did."""

    rows: int  # rows that this load added or changed; tail rows that were read again do not count
    committed_at: datetime


@dataclass(frozen=True, slots=True)
class ReconcilePlan:
    """One comparison of a table with the keys of its source.

    `keys` has the primary key's columns as the table names and types them, `at` is when the source was looked
    at, and `has_marks` says whether the table has the column DELETED_AT. `version` is that of the state the
    plan was made from, as a load's: rows that came later have keys that the source was not asked for.
    """

    run_id: str
    connector: str
    stream: str
    table: TableName
    keys: pa.Schema
    deletes: Deletes
    at: datetime
    has_marks: bool
    version: int


@dataclass(frozen=True, slots=True)
class ReconcileResult:
    """What a committed comparison did; rows that had been marked before count as neither."""

    deleted: int
    kept: int


class RunStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class RunError:
    """An error as history keeps it: no secret, no row values."""

    code: str
    message: str
    hint: str | None = None
    exit_code: int = 1


@dataclass(frozen=True, slots=True)
class StreamRun:
    """What one run did to one stream."""

    name: str
    status: RunStatus
    disposition: Disposition | None = None
    table: str | None = None
    rows_read: int = 0
    rows_loaded: int = 0
    rows_quarantined: int = 0
    rows_deleted: int = 0  # at the destination, because the source no longer has their keys
    bytes_processed: int = 0
    loads: int = 0
    checkpoint: Checkpoint | None = None
    nulled: Mapping[str, int] = field(default_factory=dict)  # "column: hazard" -> cells loaded as NULL
    warnings: tuple[str, ...] = ()
    error: RunError | None = None

    def after(self, earlier: StreamRun) -> StreamRun:
        """Both together, where an earlier attempt had committed a part."""
        return replace(
            self,
            rows_read=earlier.rows_read + self.rows_read,
            rows_loaded=earlier.rows_loaded + self.rows_loaded,
            rows_quarantined=earlier.rows_quarantined + self.rows_quarantined,
            bytes_processed=earlier.bytes_processed + self.bytes_processed,
            loads=earlier.loads + self.loads,
            nulled={
                what: earlier.nulled.get(what, 0) + self.nulled.get(what, 0)
                for what in {**earlier.nulled, **self.nulled}
            },
        )


@dataclass(frozen=True, slots=True)
class Run:
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

    @property
    def duration_seconds(self) -> float | None:
        if self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()
