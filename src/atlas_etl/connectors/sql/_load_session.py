"""One load of the SQL writer: rows, checkpoint and ledger in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._alike import keys_alike
from atlas_etl.connectors.sql._dialect import GONE, ROW, STAGE, Connection, Refusals, Trial, WriterDialect
from atlas_etl.connectors.sql._kept_rows import rows_kept
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._loads import EMPTIED, JOINED
from atlas_etl.connectors.sql._quarantine import StreamQuarantine
from atlas_etl.connectors.sql._table_history import following
from atlas_etl.connectors.sql._trial import SavepointTrial
from atlas_etl.contracts import NO_CHANGE
from atlas_etl.errors import NullKeyError, RefusedRowError
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    Disposition,
    LoadPlan,
    LoadResult,
    QuarantineChange,
)


class SqlLoadSession:
    """One load in one transaction (contracts.LoadSession)."""

    def __init__(self, dialect: WriterDialect, connection: Connection, plan: LoadPlan) -> None:
        self._dialect = dialect
        self._connection = connection
        self._plan = plan
        self._trial: Trial | None = None
        if plan.careful:
            self._trial = dialect.trial(connection, plan) or SavepointTrial(dialect, connection, plan)
        self._rows = 0
        self._left_out = 0
        self._replayed = 0  # rows of the previous tail, deleted to be read again
        self._merged: int | None = None
        self._target = self._dialect.table(plan.table)
        if plan.merges:
            self._target = self._dialect.stage(STAGE)
            staged = plan.schema.append(pa.field(ROW, pa.int64()))
            connection.execute(self._dialect.create_stage(self._target, staged))
        self._gone = self._dialect.stage(GONE)
        self._deleted = 0
        if plan.deletes:
            keys = [*(plan.schema.field(name) for name in plan.primary_key), pa.field(ROW, pa.int64())]
            stage = self._dialect.create_stage(self._gone, pa.schema(keys), plan.primary_key)
            connection.execute(stage)
        self._ledger = Ledger(dialect, plan.connector, plan.stream, plan.table)
        # What others commit from here on stays beside this load's rows, so its line comes before theirs.
        self._began_at = following(plan.after)
        self._keepers = self._dialect.keepers(connection, plan)
        # After the stages: where making one commits, nothing is lost.
        if plan.disposition is Disposition.REPLACE:
            connection.execute(self._dialect.empty(plan.table))
            self._ledger.loads.refuse_overtaken(connection, plan)
            self._refuse_kept(f"FROM {dialect.table(plan.table)}")
        elif plan.disposition is Disposition.APPEND and plan.tail is not None:
            self._delete_tail(plan.tail)
            self._ledger.loads.refuse_overtaken(connection, plan)

    def write(self, batch: pa.RecordBatch) -> Mapping[int, RefusedRowError]:
        refusals = self._tried(self._trial, batch) if self._trial is not None else {}
        if refusals:
            others = ~np.isin(np.arange(batch.num_rows), list(refusals))
            self._write(batch.filter(pa.array(others)))
        else:
            self._write(batch)
        return refusals

    def _tried(self, trial: Trial, batch: pa.RecordBatch) -> Refusals:
        self._left_out += self._connection.left_out()
        refusals = trial.refusals(batch)
        self._connection.left_out()  # of rows that come again
        return refusals

    def _write(self, batch: pa.RecordBatch) -> None:
        # Rows in wire form have a key that no other has, and no order that would matter.
        if self._plan.merges and values.wire_format(batch.schema) is None:
            if any(batch.column(name).null_count for name in self._plan.primary_key):
                raise NullKeyError(self._plan.primary_key, self._plan.stream)
            batch = _numbered(batch, self._rows)
        self._connection.ingest(self._target, batch)
        self._rows += batch.num_rows

    def delete(self, keys: pa.RecordBatch) -> None:
        self._connection.ingest(self._gone, _numbered(keys, self._deleted))
        self._deleted += keys.num_rows

    def commit(self, checkpoint: Checkpoint | None, quarantine: QuarantineChange = NO_CHANGE) -> LoadResult:
        plan, connection = self._plan, self._connection
        rows = self._settle()
        replaces = plan.disposition is Disposition.REPLACE
        committed_at = self._began_at if replaces else following(plan.after)
        ledger = self._ledger
        if plan.alone:
            ledger.lock_table(connection)
        version = ledger.claim(connection, plan) + 1
        if plan.alone:
            ledger.loads.refuse_overtaken(connection, plan)
        if plan.begins and plan.after is not None:
            ledger.loads.record_event(connection, EMPTIED, run_id=plan.run_id, at=plan.after)
        if plan.joins:
            ledger.loads.record_event(connection, JOINED, run_id=plan.run_id, at=committed_at)
        if checkpoint is not None:
            ledger.record_checkpoint(connection, checkpoint, run_id=plan.run_id, version=version)
        elif replaces:
            ledger.record_replaced(connection, plan.protection, version=version)
        elif plan.protection is not None and plan.cursor is None:
            ledger.record_protection(connection, plan.protection, version=version)
        else:
            ledger.record_version(connection, version)
        ledger.loads.record(
            connection,
            load_id=plan.load_id,
            run_id=plan.run_id,
            disposition=plan.disposition,
            rows=rows,
            at=committed_at,
        )
        of_stream = StreamQuarantine(self._dialect, plan.connector, plan.stream, plan.table)
        of_stream.apply(connection, quarantine)
        connection.commit()
        return LoadResult(rows, committed_at, self._left_out)

    def _settle(self) -> int:
        """Bring every row where it belongs, once; gives back how many were added or changed."""
        self._left_out += self._connection.left_out()
        if not self._plan.merges:
            return max(0, self._rows - self._left_out - self._replayed)
        if self._merged is None:
            self._merged = self._merge()
        return self._merged

    def _merge(self) -> int:
        plan, stage = self._plan, self._target
        if not plan.distinct:
            self._run(self._dialect.delete_superseded(plan, stage))
        staged = self._rows if plan.distinct else self._count(f"SELECT {self._dialect.count} FROM {stage}")
        if plan.unique and staged < self._rows:
            raise keys_alike(plan, self._rows - staged)
        unchanged = self._count(*self._dialect.count_unchanged(plan, stage)) if plan.cursor else 0
        if plan.deletes:
            self._delete_gone()
        self._run(self._dialect.before_changing(self._rows))
        *first, last = self._dialect.merge(plan, stage)
        self._run(first)
        if first:  # rows do not stay where they are
            table = self._dialect.table(plan.table)
            there = self._dialect.has_key(table, stage, plan.primary_key)
            self._refuse_kept(f"FROM {table} WHERE {there}")
        taken = self._connection.change(last)
        if taken is not None and taken < staged:  # also of rows that are there as they are
            missing = self._count(self._dialect.count_missing(plan, stage))
            self._left_out = min(staged - taken, missing)
        self._run(self._dialect.drop_stage(stage))
        return max(0, staged - self._left_out - unchanged)

    def _delete_gone(self) -> None:
        plan, connection = self._plan, self._connection
        if self._deleted:
            self._ledger.loads.refuse_other_streams(connection)
            self._run(self._dialect.filled_stage(self._gone))
            connection.execute(self._dialect.delete_staged(plan, self._gone))
        self._run(self._dialect.drop_stage(self._gone))

    def _delete_tail(self, tail: Checkpoint) -> None:
        plan, dialect = self._plan, self._dialect
        cursor = dialect.quote(str(plan.cursor))
        kind = plan.schema.field(plan.cursor).type
        if tail.tail_from.kind is CursorKind.TEXT:
            bound = [dialect.parameter(pa.scalar(text, kind)) for text in tail.tail_values]
            is_there = dialect.is_one_of(plan.schema.field(plan.cursor), [mark for mark, _ in bound])
            where = is_there if bound else "1 = 0"
        else:
            bound = [dialect.parameter(values.cursor_scalar(tail.tail_from, kind))]
            where = f"{dialect.ordered(plan.schema.field(plan.cursor))} >= {bound[0][0]}"
        nulls = f" OR {cursor} IS NULL" if plan.tail_has_nulls else ""
        parameters = [parameter for _, parameter in bound]
        rows = f"FROM {dialect.table(plan.table)} WHERE {where}{nulls}"
        self._replayed = self._count(f"SELECT {dialect.count} {rows}", parameters)
        self._run(dialect.before_changing(self._replayed))
        self._connection.execute(f"DELETE {rows}", parameters)
        self._refuse_kept(rows, parameters)

    def _refuse_kept(self, rows: str, parameters: Sequence[object] = ()) -> None:
        """Raise DestinationError (`rows_kept`) where rows that were deleted are still there."""
        kept = self._count(f"SELECT {self._dialect.count} {rows}", parameters) if self._keepers else 0
        if kept:
            why = "that this load has to delete before it writes them anew: they would be there twice"
            raise rows_kept(self._plan, self._keepers[0], kept, why)

    def _count(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return int(str(self._connection.execute(sql, parameters)[0][0]))

    def _run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self._connection.execute(statement)


def _numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """The rows with their place in the order in which they came."""
    return batch.append_column(ROW, pa.arange(first, first + batch.num_rows))
