"""Writing Oracle: all DDL first, which commits, then one transaction for rows, checkpoint and ledger."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.connectors.deletes import refuse_cascades
from atlas_etl.connectors.sql._answered import answered
from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._oracle.connection import OracleConnection, Server
from atlas_etl.connectors.sql._oracle.dialect import OracleWriterDialect
from atlas_etl.connectors.sql._oracle.examined import OracleTargetLook, abilities
from atlas_etl.connectors.sql._oracle.load import LoadConnection
from atlas_etl.connectors.sql._oracle.open_writers import probe
from atlas_etl.connectors.sql._oracle.reader import OracleSnapshot, ReaderDialect
from atlas_etl.connectors.sql._oracle.session import Session
from atlas_etl.connectors.sql._oracle.stored import grows
from atlas_etl.connectors.sql._oracle.target import kept_columns, ledger_schemas, ledger_there, look_at
from atlas_etl.connectors.sql._referenced import refuse_remaking
from atlas_etl.connectors.sql._remade import RemadeTable
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.contracts import Answer
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, RefusedRowError
from atlas_etl.model import (
    ConnectionStatus,
    CreateTable,
    Disposition,
    DropTable,
    LoadPlan,
    ReconcilePlan,
    Stream,
    TableName,
    WidenColumn,
)

_READER = ReaderDialect()
_STATEMENT_IS_WRONG = frozenset({
    "sql", "table_not_found", "column_not_found", "unsupported_type", "duplicate_column",
})  # fmt: skip


class OracleDestination(SqlDestination):
    """Writes an Oracle database: one schema has the tables of all connectors, and their names."""

    dialect = OracleWriterDialect()
    reader = _READER

    def __init__(self, config: OracleConnection) -> None:
        self._config = config
        self._server = Server(config, DestinationError)

    def connect(self) -> AbstractContextManager[LoadConnection]:
        return closing(LoadConnection(self._server))

    def table_name(self, connector: str, stream: Stream) -> TableName:
        into = stream.into or TableName(f"{connector}__{stream.name}")
        return TableName(self._shorten(into.name), self._shorten(into.schema or self._home()))

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        plan = _without_steps(plan)
        compared = _compared(plan)
        with self.connect() as connection:
            abilities(connection.session).refuse()
            self._make_ledger(connection, plan)
            connection.keep_apart(compared)
            if any(isinstance(change, DropTable) for change in plan.changes):
                with self._remade(connection, plan) as session:
                    yield session
                return
            if CreateTable() not in plan.changes:
                look_at(connection.execute, plan.table).refuse(plan)
            self._change(connection, plan)
            target = look_at(connection.execute, plan.table)
            target.refuse(plan)
            dialect = OracleWriterDialect(
                target.columns, compared=compared, keyed=target.is_keyed(plan.primary_key)
            )
            connection.begin()
            yield SqlLoadSession(dialect, connection, plan)

    def changes(self, plan: LoadPlan) -> Sequence[str]:
        return super().changes(_without_steps(plan))

    def dialect_of(self, plan: LoadPlan) -> OracleWriterDialect:
        return OracleWriterDialect(compared=_compared(plan))

    def widen(self, connection: Connection, table: TableName, change: WidenColumn) -> Sequence[str]:  # noqa: ARG002
        return self.dialect.widen(table, change)

    def dialect_for_keys(self, connection: Connection, plan: ReconcilePlan) -> OracleWriterDialect:
        target = look_at(connection.execute, plan.table)
        refuse_cascades(plan, target.cascades)
        target.refuse_long(plan.keys.names, plan.stream)
        return OracleWriterDialect(target.columns)

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        columns = kept_columns(connection.execute, table)
        return pa.schema([(column.name, column.type) for column in columns]) if columns else None

    def ledger_schemas(self, connection: Connection) -> Sequence[str | None]:
        return ledger_schemas(connection.execute)

    def caveats(self) -> Sequence[str]:
        untried = "no Oracle Database has run its loads yet: compare with `atlas connector verify`"
        empty = "empty texts become NULL, as `empty_text_is_null` says"
        return (untried, *((empty,) if self._config.empty_text_is_null else ()))

    def test(self) -> ConnectionStatus:
        with self.connect() as connection:
            able = abilities(connection.session)
            able.refuse()
            table = TableName(f"_atlas_test_{secrets.token_hex(4)}", self._home())
            connection.execute(self.dialect.create_table(table, pa.schema([("n", pa.int64())]), ()))
            connection.execute(f"DROP TABLE {self.dialect.table(table)} PURGE")
        return ConnectionStatus(f"tables can be made{self._config.way}", f"Oracle {able.version}")

    @contextmanager
    def reading(self) -> Iterator[OracleSnapshot]:
        with (
            closing(Session(self._server, self._config.default_schema)) as session,
            closing(OracleSnapshot(session, probe(session))) as snapshot,
        ):
            yield snapshot

    @contextmanager
    def looking(self) -> Iterator[OracleTargetLook]:
        with closing(Session(self._server)) as session:
            yield OracleTargetLook(session)

    def answer(self, sql: str, as_text: Collection[str] = ()) -> AbstractContextManager[Answer]:
        return answered(self.reading(), _READER, sql, as_text, wrong=_STATEMENT_IS_WRONG)

    def close(self) -> None:
        """Every call closes its own connection."""
        self._server.close()

    def _home(self) -> str:
        home = self._config.home
        if home is None:
            raise ConfigError(
                "the destination does not say in which schema its tables are",
                hint="set `default_schema`, or `username`",
                code="table_name",
            )
        return home

    def _make_ledger(self, connection: LoadConnection, plan: LoadPlan) -> None:
        ledger = Ledger(self.dialect, plan.connector, plan.stream, plan.table)
        if not ledger_there(connection.execute, str(plan.table.schema)):
            ledger.create(connection)
        try:
            ledger.begin(connection, plan.run_id)
        except RefusedRowError:  # another load has made the line since it was looked for
            ledger.begin(connection, plan.run_id)

    @contextmanager
    def _remade(self, connection: LoadConnection, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        """A load into a new table, which takes the old one's place when it is committed."""
        refuse_remaking(plan, [name for name, _ in look_at(connection.execute, plan.table).references])
        side = TableName(self._shorten(f"_atlas_new_{plan.table.name}"), plan.table.schema)
        drop = f"DROP TABLE {self.dialect.table(side)} PURGE"
        if self.table_schema(connection, side) is not None:  # of a load that was killed
            connection.execute(drop)
        self._change(connection, replace(plan, table=side, changes=(CreateTable(),)))
        swap = (
            f"DROP TABLE {self.dialect.table(plan.table)}",
            f"ALTER TABLE {self.dialect.table(side)} RENAME TO {self.dialect.quote(plan.table.name)}",
        )
        try:
            connection.begin()
            yield RemadeTable(self.dialect_of(plan), connection, plan, side, swap)
        finally:
            with suppress(AtlasError):
                connection.rollback()
                if self.table_schema(connection, side) is not None:
                    connection.execute(drop)


def _compared(plan: LoadPlan) -> frozenset[str]:
    """The columns that are compared, and so are no LOBs: those of the key and the cursor."""
    return frozenset({*plan.primary_key, *((plan.cursor,) if plan.cursor else ())})


def _without_steps(plan: LoadPlan) -> LoadPlan:
    """The plan, with a new table in the place of one whose columns cannot become what they would have to."""
    steps = (
        change
        for change in plan.changes
        if isinstance(change, WidenColumn) and not grows(change.before, change.after.type)
    )
    if plan.disposition is Disposition.REPLACE and any(True for _ in steps):
        return replace(plan, changes=(DropTable(), CreateTable()))
    return plan
