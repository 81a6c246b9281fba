"""The destinations that the harness writes to, read back with their own clients and never with Atlas."""

from __future__ import annotations

import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from tests.crash.rows import COLUMNS, STREAMS, Row, canonical
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe
from tests.servers.stub_mssql import COLLATION, StubServer, schema_file
from tests.servers.stub_tsql import compared

CONNECTOR = "c"
_NAMES = ", ".join(COLUMNS)
_TEXTS = ", ".join(f"{name}::VARCHAR" for name in COLUMNS)


class Target(ABC):
    """One destination: what a definition says of it, and what is in it."""

    protocol: str
    database: str | None = None  # where tables go instead of a schema named as the connector

    @abstractmethod
    def connection(self) -> dict[str, object]:
        """The destination's keys in atlas.yaml."""

    @abstractmethod
    def rows(self, stream: str) -> list[Row]:
        """Every row of a stream; none where there is no table yet."""

    @abstractmethod
    def ids(self, stream: str) -> list[object]:
        """The id of every row of a stream, which is read sooner than the rows."""

    @abstractmethod
    def loads(self) -> int:
        """How many loads of all streams were ever committed."""


def server_keys(address: ServerAddress) -> dict[str, object]:
    """A server's keys in a definition."""
    return {
        "host": address.host,
        "port": address.port,
        "database": address.database,
        "username": address.username,
        "password": address.password,
    }


class DuckDBTarget(Target):
    protocol = "duckdb"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "warehouse.duckdb"

    def connection(self) -> dict[str, object]:
        return {"path": str(self.path)}

    def rows(self, stream: str) -> list[Row]:
        return [canonical(row) for row in self._select(f"SELECT {_TEXTS} FROM c.{stream}")]

    def ids(self, stream: str) -> list[object]:
        return [row[0] for row in self._select(f"SELECT id FROM c.{stream}")]

    def loads(self) -> int:
        return sum(int(str(row[0])) for row in self._select("SELECT count(*) FROM c._atlas_loads"))

    def _select(self, sql: str) -> Sequence[tuple[object, ...]]:
        if not self.path.exists():
            return []
        with duckdb.connect(str(self.path), read_only=True) as opened:
            opened.execute("SET TimeZone = 'UTC'")
            table = sql.rpartition(" ")[2].removeprefix("c.")
            if not opened.execute("FROM duckdb_tables() WHERE table_name = ?", [table]).fetchall():
                return []
            return opened.execute(sql).fetchall()


class SqliteTarget(Target):
    protocol = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "warehouse.db"

    def connection(self) -> dict[str, object]:
        return {"database_path": str(self.path)}

    def rows(self, stream: str) -> list[Row]:
        return [canonical(row) for row in self._select(f"SELECT {_NAMES} FROM c__{stream}")]

    def ids(self, stream: str) -> list[object]:
        return [row[0] for row in self._select(f"SELECT id FROM c__{stream}")]

    def loads(self) -> int:
        return sum(int(str(row[0])) for row in self._select("SELECT count(*) FROM _atlas_loads"))

    def _select(self, sql: str) -> Sequence[tuple[object, ...]]:
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path, timeout=60)) as opened:
            table = sql.rpartition(" ")[2]
            if not opened.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", [table]).fetchall():
                return []
            return opened.execute(sql).fetchall()


class PostgresTarget(Target):
    protocol = "postgresql"

    def __init__(self, address: ServerAddress) -> None:
        self.address = address

    def connection(self) -> dict[str, object]:
        return server_keys(self.address)

    def rows(self, stream: str) -> list[Row]:
        return [canonical(row) for row in self._select(f"SELECT {_NAMES} FROM c.{stream}")]

    def ids(self, stream: str) -> list[object]:
        return [row[0] for row in self._select(f"SELECT id FROM c.{stream}")]

    def loads(self) -> int:
        return sum(int(str(row[0])) for row in self._select("SELECT count(*) FROM c._atlas_loads"))

    def _select(self, sql: str) -> Sequence[tuple[object, ...]]:
        with postgres_recipe.connect(self.address) as client:
            try:
                return client.execute(sql).fetchall()
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                return []


