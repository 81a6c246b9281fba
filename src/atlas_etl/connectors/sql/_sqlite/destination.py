"""Writing SQLite: the destination, a file or a database in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from atlas_etl.connectors.sql._checkpoint_line import CHECKPOINTS
from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._extract import SqlExtract
from atlas_etl.connectors.sql._file_target import FileTargetLook
from atlas_etl.connectors.sql._load_session import SqlLoadSession
from atlas_etl.connectors.sql._sqlite.connection import SqliteConnection, open_to_read, open_to_write
from atlas_etl.connectors.sql._sqlite.declared import refuse_computed
from atlas_etl.connectors.sql._sqlite.driver import Driver
from atlas_etl.connectors.sql._sqlite.examined import SqliteLook
from atlas_etl.connectors.sql._sqlite.reader import ReaderDialect
from atlas_etl.connectors.sql._sqlite.snapshot import SqliteSnapshot
from atlas_etl.connectors.sql._sqlite.writer import (
    SqliteDialect,
    SqliteWriter,
    rebuild,
    table_key,
    table_schema,
)
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.contracts import Answer
from atlas_etl.errors import DestinationError, SourceError, UsageError
from atlas_etl.model import (
    CommittedCheckpoint,
    ConnectionStatus,
    Hazard,
    HazardPolicy,
    LoadPlan,
    ReadRequest,
    Stream,
    TableName,
    TableState,
    WidenColumn,
)


class SqliteDestination(SqlDestination):
    """Writes a SQLite file: rows, checkpoint and ledger in one transaction, synced to disk (FULL)."""

    dialect = SqliteDialect()
    reader = ReaderDialect()

    def __init__(self, config: SqliteConnection) -> None:
        self._config = config
        self._memory: Driver | None = None  # the database itself, where it is in memory

    @contextmanager
    def connect(self) -> Iterator[SqliteWriter]:
        driver = self._opened()
        try:
            yield SqliteWriter(driver)
        finally:
            self._give_back(driver)

    @contextmanager
    def begin(self, plan: LoadPlan) -> Iterator[SqlLoadSession]:
        with self.connect() as connection:
            connection.begin()
            refuse_computed(connection, plan.table, plan.schema.names)
            self._prepare(connection, plan)
            connection.go_into(plan.table)
            yield SqlLoadSession(self.dialect, connection, plan)

    @contextmanager
    def reading(self) -> Iterator[SqliteSnapshot]:
        driver = self._readable()
        try:
            yield SqliteSnapshot(driver)
        finally:
            self._give_back(driver)

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        return super().inspect(connector, stream, table) if self._is_there() else TableState()

    def has_load(self, connector: str, stream: str, table: TableName, load_id: str) -> bool:
        return self._is_there() and super().has_load(connector, stream, table, load_id)

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        return super().checkpoints(connector) if self._is_there() else ()

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        return table_schema(connection, table)

    def table_key(self, connection: Connection, table: TableName) -> frozenset[str]:
        return table_key(connection, table)

    def ledger_schemas(self, connection: Connection) -> Sequence[str | None]:
        return (None,) if table_schema(connection, TableName(CHECKPOINTS)) is not None else ()

    def widen(self, connection: Connection, table: TableName, change: WidenColumn) -> Sequence[str]:
        return rebuild(connection, self.dialect, table, change)

    def test(self) -> ConnectionStatus:
        with self.connect() as connection:
            connection.begin()
            connection.execute("CREATE TABLE _atlas_test (n INTEGER)")
            connection.rollback()
            version = connection.execute("SELECT sqlite_version()")[0][0]
        return ConnectionStatus("tables can be made", server_version=f"SQLite {version}")

    @contextmanager
    def looking(self) -> Iterator[FileTargetLook]:
        yield FileTargetLook(self._config.path, self._look)

    @contextmanager
    def _look(self) -> Iterator[SqliteLook]:
        driver = self._readable()
        try:
            yield SqliteLook(driver, SqliteSnapshot(driver), self.reader)
        finally:
            self._give_back(driver)

    @contextmanager
    def answer(self, sql: str, as_text: Collection[str] = ()) -> Iterator[Answer]:
        """Rows in the types that their columns declare; with `as_text`, as text where one has another."""
        policies = dict.fromkeys(Hazard, HazardPolicy.TEXT) if as_text else {}
        try:
            with self.reading() as snapshot:
                stream = Stream("query", query=sql, hazards=policies)
                extract = SqlExtract(self.reader, snapshot, ReadRequest(stream))
                yield Answer(extract.schema, extract.batches())
        except (SourceError, DestinationError) as failure:
            if failure.code not in ("sql", "no_columns"):
                raise
            raise UsageError(failure.message, hint=failure.hint, code="query") from failure

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _readable(self) -> Driver:
        """The database, or an empty one as long as nothing has been loaded."""
        if self._config.path is None:
            return self._opened()
        config = self._config if self._is_there() else SqliteConnection(database_path=":memory:")
        return open_to_read(config, DestinationError)

    def _give_back(self, driver: Driver) -> None:
        """Undo a transaction that was not committed."""
        if driver is self._memory:
            _undo(driver)
        else:
            driver.close()

    def _is_there(self) -> bool:
        return self._config.path is None or self._config.path.exists()

    def _opened(self) -> Driver:
        if self._config.path is None:
            self._memory = self._memory or open_to_write(self._config)
            return self._memory
        return open_to_write(self._config)


def _undo(driver: Driver) -> None:
    """End a transaction that may be open on a connection that lives on."""
    try:
        driver.execute("ROLLBACK")
    except DestinationError as failure:
        if "no transaction" not in failure.message:
            raise
