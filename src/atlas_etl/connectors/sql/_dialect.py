"""How one SQL system is written: the connection of a load, and the dialect of its statements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from atlas_etl import values
from atlas_etl.errors import RefusedRowError
from atlas_etl.model import LoadPlan, TableName, WidenColumn

STAGE = "_atlas_stage"
GONE = "_atlas_gone"  # keys whose rows are deleted
ROW = "_atlas_row"  # the stage's own column: the order in which rows were read
RANK = "_atlas_rank"


class Connection(Protocol):
    """One connection being written through.

    Every call translates the driver's errors: RefusedRowError for a row that a table does not take, else
    DestinationError.
    """

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """One statement; its rows where it has any."""

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        """Insert a batch into a table (already quoted), columns by name, as fast as the system can.

        What the table refuses of it may be raised by a later call.
        """

    def change(self, sql: str, parameters: Sequence[object] = ()) -> int | None:
        """One statement that adds, changes or deletes rows: how many it did.

        None where no statement of the system leaves a row out without an error.
        """

    def left_out(self) -> int:
        """How many rows of `ingest` tables left out, without an error, since this was asked last."""

    def begin(self) -> None: ...

    def commit(self) -> None: ...

    def rollback(self) -> None: ...


class NoneLeftOut:
    """Of a connection to a system in which a table takes a row or refuses it."""

    def change(self: Connection, sql: str, parameters: Sequence[object] = ()) -> None:
        self.execute(sql, parameters)

    def left_out(self) -> int:
        return 0


Refusals = dict[int, RefusedRowError]


class Trial(Protocol):
    """Finds out which rows a plan's table refuses, and leaves it as it was."""

    def refusals(self, rows: pa.RecordBatch) -> Refusals:
        """The rows that the table does not take, by their place in the batch."""


