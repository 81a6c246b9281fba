"""The "wide" table, seeded: the same rows in every system, made inside the system wherever it has SQL.

Thirteen columns: a bigint key, three short texts (one nullable, not all ASCII), numeric(12,2), double
(nullable), boolean, a timestamp with zone that has some fifty ties a second and a tenth of its rows out of
order, date (nullable), JSON (nullable), uuid, and a nullable integer and text. A row is a function of its key
and the seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import adbc_driver_sqlite.dbapi
import duckdb
from psycopg import sql
from tests.servers import ServerAddress, mysql, postgres

TABLE = "wide"
KEY = "id"
CURSOR = "updated_at"

_SECONDS = "{whole_fifties} + CASE WHEN i % 10 = 0 THEN i * 7919 % 100000 ELSE 0 END"
_SELECT = """
SELECT
  i AS id,
  concat('sku-', i * 7919 % 50000) AS sku,
  concat('customer ', substr(hash, 1, 12)) AS customer,
  CASE WHEN i % 5 <> 0 THEN concat('überfällig seit ', i % 97, ' Tagen') END AS note,
  {amount} AS amount,
  CASE WHEN i % 7 <> 0 THEN {ratio} END AS ratio,
  {active} AS active,
  {updated_at} AS updated_at,
  CASE WHEN i % 11 <> 0 THEN {day} END AS day,
  CASE WHEN i % 13 <> 0 THEN {extra} END AS extra,
  {uid} AS uid,
  CASE WHEN i % 3 <> 0 THEN i * 31 % 1000 END AS quantity,
  CASE WHEN i % 4 <> 0 THEN substr(hash, 20, 5) END AS region
FROM (SELECT i, md5(concat('{seed}', '-', i)) AS hash FROM {numbers}) AS numbered
"""
_JSON = """concat('{"n": ', i % 1000, ', "tags": ["a", "b"], "ok": true}')"""
_CENTS = "(i * 104729 % 1000000007 - 500000003)"
_TICKS = "(i * 15485863 % 2147483647)"
_DAYS = "(i * 31 % 4000)"
_DASHED = (
    "concat_ws('-', substr(hash, 1, 8), substr(hash, 9, 4), substr(hash, 13, 4), substr(hash, 17, 4), "
    "substr(hash, 21, 12))"
)


@dataclass(frozen=True, slots=True)
class _Sql:
    """How one system writes the table's columns and expressions."""

    columns: str
    expressions: Mapping[str, str]

    def select(self, numbers: str, seed: int) -> str:
        return _SELECT.format(numbers=numbers, seed=seed, **self.expressions)


_POSTGRES = _Sql(
    columns="id bigint PRIMARY KEY, sku text NOT NULL, customer text NOT NULL, note text, "
    "amount numeric(12,2) NOT NULL, ratio double precision, active boolean NOT NULL, "
    "updated_at timestamptz NOT NULL, day date, extra jsonb, uid uuid NOT NULL, "
    "quantity integer, region text",
    expressions={
        "amount": f"({_CENTS}::numeric / 100)::numeric(12,2)",
        "ratio": f"{_TICKS}::float8 / 1000003",
        "active": "i % 3 = 0",
        "updated_at": f"timestamptz '2024-01-01 00:00:00+00' + ({_SECONDS}) * interval '1 second'".format(
            whole_fifties="i / 50"
        ),
        "day": f"date '2015-01-01' + {_DAYS}::integer",
        "extra": f"{_JSON}::jsonb",
        "uid": "hash::uuid",
    },
)
_MYSQL = _Sql(
    columns="id BIGINT PRIMARY KEY, sku VARCHAR(40) NOT NULL, customer VARCHAR(40) NOT NULL, "
    "note VARCHAR(80), amount DECIMAL(12,2) NOT NULL, ratio DOUBLE, active BOOLEAN NOT NULL, "
    "updated_at TIMESTAMP(6) NOT NULL, day DATE, extra JSON, uid CHAR(36) NOT NULL, "
    "quantity INT, region VARCHAR(10)",
    expressions={
        "amount": f"CAST({_CENTS} / 100 AS DECIMAL(12,2))",
        "ratio": f"CAST({_TICKS} AS DOUBLE) / 1000003",
        "active": "i % 3 = 0",
        "updated_at": f"TIMESTAMP '2024-01-01 00:00:00' + INTERVAL ({_SECONDS}) SECOND".format(
            whole_fifties="i DIV 50"
        ),
        "day": f"DATE '2015-01-01' + INTERVAL {_DAYS} DAY",
        "extra": _JSON,
        "uid": _DASHED,
    },
)
_DUCKDB = _Sql(
    columns="id BIGINT PRIMARY KEY, sku VARCHAR NOT NULL, customer VARCHAR NOT NULL, note VARCHAR, "
    "amount DECIMAL(12,2) NOT NULL, ratio DOUBLE, active BOOLEAN NOT NULL, updated_at TIMESTAMPTZ NOT NULL, "
    "day DATE, extra JSON, uid UUID NOT NULL, quantity INTEGER, region VARCHAR",
    expressions={
        "amount": f"CAST(CAST({_CENTS} AS DECIMAL(14,0)) * 0.01 AS DECIMAL(12,2))",
        "ratio": f"CAST({_TICKS} AS DOUBLE) / 1000003",
        "active": "i % 3 = 0",
        "updated_at": f"TIMESTAMPTZ '2024-01-01 00:00:00+00' + to_seconds({_SECONDS})".format(
            whole_fifties="i // 50"
        ),
        "day": f"DATE '2015-01-01' + CAST({_DAYS} AS INTEGER)",
        "extra": f"CAST({_JSON} AS JSON)",
        "uid": "CAST(hash AS UUID)",
    },
)
POSTGRES_COLUMNS = _POSTGRES.columns
# Declared as the types that Atlas reads; SQLite itself stores text, reals and integers.
_SQLITE_COLUMNS = (
    "id INTEGER PRIMARY KEY, sku TEXT NOT NULL, customer TEXT NOT NULL, note TEXT, "
    "amount DECIMAL(12,2) NOT NULL, ratio DOUBLE, active BOOLEAN NOT NULL, updated_at TIMESTAMPTZ NOT NULL, "
    "day DATE, extra JSON, uid UUID NOT NULL, quantity INTEGER, region TEXT"
)
_SQLITE_SELECT = (
    "SELECT id, sku, customer, note, CAST(amount AS DOUBLE) AS amount, ratio, "
    "CAST(active AS BIGINT) AS active, "
    "strftime(updated_at AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ') AS updated_at, "
    "CAST(day AS VARCHAR) AS day, CAST(extra AS VARCHAR) AS extra, CAST(uid AS VARCHAR) AS uid, "
    "quantity, region"
)
_BATCH = 100_000


