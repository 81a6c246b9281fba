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
from tests.integration.table_history import TIMESTAMP, CursorType, Row
from tests.servers import ServerAddress

from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector, Destination


class System(ABC):
    """Where tables are: what writes to one, and the settings of its connections."""

    protocol: str
    settings: dict[str, object]
    timestamp = "TIMESTAMP"

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
    protocol = "sqlite"

    def __init__(self, folder: Path, name: str) -> None:
        self._path = str(folder / f"{name}.db")
        self.settings = {"database_path": self._path}

    def run(self, statements: Sequence[str]) -> None:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for statement in statements:
                connection.execute(statement)


class DuckDBFile(System):
    protocol = "duckdb"

    def __init__(self, folder: Path, name: str) -> None:
        self._path = str(folder / f"{name}.duckdb")
        self.settings = {"path": self._path}

    def run(self, statements: Sequence[str]) -> None:
        with duckdb.connect(self._path) as connection:
            for statement in statements:
                connection.execute(statement)


class Folder(System):
    """Files, as a destination."""

    def __init__(self, folder: Path, protocol: str) -> None:
        self.protocol = protocol
        self.settings = {"path": str(folder / protocol)}

    def run(self, statements: Sequence[str]) -> None:
        raise NotImplementedError


class Server(System):
    def __init__(self, address: ServerAddress) -> None:
        self.address = address
        self.settings = {
            "host": address.host, "port": address.port, "database": address.database,
            "username": address.username, "password": address.password,
        }  # fmt: skip


class PostgresDatabase(Server):
    protocol = "postgresql"

    def run(self, statements: Sequence[str]) -> None:
        with psycopg.connect(self.address.url("postgresql")) as connection:
            for statement in statements:
                connection.execute(statement.encode())


class MySQLDatabase(Server):
    protocol = "mysql"
    timestamp = "DATETIME(6)"

    def run(self, statements: Sequence[str]) -> None:
        address = self.address
        connection = pymysql.connect(
            host=address.host, port=address.port, user=address.username, password=address.password,
            database=address.database,
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()
