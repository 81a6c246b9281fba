"""How one SQL system is looked into, and what is asked of its rows: small statements that are bounded.

A sample is the newest rows where an index leads to them, else whichever come first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.examined import unmade
from atlas_etl.connectors.sql._source import Dialect, Relation, SourceColumn
from atlas_etl.errors import AtlasError, SourceError, nearest
from atlas_etl.model import Finding, Severity, Stream, TableName

TOO_LONG = "timeout"  # the code of a statement that was ended
SECONDS = 5  # that a statement of an examination may take
SAMPLE = 10_000  # rows
SMALL = 100_000  # rows that are read whole in no time
_NULLS = 1_000  # that are counted; more say no more


class Index(Struct, frozen=True):
    """An index of a table; of an expression in it there is no column."""

    columns: tuple[str, ...]
    unique: bool  # for every row, so without a condition


class TableLook(Protocol):
    """How the tables of one system are looked into. Statements end after SECONDS.

    What fails raises SourceError or DestinationError.
    """

    dialect: Dialect
    needs_index: bool  # whether few rows of many are found fast by an index only

    def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        """The rows of one SELECT."""

    def indexes(self, table: TableName) -> Sequence[Index] | None:
        """Those of a table, its primary key's among them; None where there is none, and for a view."""

    def create_index(self, relation: Relation, columns: Sequence[str], *, unique: bool) -> str:
        """The statement that makes one."""


class Look(TableLook, Protocol):
    """How one system is looked into that is read."""

    def relation(self, stream: Stream) -> Relation:
        """As a snapshot's."""

    def zone(self) -> str | None:
        """The zone of sessions that choose none; None where the system has no zones."""

    def system(self, sessions: int) -> Iterator[Finding]:
        """What holds for all streams: replication, clock, limits and rights. `sessions`: wanted at once."""

    def require(self, relation: Relation, column: SourceColumn) -> str | None:
        """The statement that keeps a column from being NULL; None where the system has none."""


class Spread(Struct, frozen=True):
    """How the rows of a sample spread over the values of some columns."""

    rows: int
    most: int  # rows of one value
    shared: int  # rows whose value another one has


class Found(Struct, frozen=True):
    """A stream as it was found."""

    stream: Stream
    relation: Relation
    indexes: tuple[Index, ...] | None

    def column(self, name: str) -> SourceColumn | None:
        return next((column for column in self.relation.columns if column.name == name), None)

    def is_led(self, name: str) -> bool:
        """Whether an index leads to this column's values in their order."""
        return any(index.columns[:1] == (name,) for index in self.indexes or ())

    @property
    def is_small(self) -> bool:
        rows = self.relation.estimated_rows
        return self.relation.table is not None and rows is not None and rows <= SMALL


@contextmanager
def within(seconds: float, interrupt: Callable[[], None]) -> Iterator[None]:
    """Interrupt what the block waits for, where its system has no limit of its own.

    Raises SourceError (`timeout`).
    """
    is_over = threading.Event()

    def stop() -> None:
        is_over.set()
        interrupt()

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        yield
    except AtlasError as failure:
        if not is_over.is_set():
            raise
        raise SourceError(f"it takes more than {seconds:g} s", code=TOO_LONG) from failure
    finally:
        timer.cancel()


def spread_of(look: TableLook, sample: str, columns: str) -> Spread:
    """Of a SELECT that gives these columns."""
    ((rows, most, shared),) = look.rows(
        "SELECT sum(n), max(n), sum(CASE WHEN n > 1 THEN n ELSE 0 END) FROM "
        f"(SELECT count(*) AS n FROM ({sample}) AS atlas_sample GROUP BY {columns}) AS atlas_spread"
    )
    return Spread(*(int(str(each or 0)) for each in (rows, most, shared)))


def null_count(look: Look, found: Found, column: SourceColumn) -> tuple[int, str]:
    """How many rows have no value in a column, counted up to one more than _NULLS, and among which ones."""
    name, at = look.dialect.quote(column.name), found.relation.sql
    if found.is_led(column.name) or found.is_small:
        inner = look.dialect.limit(f"SELECT 1 AS one FROM {at} WHERE {name} IS NULL", _NULLS + 1)
        ((count,),) = look.rows(f"SELECT count(*) FROM ({inner}) AS atlas_nulls")
        return int(str(count)), ""
    inner = look.dialect.limit(f"SELECT {name} AS c FROM {at}", SAMPLE)
    ((count, known),) = look.rows(f"SELECT count(*), count(c) FROM ({inner}) AS atlas_nulls")
    return int(str(count)) - int(str(known)), f" among the first {int(str(count)):,}"


def rows_told(count: int) -> str:
    """What `null_count` found, in words."""
    told = f"more than {_NULLS:,}" if count > _NULLS else f"{count:,}"
    return f"{told} row{'' if count == 1 else 's'}"


def candidates(found: Found) -> list[str]:
    """Columns that an index leads to and that grow: times before numbers."""
    times, numbers = [], []
    for column in found.relation.columns:
        kind = column.field.type
        if column.nullable or not found.is_led(column.name):
            continue
        if pa.types.is_timestamp(kind):
            times.append(column.name)
        elif pa.types.is_integer(kind) and found.relation.primary_key == (column.name,):
            numbers.append(column.name)
    return times + numbers


def bounded(check: str, subject: str, look: Callable[[], Finding]) -> Iterator[Finding]:
    """What a look finds, or why it could not be taken: mostly that it took too long."""
    try:
        yield look()
    except AtlasError as failure:
        yield unmade(check, subject, failure)


def no_column(check: str, stream: Stream, name: str, relation: Relation) -> Finding:
    """A definition names a column that is not there."""
    known = [column.name for column in relation.columns]
    return Finding(
        check, stream.name, Severity.PROBLEM, f"there is no column {name!r}",
        nearest(name, known) or f"its columns are {', '.join(known[:12])}",
    )  # fmt: skip
