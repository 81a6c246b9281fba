"""What a source is asked, and what it answers: read requests, rows that are refused, descriptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from atlas_etl.errors import DataError
from atlas_etl.model.checkpoint import CursorValue, ParentBound, Watermark
from atlas_etl.model.stream import Hazard, Stream

if TYPE_CHECKING:
    import pyarrow as pa


class BatchLimits(Struct, frozen=True):
    """How large a record batch may grow; whichever comes first."""

    bytes: int = 16 * 1024 * 1024
    rows: int = 131_072


class Window(Struct, frozen=True):
    """How much of a long load is committed at once; whichever comes first."""

    rows: int = 1_000_000
    bytes: int = 512 * 1024 * 1024

    def is_full(self, rows: int, size: int) -> bool:
        return rows >= self.rows or size >= self.bytes


@dataclass(frozen=True, slots=True)
class KnownColumns:
    """The columns that a stream's table has, for sources that infer theirs from what they read.

    `schema` and `settled` have the table's names, which `stored_name` makes of the source's. Those in
    `settled` have the type of their values, and not one that the destination has for others as well.
    """

    schema: pa.Schema
    settled: frozenset[str] = frozenset()
    stored_name: Callable[[str], str] = field(default=str, compare=False)


class ReadRequest(Struct, frozen=True):
    """What to read of one stream: rows with `cursor >= since`, all rows without one, at most `limit`.

    `watermarks`, `parents` and `past` (its `high`) are those of the checkpoint that `since` comes from.
    `window` asks for the cursor's order where more is to be read than one commit should hold. `until` leaves
    out rows with `cursor > until`, and `after` all but those with `cursor > after`, so also rows without a
    cursor. With `may_read_again` the reader opens the stream again where it raises WiderColumnsError. With
    `only_outline` no rows will be asked for, so that a source begins nothing that is only for them.
    """

    stream: Stream
    since: CursorValue | None = None
    limit: int | None = None
    limits: BatchLimits = BatchLimits()
    watermarks: tuple[Watermark, ...] = ()
    parents: tuple[ParentBound, ...] | None = None
    past: CursorValue | None = None
    window: Window | None = None
    until: CursorValue | None = None
    after: CursorValue | None = None
    known: KnownColumns | None = None
    may_read_again: bool = False
    only_outline: bool = False
    protection: str = ""  # of the checkpoint that `since` comes from
    keyed: Callable[[str], str] | None = None  # makes what a checkpoint holds of a digest of values; None: it


class ReadOutline(Struct, frozen=True):
    """What a read asks of its source, told before it: without secrets, and for people."""

    statements: tuple[str, ...]  # SQL with what is bound to it, or requests
    rows: int | None = None  # roughly; None where the source cannot say cheaply
    caveats: tuple[str, ...] = ()  # why rows may be missed, where they may


class WireFormat(Struct, frozen=True):
    """Rows as a system itself sends them: its columns, in order, with what stands for each.

    Where a destination takes the same for columns of these names, rows can pass without being decoded.
    """

    columns: tuple[tuple[str, str], ...]  # names and forms, e.g. ("amount", "postgresql numeric(12,2)")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)


class HazardCells(Struct, frozen=True):
    """The cells of one column of one batch that a decoder could not express; they are NULL in the batch."""

    column: str
    hazard: Hazard
    rows: tuple[int, ...]  # indices into the batch
    texts: tuple[str, ...]  # the source's own text form of each
    hint: str | None = None  # a better way out than the policies, where the decoder knows one


class RefusedRow(Struct, frozen=True):
    """A row that is not loaded, and why."""

    row: pa.RecordBatch  # one row
    why: DataError
    # column -> its cell, where `row` cannot hold it
    texts: Mapping[str, str] = msgspec.field(default_factory=dict)


class ColumnInfo(Struct, frozen=True):
    """A column as its system's catalog describes it."""

    name: str
    type: str  # the system's own name for the type
    nullable: bool


class StreamInfo(Struct, frozen=True):
    """A table, view or file pattern as `connector discover` shows it.

    `indexed` are the columns that an index begins with; None where the system has no such indexes.
    """

    name: str
    columns: tuple[ColumnInfo, ...]
    primary_key: tuple[str, ...] = ()
    cursor_candidates: tuple[str, ...] = ()
    estimated_rows: int | None = None
    indexed: frozenset[str] | None = None


class ConnectionStatus(Struct, frozen=True):
    """What `connector test` found out."""

    message: str
    server_version: str | None = None
    warnings: tuple[str, ...] = ()
