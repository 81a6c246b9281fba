"""Writing MySQL and MariaDB: all DDL first, then one InnoDB transaction for rows, checkpoint and ledger."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.deletes import refuse_cascades
from atlas_etl.connectors.sql._checkpoint_line import CHECKPOINTS
from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._mysql.catalog import SYSTEM_DATABASES
from atlas_etl.connectors.sql._mysql.connection import MySQLConnection, Server
from atlas_etl.connectors.sql._mysql.dialect import KEY, MySQLWriterDialect
from atlas_etl.connectors.sql._mysql.errors import LOAD_RIGHTS, quoted
from atlas_etl.connectors.sql._mysql.examined import MySQLTargetLook, bound
from atlas_etl.connectors.sql._mysql.load import LoadConnection
from atlas_etl.connectors.sql._mysql.query import answered
from atlas_etl.connectors.sql._mysql.reader import ReaderDialect, session_of
from atlas_etl.connectors.sql._mysql.session import READING, Session
from atlas_etl.connectors.sql._mysql.snapshot import MySQLSnapshot
from atlas_etl.connectors.sql._mysql.stored import is_long
from atlas_etl.connectors.sql._mysql.target import kept_columns, key_to_bring, ledger_there, look_at
from atlas_etl.connectors.sql._referenced import refuse_remaking
from atlas_etl.connectors.sql._remade import RemadeTable
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.contracts import Answer
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, UsageError
from atlas_etl.model import (
    ConnectionStatus,
    CreateTable,
    DropTable,
    LoadPlan,
    ReconcilePlan,
    Stream,
    TableName,
    WidenColumn,
)

_OLDEST = {"MySQL": (8, 0, 17), "MariaDB": (10, 2, 0)}  # the first with collations that compare exactly
_STATEMENT_IS_WRONG = frozenset({
    "sql", "table_not_found", "column_not_found", "database_not_found", "duplicate_column", "read_only",
})  # fmt: skip


class MySQLDestination(SqlDestination):
    """Writes a MySQL or MariaDB server: each connector's tables in a database of its name."""

    dialect = MySQLWriterDialect()
    reader = ReaderDialect()

    def __init__(self, config: MySQLConnection) -> None:
        self._config = config
        self._server = Server(config, DestinationError)

    def connect(self) -> AbstractContextManager[LoadConnection]:
        return closing(LoadConnection(self._server))

    def table_name(self, connector: str, stream: Stream) -> TableName:
        found = super().table_name(connector, stream)
        if str(found.schema).lower() in SYSTEM_DATABASES:
            raise ConfigError(
                f"the table {found} would be in a database of the server's own",
                hint=f"choose another one with `into: <database>.{found.name}`, or rename the connector",
                code="system_database",
                stream=stream.name,
            )
        return found

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        with self.connect() as connection:
            refuse_old(connection.session.version)
            self._make_ledger(connection, plan)
            connection.execute(f"USE {quoted(str(plan.table.schema))}")  # where the stage will be
            if any(isinstance(change, DropTable) for change in plan.changes):
                with self._remade(connection, plan) as session:
                    yield session
                return
            if CreateTable() not in plan.changes:
                look_at(connection.execute, plan.table).refuse(plan)
            self._change(connection, plan)
            target = look_at(connection.execute, plan.table)
            connection.go_into(target.columns)
            dialect = MySQLWriterDialect(target.columns, keyed=target.is_keyed(plan.primary_key))
            connection.begin()
            yield SqlLoadSession(dialect, connection, plan)

    def dialect_for_keys(self, connection: Connection, plan: ReconcilePlan) -> MySQLWriterDialect:
        target = look_at(connection.execute, plan.table)
        refuse_cascades(plan, target.cascades)
        connection.execute(f"USE {quoted(str(plan.table.schema))}")  # where the stage will be
        return MySQLWriterDialect(target.columns)

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        columns = kept_columns(connection.execute, table)
        return pa.schema([(column.name, column.type) for column in columns]) if columns else None

    def table_key(self, connection: Connection, table: TableName) -> frozenset[str]:
        return key_to_bring(connection.execute, table)

    def ledger_schemas(self, connection: Connection) -> Sequence[str | None]:
        rows = connection.execute(
            "SELECT TABLE_SCHEMA FROM information_schema.TABLES WHERE TABLE_NAME = ? ORDER BY 1",
            (CHECKPOINTS,),
        )
        return [str(row[0]) for row in rows]

    def widen(self, connection: Connection, table: TableName, change: WidenColumn) -> Sequence[str]:
        """As ALTER TABLE does it; a key that cannot hold the wider type whole becomes an index.

        What a column is besides its type is dropped by MODIFY unless it is said again. Raises
        DestinationError (`cannot_widen`) where it has values of its own, which each server says in its way.
        """
        (modify,) = self.dialect.widen(table, change)
        target = look_at(connection.execute, table)
        column = next(column for column in target.columns if column.name == change.name)
        if column.gives_itself:
            raise DestinationError(
                f"column {change.name!r} of {table} is to become {values.type_name(change.after.type)}, "
                "and would lose its DEFAULT, ON UPDATE or AUTO_INCREMENT",
                hint=f"make it wider yourself: {modify}, and what it has besides its type",
                code="cannot_widen",
                column=change.name,
            )
        index = next((name for name in ("PRIMARY", KEY) if change.name in target.indexes.get(name, ())), None)
        if index is None or not is_long(change.after.type):
            return (modify if column.nullable else f"{modify} NOT NULL",)
        kinds = {column.name: column.type for column in target.columns} | {change.name: change.after.type}
        key = self.dialect.key({name: kinds[name] for name in target.indexes[index]})
        drop = "DROP PRIMARY KEY" if index == "PRIMARY" else f"DROP INDEX {quoted(index)}"
        return (f"{modify}, {drop}, ADD {key}",)

    def test(self) -> ConnectionStatus:
        with self.connect() as connection:
            version = connection.session.version
            refuse_old(version)
            name = f"_atlas_test_{secrets.token_hex(4)}"
            warnings: tuple[str, ...] = ()
            try:
                _prove(connection, TableName("t", name), self.dialect)
            except DestinationError as failure:
                if failure.code != "permission_denied" or self._config.database is None:
                    raise _no_databases(failure) from failure
                _prove(connection, TableName(name, self._config.database), self.dialect)
                warnings = (
                    "new databases cannot be made, so a connector's own must be there, or its streams need "
                    f"`into: {self._config.database}.<table>`",
                )
        return ConnectionStatus(f"tables can be made{self._config.way}", version, warnings)

    @contextmanager
    def reading(self) -> Iterator[MySQLSnapshot]:
        with session_of(self._server) as session:
            yield MySQLSnapshot(session, self._server)

    @contextmanager
    def looking(self) -> Iterator[MySQLTargetLook]:
        with session_of(self._server) as session:
            bound(session)
            yield MySQLTargetLook(session, self.reader)

    @contextmanager
    def answer(self, sql: str, as_text: Collection[str] = ()) -> Iterator[Answer]:
        session = Session(self._server, sql_mode=READING)
        try:
            yield answered(session, sql, as_text)
        except DestinationError as failure:
            if failure.code not in _STATEMENT_IS_WRONG:
                raise
            raise UsageError(failure.message, hint=failure.hint, code="query") from failure
        finally:
            session.close()

    def close(self) -> None:
        """Every call closes its own connection."""
        self._server.close()

    def _make_ledger(self, connection: LoadConnection, plan: LoadPlan) -> None:
        schema = str(plan.table.schema)
        has_schema, has_ledger = ledger_there(connection.execute, schema)
        if not has_schema:
            connection.execute(self.dialect.create_schema(schema))
        ledger = Ledger(self.dialect, plan.connector, plan.stream, plan.table)
        if not has_ledger:
            ledger.create(connection)
        ledger.begin(connection, plan.run_id)

    @contextmanager
    def _remade(self, connection: LoadConnection, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        """A load into a new table, which takes the old one's place when it is committed."""
        refuse_remaking(plan, [name for name, _ in look_at(connection.execute, plan.table).references])
        side = TableName(self._shorten(f"_atlas_new_{plan.table.name}"), plan.table.schema)
        drop = f"DROP TABLE IF EXISTS {self.dialect.table(side)}"
        connection.execute(drop)
        old = TableName(f"_atlas_old_{secrets.token_hex(8)}", plan.table.schema)
        there, aside = self.dialect.table(plan.table), self.dialect.table(old)
        made = self.dialect.table(side)
        swap = (f"RENAME TABLE {there} TO {aside}, {made} TO {there}", f"DROP TABLE {aside}")
        self._change(connection, replace(plan, table=side, changes=(CreateTable(),)))
        try:
            connection.begin()
            yield RemadeTable(self.dialect, connection, plan, side, swap)
        finally:
            with suppress(AtlasError):
                connection.rollback()
                connection.execute(drop)


def _prove(connection: LoadConnection, table: TableName, dialect: MySQLWriterDialect) -> None:
    """Make a table and remove it again, with a database of its own where its name says so."""
    schema = pa.schema([("n", pa.int32())])
    own = str(table.schema).startswith("_atlas_test_")
    if own:
        connection.execute(dialect.create_schema(str(table.schema)))
    try:
        connection.execute(dialect.create_table(table, schema, ()))
    finally:
        what = f"DATABASE {quoted(str(table.schema))}" if own else f"TABLE IF EXISTS {dialect.table(table)}"
        connection.execute(f"DROP {what}")


def _no_databases(failure: DestinationError) -> DestinationError:
    if failure.code != "permission_denied":
        return failure
    return DestinationError(
        "the account may not make databases, and the connection names none that is there",
        hint=f"set `database` and load with `into`, or GRANT {LOAD_RIGHTS} ON `<connector>`.* to the account",
        code="permission_denied",
    )


def refuse_old(version: str) -> None:
    system, _, number = version.partition(" ")
    if tuple(map(int, re.findall(r"\d+", number)[:3])) < _OLDEST[system]:
        oldest = ".".join(map(str, _OLDEST[system]))
        raise DestinationError(
            f"{version} cannot compare texts exactly, so keys that differ in case would be one",
            hint=f"load into {system} {oldest} or newer",
            code="server_too_old",
        )
