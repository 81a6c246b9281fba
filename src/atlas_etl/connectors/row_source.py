"""A source of rows: what is asked of it, and what it says of the rows that it gives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import pyarrow as pa
from msgspec import Struct, field

from atlas_etl.model import BatchLimits, CursorKind, CursorValue, Hazard, ParentBound, TableName


class LowerBound(Struct, frozen=True):
    """Rows before this cursor are not wanted; a source may leave out what it can tell cheaply."""

    column: str
    value: pa.Scalar  # in the type of the source's schema
    with_nulls: bool  # rows without a cursor are wanted


class Wanted(Struct, frozen=True):
    """What is asked of a source of rows."""

    schema: pa.Schema  # columns, by name, and the types to give them in
    limits: BatchLimits = field(default_factory=BatchLimits)  # a source keeps near them where it can
    bound: LowerBound | None = None


def may_grow(kind: pa.DataType) -> bool:
    """Whether a column of this type may be a cursor that people would choose."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind) or pa.types.is_integer(kind))


class RowSource(Protocol):
    """The rows of one stream as they were when it was opened; every read gives the same ones."""

    @property
    def schema(self) -> pa.Schema:
        """All columns, in the types that `batches` gives them in."""

    @property
    def where(self) -> str:
        """What is read, as messages call it."""

    @property
    def primary_key(self) -> tuple[str, ...]:
        """The key that the source itself knows of."""

    @property
    def is_ordered(self) -> bool:
        """Whether rows come in the order of the stream's cursor, the least first."""

    @property
    def is_between(self) -> bool:
        """Whether the rows that follow the last batch have later cursors than those before, in any order."""

    @property
    def put_back(self) -> timedelta:
        """By how much the clock that its rows get times without a zone from may be put back at once."""

    @property
    def time_hazards(self) -> frozenset[Hazard]:
        """What dates and timestamps may hold."""

    @property
    def rows(self) -> int | None:
        """How many rows there are, where that is known."""

    @property
    def tables(self) -> frozenset[TableName]:
        """As an Extract's."""

    def place(self) -> str | None:
        """As an Extract's."""

    @property
    def has_own_bounds(self) -> bool:
        """Whether `batches` itself leaves out what the request's checkpoint says is committed."""

    def may_change_from(self, high: CursorValue) -> CursorValue:
        """`high`, or an earlier cursor from which on rows may have changed after they were read."""

    def looked_until(self, kind: CursorKind) -> CursorValue | None:
        """Before which cursor of this kind nothing is left to be asked for; None: only the rows tell it."""

    def parents(self, tail_from: CursorValue) -> tuple[ParentBound, ...] | None:
        """What a checkpoint keeps of the rows' parents, after all batches."""

    def count_nulls(self, column: str) -> int | None:
        """How many rows have no value in this column; None where only reading them tells."""

    def warnings(self) -> Sequence[str]:
        """As an Extract's."""

    def statements(self) -> Sequence[str]:
        """What is asked for, as people read it: requests or files."""

    def caveats(self, cursor: str | None) -> Sequence[str]:
        """Why rows may be missed, where they may, if they are read by this cursor."""

    def interrupt(self) -> None:
        """As an Extract's."""

    def batches(self, wanted: Wanted) -> Iterator[pa.RecordBatch]:
        """The rows. Raises SourceError."""
