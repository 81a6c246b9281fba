"""Systems whose tables the property tests write and read."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import psycopg
import pymysql
import pytest
from tests.integration.table_history import TIMESTAMP, CursorType, Row
from tests.servers import ServerAddress

from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector, Destination

POSTGRESQL, MYSQL, SQLITE, DUCKDB, PARQUET = "postgresql", "mysql", "sqlite", "duckdb", "parquet"


class System(ABC):
    """Where tables are: what writes to one, and the settings of its connections."""

    protocol: str
    settings: dict[str, object]
    timestamp = "TIMESTAMP"
    schema: str | None = None  # where a destination's tables go

    @abstractmethod
    def run(self, statements: Sequence[str]) -> None:
        """The statements, in one transaction."""

    def write(self, table: str, cursor: CursorType, rows: Sequence[Row], *, key: bool) -> None:
        kind = self.timestamp if cursor is TIMESTAMP else cursor.sql
        statements = [
            f"DROP TABLE IF EXISTS {table}",
            f"CREATE TABLE {table} (k INT NOT NULL{' PRIMARY KEY' if key else ''}, c {kind} NULL, v INT)",
        ]
        if rows:
            cells = (f"({k}, {'NULL' if c is None else cursor.literal(c)}, {v})" for k, c, v in rows)
            statements.append(f"INSERT INTO {table} VALUES {', '.join(cells)}")
        self.run(statements)

    def connector(self) -> Connector:
        adapter = registry.load(self.protocol)
        assert adapter.connector is not None
        return adapter.connector(adapter.connection.model_validate(self.settings))

    def destination(self) -> Destination:
        adapter = registry.load(self.protocol)
        assert adapter.destination is not None
        return adapter.destination(adapter.connection.model_validate(self.settings))


class SqliteFile(System):
    protocol = SQLITE

    def __init__(self, folder: Path, name: str) -> None:
        self._path = str(folder / f"{name}.db")
        self.settings = {"database_path": self._path}

    def run(self, statements: Sequence[str]) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)


class DuckDBFile(System):
    protocol = DUCKDB

    def __init__(self, folder: Path, name: str) -> None:
        self._path = str(folder / f"{name}.duckdb")
        self.settings = {"path": self._path}

    def run(self, statements: Sequence[str]) -> None:
        with duckdb.connect(self._path) as connection:
            for statement in statements:
                connection.execute(statement)


class Server(System):
    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self.settings = {
            "host": address.host, "port": address.port, "database": address.database,
            "username": address.username, "password": address.password,
        }  # fmt: skip


class PostgresDatabase(Server):
    protocol = POSTGRESQL

    def run(self, statements: Sequence[str]) -> None:
        with psycopg.connect(self.address.url("postgresql")) as connection:
            for statement in statements:
                connection.execute(statement.encode())


class MySQLDatabase(Server):
    protocol = MYSQL
    timestamp = "DATETIME(6)"

    @property
    def schema(self) -> str:
        """A schema is a database here: the test's own."""
        return self.address.database

    def run(self, statements: Sequence[str]) -> None:
        address = self.address
        connection = pymysql.connect(
            host=address.host, port=address.port, user=address.username, password=address.password,
            database=address.database,
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            # MariaDB would cut off what a DATETIME has no digits for.
            cursor.execute("SET sql_mode = CONCAT(@@sql_mode, ',TIME_ROUND_FRACTIONAL')")
            for statement in statements:
                cursor.execute(statement)
            connection.commit()


class Folder(System):
    """Files: as a source, one that is written again after each change to a table in memory."""

    def __init__(self, folder: Path, protocol: str) -> None:
        self.protocol = protocol
        self._folder = folder / protocol
        self._rows = duckdb.connect()
        self._rows.execute("SET TimeZone = 'UTC'")
        self.settings = {"path": str(self._folder)}

    def run(self, statements: Sequence[str]) -> None:
        for statement in statements:
            self._rows.execute(statement)
        self._folder.mkdir(exist_ok=True)
        self._rows.execute(f"COPY t TO '{self._folder}/t.{self.protocol}' (FORMAT {self.protocol})")


def system_of(protocol: str, folder: Path, request: pytest.FixtureRequest) -> System:
    """An empty system of this protocol; a server's database is the test's own."""
    folder.mkdir(exist_ok=True)
    match protocol:
        case "postgresql":
            return PostgresDatabase(request.getfixturevalue("postgres"))
        case "mysql":
            return MySQLDatabase(request.getfixturevalue("mysql"))
        case "sqlite":
            return SqliteFile(folder, "t")
        case "duckdb":
            return DuckDBFile(folder, "t")
        case _:
            return Folder(folder, protocol)
