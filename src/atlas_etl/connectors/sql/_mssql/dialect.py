"""The statements by which SQL Server is written.

Not T-SQL's MERGE: of two that meet, one may fail or write twice without HOLDLOCK
(https://learn.microsoft.com/sql/t-sql/statements/merge-transact-sql#concurrency-considerations-for-merge). An
UPDATE, then an INSERT of what is not there, in one transaction that holds the ranges that it looked at
(https://learn.microsoft.com/sql/t-sql/queries/hints-transact-sql-table).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._dialect import ROW, WriterDialect
from atlas_etl.connectors.sql._mssql.literals import literal, quoted
from atlas_etl.connectors.sql._mssql.stored import (
    COLLATION,
    LONG_TEXT,
    MAX_KEY_COLUMNS,
    KeptColumn,
    declaration,
    is_long,
    stored_type,
)
from atlas_etl.connectors.sql._spelling import refuse_respelling
from atlas_etl.model import LoadPlan, TableName, WidenColumn

_CHARACTERS = 128  # of UTF-16, in a name
_OWN_NAME = re.compile(r"\[(?:[^\]]|\]\])*\]$")  # of a table, behind its schema


class MSSQLWriterDialect(WriterDialect):
    """How SQL Server writes; a placeholder may have a number (`?2`).

    Of the table that a load goes to: `kept` are its columns, so that the stage has the same types, and
    `keyed` says whether its only unique key is the plan's, so that rows can be replaced where they are.
    """

    key_type = f"nvarchar(255) COLLATE {COLLATION} NOT NULL"
    text_type = f"{LONG_TEXT} NULL"
    descending = "DESC"  # NULL comes last by itself
    fold_case = True
    max_identifier = _CHARACTERS
    lock_hint = " WITH (UPDLOCK, HOLDLOCK)"
    count = "COUNT_BIG(*)"
    substring = "SUBSTRING"

    def __init__(self, kept: Sequence[KeptColumn] = (), *, keyed: bool = False) -> None:
        self._kept: Mapping[str, KeptColumn] = {column.name: column for column in kept}
        self._keyed = keyed

    def quote(self, identifier: str) -> str:
        return quoted(identifier)

    def stage(self, name: str) -> str:
        return quoted(f"#{name}")

    def folded_table(self, name: str) -> str:
        """By the collation of the database's own names.

        Source: https://learn.microsoft.com/sql/relational-databases/databases/contained-database-collations.
        """
        return f"{name} COLLATE CATALOG_DEFAULT"

    def first(self, select: str) -> str:
        return f"SELECT TOP (1) {select.removeprefix('SELECT ')}"

    def identifier_size(self, name: str) -> int:
        """In UTF-16; blanks at the end would be ignored, and NUL ends a statement."""
        if name.endswith(" ") or "\0" in name:
            return _CHARACTERS + 1
        return len(name.encode("utf-16-le")) // 2

    def stored(self, field: pa.Field) -> pa.Field:
        return field.with_type(stored_type(field.type)).with_nullable(True)

    def column_type(self, field: pa.Field) -> str:
        return declaration(field.type)

    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        if pa.types.is_binary(scalar.type):
            return "?", scalar.as_py()
        text = values.to_text(pa.array([scalar], type=scalar.type))[0].as_py()
        if scalar.type == pa.uuid():
            return "?", str(text).upper()
        return ("?" if is_long(scalar.type) else f"CAST(? AS {declaration(scalar.type)})"), text

    def ordered(self, field: pa.Field) -> str:
        name = self.quote(field.name)
        # Uniqueidentifiers are ordered by their last bytes first.
        return f"CONVERT(char(36), {name}) COLLATE {COLLATION}" if field.type == pa.uuid() else name

    def is_one_of(self, field: pa.Field, marks: Sequence[str]) -> str:
        """Blanks at the end count where something stands behind them."""
        name, texts = self.quote(field.name), ", ".join(f"CONCAT({mark}, N'|')" for mark in marks)
        return f"{name} IS NOT NULL AND CONCAT({name}, N'|') COLLATE {COLLATION} IN ({texts})"

    def upsert(self, table: TableName, columns: Sequence[str], key: Sequence[str], changed: str) -> str:
        places = {name: f"?{number}" for number, name in enumerate(columns, 1)}
        where = " AND ".join(f"{self.quote(name)} = {places[name]}" for name in key)
        return (
            f"UPDATE {self.table(table)}{self.lock_hint} "
            f"SET {self.quote(changed)} = {places[changed]} WHERE {where}; "
            f"IF @@ROWCOUNT = 0 INSERT INTO {self.table(table)} ({self.names(columns)}) "
            f"VALUES ({', '.join(places.values())})"
        )

    def create_schema(self, schema: str) -> str:
        made = literal(f"CREATE SCHEMA {self.quote(schema)}")  # which has to be a batch of its own
        return f"IF SCHEMA_ID({literal(schema)}) IS NULL EXEC({made})"

    def create_own_table(self, table: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        """With a nonclustered key, which holds 1,700 bytes and not 900."""
        name = self.table(table)
        definition = f"{', '.join(columns)}, PRIMARY KEY NONCLUSTERED ({self.names(key)})"
        return f"IF OBJECT_ID({literal(name)}, N'U') IS NULL CREATE TABLE {name} ({definition})"

    def create_table(self, table: TableName, schema: pa.Schema, primary_key: Sequence[str]) -> str:
        key = primary_key if self.holds_key([schema.field(name).type for name in primary_key]) else ()
        nulls = {field.name: "NOT NULL" if field.name in key else "NULL" for field in schema}
        columns = [
            f"{self.quote(field.name)} {self.column_type(field)} {nulls[field.name]}" for field in schema
        ]
        if key:
            columns.append(f"PRIMARY KEY ({self.names(key)})")
        return f"CREATE TABLE {self.table(table)} ({', '.join(columns)})"

    def holds_key(self, kinds: Sequence[pa.DataType]) -> bool:
        """Whether an index can hold these columns whole."""
        return len(kinds) <= MAX_KEY_COLUMNS and not any(map(is_long, kinds))

    def create_stage(self, stage: str, schema: pa.Schema, key: Sequence[str] = ()) -> str:  # noqa: ARG002
        columns = (f"{self.quote(field.name)} {self._staged(field)} NULL" for field in schema)
        return f"CREATE TABLE {stage} ({', '.join(columns)})"

    def add_column(self, table: TableName, field: pa.Field) -> str:
        column = f"{self.quote(field.name)} {self.column_type(field)} NULL"
        return f"ALTER TABLE {self.table(table)} ADD {column}"

    def widen(self, table: TableName, change: WidenColumn) -> Sequence[str]:
        refuse_respelling(table, change)
        name, kind = self.quote(change.name), self.column_type(change.after)
        altered = f"ALTER TABLE {self.table(table)} ALTER COLUMN {name} {kind} NULL"
        if change.before != pa.uuid():
            return (altered,)
        return (altered, f"UPDATE {self.table(table)} SET {name} = LOWER({name})")

    def merge(self, plan: LoadPlan, stage: str) -> Sequence[str]:
        """Rows stay where they are, for the foreign keys that point at them, where the key is unique."""
        if not self._keyed:
            return super().merge(plan, stage)
        target, key = self.table(plan.table), plan.primary_key
        changed = [self.quote(name) for name in plan.schema.names if name not in key]
        sets = [f"{name} = staged.{name}" for name in changed]
        sets += [
            f"{self.quote(name)} = DEFAULT"
            for name, kept in self._kept.items()
            if kept.nullable and not kept.given and name not in plan.schema.names
        ]
        same = self.same("there", "staged", key)
        there = f"{target} AS there{self.lock_hint}"
        update = f"UPDATE there SET {', '.join(sets)} FROM {there} INNER JOIN {stage} AS staged ON {same}"
        insert = (
            f"INSERT INTO {target} ({self.names(plan.schema.names)}) "
            f"SELECT {self.names(plan.schema.names)} FROM {stage} AS staged "
            f"WHERE NOT EXISTS (SELECT 1 FROM {there} WHERE {same})"
        )
        return (update, insert) if sets else (insert,)

    def delete_staged(self, plan: LoadPlan, stage: str) -> str:
        target = self.table(plan.table)
        return f"DELETE FROM {target}{self.lock_hint} WHERE {self.has_key(target, stage, plan.primary_key)}"

    def has_key(self, table: str, stage: str, key: Sequence[str]) -> str:
        own = _OWN_NAME.search(table)  # a column's name has one table before it
        return super().has_key(own[0] if own else table, stage, key)

    def same(self, one: str, other: str, columns: Sequence[str]) -> str:
        """By the lengths of texts and bytes, too: no collation heeds blanks at the end."""
        sides = ((self._parts(one, name), self._parts(other, name)) for name in columns)
        pairs = (pair for ones, others in sides for pair in zip(ones, others, strict=True))
        return " AND ".join(f"{left} = {right}" for left, right in pairs)

    def rank(self, plan: LoadPlan) -> str:
        cursor = f"{self.ordered(plan.schema.field(plan.cursor))} {self.descending}, " if plan.cursor else ""
        key = ", ".join(part for name in plan.primary_key for part in self._parts("", name))
        return f"ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY {cursor}{self.quote(ROW)} DESC)"

    def savepoint(self, name: str) -> Sequence[str]:
        return (f"SAVE TRANSACTION {name}",)

    def release(self, name: str) -> Sequence[str]:  # noqa: ARG002
        return ()  # there is no such statement, and the next one of the name takes its place

    def undo(self, name: str) -> Sequence[str]:
        return (f"ROLLBACK TRANSACTION {name}",)

    def _staged(self, field: pa.Field) -> str:
        kept = self._kept.get(field.name)
        return kept.declared if kept is not None else self.column_type(field)

    def _parts(self, table: str, column: str) -> Sequence[str]:
        """What has to be equal where two values of a column are."""
        name = f"{table}.{self.quote(column)}" if table else self.quote(column)
        kept = self._kept.get(column)
        if kept is not None and not kept.has_length:
            return (name,)
        foreign = kept is not None and kept.collation not in (None, COLLATION)
        return f"{name} COLLATE {COLLATION}" if foreign else name, f"DATALENGTH({name})"