class MySQLTarget(Target):
    """Its schemas are databases of the whole server, so the table goes into the test's own."""

    protocol = "mysql"

    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self.database = address.database

    def connection(self) -> dict[str, object]:
        return server_keys(self.address)

    def rows(self, stream: str) -> list[Row]:
        return [canonical(row) for row in self._select(stream, _NAMES)]

    def ids(self, stream: str) -> list[object]:
        return [row[0] for row in self._select(stream, "id")]

    def loads(self) -> int:
        return sum(int(str(row[0])) for row in self._select("_atlas_loads", "count(*)"))

    def _select(self, table: str, what: str) -> Sequence[tuple[object, ...]]:
        with closing(mysql_recipe.connect(self.address)) as client, client.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            cursor.execute("SHOW TABLES")
            if table not in {name for (name,) in cursor.fetchall()}:
                return []
            cursor.execute(f"SELECT {what} FROM {table}")
            return list(cursor.fetchall())


class StubMSSQLTarget(Target):
    """The stand-in for SQL Server, whose schemas are files of SQLite; it outlives who is killed."""

    protocol = "mssql"

    def __init__(self, server: StubServer) -> None:
        self.server = server
        self.path = server.fresh_database()

    def connection(self) -> dict[str, object]:
        return self.server.connection(self.path)

    def rows(self, stream: str) -> list[Row]:
        return [canonical(row) for row in self._select(f"SELECT {_NAMES} FROM {stream}")]

    def ids(self, stream: str) -> list[object]:
        return [row[0] for row in self._select(f"SELECT id FROM {stream}")]

    def loads(self) -> int:
        return sum(int(str(row[0])) for row in self._select("SELECT count(*) FROM _atlas_loads"))

    def _select(self, sql: str) -> Sequence[tuple[object, ...]]:
        file = schema_file(self.path, CONNECTOR)
        if not file.exists():
            return []
        with closing(sqlite3.connect(file, timeout=60)) as opened:
            opened.create_collation(COLLATION, compared)
            table = sql.rpartition(" ")[2]
            if not opened.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", [table]).fetchall():
                return []
            return opened.execute(sql).fetchall()


# Empty text is quoted in CSV and NULL is not; DuckDB keeps the two apart only when told to.
_READERS = {
    "parquet": "read_parquet({files})",
    "jsonl": "read_json({files}, format = 'newline_delimited', columns = {{{columns}}})",
    "csv": (
        "read_csv({files}, header = true, columns = {{{columns}}}, nullstr = '', allow_quoted_nulls = false)"
    ),
}


class FilesTarget(Target):
    """A folder of files, read as the manifest says, by DuckDB."""

    def __init__(self, protocol: str, folder: Path) -> None:
        self.protocol = protocol
        self.path = folder / "lake"

    def connection(self) -> dict[str, object]:
        return {"path": str(self.path)}

    def rows(self, stream: str) -> list[Row]:
        return [canonical(row) for row in self._select(stream, _TEXTS)]

    def ids(self, stream: str) -> list[object]:
        return [row[0] for row in self._select(stream, "id")]

    def loads(self) -> int:
        return sum(self._manifest(stream)["generation"] for stream in STREAMS)

    def _select(self, stream: str, what: str) -> Sequence[tuple[object, ...]]:
        live = [f"'{self._folder(stream) / str(file['name'])}'" for file in self._manifest(stream)["files"]]
        if not live:
            return []
        columns = ", ".join(f"{name}: 'VARCHAR'" for name in COLUMNS)
        reader = _READERS[self.protocol].format(files=f"[{', '.join(live)}]", columns=columns)
        with duckdb.connect() as opened:
            opened.execute("SET TimeZone = 'UTC'")
            return opened.execute(f"SELECT {what} FROM {reader}").fetchall()

    def _folder(self, stream: str) -> Path:
        return self.path / CONNECTOR / stream

    def _manifest(self, stream: str) -> dict[str, Any]:
        file = self._folder(stream) / "_atlas_manifest.json"
        return json.loads(file.read_text()) if file.exists() else {"files": [], "generation": 0}


EMBEDDED = ("duckdb", "sqlite", "parquet", "jsonl", "csv")
SERVERS = ("postgresql", "mysql")


def embedded(protocol: str, folder: Path) -> Target:
    """A destination that needs no server, in this folder."""
    match protocol:
        case "duckdb":
            return DuckDBTarget(folder)
        case "sqlite":
            return SqliteTarget(folder)
        case _:
            return FilesTarget(protocol, folder)
