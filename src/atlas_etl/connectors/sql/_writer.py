"""The one SQL writer: rows, checkpoint and ledger in one transaction; dialects say how each is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np
import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors import naming
from atlas_etl.connectors.sql._alike import keys_alike
from atlas_etl.connectors.sql._dialect import GONE, ROW, STAGE, Connection, Refusals, Trial, WriterDialect
from atlas_etl.connectors.sql._examined_target import TargetLook, examined_target
from atlas_etl.connectors.sql._ledger import EMPTIED, JOINED, Ledger, connector_checkpoints
from atlas_etl.connectors.sql._quarantine import StreamQuarantine
from atlas_etl.connectors.sql._reconcile import SqlReconcileSession
from atlas_etl.connectors.sql._source import Dialect, Snapshot
from atlas_etl.connectors.sql._table_history import following
from atlas_etl.connectors.sql._table_snapshot import SqlTableSnapshot
from atlas_etl.connectors.sql._table_state import has_rows, table_state
from atlas_etl.connectors.sql._trial import SavepointTrial
from atlas_etl.contracts import NO_CHANGE, Answer
from atlas_etl.errors import DestinationError, HazardError, NullKeyError, RefusedRowError
from atlas_etl.model import (
    AddColumn,
    Checkpoint,
    CommittedCheckpoint,
    ConnectionStatus,
    CreateTable,
    CursorKind,
    Disposition,
    DropTable,
    Examination,
    Finding,
    LoadPlan,
    LoadResult,
    QuarantineChange,
    ReconcilePlan,
    Severity,
    Stream,
    TableName,
    TableState,
    WidenColumn,
    WireFormat,
)


class SqlDestination(ABC):
    """Writes any SQL system that offers transactions and a dialect (contracts.Destination)."""

    dialect: WriterDialect
    reader: Dialect

    @abstractmethod
    def connect(self) -> AbstractContextManager[Connection]:
        """A connection of its own for one load; given back, and rolled back, when the block is left."""

    @abstractmethod
    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        """The table's columns as they read in Arrow, or None where there is no such table."""

    def table_key(self, connection: Connection, table: TableName) -> frozenset[str]:  # noqa: ARG002
        """The columns of a table's primary key for which a row has to bring the value."""
        return frozenset()

    @abstractmethod
    def reading(self) -> AbstractContextManager[Snapshot]:
        """A snapshot as this system's reader takes it; its failures are DestinationError."""

    @abstractmethod
    def test(self) -> ConnectionStatus: ...

    @abstractmethod
    def answer(self, sql: str, as_text: Collection[str] = ()) -> AbstractContextManager[Answer]: ...

    @abstractmethod
    def close(self) -> None: ...

    def looking(self) -> AbstractContextManager[TargetLook] | None:
        """Open what the system is examined by; None where nothing is known of it but how it is written."""
        return None

    def examine(self, examination: Examination) -> Iterator[Finding]:
        looking = self.looking()
        if looking is None:
            message = "nothing but its connection can be looked at: its protocol has no such checks yet"
            yield Finding("server", "destination", Severity.NOTE, message)
            return
        with looking as look:
            yield from examined_target(look, examination, self.table_name, self._shorten)

    def query(self, sql: str) -> pa.Table:
        as_text: set[str] = set()
        while True:
            try:
                with self.answer(sql, as_text) as answer:
                    return pa.Table.from_batches(answer.batches, answer.schema)
            except HazardError as hazard:
                column = hazard.column or ""
                if column in as_text:
                    raise
                as_text.add(column)

    def table_name(self, connector: str, stream: Stream) -> TableName:
        into = stream.into or TableName(stream.name, connector)
        if not self.dialect.has_schemas:
            name = into.name if stream.into else f"{connector}__{stream.name}"
            return TableName(self._shorten(name))
        return TableName(self._shorten(into.name), self._shorten(into.schema or connector))

    def storable(self, schema: pa.Schema, there: pa.Schema | None = None) -> pa.Schema:
        names = naming.in_table(
            [self._shorten(name) for name in schema.names],
            there.names if there is not None else (),
            fold_case=self.dialect.fold_case,
            where="the destination's table",
        )
        stored = map(self.dialect.stored, schema)
        return pa.schema([field.with_name(name) for field, name in zip(stored, names, strict=True)])

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        with self.connect() as connection:
            schema = self.table_schema(connection, table)
            ledger = Ledger(self.dialect, connector, stream, table)
            if self.table_schema(connection, ledger.loads_table) is None:
                empty = schema is None or not has_rows(self.dialect, connection, table)
                found = TableState(schema, empty=empty)
            else:
                found = table_state(self.dialect, connection, ledger, schema)
            return replace(found, key=self.table_key(connection, table)) if schema is not None else found

    def has_load(self, connector: str, stream: str, table: TableName, load_id: str) -> bool:
        with self.connect() as connection:
            ledger = Ledger(self.dialect, connector, stream, table)
            needed = (table, ledger.loads_table)
            is_there = all(self.table_schema(connection, each) is not None for each in needed)
            if not is_there or not ledger.has_load(connection, load_id):
                return False
            # Of a load without rows, an empty table lacks nothing.
            return has_rows(self.dialect, connection, table)

    def changes(self, plan: LoadPlan) -> Sequence[str]:
        def widened(change: WidenColumn) -> Sequence[str]:
            with self.connect() as connection:
                return self.widen(connection, plan.table, change)

        makes_schema = self.dialect.has_schemas and any(
            isinstance(made, CreateTable) for made in plan.changes
        )
        schema = (self.dialect.create_schema(str(plan.table.schema)),) if makes_schema else ()
        return (*schema, *self._changes(plan, widened))

    def caveats(self) -> Sequence[str]:
        return ()

    def takes(self, offered: WireFormat, plan: LoadPlan) -> bool:  # noqa: ARG002
        return False

    def place(self) -> str | None:
        with self.reading() as snapshot:
            return snapshot.place()

    @contextmanager
    def snapshot(self, table: TableName) -> Iterator[SqlTableSnapshot]:
        with self.reading() as snapshot:
            yield SqlTableSnapshot(self.reader, self.dialect, snapshot, table)

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        with self.connect() as connection:
            if not self.dialect.transactional_ddl:
                self._prepare(connection, plan)
                connection.begin()
            else:
                connection.begin()
                self._prepare(connection, plan)
            yield SqlLoadSession(self.dialect, connection, plan)

    @contextmanager
    def reconcile(self, plan: ReconcilePlan) -> Iterator[SqlReconcileSession]:
        with self.connect() as connection:
            dialect = self.dialect_for_keys(connection, plan)
            connection.begin()
            yield SqlReconcileSession(dialect, connection, plan)

    def dialect_for_keys(self, connection: Connection, plan: ReconcilePlan) -> WriterDialect:  # noqa: ARG002
        """The dialect whose stage compares keys as the table does, of a connection made ready for it.

        Raises DestinationError (`referenced`) where deleting rows would change those of other tables.
        """
        return self.dialect

    def reconciled_at(self, connector: str, stream: str, table: TableName) -> datetime | None:
        ledger = Ledger(self.dialect, connector, stream, table)
        with self.connect() as connection:
            there = self.table_schema(connection, ledger.loads_table) is not None
            return ledger.reconciled_at(connection) if there else None

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        with self.connect() as connection:
            return [
                found
                for schema in self.ledger_schemas(connection)
                for found in connector_checkpoints(self.dialect, connection, schema, connector)
            ]

    @abstractmethod
    def ledger_schemas(self, connection: Connection) -> Sequence[str | None]:
        """Every schema that holds a table `_atlas_checkpoints`; (None,) where there are no schemas."""

    def set_checkpoint(
        self, connector: str, stream: str, table: TableName, checkpoint: Checkpoint | None
    ) -> None:
        ledger = Ledger(self.dialect, connector, stream, table)
        with self.connect() as connection:
            if checkpoint is None and self.table_schema(connection, ledger.checkpoints_table) is None:
                return
            connection.begin()
            ledger.begin(connection, run_id="")
            version = ledger.version(connection)
            if checkpoint is None:
                ledger.forget_checkpoint(connection, version=version + 1)
            else:
                ledger.record_checkpoint(connection, checkpoint, run_id="", version=version + 1)
            connection.commit()

    def _shorten(self, name: str) -> str:
        return naming.shorten(name, self.dialect.max_identifier, size=self.dialect.identifier_size)

    def _prepare(self, connection: Connection, plan: LoadPlan) -> None:
        """Schema, ledger and the plan's changes to the table."""
        if plan.table.schema:
            connection.execute(self.dialect.create_schema(plan.table.schema))
        ledger = Ledger(self.dialect, plan.connector, plan.stream, plan.table)
        ledger.create(connection)
        ledger.begin(connection, plan.run_id)
        if DropTable() in plan.changes:
            ledger.refuse_overtaken(connection, plan)
        self._change(connection, plan)

    def dialect_of(self, plan: LoadPlan) -> WriterDialect:  # noqa: ARG002
        """The dialect by which the plan's table is made and changed."""
        return self.dialect

    def _change(self, connection: Connection, plan: LoadPlan) -> None:
        """Execute the plan's changes to its table."""
        for statement in self._changes(plan, partial(self.widen, connection, plan.table)):
            connection.execute(statement)

    def widen(self, connection: Connection, table: TableName, change: WidenColumn) -> Sequence[str]:  # noqa: ARG002
        """The statements that widen a column; a system without such a statement looks at the table first."""
        return self.dialect.widen(table, change)

    def _changes(self, plan: LoadPlan, widened: Callable[[WidenColumn], Sequence[str]]) -> Iterator[str]:
        """The statements of the plan's changes, each made when those before it were executed."""
        dialect = self.dialect_of(plan)
        for change in plan.changes:
            match change:
                case CreateTable():
                    key = plan.primary_key if plan.keyed or plan.merges else ()
                    yield dialect.create_table(plan.table, plan.schema, key)
                case DropTable():
                    yield f"DROP TABLE {dialect.table(plan.table)}"
                case AddColumn(field):
                    yield dialect.add_column(plan.table, field)
                case WidenColumn():
                    yield from widened(change)


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
            self._ledger.refuse_overtaken(connection, plan)
            self._refuse_kept(f"FROM {dialect.table(plan.table)}")
        elif plan.disposition is Disposition.APPEND and plan.tail is not None:
            self._delete_tail(plan.tail)
            self._ledger.refuse_overtaken(connection, plan)

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
            ledger.refuse_overtaken(connection, plan)
        if plan.begins and plan.after is not None:
            ledger.record_event(connection, EMPTIED, run_id=plan.run_id, at=plan.after)
        if plan.joins:
            ledger.record_event(connection, JOINED, run_id=plan.run_id, at=committed_at)
        if checkpoint is not None:
            ledger.record_checkpoint(connection, checkpoint, run_id=plan.run_id, version=version)
        elif replaces:
            ledger.record_replaced(connection, plan.protection, version=version)
        elif plan.protection is not None and plan.cursor is None:
            ledger.record_protection(connection, plan.protection, version=version)
        else:
            ledger.record_version(connection, version)
        ledger.record_load(
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
            self._ledger.refuse_other_streams(connection)
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
            raise DestinationError(
                f"{self._keepers[0]} keeps {kept:,} rows of {self._plan.table} that this load has to delete "
                "before it writes them anew: they would be there twice",
                hint="drop or change it, or load into a table without it, named with `into`",
                code="rows_kept",
                stream=self._plan.stream,
            )

    def _count(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return int(str(self._connection.execute(sql, parameters)[0][0]))

    def _run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self._connection.execute(statement)


def _numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """The rows with their place in the order in which they came."""
    return batch.append_column(ROW, pa.arange(first, first + batch.num_rows))
