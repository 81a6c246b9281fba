"""The statements by which DuckDB is written."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase, ascii_uppercase

import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._dialect import ROW, Connection, Trial, WriterDialect
from atlas_etl.connectors.sql._duckdb.memory import LoadMemory
from atlas_etl.connectors.sql._duckdb.names import schema_sql
from atlas_etl.connectors.sql._duckdb.trial import ScratchTrial
from atlas_etl.connectors.sql._duckdb.types import column_type, stored_type
from atlas_etl.model import LoadPlan, TableName


class DuckDBWriterDialect(WriterDialect):
    """How DuckDB writes, within the memory of a load."""

    fold_case = True
    has_savepoints = False
    keeps_keys = False  # DuckDB would keep their index in memory whole; merging does not need it

    def __init__(self, memory: LoadMemory, database: str) -> None:
        self._memory = memory
        self._database = database

    def table(self, table: TableName) -> str:
        name = self.quote(table.name)
        return f"{schema_sql(table.schema, self._database)}.{name}" if table.schema else name

    def create_schema(self, schema: str) -> str:
        return f"CREATE SCHEMA IF NOT EXISTS {schema_sql(schema, self._database)}"

    def folded_table(self, name: str) -> str:
        return f"translate({name}, '{ascii_uppercase}', '{ascii_lowercase}')"  # lower() folds others, too

    def before_changing(self, rows: int) -> Sequence[str]:
        return self._memory.to_change(rows)

    def stored(self, field: pa.Field) -> pa.Field:
        return field.with_type(stored_type(field.type)).with_nullable(True)

    def column_type(self, field: pa.Field) -> str:
        return column_type(field.type)

    def as_text(self, column: str, kind: pa.DataType) -> str:
        if not pa.types.is_timestamp(kind):
            return super().as_text(column, kind)
        moment = f"make_timestamp(epoch_us({column}))" if kind.tz else column
        form = f"%Y-%m-%dT%H:%M:%S.{'%n' if kind.unit == 'ns' else '%f'}{'Z' if kind.tz else ''}"
        plain = super().as_text(column, kind)
        return f"CASE WHEN isfinite({column}) THEN strftime({moment}, '{form}') ELSE {plain} END"

    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        text = values.to_text(pa.array([scalar], type=scalar.type))[0].as_py()
        return f"CAST(? AS {column_type(scalar.type)})", text

    def trial(self, connection: Connection, plan: LoadPlan) -> Trial:
        return ScratchTrial(connection, plan)

    def superseded(self, plan: LoadPlan, stage: str) -> str:
        """Only keys that come again are ranked: a window keeps its rows in memory, a grouping need not."""
        row, keys = self.quote(ROW), self.names(plan.primary_key)
        repeated = f"SELECT {keys} FROM {stage} GROUP BY {keys} HAVING count(*) > 1"
        return (
            f"SELECT {row} FROM {stage} SEMI JOIN ({repeated}) USING ({keys}) QUALIFY {self.rank(plan)} > 1"
        )