class WriterDialect(ABC):
    """How one system writes. The defaults are standard SQL."""

    placeholder = "?"
    key_type = "VARCHAR(255)"  # holds connector and stream names in a primary key
    text_type = "TEXT"
    searched_type: str | None = None  # of own texts that are compared, where it is another
    empty_is_null = False  # whether an empty text is NULL
    descending = "DESC NULLS LAST"
    has_schemas = True
    has_savepoints = True
    keeps_keys = True  # whether tables are made with their primary key
    fold_case = False  # whether names that differ only in case are one
    max_identifier: int | None = None
    for_update = ""  # locks the rows of a SELECT, where not the whole database is locked anyway
    lock_hint = ""  # the same, of systems where it stands behind the table
    count = "count(*)"  # of any number of rows
    substring = "substr"

    def quote(self, identifier: str) -> str:
        return '"' + identifier.replace('"', '""') + '"'

    def identifier_size(self, name: str) -> int:
        return len(name.encode())

    def folded_table(self, name: str) -> str:
        """The SQL of what is equal for all names of one table, of a name that is given as SQL."""
        return name

    def same_table(self, column: str, name: str) -> tuple[str, Sequence[str]]:
        """The SQL of whether a column, given as SQL, names the table of this name, and its parameters."""
        return f"{self.folded_table(column)} = {self.folded_table(self.placeholder)}", (name,)

    def table(self, table: TableName) -> str:
        return (
            f"{self.quote(table.schema)}.{self.quote(table.name)}" if table.schema else self.quote(table.name)
        )

    def stage(self, name: str) -> str:
        """How a temporary table of this name is written."""
        return self.quote(name)

    def first(self, select: str) -> str:
        """The SELECT, which gives one row at most."""
        return f"{select} LIMIT 1"

    def first_locked(self, select: str) -> str:
        """The same, of a SELECT that ends with its conditions, and the row is locked."""
        return f"{self.first(select)}{self.for_update}"

    @abstractmethod
    def stored(self, field: pa.Field) -> pa.Field:
        """The field as it would read back after being stored; text where there is no exact type."""

    @abstractmethod
    def column_type(self, field: pa.Field) -> str:
        """The DDL type of a stored field."""

    @abstractmethod
    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        """A placeholder of the scalar's column type, and the parameter to bind."""

    def ordered(self, field: pa.Field) -> str:
        """The SQL by which a stored column is compared, with `parameter` and with itself."""
        return self.quote(field.name)

    def is_one_of(self, field: pa.Field, marks: Sequence[str]) -> str:
        """The SQL of whether a text is exactly one of these, which `parameter` gave."""
        return f"{self.quote(field.name)} IN ({', '.join(marks)})"

    def upsert(self, table: TableName, columns: Sequence[str], key: Sequence[str], changed: str) -> str:
        """An INSERT of one row, with placeholders; where its key is there, only one column changes."""
        name, marks = self.quote(changed), ", ".join(self.placeholder for _ in columns)
        return (
            f"INSERT INTO {self.table(table)} ({self.names(columns)}) VALUES ({marks}) "
            f"ON CONFLICT ({self.names(key)}) DO UPDATE SET {name} = excluded.{name}"
        )

    def as_written(self, statement: str) -> str:
        """A statement that was put together here as a person would write it: what queries are given as."""
        return statement

    def create_schema(self, schema: str) -> str:
        return f"CREATE SCHEMA IF NOT EXISTS {self.quote(schema)}"

    def create_own_table(self, table: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        """Make one of Atlas's own tables where it is missing; `columns` are whole declarations."""
        definition = f"{', '.join(columns)}, PRIMARY KEY ({self.names(key)})"
        return f"CREATE TABLE IF NOT EXISTS {self.table(table)} ({definition})"

    def create_table(self, table: TableName, schema: pa.Schema, primary_key: Sequence[str]) -> str:
        columns = [f"{self.quote(field.name)} {self.column_type(field)}" for field in schema]
        if primary_key and self.keeps_keys:
            columns.append(f"PRIMARY KEY ({self.names(primary_key)})")
        return f"CREATE TABLE {self.table(table)} ({', '.join(columns)})"

    def create_stage(self, stage: str, schema: pa.Schema, key: Sequence[str] = ()) -> str:  # noqa: ARG002
        """A temporary table; a system that would scan it for each key that is looked up makes an index."""
        columns = [f"{self.quote(field.name)} {self.column_type(field)}" for field in schema]
        return f"CREATE TEMPORARY TABLE {stage} ({', '.join(columns)})"

    def filled_stage(self, stage: str) -> Sequence[str]:  # noqa: ARG002
        """What is run on a stage of many keys before they are looked up in it."""
        return ()

    def before_changing(self, rows: int) -> Sequence[str]:  # noqa: ARG002
        """What is run before so many rows of the table are deleted or updated."""
        return ()

    def drop_stage(self, stage: str) -> Sequence[str]:
        return (f"DROP TABLE {stage}",)

    def add_column(self, table: TableName, field: pa.Field) -> str:
        column = f"{self.quote(field.name)} {self.column_type(field)}"
        return f"ALTER TABLE {self.table(table)} ADD COLUMN {column}"

    def widen(self, table: TableName, change: WidenColumn) -> Sequence[str]:
        """Raises DestinationError (`cannot_widen`) where this takes another table."""
        name, kind = self.quote(change.name), self.column_type(change.after)
        using = f" USING {self.as_text(name, change.before)}" if change.after.type == pa.string() else ""
        return (f"ALTER TABLE {self.table(table)} ALTER COLUMN {name} SET DATA TYPE {kind}{using}",)

    def as_text(self, column: str, kind: pa.DataType) -> str:  # noqa: ARG002
        """SQL of the text that a column's values become: those of `values.to_text`, or others as exact."""
        return f"CAST({column} AS {self.text_type})"

    def empty(self, table: TableName) -> str:
        return f"DELETE FROM {self.table(table)}"

    def merge(self, plan: LoadPlan, stage: str) -> Sequence[str]:
        """Upsert by key from a stage with one row of each: delete what changes, then insert."""
        return self.delete_staged(plan, stage), self.insert_staged(plan, stage)

    def insert_staged(self, plan: LoadPlan, stage: str) -> str:
        """Insert the rows of the stage."""
        names = self.names(plan.schema.names)
        return f"INSERT INTO {self.table(plan.table)} ({names}) SELECT {names} FROM {stage}"

    def delete_staged(self, plan: LoadPlan, stage: str) -> str:
        """Delete the rows whose key stands in the stage."""
        target = self.table(plan.table)
        return f"DELETE FROM {target} WHERE {self.has_key(target, stage, plan.primary_key)}"

    def has_key(self, table: str, stage: str, key: Sequence[str]) -> str:
        """The SQL of whether a row's key is in the stage."""
        return f"EXISTS (SELECT 1 FROM {stage} WHERE {self.same(stage, table, key)})"

    def same(self, one: str, other: str, columns: Sequence[str]) -> str:
        """The SQL of whether rows of two tables have the same values in these columns, none of them NULL."""
        return " AND ".join(f"{one}.{name} = {other}.{name}" for name in map(self.quote, columns))

    def lacks_key(self, table: str, stage: str, key: Sequence[str]) -> str:
        """The SQL of whether a row's key, or a part of it that is NULL, is not in the stage."""
        return f"NOT {self.has_key(table, stage, key)}"

    def keepers(self, connection: Connection, plan: LoadPlan) -> Sequence[str]:  # noqa: ARG002
        """What may keep rows of the plan's table from being deleted, without an error."""
        return ()

    def count_missing(self, plan: LoadPlan, stage: str) -> str:
        """How many of the stage's rows the table does not have after a merge."""
        gone = self.lacks_key(stage, self.table(plan.table), plan.primary_key)
        return f"SELECT {self.count} FROM {stage} WHERE {gone}"

    def delete_superseded(self, plan: LoadPlan, stage: str) -> Sequence[str]:
        """Leave one row of each key in the stage: the latest."""
        return (f"DELETE FROM {stage} WHERE {self.quote(ROW)} IN ({self.superseded(plan, stage)})",)

    def superseded(self, plan: LoadPlan, stage: str) -> str:
        """The numbers of the stage's rows that have a later one of their key."""
        row, rank = self.quote(ROW), self.quote(RANK)
        ranked = f"SELECT {row}, {self.rank(plan)} AS {rank} FROM {stage}"
        return f"SELECT {row} FROM ({ranked}) ranked WHERE {rank} > 1"

    def rank(self, plan: LoadPlan) -> str:
        """1 for the latest of the stage's rows of one key."""
        cursor = self.ordered(plan.schema.field(plan.cursor)) if plan.cursor else None
        by_cursor = f"{cursor} {self.descending}, " if cursor else ""
        key, row = self.names(plan.primary_key), self.quote(ROW)
        return f"row_number() OVER (PARTITION BY {key} ORDER BY {by_cursor}{row} DESC)"

    def count_unchanged(self, plan: LoadPlan, stage: str) -> tuple[str, Sequence[object]]:
        """How many of the stage's rows are there already with the cursor that they have, and its parameters.

        Only those of the tail that was read again are looked up.
        """
        cursor = plan.schema.field(plan.cursor)
        target, same_as = self.table(plan.table), [*plan.primary_key, cursor.name]
        count = f"SELECT {self.count} FROM {stage} staged WHERE"
        there = f"EXISTS (SELECT 1 FROM {target} there WHERE {self.same('there', 'staged', same_as)})"
        if plan.past is None:
            return f"{count} {there}", ()
        bounds = (plan.past.tail_from, plan.past.high)
        (first, low), (last, high) = (self.parameter(values.cursor_scalar(b, cursor.type)) for b in bounds)
        found = self.ordered(cursor)
        # Both bounds: without statistics PostgreSQL expects few rows of a range, many of a half.
        return f"{count} {found} >= {first} AND {found} <= {last} AND {there}", (low, high)

    def trial(self, connection: Connection, plan: LoadPlan) -> Trial | None:  # noqa: ARG002
        """A way of its own to find the rows that a table refuses; None where savepoints are the way."""
        return None

    def savepoint(self, name: str) -> Sequence[str]:
        return (f"SAVEPOINT {name}",)

    def release(self, name: str) -> Sequence[str]:
        """Forget a savepoint, and keep what was done since."""
        return (f"RELEASE SAVEPOINT {name}",)

    def undo(self, name: str) -> Sequence[str]:
        """Undo what was done since a savepoint, and forget it."""
        return (f"ROLLBACK TO SAVEPOINT {name}", *self.release(name))

    def checks(self) -> Sequence[str]:
        """Statements that fail where COMMIT would refuse rows, and change nothing; none if it never does."""
        return ()

    def column_of(self, table: TableName, name: str) -> str:  # noqa: ARG002
        """A column of this table, and nothing else."""
        return self.quote(name)

    def names(self, columns: Sequence[str]) -> str:
        return ", ".join(map(self.quote, columns))
