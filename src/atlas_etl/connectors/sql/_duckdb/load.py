"""The connection of one load: statements, and inserts that go on with the next batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from atlas_etl.connectors.sql._dialect import NoneLeftOut
from atlas_etl.connectors.sql._duckdb.database import (
    writing,
)
from atlas_etl.connectors.sql._duckdb.insert import StreamedInsert
from atlas_etl.connectors.sql._duckdb.replaced_values import refuse_cut

COLUMNS = "SELECT name, type FROM pragma_table_info(?)"  # of a table, given as SQL


class LoadConnection(NoneLeftOut):
    """A cursor on the destination's database (_dialect.Connection)."""

    def __init__(self, opened: duckdb.DuckDBPyConnection) -> None:
        self._opened = opened
        self._insert: StreamedInsert | None = None
        self._natives: Mapping[str, str] = {}

    def go_into(self, table: str) -> None:
        """From here on, rows are for this table, given as SQL, or for a stage of it."""
        self._natives = {str(name): str(native) for name, native in self.execute(COLUMNS, (table,))}

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        self._finish()
        with writing():
            return self._opened.execute(sql, list(parameters)).fetchall()

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        refuse_cut(batch, self._natives)
        if self._insert is not None and not self._insert.takes(table, batch.schema):
            self._finish()
        if self._insert is None:
            self._insert = StreamedInsert(self._opened, table, batch.schema)
        self._insert.put(batch)

    def left_out(self) -> int:
        self._finish()  # what it raises is about rows, and not about the statement that comes next
        return super().left_out()

    def _finish(self) -> None:
        if self._insert is not None:
            insert, self._insert = self._insert, None
            insert.finish()

    def close(self) -> None:
        """End an insert that was left in its middle."""
        if self._insert is not None:
            insert, self._insert = self._insert, None
            insert.abandon()

    def begin(self) -> None:
        self.execute("BEGIN TRANSACTION")

    def commit(self) -> None:
        self.execute("COMMIT")

    def rollback(self) -> None:
        self.close()
        self.execute("ROLLBACK")
