"""The statements by which MySQL and MariaDB are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._dialect import ROW, WriterDialect
from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.connectors.sql._mysql.stored import (
    EXACT_TEXT,
    LONG_TEXT,
    KeptColumn,
    declaration,
    index_parts,
    key_parts,
    stored_type,
)
from atlas_etl.connectors.sql._spelling import refuse_respelling
from atlas_etl.model import LoadPlan, TableName, WidenColumn

SUPERSEDED = "_atlas_superseded"
KEY = "_atlas_key"  # the index of a key that cannot be the primary key
_MADE = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC"  # of older row formats, an index holds 767 bytes
_FILE_BYTES = 250  # of a name as a file's, with room for its ending
_CHARACTERS = 64
_CASTS = {
    pa.date32(): "CAST(? AS DATE)",
    pa.time64("us"): "CAST(? AS TIME(6))",
    pa.timestamp("us"): "CAST(? AS DATETIME(6))",
    pa.timestamp("us", "UTC"): "CAST(? AS DATETIME(6))",
}


class MySQLWriterDialect(WriterDialect):
    """How MySQL writes. A schema is what MySQL calls a database.

    Of the table that a load goes to: `kept` are its columns, so that the stage has the same types, and
    `keyed` says whether its only unique key is the plan's, so that rows can be replaced where they are.
    """

    key_type = f"VARCHAR(255) {EXACT_TEXT}"
    text_type = LONG_TEXT
    descending = "DESC"  # NULL comes last by itself
    fold_case = True
    max_identifier = _CHARACTERS
    for_update = " FOR UPDATE"

    def __init__(self, kept: Sequence[KeptColumn] = (), *, keyed: bool = False) -> None:
        self._kept = {column.name: column for column in kept}
        self._keyed = keyed

    def quote(self, identifier: str) -> str:
        return quoted(identifier)

    def same_table(self, column: str, name: str) -> tuple[str, Sequence[str]]:
        """As the server was made to compare names, which only it knows.

        Source: https://dev.mysql.com/doc/refman/8.4/en/identifier-case-sensitivity.html.
        """
        same = f"IF(@@lower_case_table_names, LOWER({column}) = LOWER(?), {column} = ?)"
        return same, (name, name)

    def upsert(self, table: TableName, columns: Sequence[str], key: Sequence[str], changed: str) -> str:  # noqa: ARG002
        name, marks = self.quote(changed), ", ".join(self.placeholder for _ in columns)
        return (
            f"INSERT INTO {self.table(table)} ({self.names(columns)}) VALUES ({marks}) "
            f"ON DUPLICATE KEY UPDATE {name} = VALUES({name})"
        )

    def identifier_size(self, name: str) -> int:
        """In characters; a file's name, in which most that are not ASCII take five bytes, holds as many.

        Source: https://dev.mysql.com/doc/refman/8.4/en/identifier-mapping.html. A name with what MySQL
        refuses in one is too long.
        """
        if name.endswith(" ") or any(letter == "\0" or ord(letter) > 0xFFFF for letter in name):
            return _CHARACTERS + 1
        plain = sum(letter.isascii() and (letter.isalnum() or letter == "_") for letter in name)
        size = plain + 5 * (len(name) - plain)
        return max(len(name), -(-size * _CHARACTERS // _FILE_BYTES))

    def stored(self, field: pa.Field) -> pa.Field:
        return field.with_type(stored_type(field.type)).with_nullable(True)

    def column_type(self, field: pa.Field) -> str:
        return declaration(field.type)

    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        mark = _CASTS.get(scalar.type, "?")
        if mark != "?" or not isinstance(found := scalar.as_py(), int | float | str | bytes | Decimal):
            text = values.to_text(pa.array([scalar], type=scalar.type))[0].as_py()
            found = text.removesuffix("Z").replace("T", " ") if mark != "?" else text
        return mark, found

    def create_schema(self, schema: str) -> str:
        return f"CREATE DATABASE IF NOT EXISTS {self.quote(schema)} {EXACT_TEXT}"

    def create_own_table(self, table: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        return f"{super().create_own_table(table, columns, key)} {_MADE}"

    def create_table(self, table: TableName, schema: pa.Schema, primary_key: Sequence[str]) -> str:
        columns = [f"{self.quote(field.name)} {self.column_type(field)}" for field in schema]
        if primary_key:
            columns.append(self.key({name: schema.field(name).type for name in primary_key}))
        return f"CREATE TABLE {self.table(table)} ({', '.join(columns)}) {_MADE}"

    def key(self, key: Mapping[str, pa.DataType]) -> str:
        """The key of a table: unique where its columns are short, else an index that finds its rows."""
        is_unique, parts = key_parts(dict(key))
        return f"{'PRIMARY KEY' if is_unique else f'INDEX {self.quote(KEY)}'} ({self._parts(parts)})"

    def create_stage(self, stage: str, schema: pa.Schema, key: Sequence[str] = ()) -> str:
        kinds = {field.name: self._staged(field) for field in schema}
        columns = [f"{self.quote(name)} {kind}" for name, kind in kinds.items()]
        columns.append(f"PRIMARY KEY ({self.quote(ROW)})")  # some servers refuse a table without one
        if key:
            columns.append(f"INDEX ({self._parts(index_parts({name: kinds[name] for name in key}))})")
        return f"CREATE TEMPORARY TABLE {stage} ({', '.join(columns)}) {_MADE}"

    def has_key(self, table: str, stage: str, key: Sequence[str]) -> str:
        """As everywhere, but by the stage's index: MariaDB would copy that of an EXISTS to disk first."""
        same = " AND ".join(f"{stage}.{name} = {table}.{name}" for name in map(self.quote, key))
        return f"(SELECT 1 FROM {stage} WHERE {same} LIMIT 1) IS NOT NULL"

    def drop_stage(self, stage: str) -> Sequence[str]:
        return (f"DROP TEMPORARY TABLE {stage}",)  # which alone does not commit

    def widen(self, table: TableName, change: WidenColumn) -> Sequence[str]:
        refuse_respelling(table, change)
        kind = self.column_type(change.after)
        return (f"ALTER TABLE {self.table(table)} MODIFY COLUMN {self.quote(change.name)} {kind}",)

    def merge(self, plan: LoadPlan, stage: str) -> Sequence[str]:
        """One upsert, which leaves rows where they are for the foreign keys that point at them."""
        target, names = self.table(plan.table), self.names(plan.schema.names)
        keys = [self.quote(name) for name in plan.primary_key]
        if self._keyed:
            changed = [self.quote(name) for name in plan.schema.names if name not in plan.primary_key]
            sets = [f"{target}.{name} = {stage}.{name}" for name in changed or keys[:1]]
            left_out = [
                name for name, kept in self._kept.items() if kept.nullable and name not in plan.schema.names
            ]
            sets += [f"{target}.{self.quote(name)} = DEFAULT" for name in left_out]
            return (
                f"INSERT INTO {target} ({names}) SELECT {names} FROM {stage} "
                f"ON DUPLICATE KEY UPDATE {', '.join(sets)}",
            )
        return super().merge(plan, stage)

    def delete_superseded(self, plan: LoadPlan, stage: str) -> Sequence[str]:
        """By a second stage: MySQL reads a temporary table once in a statement.

        Source: https://dev.mysql.com/doc/refman/8.4/en/temporary-table-problems.html.
        """
        row, superseded = self.quote(ROW), self.quote(SUPERSEDED)
        return (
            self.create_stage(superseded, pa.schema([(ROW, pa.int64())])),
            f"INSERT INTO {superseded} {self.superseded(plan, stage)}",
            f"DELETE staged FROM {stage} AS staged JOIN {superseded} AS later ON staged.{row} = later.{row}",
            *self.drop_stage(superseded),
        )

    def delete_staged(self, plan: LoadPlan, stage: str) -> str:
        same = " AND ".join(f"there.{key} = stage.{key}" for key in map(self.quote, plan.primary_key))
        return f"DELETE there FROM {self.table(plan.table)} AS there JOIN {stage} AS stage ON {same}"

    def _parts(self, parts: Mapping[str, int | None]) -> str:
        return ", ".join(self.quote(name) + (f"({size})" if size else "") for name, size in parts.items())

    def _staged(self, field: pa.Field) -> str:
        kept = self._kept.get(field.name)
        return kept.declared if kept is not None else self.column_type(field)
