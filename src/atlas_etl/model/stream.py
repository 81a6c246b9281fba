"""What is read: a stream as its definition describes it, and what its values may run into."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from msgspec import Struct, field

from atlas_etl.model.protection import Rule


class TableName(Struct, frozen=True):
    """Where a stream lands. `schema` is None where the destination has none (SQLite, files)."""

    name: str
    schema: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


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


class Deletes(Struct, frozen=True):
    """That a stream's table is reconciled with the keys of its source: a cursor does not show deletes."""

    how: Deletion = Deletion.HARD
    every: timedelta | None = None  # at most once in this time; None: at each sync
    max_share: float = 0.1  # of the rows that are there, from 0 to 1: no more may go at once


class Stream(Struct, frozen=True):
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
    # Of an append: these rows are added to what is there, and only once. None: no later read leaves them out.
    load_id: str | None = None
    protect: Mapping[str, Rule] = field(default_factory=dict)  # by column: what becomes of its values
    partitions: int | None = (
        None  # connections that read a whole table side by side; None: as suits the source
    )

    @property
    def connections(self) -> int:
        """How many read a whole table, where the source does not choose by itself."""
        return self.partitions or 1

    def reads(self, column: str) -> bool:
        """Whether the definition asks for this column of the source."""
        return (not self.columns or column in self.columns) and column not in self.exclude

    def policy(self, hazard: Hazard) -> HazardPolicy:
        """What the definition says; else such a row is refused like any other."""
        refuse = HazardPolicy.QUARANTINE if self.quarantine_limit else HazardPolicy.ERROR
        return self.hazards.get(hazard, refuse)
