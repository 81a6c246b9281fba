"""The statements by which Oracle is written.

Its DDL commits, so a stage is a private temporary table: making one does not, and no other session sees it
(https://docs.oracle.com/en/database/oracle/oracle-database/23/admin/managing-tables.html, since 18c).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._dialect import WriterDialect
from atlas_etl.connectors.sql._oracle.literals import literal, quoted
from atlas_etl.connectors.sql._oracle.rows import value
from atlas_etl.connectors.sql._oracle.stored import (
    LONG_TEXT,
    SHORT_TEXT,
    KeptColumn,
    declaration,
    grows,
    holds_key,
    stored_type,
)
from atlas_etl.errors import DestinationError
from atlas_etl.model import LoadPlan, TableName, WidenColumn

_BYTES = 128  # of a name, in UTF-8
_STAGES = "ORA$PTT_"  # how the names of private temporary tables begin
_LOCK_SECONDS = 60
_TABLE_EXISTS = -955


class OracleWriterDialect(WriterDialect):
    """How Oracle writes; a placeholder may have a number (`?2`). All names are quoted, and kept as they are.

    Of the table that a load goes to: `kept` are its columns, so that the stage has the same types, `compared`
    the names of those that are in a key or the cursor, and `keyed` says whether its only unique key is the
    plan's, so that rows can be updated where they are.
    """

    key_type = "VARCHAR2(255 CHAR)"
    text_type = LONG_TEXT
    searched_type = SHORT_TEXT
    empty_is_null = True
    has_schemas = False  # a schema is a user, which a load does not make
    max_identifier = _BYTES
    for_update = f" FOR UPDATE WAIT {_LOCK_SECONDS}"

    def __init__(
        self, kept: Sequence[KeptColumn] = (), *, compared: Collection[str] = (), keyed: bool = False
    ) -> None:
        self._kept: Mapping[str, KeptColumn] = {column.name: column for column in kept}
        self._compared = frozenset(compared)
        self._keyed = keyed

    def quote(self, identifier: str) -> str:
        return quoted(identifier)

    def identifier_size(self, name: str) -> int:
        """No name has a quotation mark or NUL."""
        return _BYTES + 1 if '"' in name or "\0" in name else len(name.encode())

    def stage(self, name: str) -> str:
        return quoted(f"{_STAGES}{name}")

    def first(self, select: str) -> str:
        return f"{select} FETCH FIRST 1 ROWS ONLY"

    def first_locked(self, select: str) -> str:
        """By ROWNUM: nothing is locked of what FETCH FIRST gives (ORA-02014)."""
        return f"{select} AND ROWNUM <= 1{self.for_update}"

    def stored(self, field: pa.Field) -> pa.Field:
        return field.with_type(stored_type(field.type)).with_nullable(True)

    def column_type(self, field: pa.Field) -> str:
        return declaration(field.type, short=field.name in self._compared)

    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        if pa.types.is_floating(scalar.type):
            return "?", float(scalar.as_py())
        text = values.to_text(pa.array([scalar], type=scalar.type))[0].as_py()
        if pa.types.is_timestamp(scalar.type):
            text = text.removesuffix("Z")
        return ("HEXTORAW(?)" if pa.types.is_binary(scalar.type) else value(scalar.type, "?")), text

    def upsert(self, table: TableName, columns: Sequence[str], key: Sequence[str], changed: str) -> str:
        given = ", ".join(f"? AS {self.quote(name)}" for name in columns)
        cells = ", ".join(f"given.{self.quote(name)}" for name in columns)
        name = self.quote(changed)
        return (
            f"MERGE INTO {self.table(table)} there USING (SELECT {given} FROM dual) given "
            f"ON ({self.same('there', 'given', key)}) "
            f"WHEN MATCHED THEN UPDATE SET there.{name} = given.{name} "
            f"WHEN NOT MATCHED THEN INSERT ({self.names(columns)}) VALUES ({cells})"
        )

    def create_own_table(self, table: TableName, columns: Sequence[str], key: Sequence[str]) -> str:
        definition = f"{', '.join(columns)}, PRIMARY KEY ({self.names(key)})"
        made = f"CREATE TABLE {self.table(table)} ({definition})"
        return (
            f"BEGIN EXECUTE IMMEDIATE {literal(made)}; EXCEPTION WHEN OTHERS THEN "
            f"IF SQLCODE <> {_TABLE_EXISTS} THEN RAISE; END IF; END;"
        )

    def create_table(self, table: TableName, schema: pa.Schema, primary_key: Sequence[str]) -> str:
        key = primary_key if holds_key([schema.field(name).type for name in primary_key]) else ()
        return super().create_table(table, schema, key)

    def create_stage(self, stage: str, schema: pa.Schema, key: Sequence[str] = ()) -> str:  # noqa: ARG002
        columns = (f"{self.quote(field.name)} {self._staged(field)}" for field in schema)
        return f"CREATE PRIVATE TEMPORARY TABLE {stage} ({', '.join(columns)}) ON COMMIT PRESERVE DEFINITION"

    def drop_stage(self, stage: str) -> Sequence[str]:  # noqa: ARG002
        return ()  # it goes with the session, which has one load

    def add_column(self, table: TableName, field: pa.Field) -> str:
        column = f"{self.quote(field.name)} {self.column_type(field)}"
        return f"ALTER TABLE {self.table(table)} ADD ({column})"

    def widen(self, table: TableName, change: WidenColumn) -> Sequence[str]:
        """Raises DestinationError (`cannot_widen`) where only another column could hold the wider values."""
        if not grows(change.before, change.after.type):
            raise DestinationError(
                f"column {change.name!r} of {table} is to become {values.type_name(change.after.type)} from "
                f"{values.type_name(change.before)}, which Oracle does to no column that has rows",
                hint="sync with --full-refresh, which makes the table anew",
                code="cannot_widen",
                column=change.name,
            )
        kind = self.column_type(change.after)
        return (f"ALTER TABLE {self.table(table)} MODIFY ({self.quote(change.name)} {kind})",)

    def merge(self, plan: LoadPlan, stage: str) -> Sequence[str]:
        """Rows stay where they are, for the foreign keys that point at them, where the key is unique."""
        if not self._keyed:
            return super().merge(plan, stage)
        key, names = plan.primary_key, plan.schema.names
        changed = [self.quote(name) for name in names if name not in key]
        sets = [f"there.{name} = staged.{name}" for name in changed]
        sets += [
            f"there.{self.quote(name)} = DEFAULT"
            for name, kept in self._kept.items()
            if kept.nullable and not kept.given and name not in names
        ]
        update = f"WHEN MATCHED THEN UPDATE SET {', '.join(sets)} " if sets else ""
        cells = ", ".join(f"staged.{self.quote(name)}" for name in names)
        return (
            f"MERGE INTO {self.table(plan.table)} there USING {stage} staged "
            f"ON ({self.same('there', 'staged', key)}) {update}"
            f"WHEN NOT MATCHED THEN INSERT ({self.names(names)}) VALUES ({cells})",
        )

    def savepoint(self, name: str) -> Sequence[str]:
        return (f"SAVEPOINT {self.quote(name)}",)

    def release(self, name: str) -> Sequence[str]:  # noqa: ARG002
        return ()  # there is no such statement, and the next one of the name takes its place

    def undo(self, name: str) -> Sequence[str]:
        return (f"ROLLBACK TO SAVEPOINT {self.quote(name)}",)

    def _staged(self, field: pa.Field) -> str:
        kept = self._kept.get(field.name)
        return kept.declared if kept is not None else self.column_type(field)
