"""What a destination holds and is told to do: states of tables, plans of loads and comparisons, results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import uuid4

from msgspec import Struct, field

from atlas_etl.model.checkpoint import Checkpoint, NextTail
from atlas_etl.model.reading import WireFormat
from atlas_etl.model.stream import Deletes, Disposition, TableName

if TYPE_CHECKING:
    import pyarrow as pa

_MARK_LENGTH = 200  # with the rest of a load's id it stays below 255


class CreateTable(Struct, frozen=True):
    """The stream's table does not exist yet."""


class DropTable(Struct, frozen=True):
    """A full refresh meets a table that cannot take the new types; it is made again."""


class AddColumn(Struct, frozen=True):
    """The source has a column that the table lacks."""

    field: pa.Field


class WidenColumn(Struct, frozen=True):
    """The table's column must hold more than it can; every value it has stays exact."""

    name: str
    before: pa.DataType
    after: pa.Field


SchemaChange = CreateTable | DropTable | AddColumn | WidenColumn


class QuarantinedRow(Struct, frozen=True):
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


class QuarantineChange(Struct, frozen=True):
    """What a load does to its stream's quarantine when it commits: rows leave by their ids, others come."""

    leave: frozenset[str] = frozenset()
    come: tuple[QuarantinedRow, ...] = ()  # each in the place of one with the same id


def merge_mark(key: Sequence[str]) -> str:
    """What tells the key of a merge from others, and people which one it is where it is short."""
    names = json.dumps(sorted(key))
    return names if len(names) <= _MARK_LENGTH else f"[{sha256(names.encode()).hexdigest()}]"


def told_mark(mark: str) -> str:
    """The key that a mark stands for, as people read it; `another key` where it is too long to be in it."""
    try:
        return ", ".join(map(str, json.loads(mark)))
    except ValueError:
        return "another key"


def merge_mark_of(load_id: str) -> str | None:
    """The mark with which the id of a load begins; None where it did not merge."""
    mark, _, _ = load_id.rpartition("/")
    return mark if mark.startswith("[") else None


class TableState(Struct, frozen=True):
    """What a destination holds of one stream: its table, the checkpoint, and whether Atlas loaded it.

    `schema` is what the table's columns read as in Arrow; None where there is no table. A checkpoint
    whose table is gone, or was emptied since, is not reported, so that the next sync reads everything.
    `loaded_by_atlas`: this stream loaded rows into it since it was made or emptied; `shared`: so did others,
    or it had rows before. `version` counts the commits of this stream; `loaded_at` is when the last of all
    streams committed here. `quarantine` has the rows that were refused and not loaded since, in their order.
    `protection` is what the plan of the last load said of its rows; None where it is not known. `key` are the
    columns of the table's primary key for which a row has to bring the value. `merge_mark` is that of the key
    by which this stream's rows were merged last; None where they were not, or it is not known.
    """

    schema: pa.Schema | None = None
    checkpoint: Checkpoint | None = None
    loaded_by_atlas: bool = False
    empty: bool = True
    version: int = 0
    quarantine: tuple[QuarantinedRow, ...] = ()
    protection: str | None = None
    shared: bool = False
    loaded_at: datetime | None = None
    key: frozenset[str] = frozenset()
    merge_mark: str | None = None

    @property
    def has_foreign_rows(self) -> bool:
        """Whether there are rows that this stream did not load: nothing may replace or delete them."""
        return not self.empty and (self.shared or not self.loaded_by_atlas)


class LoadPlan(Struct, frozen=True):
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
    # Of a merge: what the table had before has cursors up to its `high`; what comes, from its `tail_from` on.
    past: Checkpoint | None = None
    next_tail: NextTail | None = None  # of what comes; None: nothing is known of it
    distinct: bool = False  # rows are one of each key already, wherever they are compared
    unique: bool = False  # the source has no key twice: rows that the table takes for one are refused
    keyed: bool = False  # no two rows will share the primary key, so a table that is made may declare it
    by_key: bool = False  # of rows that share the key the latest stays, in a replace too
    version: int | None = None  # None: whatever the destination has
    alone: bool = False  # nobody else's rows may have come into the table, which was empty, when it commits
    begins: bool = False  # the table is empty, and it matters that what was loaded before is gone
    joins: bool = False  # the table has rows, and none of them is of this stream yet
    after: datetime | None = None  # the last commit into the table, which that of this load has to follow
    deletes: bool = False  # rows will be deleted by their key
    wire_format: WireFormat | None = None  # in which rows may come, too, as they are
    careful: bool = False  # rows that the table refuses are told from the others
    protection: str | None = None  # of what comes (ProtectedSource); None: as what is there
    # Behind that of the stream, or a merge's mark, and a slash.
    load_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def merges(self) -> bool:
        """Whether rows go by their key: they are gathered first, and the latest of each is kept."""
        return self.by_key or self.disposition is Disposition.MERGE


class LoadResult(Struct, frozen=True):
    """What a committed load did."""

    rows: int  # rows that this load added or changed; tail rows that were read again do not count
    committed_at: datetime
    left_out: int = 0  # rows that the table did not take, without an error; they are not among `rows`


class ReconcilePlan(Struct, frozen=True):
    """One comparison of a table with the keys of its source.

    `keys` has the primary key's columns as the table names and types them, `at` is when the source was looked
    at, and `has_marks` says whether the table has the column DELETED_AT. `version` is that of the state the
    plan was made from, as a load's: rows that came later have keys that the source was not asked for.
    `careful` leaves keys out that no row of the table can have.
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
    careful: bool = False


class ReconcileResult(Struct, frozen=True):
    """What a committed comparison did; rows that had been marked before count as neither."""

    deleted: int
    kept: int
    left_out: int = 0  # keys that no row of the table can have
