"""What the SQL reader asks of a system: relations and their columns, SELECTs, snapshots, a dialect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.sql._checksums import Checksums
from atlas_etl.connectors.sql._late import OpenWriters
from atlas_etl.errors import SourceError, nearest
from atlas_etl.model import BatchLimits, CursorValue, Hazard, HazardCells, Stream, TableName

_MOST_TOLD = 8  # statements


class SourceColumn(Struct, frozen=True):
    """A column as the reader selects it: `select` is the SQL that yields `field`'s type on the wire."""

    name: str
    native: str  # the type in the system's own words
    nullable: bool
    field: pa.Field
    select: str
    text_select: str  # the SQL of its exact text form, for the hazard policy `text`
    hazards: frozenset[Hazard] = field(default_factory=frozenset)
    wire: str | None = None  # what the plain column is on the wire, where it may pass undecoded
    sorts_as_arrow: bool = True  # False where ORDER BY puts the type's values in another order

    def as_text(self) -> SourceColumn:
        plain = values.with_source_type(pa.field(self.name, pa.string(), self.nullable), self.native)
        return replace(self, field=plain, select=self.text_select, hazards=frozenset(), wire=None)


class Relation(Struct, frozen=True):
    """What a stream reads: columns, key and rough size of a table, view or query. `sql` stands after FROM."""

    sql: str
    columns: tuple[SourceColumn, ...]
    primary_key: tuple[str, ...] = ()
    key_is_unique: bool = True  # as it is read: False where tables that inherit, or spellings, may repeat one
    estimated_rows: int | None = None
    table: TableName | None = None  # None for a query
    # Where several connections read it side by side: conditions that each row meets exactly one of.
    ranges: tuple[str, ...] = ()
    ranges_follow: str | None = None  # the column in whose order they are read
    unsplit: str | None = None  # why there are none, though the stream's `partitions` ask for them
    caveat: str | None = None  # why its rows may not be those of one moment
    late: str | None = None  # why rows may appear before a cursor's tail that no open transaction tells of
    # Columns with no value for which a policy asks for text: they are text only where the table has text.
    spared: frozenset[str] = frozenset()


class Select(Struct, frozen=True):
    """A SELECT with its bound parameters, in order, and the columns that it gives."""

    sql: str
    parameters: tuple[object, ...]
    columns: tuple[SourceColumn, ...]
    is_stream: bool = False  # whether it gives the stream's own rows, none of which may be missing
    # Rows in wire form (values.wire_batch), with only these columns decoded; None: every column is.
    beside: tuple[str, ...] | None = None
    ranges: tuple[Select, ...] = ()  # which give the same rows together, to be read side by side

    @property
    def written(self) -> str:
        """The statement as people read it, with what is bound to it behind."""
        bound = ", ".join(str(parameter) for parameter in self.parameters)
        return f"{self.sql} -- {bound}" if bound else self.sql

    @property
    def told(self) -> tuple[str, ...]:
        """The statements of a plan: those of its ranges, of many the first and the last, or its own."""
        written = tuple(each.written for each in self.ranges or (self,))
        if len(written) <= _MOST_TOLD:
            return written
        return written[0], f"-- and {len(written) - 2} ranges between them", written[-1]


class Forecast(Struct, frozen=True):
    """What a system expects of a SELECT that asks for an order: how many rows, and what the order costs."""

    rows: int | None
    worth_windows: int | None  # the order pays for more windows than this; None: never


_NOT_FOUND = frozenset({"table_not_found", "column_not_found"})
READ_IN_ORDER, SORTED = 1, 4  # of an index, and of rows that are sorted whole


class Snapshot(Protocol):
    """One read-only transaction on a source, in which every statement sees the same rows."""

    def place(self) -> str | None:
        """The database, whatever way led to it; None in memory."""

    def relation(self, stream: Stream) -> Relation:
        """Look the stream up. Raises SourceError (`table_not_found`) with the nearest names."""

    def fetch(
        self, select: Select, limits: BatchLimits
    ) -> Iterator[tuple[pa.RecordBatch, Sequence[HazardCells]]]:
        """The rows in batches of the columns' fields; cells without an exact form are NULL and listed."""

    def interrupt(self) -> None:
        """Have a fetch of another thread that waits for the system fail soon; nothing works afterwards."""

    def forecast(self, select: Select) -> Forecast:
        """What the system expects of a SELECT; called before `fetch`."""

    def open_writers(self) -> OpenWriters | None:
        """Those that may still commit rows this snapshot cannot see.

        Who begins between looking for them and the snapshot is one of them. None where the system has one
        writer at a time.
        """


class Dialect(Protocol):
    """How one system writes SQL."""

    @property
    def checksums(self) -> Checksums | None:
        """How it computes checksums of rows, where it can."""

    @property
    def subqueries_keep_names(self) -> bool:
        """Whether a column of a subquery has the name that it is given, whatever that is."""

    def quote(self, identifier: str) -> str:
        """An identifier, whatever characters it has."""

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        """A placeholder of the column's type, and the parameter that stands for this cursor value."""

    def limit(self, sql: str, rows: int) -> str:
        """The statement, giving at most this many rows."""

    def in_order(self, sql: str, column: SourceColumn) -> str:
        """The SELECT with its rows in this column's order."""


def subquery(stream: Stream) -> str:
    """The stream's query as it stands after FROM. Its last line may be a comment."""
    query = (stream.query or "").strip().rstrip(";")
    return f"({query}\n) AS atlas_query"


def table_not_found(wanted: str, known: Sequence[str], stream: str) -> SourceError:
    """The error for a table that is not there, with the nearest names of those that are."""
    return SourceError(
        f"there is no table {wanted!r}",
        hint=nearest(wanted, known) or "`atlas connector discover` lists what can be read",
        code="table_not_found",
        stream=stream,
    )


@contextmanager
def found_before(stream: Stream) -> Iterator[None]:
    """Read what the catalog has just told of: a table or column that is not there now was changed since.

    Raises SourceError (`table_rewritten`), which may be retried.
    """
    try:
        yield
    except SourceError as failure:
        if failure.code not in _NOT_FOUND:
            raise
        raise SourceError(
            f"{stream.table or 'what the query reads'} was changed while it was read: {failure.message}",
            hint="run again when the other job is done",
            code="table_rewritten",
            stream=stream.name,
            retryable=True,
        ) from failure
