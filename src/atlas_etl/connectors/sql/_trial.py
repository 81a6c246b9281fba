"""Telling the rows that a table refuses from the others, inside the load's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from atlas_etl.connectors.sql._dialect import ROW, Connection, Refusals, WriterDialect
from atlas_etl.errors import RefusedRowError
from atlas_etl.model import LoadPlan

_BATCH, _PART = "_atlas_batch", "_atlas_part"  # savepoints
_TRIED = "_atlas_tried"


class SavepointTrial:
    """For systems that undo a part of a transaction (_dialect.Trial).

    The whole batch is tried, and then, where something is refused, one half after the other.

    What one half brought is there while the other is tried, so that rows can be in each other's way.
    """

    def __init__(self, dialect: WriterDialect, connection: Connection, plan: LoadPlan) -> None:
        self._dialect = dialect
        self._connection = connection
        self._plan = plan
        self._tried = dialect.stage(_TRIED)
        self._checks: Sequence[str] = ()
        if plan.merges:
            staged = plan.schema.append(pa.field(ROW, pa.int64()))
            connection.execute(dialect.create_stage(self._tried, staged))

    def refusals(self, rows: pa.RecordBatch) -> Refusals:
        self._run(self._dialect.savepoint(_BATCH))
        self._checks = self._useful_checks()
        found = dict(self._told_apart(rows, 0))
        self._run(self._dialect.undo(_BATCH))
        return found

    def _useful_checks(self) -> Sequence[str]:
        """None where they fail without the rows that are tried: rows of later batches may mend that."""
        checks = self._dialect.checks()
        if not checks:
            return ()
        self._run(self._dialect.savepoint(_PART))
        try:
            self._run(checks)
        except RefusedRowError:
            checks = ()
        self._run(self._dialect.undo(_PART))
        return checks

    def _told_apart(self, rows: pa.RecordBatch, first: int) -> Iterator[tuple[int, RefusedRowError]]:
        self._run(self._dialect.savepoint(_PART))
        try:
            self._load(rows)
            self._run(self._checks)
            self._run(self._dialect.release(_PART))
        except RefusedRowError as why:
            self._run(self._dialect.undo(_PART))
            if rows.num_rows == 1:
                yield first, why
                return
        else:
            return
        half = rows.num_rows // 2
        yield from self._told_apart(rows.slice(0, half), first)
        yield from self._told_apart(rows.slice(half), first + half)

    def _load(self, rows: pa.RecordBatch) -> None:
        dialect, connection, plan = self._dialect, self._connection, self._plan
        if not plan.merges:
            connection.ingest(dialect.table(plan.table), rows)
            return
        connection.execute(f"DELETE FROM {self._tried}")
        connection.ingest(self._tried, rows.append_column(ROW, pa.array(range(rows.num_rows), pa.int64())))
        self._run(dialect.merge(plan, self._tried))

    def _run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self._connection.execute(statement)
