"""Writing SQL Server: rows, checkpoint and ledger in one transaction, in which tables are made as well."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager

import pyarrow as pa

from atlas_etl.connectors.deletes import refuse_cascades
from atlas_etl.connectors.sql._answered import answered
from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._mssql.connection import MSSQLConnection, Server
from atlas_etl.connectors.sql._mssql.dialect import MSSQLWriterDialect
from atlas_etl.connectors.sql._mssql.examined import MSSQLTargetLook, abilities
from atlas_etl.connectors.sql._mssql.load import LoadConnection
from atlas_etl.connectors.sql._mssql.open_writers import probe
from atlas_etl.connectors.sql._mssql.reader import MSSQLSnapshot, ReaderDialect
from atlas_etl.connectors.sql._mssql.session import Session
from atlas_etl.connectors.sql._mssql.target import kept_columns, ledger_schemas, ledger_there, look_at
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.contracts import Answer
from atlas_etl.errors import ConfigError, DestinationError
from atlas_etl.model import (
    ConnectionStatus,
    LoadPlan,
    ReconcilePlan,
    Stream,
    TableName,
    WidenColumn,
)

_READER = ReaderDialect()
_SYSTEM_SCHEMAS = frozenset({"sys", "information_schema", "guest"})
_STATEMENT_IS_WRONG = frozenset({
    "sql", "table_not_found", "column_not_found", "data", "unsupported_type", "duplicate_column",
})  # fmt: skip


class MSSQLDestination(SqlDestination):
    """Writes a database of SQL Server or Azure SQL: each connector's tables in a schema of its name."""

    dialect = MSSQLWriterDialect()
    reader = _READER

    def __init__(self, config: MSSQLConnection) -> None:
        self._config = config
        self._server = Server(config, DestinationError)

    def connect(self) -> AbstractContextManager[LoadConnection]:
        return closing(LoadConnection(self._server))

    def table_name(self, connector: str, stream: Stream) -> TableName:
        found = super().table_name(connector, stream)
        why = None
        if str(found.schema).lower() in _SYSTEM_SCHEMAS:
            why = "would be in a schema of the server's own"
        elif found.name.startswith("#"):
            why = "would be a temporary one"
        elif stream.name.endswith(" "):
            why = "is of a stream whose name ends in a blank, which the server does not tell from one without"
        if why is not None:
            raise ConfigError(
                f"the table {found} {why}",
                hint="rename the stream or the connector, or choose another table with `into`",
                code="table_name",
                stream=stream.name,
            )
        return found

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        with self.connect() as connection:
            self._make_ledger(connection, plan)
            if plan.careful:  # whose savepoints have to outlive the rows that are refused
                connection.execute("SET XACT_ABORT OFF")
            connection.begin()
            self._change(connection, plan)
            target = look_at(connection.execute, plan.table)
            target.refuse(plan)
            dialect = MSSQLWriterDialect(target.columns, keyed=target.is_keyed(plan.primary_key))
            yield SqlLoadSession(dialect, connection, plan)

    def dialect_for_keys(self, connection: Connection, plan: ReconcilePlan) -> MSSQLWriterDialect:
        target = look_at(connection.execute, plan.table)
        refuse_cascades(plan, target.cascades)
        if plan.careful:  # as of a load
            connection.execute("SET XACT_ABORT OFF")
        return MSSQLWriterDialect(target.columns)

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        columns = kept_columns(connection.execute, table)
        return pa.schema([(column.name, column.type) for column in columns]) if columns else None

    def ledger_schemas(self, connection: Connection) -> Sequence[str | None]:
        return ledger_schemas(connection.execute)

    def caveats(self) -> Sequence[str]:
        return ("no SQL Server has run its loads yet: compare with `atlas connector verify`",)

    def widen(self, connection: Connection, table: TableName, change: WidenColumn) -> Sequence[str]:
        """As ALTER TABLE does it, around the primary key where the column is in it; NOT NULL stays."""
        altered, *more = self.dialect.widen(table, change)
        target, quote = look_at(connection.execute, table), self.dialect.quote
        key = next((key for key in target.keys if key.is_primary and change.name in key.columns), None)
        if any(column.name == change.name and not column.nullable for column in target.columns):
            altered = f"{altered.removesuffix(' NULL')} NOT NULL"
        if key is None:
            return (altered, *more)
        kinds = {column.name: column.type for column in target.columns} | {change.name: change.after.type}
        name, alter = quote(key.name), f"ALTER TABLE {self.dialect.table(table)}"
        made = f"{alter} ADD CONSTRAINT {name} PRIMARY KEY ({self.dialect.names(key.columns)})"
        is_kept = self.dialect.holds_key([kinds[column] for column in key.columns])
        return (f"{alter} DROP CONSTRAINT {name}", altered, *more, *((made,) if is_kept else ()))

    def test(self) -> ConnectionStatus:
        with self.connect() as connection:
            able = abilities(connection.session.rows)
            able.refuse()
            schema = f"_atlas_test_{secrets.token_hex(4)}"
            warnings: tuple[str, ...] = ()
            connection.begin()
            if able.may_make_schemas:
                connection.execute(self.dialect.create_schema(schema))
                table = TableName("t", schema)
                connection.execute(self.dialect.create_table(table, pa.schema([("n", pa.int32())]), ()))
            else:
                grant = f"GRANT CREATE SCHEMA TO {self.dialect.quote(able.user)}"
                warnings = (f"new schemas cannot be made, so a connector's own must be there: {grant}",)
            connection.rollback()
        return ConnectionStatus(f"tables can be made{self._config.way}", able.version, warnings)

    @contextmanager
    def reading(self) -> Iterator[MSSQLSnapshot]:
        session = Session(self._server)
        try:
            snapshot = MSSQLSnapshot(session, self._config, probe(session))
            try:
                yield snapshot
            finally:
                snapshot.close()
        finally:
            session.close()

    @contextmanager
    def looking(self) -> Iterator[MSSQLTargetLook]:
        session = Session(self._server)
        try:
            yield MSSQLTargetLook(session.rows)
        finally:
            session.close()

    def answer(self, sql: str, as_text: Collection[str] = ()) -> AbstractContextManager[Answer]:
        return answered(self.reading(), _READER, sql, as_text, wrong=_STATEMENT_IS_WRONG)

    def close(self) -> None:
        """Every call closes its own connection."""
        self._server.close()

    def _make_ledger(self, connection: LoadConnection, plan: LoadPlan) -> None:
        """Schema and ledger, in transactions of their own: one that is open would make other loads wait."""
        schema = str(plan.table.schema)
        ledger = Ledger(self.dialect, plan.connector, plan.stream, plan.table)
        if not ledger_there(connection.execute, schema):
            abilities(connection.session.rows).refuse()
            connection.begin()
            connection.execute(self.dialect.create_schema(schema))
            ledger.create(connection)
            connection.commit()
        connection.execute("BEGIN TRANSACTION")  # for the row that is looked for to stay as it is
        ledger.begin(connection, plan.run_id)
        connection.execute("COMMIT TRANSACTION")
