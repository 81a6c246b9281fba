"""The statements by which PostgreSQL is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._postgresql.errors import quoted
from atlas_etl.connectors.sql._postgresql.types import declared_type, stored_type
from atlas_etl.model import LoadPlan, TableName, WidenColumn

_CHECKED = "_atlas_checked"  # a savepoint


class PostgresWriterDialect(WriterDialect):
    """How PostgreSQL writes; the driver reads `%s` as a parameter and `%%` as `%`.

    Of the table that a load goes to: `natives` are its columns' types, so that the stage has the same,
    `nullable` its columns that may be NULL, `keepers` what may keep its rows from being deleted, and `keyed`
    says whether a unique index on the key lets rows be replaced where they are.
    """

    placeholder = "%s"
    key_type = "text"
    text_type = "text"
    max_identifier = 63
    for_update = " FOR UPDATE"

    def __init__(
        self,
        natives: Mapping[str, str] | None = None,
        nullable: Sequence[str] = (),
        keepers: Sequence[str] = (),
        *,
        keyed: bool = False,
    ) -> None:
        self._natives = natives or {}
        self._nullable = nullable
        self._keepers = keepers
        self._keyed = keyed

    def quote(self, identifier: str) -> str:
        return quoted(identifier).replace("%", "%%")

    def as_written(self, statement: str) -> str:
        return statement.replace("%%", "%")

    def stored(self, field: pa.Field) -> pa.Field:
        return field.with_type(stored_type(field.type)).with_nullable(True)

    def column_type(self, field: pa.Field) -> str:
        return declared_type(field)

    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        text = values.to_text(pa.array([scalar], type=scalar.type))[0].as_py()
        return f"%s::{declared_type(pa.field('value', scalar.type))}", text

    def checks(self) -> Sequence[str]:
        """Constraints and triggers that are DEFERRED; they are so again afterwards."""
        return (*self.savepoint(_CHECKED), "SET CONSTRAINTS ALL IMMEDIATE", *self.undo(_CHECKED))

    def create_stage(self, stage: str, schema: pa.Schema, key: Sequence[str] = ()) -> str:  # noqa: ARG002
        kinds = ((field.name, self._natives.get(field.name) or self.column_type(field)) for field in schema)
        columns = ", ".join(f"{self.quote(name)} {kind}" for name, kind in kinds)
        return f"CREATE TEMPORARY TABLE {stage} ({columns}) ON COMMIT DROP"

    def filled_stage(self, stage: str) -> Sequence[str]:
        return (f"ANALYZE {stage}",)  # nothing else does, and without statistics the plans are slow ones

    def widen(self, table: TableName, change: WidenColumn) -> Sequence[str]:
        name, kind = self.quote(change.name), self.column_type(change.after)
        using = self.as_text(name, change.before) if kind == self.text_type else f"{name}::{kind}"
        return (f"ALTER TABLE {self.table(table)} ALTER COLUMN {name} TYPE {kind} USING {using}",)

    def as_text(self, column: str, kind: pa.DataType) -> str:
        """Infinite times and those before year 1 have PostgreSQL's own text."""
        if pa.types.is_date(kind):
            moment, form = column, "YYYY-MM-DD"
        elif pa.types.is_timestamp(kind):
            zone, moment = ('"Z"', f"{column} AT TIME ZONE 'UTC'") if kind.tz else ("", column)
            form = f'YYYY-MM-DD"T"HH24:MI:SS.US{zone}'
        else:
            return super().as_text(column, kind)
        is_plain = f"isfinite({column}) AND extract(year FROM {moment}) > 0"
        return f"CASE WHEN {is_plain} THEN to_char({moment}, '{form}') ELSE {column}::text END"

    def empty(self, table: TableName) -> str:
        # Not TRUNCATE: it would lock readers out until the load is committed, and show an empty table to
        # those whose snapshot is older. This way they see the old rows until then, and views, grants and
        # indexes stay; the price is dead rows for autovacuum.
        return f"DELETE FROM {self.table(table)}"

    def merge(self, plan: LoadPlan, stage: str) -> Sequence[str]:
        """One upsert, which leaves rows where they are for the foreign keys that point at them."""
        if not self._keyed:
            return super().merge(plan, stage)
        changed = [self.quote(name) for name in plan.schema.names if name not in plan.primary_key]
        sets = [f"{name} = EXCLUDED.{name}" for name in changed]
        sets += [f"{self.quote(name)} = DEFAULT" for name in self._nullable if name not in plan.schema.names]
        return (
            f"{self.insert_staged(plan, stage)} ON CONFLICT ({self.names(plan.primary_key)}) "
            f"DO {'UPDATE SET ' + ', '.join(sets) if sets else 'NOTHING'}",
        )

    def keepers(self, connection: Connection, plan: LoadPlan) -> Sequence[str]:  # noqa: ARG002
        return self._keepers

    def count_missing(self, plan: LoadPlan, stage: str) -> str:
        """Also of rows that are there as they were before; by their bytes, for not every type has an `=`."""
        if set(plan.schema.names) == set(plan.primary_key):
            return super().count_missing(plan, stage)
        columns = [self.quote(name) for name in plan.schema.names]
        there, staged = (", ".join(f"{row}.{name}" for name in columns) for row in ("there", "staged"))
        return (
            f"SELECT count(*) FROM {stage} staged WHERE NOT EXISTS ("
            f"SELECT FROM {self.table(plan.table)} there "
            f"WHERE {self.same('there', 'staged', plan.primary_key)} "
            f"AND ROW({there})::record *= ROW({staged})::record)"
        )

    def insert_staged(self, plan: LoadPlan, stage: str) -> str:
        names = self.names(plan.schema.names)
        # As COPY does: a column GENERATED ALWAYS AS IDENTITY takes the values that are there.
        return (
            f"INSERT INTO {self.table(plan.table)} ({names}) OVERRIDING SYSTEM VALUE "
            f"SELECT {names} FROM {stage}"
        )
