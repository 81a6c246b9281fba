"""Tables of seeded rows, and how to make them in every system: inside the system wherever it has SQL.

A row is a function of its number, 1 and up, and of the seed alone, so that all systems hold the same rows.
The tables themselves are in wide.py, lineitem.py and events.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import adbc_driver_sqlite.dbapi
import duckdb
from psycopg import sql
from tests.servers import ServerAddress, mysql, postgres

_BATCH = 100_000


@dataclass(frozen=True, slots=True)
class Written:
    """How one system writes a table's columns, and the expressions that fill them."""

    columns: str
    expressions: Mapping[str, str]


_NOWHERE = Written("", {})


@dataclass(frozen=True, slots=True)
class Table:
    """A table in every system that has columns for it.

    `row` is the SELECT list of row `i`, `hash` its md5, with `{expressions}`. SQLite's
    rows are made by DuckDB: its `expressions` take the place of the columns of their names.
    """

    name: str
    key: tuple[str, ...]
    cursor: str
    row: str
    duckdb: Written
    postgres: Written = _NOWHERE
    mysql: Written = _NOWHERE
    sqlite: Written = _NOWHERE

    def select(self, system: Written, numbers: str, seed: int) -> str:
        """A query of the rows whose numbers these are."""
        row = self.row.format(**system.expressions)
        return (
            f"SELECT {row} FROM (SELECT i, md5(concat('{seed}', '-', i)) AS hash FROM {numbers}) AS numbered"
        )

    def select_in_duckdb(self, rows: int, seed: int) -> str:
        """A query of so many rows in DuckDB."""
        return self.select(self.duckdb, f"range(1, {rows + 1}) AS n(i)", seed)


def fill_postgres(server: ServerAddress, table: Table, rows: int, seed: int) -> None:
    """Make the table in an empty PostgreSQL database, vacuumed and analysed."""
    made = table.select(table.postgres, f"generate_series(1, {rows}::bigint) AS n(i)", seed)
    with postgres.connect(server) as client:
        client.execute(sql.SQL(f"CREATE TABLE {table.name} ({table.postgres.columns})"))
        client.execute(sql.SQL(f"INSERT INTO {table.name} {made}"))
        client.execute(sql.SQL(f"VACUUM (FREEZE, ANALYZE) {table.name}"))


def copy_out(server: ServerAddress, table: Table, path: Path) -> None:
    """Write the table of a PostgreSQL database as its binary COPY has it."""
    with (
        postgres.connect(server) as client,
        client.cursor() as cursor,
        path.open("wb") as file,
        cursor.copy(f"COPY {table.name} TO STDOUT (FORMAT binary)") as copy,
    ):
        for block in copy:
            file.write(block)


def fill_mysql(server: ServerAddress, table: Table, rows: int, seed: int) -> None:
    """Make the table in an empty MariaDB or MySQL database."""
    digits = "(" + " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10)) + ")"
    number = " + ".join(f"d{place}.d * {10**place}" for place in range(5))
    crossed = ", ".join(f"{digits} AS d{place}" for place in range(5))
    with closing(mysql.connect(server)) as client, client.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', NAMES utf8mb4")
        cursor.execute(f"CREATE TABLE {table.name} ({table.mysql.columns}) CHARACTER SET utf8mb4")
        for before in range(0, rows, 10**5):  # slices in the key's order: InnoDB keeps rows by it
            numbers = f"(SELECT {before + 1} + {number} AS i FROM {crossed} HAVING i <= {rows}) AS n"
            cursor.execute(f"INSERT INTO {table.name} {table.select(table.mysql, numbers, seed)}")
        cursor.execute(f"ANALYZE TABLE {table.name}")


def load_out(server: ServerAddress, table: Table, path: Path) -> None:
    """Write the table of a MySQL database as LOAD DATA reads it, by the client `mariadb`.

    No text of it may hold a tab, a line's end or a backslash.
    """
    with closing(mysql.connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SHOW COLUMNS FROM {table.name}")
        cells = ", ".join(f"coalesce({name}, '\\\\N')" for name, *_ in cursor.fetchall())
    reach = ("-h", server.host, "-P", str(server.port), "-u", server.username)
    client = ("mariadb", "--no-defaults", "--default-character-set=utf8mb4", *reach, "-BNrq", server.database)
    with path.open("wb") as file:
        subprocess.run(
            [*client, "-e", f"SELECT {cells} FROM {table.name}"],
            env={**os.environ, "MYSQL_PWD": server.password}, stdout=file, check=True,
        )  # fmt: skip


def fill_duckdb(path: Path, table: Table, rows: int, seed: int) -> None:
    """Make the table in a new DuckDB file."""
    with _database(str(path)) as database:
        database.execute(f"CREATE TABLE {table.name} ({table.duckdb.columns})")
        database.execute(f"INSERT INTO {table.name} {table.select_in_duckdb(rows, seed)}")


def fill_sqlite(path: Path, table: Table, rows: int, seed: int) -> None:
    """Make the table in a new SQLite file: rows made by DuckDB, handed over as Arrow."""
    replaced = ", ".join(f"{what} AS {name}" for name, what in table.sqlite.expressions.items())
    with (
        _database(":memory:") as database,
        adbc_driver_sqlite.dbapi.connect(str(path)) as client,
        client.cursor() as cursor,
    ):
        cursor.execute(f"CREATE TABLE {table.name} ({table.sqlite.columns})")
        made = database.sql(f"SELECT * REPLACE ({replaced}) FROM ({table.select_in_duckdb(rows, seed)})")
        cursor.adbc_ingest(table.name, made.to_arrow_reader(_BATCH), mode="append")
        client.commit()


def write_file(path: Path, table: Table, rows: int, seed: int) -> None:
    """Write the table as one file: Parquet, CSV or JSON lines, as the name ends."""
    options = {
        ".parquet": "FORMAT parquet, COMPRESSION zstd",
        ".csv": "FORMAT csv, HEADER",
        ".jsonl": "FORMAT json",
    }[path.suffix]
    with _database(":memory:") as database:
        database.execute(f"COPY ({table.select_in_duckdb(rows, seed)}) TO '{path}' ({options})")


def _database(path: str) -> duckdb.DuckDBPyConnection:
    made = duckdb.connect(path, config={"memory_limit": "2GB"})
    made.execute("SET TimeZone = 'UTC'")
    return made
