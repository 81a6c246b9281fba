"""Telling the rows that a DuckDB table refuses: by a table with its rules, in a database in memory.

DuckDB has no savepoints, and a failed statement ends its transaction. Unique and foreign keys are not among
the rules that are tried, because they are about the rows of other tables and loads: they fail the load.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

import duckdb
import pyarrow as pa

from atlas_etl.connectors.enclosed import ENCLOSE, NO_EXTENSIONS
from atlas_etl.connectors.sql._dialect import Connection, Refusals
from atlas_etl.connectors.sql._duckdb.database import HERE, quote, writing
from atlas_etl.connectors.sql._duckdb.insert import refuse_fine_intervals
from atlas_etl.connectors.sql._duckdb.replaced_values import refuse_cut
from atlas_etl.errors import RefusedRowError
from atlas_etl.model import LoadPlan

_TRIED = "tried"


class ScratchTrial:
    """A copy of the table's columns, NOT NULL and CHECK, into which rows go one half after the other."""

    def __init__(self, connection: Connection, plan: LoadPlan) -> None:
        place = (plan.table.schema or "main", plan.table.name)
        columns = connection.execute(
            f"SELECT column_name, data_type, is_nullable, column_default FROM duckdb_columns() {HERE} "
            "ORDER BY column_index",
            place,
        )
        checks = connection.execute(
            f"SELECT expression FROM duckdb_constraints() {HERE} AND constraint_type = 'CHECK'", place
        )
        self._natives = {str(name): str(kind) for name, kind, _, _ in columns}
        given = set(plan.schema.names)
        # A column that is not given gets its default, whatever that is: no row is refused for it here.
        declared = [
            f"{quote(str(name))} {kind}{'' if nullable or (name not in given and default) else ' NOT NULL'}"
            for name, kind, nullable, default in columns
        ]
        rules = [f"CHECK ({expression})" for (expression,) in checks]
        self._create = f"CREATE OR REPLACE TABLE {_TRIED} ({', '.join([*declared, *rules])})"

    def refusals(self, rows: pa.RecordBatch) -> Refusals:
        with closing(duckdb.connect(":memory:", config={**NO_EXTENSIONS, "threads": 1})) as scratch:
            scratch.execute("SET TimeZone = 'UTC'")
            scratch.execute(ENCLOSE)
            return dict(self._told_apart(scratch, rows, 0))

    def _told_apart(
        self, scratch: duckdb.DuckDBPyConnection, rows: pa.RecordBatch, first: int
    ) -> Iterator[tuple[int, RefusedRowError]]:
        try:
            refuse_fine_intervals(rows)
            refuse_cut(rows, self._natives)
            with writing():
                scratch.execute(self._create)
                _insert(scratch, rows)
            return
        except RefusedRowError as why:
            if rows.num_rows == 1:
                yield first, why
                return
        half = rows.num_rows // 2
        yield from self._told_apart(scratch, rows.slice(0, half), first)
        yield from self._told_apart(scratch, rows.slice(half), first + half)


def _insert(scratch: duckdb.DuckDBPyConnection, rows: pa.RecordBatch) -> None:
    """Try these rows, columns by name. Raises duckdb.Error."""
    names = ", ".join(map(quote, rows.schema.names))
    scratch.register("rows", rows)
    try:
        scratch.execute(f"INSERT INTO {_TRIED} ({names}) SELECT {names} FROM rows")
    finally:
        with suppress(duckdb.Error):  # after a failure the transaction is over, and so is the view
            scratch.unregister("rows")
