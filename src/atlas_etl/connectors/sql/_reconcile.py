"""Deletes at the source, in SQL: its keys go to a stage, and one transaction removes the rows without one."""

from __future__ import annotations

from uuid import uuid4

import pyarrow as pa

from atlas_etl.connectors.deletes import refuse_null_keys, refuse_too_many, whole_keys
from atlas_etl.connectors.sql._dialect import ROW, STAGE, Connection, WriterDialect
from atlas_etl.connectors.sql._kept_rows import rows_kept
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._loads import RECONCILED
from atlas_etl.connectors.sql._trial import told_apart
from atlas_etl.model import DELETED_AT, Deletion, ReconcilePlan, ReconcileResult


class SqlReconcileSession:
    """One comparison in one transaction (contracts.ReconcileSession)."""

    def __init__(self, dialect: WriterDialect, connection: Connection, plan: ReconcilePlan) -> None:
        self._dialect = dialect
        self._connection = connection
        self._plan = plan
        self._keys = 0
        self._left_out = 0
        self._stage = dialect.stage(STAGE)
        staged = plan.keys.append(pa.field(ROW, pa.int64()))
        connection.execute(dialect.create_stage(self._stage, staged, plan.keys.names))

    def write(self, batch: pa.RecordBatch) -> None:
        keys = whole_keys(self._plan, batch)
        self._left_out += batch.num_rows - keys.num_rows
        order = pa.arange(self._keys, self._keys + keys.num_rows)
        self._keys += batch.num_rows
        staged = keys.append_column(ROW, order)
        if self._plan.careful and self._dialect.has_savepoints:
            # The stage's columns are the table's, so what it refuses is no row's key.
            self._left_out += sum(
                1 for _ in told_apart(self._dialect, self._connection, staged, self._stage_keys)
            )
        else:
            self._stage_keys(staged)

    def _stage_keys(self, keys: pa.RecordBatch) -> None:
        self._connection.ingest(self._stage, keys)

    def commit(self) -> ReconcileResult:
        plan, dialect, connection = self._plan, self._dialect, self._connection
        ledger = Ledger(dialect, plan.connector, plan.stream, plan.table)
        version = ledger.claim(connection, plan) + 1
        ledger.loads.refuse_other_streams(connection)
        table, key = dialect.table(plan.table), plan.keys.names
        for statement in dialect.filled_stage(self._stage):
            connection.execute(statement)
        gone, there = (find(table, self._stage, key) for find in (dialect.lacks_key, dialect.has_key))
        mark = dialect.quote(DELETED_AT)
        is_live = f"{mark} IS NULL" if plan.has_marks else "1 = 1"
        live = self._count(f"{table} WHERE {is_live}")
        if self._left_out:
            is_null = " OR ".join(f"{dialect.quote(name)} IS NULL" for name in key)
            refuse_null_keys(plan, self._count(f"{table} WHERE {is_null}"))
        deleted = self._count(f"{table} WHERE {is_live} AND {gone}")
        refuse_too_many(plan, keys=self._keys, gone=deleted, live=live)
        restored = 0
        if plan.has_marks:
            restored = self._count(f"{table} WHERE {mark} IS NOT NULL AND {there}")
        for statement in dialect.before_changing(deleted + restored):
            connection.execute(statement)
        if plan.has_marks:
            connection.execute(f"UPDATE {table} SET {mark} = NULL WHERE {mark} IS NOT NULL AND {there}")
        if plan.deletes.how is Deletion.SOFT:
            at, instant = dialect.parameter(pa.scalar(plan.at, pa.timestamp("us", "UTC")))
            marked = f"UPDATE {table} SET {mark} = {at} WHERE {is_live} AND {gone}"
            done = connection.change(marked, (instant,))
        else:
            done = connection.change(f"DELETE FROM {table} WHERE {gone}")
        if done is not None and (done < deleted or plan.has_marks):
            self._refuse_kept(f"{table} WHERE {is_live} AND {gone}")
        # Again: the rows of a load that was committed after the first look may be among those that went.
        ledger.loads.refuse_other_streams(connection)
        for statement in dialect.drop_stage(self._stage):
            connection.execute(statement)
        ledger.record_version(connection, version)
        ledger.loads.record(
            connection,
            load_id=str(uuid4()),
            run_id=plan.run_id,
            disposition=RECONCILED,
            rows=deleted,
            at=plan.at,
        )
        connection.commit()
        return ReconcileResult(deleted, live - deleted + restored, self._left_out)

    def _refuse_kept(self, rows: str) -> None:
        kept = self._count(rows)
        if kept:
            keeper = "a trigger, a rule or a policy of its own"
            raise rows_kept(self._plan, keeper, kept, "that the source deleted")

    def _count(self, rows: str) -> int:
        return int(str(self._connection.execute(f"SELECT {self._dialect.count} FROM {rows}")[0][0]))
