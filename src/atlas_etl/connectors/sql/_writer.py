"""The one SQL writer: what every destination in SQL does alike; dialects say how each is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.connectors import naming
from atlas_etl.connectors.sql._dialect import ROW, Connection, WriterDialect
from atlas_etl.connectors.sql._examined_target import TargetLook, examined_target
from atlas_etl.connectors.sql._ledger import Ledger, connector_checkpoints
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._reconcile import SqlReconcileSession
from atlas_etl.connectors.sql._source import Dialect, Snapshot
from atlas_etl.connectors.sql._table_snapshot import SqlTableSnapshot
from atlas_etl.connectors.sql._table_state import has_rows, table_state
from atlas_etl.contracts import Answer
from atlas_etl.errors import ConfigError, HazardError
from atlas_etl.model import (
    AddColumn,
    Checkpoint,
    CommittedCheckpoint,
    ConnectionStatus,
    CreateTable,
    DropTable,
    Examination,
    Finding,
    LoadPlan,
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
        staged = next((name for name in names if name.casefold() == ROW), None)
        if staged is not None:
            raise ConfigError(
                f"column {staged!r} has the name of Atlas's own in the tables that merges go by",
                hint="leave it out with `exclude`, or rename it with a query",
                code="name_collision",
                column=staged,
            )
        stored = map(self.dialect.stored, schema)
        return pa.schema([field.with_name(name) for field, name in zip(stored, names, strict=True)])

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        with self.connect() as connection:
            schema = self.table_schema(connection, table)
            ledger = Ledger(self.dialect, connector, stream, table)
            if self.table_schema(connection, ledger.loads.name) is None:
                empty = schema is None or not has_rows(self.dialect, connection, table)
                found = TableState(schema, empty=empty)
            else:
                found = table_state(self.dialect, connection, ledger, schema)
            return replace(found, key=self.table_key(connection, table)) if schema is not None else found

    def has_load(self, connector: str, stream: str, table: TableName, load_id: str) -> bool:
        with self.connect() as connection:
            ledger = Ledger(self.dialect, connector, stream, table)
            needed = (table, ledger.loads.name)
            is_there = all(self.table_schema(connection, each) is not None for each in needed)
            if not is_there or not ledger.loads.has_load(connection, load_id):
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

    @abstractmethod
    def begin(self, plan: LoadPlan) -> AbstractContextManager[SqlLoadSession]: ...

    @contextmanager
    def reconcile(self, plan: ReconcilePlan) -> Iterator[SqlReconcileSession]:
        with self.connect() as connection:
            yield self.comparison(connection, plan)

    def comparison(self, connection: Connection, plan: ReconcilePlan) -> SqlReconcileSession:
        """The comparison of a table's keys, begun on a connection of its own."""
        dialect = self.dialect_for_keys(connection, plan)
        connection.begin()
        return SqlReconcileSession(dialect, connection, plan)

    def dialect_for_keys(self, connection: Connection, plan: ReconcilePlan) -> WriterDialect:  # noqa: ARG002
        """The dialect whose stage compares keys as the table does, of a connection made ready for it.

        Raises DestinationError (`referenced`) where deleting rows would change those of other tables.
        """
        return self.dialect

    def reconciled_at(self, connector: str, stream: str, table: TableName) -> datetime | None:
        ledger = Ledger(self.dialect, connector, stream, table)
        with self.connect() as connection:
            there = self.table_schema(connection, ledger.loads.name) is not None
            return ledger.loads.reconciled_at(connection) if there else None

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
            ledger.loads.refuse_overtaken(connection, plan)
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
