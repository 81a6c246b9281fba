"""SQLite: a file (or memory) that is read and written, in one transaction each way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import URL, Engine, create_engine

from atlas_etl.connectors.base import Adapter, ConnectionConfig, ProjectPath
from atlas_etl.connectors.sql import _sqlite_catalog as catalog
from atlas_etl.connectors.sql._dialect import Connection
from atlas_etl.connectors.sql._extract import SqlExtract
from atlas_etl.connectors.sql._ledger import CHECKPOINTS
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.connectors.sql._sqlite_bounds import bound
from atlas_etl.connectors.sql._sqlite_driver import Driver, file_uri
from atlas_etl.connectors.sql._sqlite_snapshot import SqliteSnapshot
from atlas_etl.connectors.sql._sqlite_writer import SqliteDialect, SqliteWriter, rebuild, table_schema
from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.errors import AtlasError, ConfigError, DestinationError, HazardError, SourceError, UsageError
from atlas_etl.model import (
    CommittedCheckpoint,
    ConnectionStatus,
    CursorValue,
    Hazard,
    HazardPolicy,
    ReadRequest,
    Stream,
    StreamInfo,
    TableName,
    TableState,
    WidenColumn,
)

_MEMORY = ":memory:"


class SqliteOptions(BaseModel):
    """Settings of a SQLite connection (https://www.sqlite.org/pragma.html)."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    timeout: float = Field(default=60, ge=0, description="seconds to wait for another process's lock")
    cache_size: int | None = Field(default=None, gt=0, description="memory for pages, in KiB")
    journal_mode: Literal["wal", "delete"] | None = Field(
        default=None, description="of a file that is written; left out: as it is, and wal for a new file"
    )


class SqliteConnection(ConnectionConfig):
    """A SQLite database."""

    database_path: Literal[":memory:"] | ProjectPath = Field(
        union_mode="left_to_right", description="the database file, or :memory:"
    )
    options: SqliteOptions = Field(default_factory=SqliteOptions)

    @property
    def path(self) -> Path | None:
        """The file; None in memory."""
        return self.database_path if isinstance(self.database_path, Path) else None


class _ReaderDialect:
    checksums = None  # it has no such function

    def quote(self, identifier: str) -> str:
        return catalog.quote(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        return bound(column, value)

    def in_order(self, sql: str, column: SourceColumn) -> str | None:
        if not pa.types.is_integer(column.field.type):
            return None  # decimals and times are ordered as they are spelled
        return f"{sql} ORDER BY {self.quote(column.name)} LIMIT -1"  # keeps it in a subquery

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} LIMIT {rows}"


class SqliteConnector(SqlConnector[SqliteConnection]):
    """Reads a SQLite file, which it opens read-only and never makes."""

    dialect = _ReaderDialect()

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        driver = _reading(self.config, SourceError)
        try:
            yield SqliteSnapshot(driver)
        finally:
            driver.close()

    def test(self) -> ConnectionStatus:
        with self.snapshot() as snapshot:
            return ConnectionStatus(
                f"{len(snapshot.entries())} tables and views", server_version=snapshot.version
            )

    def discover(self) -> Sequence[StreamInfo]:
        with self.snapshot() as snapshot:
            return snapshot.discover()

    def close(self) -> None:
        """Snapshots close their own connections."""


class SqliteDestination(SqlDestination):
    """Writes a SQLite file: rows, checkpoint and ledger in one transaction, synced to disk (FULL)."""

    dialect = SqliteDialect()
    reader = _ReaderDialect()

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
    def reading(self) -> Iterator[SqliteSnapshot]:
        driver = self._readable()
        try:
            yield SqliteSnapshot(driver)
        finally:
            self._give_back(driver)

    def inspect(self, connector: str, stream: str, table: TableName) -> TableState:
        return super().inspect(connector, stream, table) if self._is_there() else TableState()

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        return super().checkpoints(connector) if self._is_there() else ()

    def table_schema(self, connection: Connection, table: TableName) -> pa.Schema | None:
        return table_schema(connection, table)

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

    def query(self, sql: str) -> pa.Table:
        """Rows in the types that their columns declare; as text where one holds something else."""
        try:
            return self._read(Stream("query", query=sql))
        except HazardError:
            as_text = dict.fromkeys(Hazard, HazardPolicy.TEXT)
            return self._read(Stream("query", query=sql, hazards=as_text))

    def close(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def _read(self, stream: Stream) -> pa.Table:
        try:
            with self.reading() as snapshot:
                extract = SqlExtract(self.reader, snapshot, ReadRequest(stream))
                return pa.Table.from_batches(extract.batches(), schema=extract.schema)
        except (SourceError, DestinationError) as failure:
            if failure.code not in ("sql", "no_columns"):
                raise
            raise UsageError(failure.message, hint=failure.hint, code="query") from failure

    def _readable(self) -> Driver:
        """The database, or an empty one as long as nothing has been loaded."""
        if self._config.path is None:
            return self._opened()
        config = self._config if self._is_there() else SqliteConnection(database_path=":memory:")
        return _reading(config, DestinationError)

    def _give_back(self, driver: Driver) -> None:
        """Undo a transaction that was not committed."""
        if driver is self._memory:
            _undo(driver)
        else:
            driver.close()

    def _is_there(self) -> bool:
        return self._config.path is None or self._config.path.exists()

    def _opened(self) -> Driver:
        path, options = self._config.path, self._config.options
        if path is None:
            self._memory = self._memory or Driver(_MEMORY, raises=DestinationError, timeout=options.timeout)
            return self._memory
        is_new = _make_file(path)
        driver = Driver(file_uri(path, "rw"), raises=DestinationError, timeout=options.timeout)
        try:
            if mode := options.journal_mode or ("wal" if is_new else None):
                driver.execute(f"PRAGMA journal_mode = {mode}")
            driver.execute("PRAGMA synchronous = FULL")
            driver.execute("PRAGMA foreign_keys = OFF")
            driver.execute(
                "PRAGMA legacy_alter_table = ON"
            )  # so that views of a table survive its rebuilding
            driver.execute(f"PRAGMA cache_size = -{options.cache_size or _WRITER_CACHE}")
        except AtlasError:
            driver.close()
            raise
        return driver


_WRITER_CACHE = 64 * 1024  # KiB; SQLite's own default is 2 MiB


def _reading(config: SqliteConnection, raises: Failure) -> Driver:
    """A connection that cannot write. Raises SourceError or DestinationError."""
    path, options = config.path, config.options
    if path is None:
        return Driver(_MEMORY, raises=raises, timeout=options.timeout)
    _refuse_unreadable(path, raises)
    driver = Driver(file_uri(path, "ro"), raises=raises, timeout=options.timeout)
    if options.cache_size is not None:
        driver.execute(f"PRAGMA cache_size = -{options.cache_size}")
    return driver


def _refuse_unreadable(path: Path, raises: Failure) -> None:
    """Say more than SQLite would. The file is not opened here, because closing it would drop its locks."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as failure:
        raise raises(
            f"there is no SQLite file at {path}", hint="check `database_path`", code="database_not_found"
        ) from failure
    except OSError as failure:
        raise raises(
            f"{path} cannot be read: {failure.strerror}",
            hint="check the permissions of its folders",
            code="not_readable",
        ) from failure
    if not is_file:
        raise raises(f"{path} is not a file", hint="check `database_path`", code="not_a_database")
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise raises(f"{path} cannot be read", hint="check the file's permissions", code="not_readable")


def _make_file(path: Path) -> bool:
    """Make an empty database that only its owner can read, where there is none. Raises DestinationError."""
    if path.is_dir():
        raise DestinationError(f"{path} is a folder", hint="name a file in it", code="not_a_database")
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return path.stat().st_size == 0
    except FileNotFoundError as failure:
        raise DestinationError(
            f"the folder {path.parent} does not exist",
            hint="make it, or change the destination's `database_path`",
            code="folder_not_found",
        ) from failure
    except OSError as failure:
        raise DestinationError(
            f"no file can be made in {path.parent}: {failure.strerror}",
            hint="check the folder's permissions and free space, or change `database_path`",
            code="not_writable",
        ) from failure
    return True


def _undo(driver: Driver) -> None:
    """End a transaction that may be open on a connection that lives on."""
    try:
        driver.execute("ROLLBACK")
    except DestinationError as failure:
        if "no transaction" not in failure.message:
            raise


def _client(config: SqliteConnection) -> Engine:
    """An engine of Python's own sqlite3. Do not keep it open on a file that Atlas writes in this process:
    it is a second copy of SQLite, and each would drop the other's locks (see _sqlite_driver).
    """
    path = str(config.path) if config.path is not None else _MEMORY
    return create_engine(
        URL.create("sqlite", database=path), connect_args={"timeout": config.options.timeout}
    )


def _dispose(client: object) -> None:
    if not isinstance(client, Engine):
        raise ConfigError("not a SQLAlchemy engine")
    client.dispose()


def _connector(config: SqliteConnection) -> SqliteConnector:
    return SqliteConnector(config, protocol="sqlite")


ADAPTER = Adapter(
    connection=SqliteConnection,
    client=_client,
    dispose=_dispose,
    connector=_connector,
    destination=SqliteDestination,
)