def fill_postgres(server: ServerAddress, rows: int, seed: int) -> None:
    """Make the table in an empty PostgreSQL database, vacuumed and analysed."""
    made = _POSTGRES.select(f"generate_series(1, {rows}::bigint) AS n(i)", seed)
    with postgres.connect(server) as client:
        client.execute(sql.SQL(f"CREATE TABLE {TABLE} ({_POSTGRES.columns})"))
        client.execute(sql.SQL(f"INSERT INTO {TABLE} {made}"))
        client.execute(sql.SQL(f"VACUUM (FREEZE, ANALYZE) {TABLE}"))


def copy_out(server: ServerAddress, path: Path) -> None:
    """Write the table of a PostgreSQL database as its binary COPY has it."""
    with (
        postgres.connect(server) as client,
        client.cursor() as cursor,
        path.open("wb") as file,
        cursor.copy(f"COPY {TABLE} TO STDOUT (FORMAT binary)") as copy,
    ):
        for block in copy:
            file.write(block)


def fill_mysql(server: ServerAddress, rows: int, seed: int) -> None:
    """Make the table in an empty MariaDB or MySQL database."""
    digits = "(" + " UNION ALL ".join(f"SELECT {digit} AS d" for digit in range(10)) + ")"
    number = " + ".join(f"d{place}.d * {10**place}" for place in range(5))
    crossed = ", ".join(f"{digits} AS d{place}" for place in range(5))
    with closing(mysql.connect(server)) as client, client.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', NAMES utf8mb4")
        cursor.execute(f"CREATE TABLE {TABLE} ({_MYSQL.columns}) CHARACTER SET utf8mb4")
        for before in range(0, rows, 10**5):  # slices in the key's order: InnoDB keeps rows by it
            numbers = f"(SELECT {before + 1} + {number} AS i FROM {crossed} HAVING i <= {rows}) AS n"
            cursor.execute(f"INSERT INTO {TABLE} {_MYSQL.select(numbers, seed)}")
        cursor.execute(f"ANALYZE TABLE {TABLE}")


def fill_duckdb(path: Path, rows: int, seed: int) -> None:
    """Make the table in a new DuckDB file."""
    with _database(str(path)) as database:
        database.execute(f"CREATE TABLE {TABLE} ({_DUCKDB.columns})")
        database.execute(f"INSERT INTO {TABLE} {_duckdb_select(rows, seed)}")


def fill_sqlite(path: Path, rows: int, seed: int) -> None:
    """Make the table in a new SQLite file: rows made by DuckDB, handed over as Arrow."""
    with (
        _database(":memory:") as database,
        adbc_driver_sqlite.dbapi.connect(str(path)) as client,
        client.cursor() as cursor,
    ):
        cursor.execute(f"CREATE TABLE {TABLE} ({_SQLITE_COLUMNS})")
        made = database.sql(f"{_SQLITE_SELECT} FROM ({_duckdb_select(rows, seed)})")
        cursor.adbc_ingest(TABLE, made.to_arrow_reader(_BATCH), mode="append")
        client.commit()


def write_file(path: Path, rows: int, seed: int) -> None:
    """Write the table as one file: Parquet, CSV or JSON lines, as the name ends."""
    options = {
        ".parquet": "FORMAT parquet, COMPRESSION zstd",
        ".csv": "FORMAT csv, HEADER",
        ".jsonl": "FORMAT json",
    }[path.suffix]
    with _database(":memory:") as database:
        database.execute(f"COPY ({_duckdb_select(rows, seed)}) TO '{path}' ({options})")


def _duckdb_select(rows: int, seed: int) -> str:
    return _DUCKDB.select(f"range(1, {rows + 1}) AS n(i)", seed)


def _database(path: str) -> duckdb.DuckDBPyConnection:
    made = duckdb.connect(path, config={"memory_limit": "2GB"})
    made.execute("SET TimeZone = 'UTC'")
    return made
