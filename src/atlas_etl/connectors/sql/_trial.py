"""Telling the rows that a table refuses from the others, inside the load's transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
        found = dict(told_apart(self._dialect, self._connection, rows, self._load))
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

    def _load(self, rows: pa.RecordBatch) -> None:
        dialect, connection, plan = self._dialect, self._connection, self._plan
        if plan.merges:
            connection.execute(f"DELETE FROM {self._tried}")
            numbers = pa.array(range(rows.num_rows), pa.int64())
            connection.ingest(self._tried, rows.append_column(ROW, numbers))
            self._run(dialect.merge(plan, self._tried))
        else:
            connection.ingest(dialect.table(plan.table), rows)
        self._run(self._checks)

    def _run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self._connection.execute(statement)


def told_apart(
    dialect: WriterDialect,
    connection: Connection,
    rows: pa.RecordBatch,
    load: Callable[[pa.RecordBatch], None],
    first: int = 0,
) -> Iterator[tuple[int, RefusedRowError]]:
    """Load what is taken of the rows, one half after the other; the others are told, by their places."""

    def run(statements: Sequence[str]) -> None:
        for statement in statements:
            connection.execute(statement)

    run(dialect.savepoint(_PART))
    try:
        load(rows)
        run(dialect.release(_PART))
    except RefusedRowError as why:
        run(dialect.undo(_PART))
        if rows.num_rows == 1:
            yield first, why
            return
    else:
        return
    half = rows.num_rows // 2
    yield from told_apart(dialect, connection, rows.slice(0, half), load, first)
    yield from told_apart(dialect, connection, rows.slice(half), load, first + half)
