"""The benchmarks compare systems: each must hold the same rows of a table, whoever made them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import pytest
from benchmarks import data
from benchmarks.data import Table
from benchmarks.lineitem import LINEITEM
from benchmarks.wide import WIDE
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_servers
from tests.servers import postgres as postgres_servers

_ROWS = 250


@pytest.mark.parametrize("table", [WIDE, LINEITEM], ids=lambda table: table.name)
def test_every_system_holds_the_same_rows(
    table: Table, postgres: ServerAddress, mysql: ServerAddress, tmp_path: Path
) -> None:
    select = f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key)}"
    data.fill_duckdb(tmp_path / "rows.duckdb", table, _ROWS, seed=7)
    data.fill_sqlite(tmp_path / "rows.db", table, _ROWS, seed=7)
    data.fill_postgres(postgres, table, _ROWS, seed=7)
    data.fill_mysql(mysql, table, _ROWS, seed=7)
    with duckdb.connect(str(tmp_path / "rows.duckdb")) as database:
        database.execute("SET TimeZone = 'UTC'")
        made = database.sql(select).to_arrow_table().to_pylist()
    expected = plain([tuple(row.values()) for row in made])
    assert len(expected) == _ROWS
    with postgres_servers.connect(postgres) as client:
        assert plain(client.execute(select).fetchall()) == expected
    with closing(mysql_servers.connect(mysql)) as connection, connection.cursor() as cursor:
        cursor.execute(select)
        assert plain(cursor.fetchall()) == expected
    with closing(sqlite3.connect(tmp_path / "rows.db")) as lite:
        assert plain(lite.execute(select).fetchall()) == expected


@pytest.mark.parametrize("table", [WIDE, LINEITEM], ids=lambda table: table.name)
def test_a_file_for_load_data_holds_the_tables_rows(
    table: Table, mysql: ServerAddress, tmp_path: Path
) -> None:
    if shutil.which("mariadb") is None:
        pytest.skip("needs the client mariadb")
    data.fill_mysql(mysql, table, _ROWS, seed=7)
    data.load_out(mysql, table, tmp_path / "rows of the table")
    with closing(mysql_servers.connect(mysql)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE loaded LIKE {table.name}")
    load = f"LOAD DATA LOCAL INFILE '{tmp_path}/rows of the table' INTO TABLE loaded CHARACTER SET utf8mb4"
    reach = ("-h", mysql.host, "-P", str(mysql.port), "-u", mysql.username, mysql.database)
    subprocess.run(
        ["mariadb", "--no-defaults", "--local-infile=1", *reach, "-e", load],
        env={**os.environ, "MYSQL_PWD": mysql.password}, check=True,
    )  # fmt: skip
    select = f"SELECT * FROM {{}} ORDER BY {', '.join(table.key)}"
    with closing(mysql_servers.connect(mysql)) as connection, connection.cursor() as cursor:
        found = []
        for name in (table.name, "loaded"):
            cursor.execute(select.format(name))
            found.append(cursor.fetchall())
    assert len(found[1]) == _ROWS
    assert found[0] == found[1]


def plain(rows: Sequence[Sequence[object]]) -> list[tuple[object, ...]]:
    """Rows as values that are equal where the systems' own are."""
    return [tuple(map(_plain, row)) for row in rows]


def _plain(value: object) -> object:
    match value:
        case bool():
            return int(value)
        case Decimal() | float():
            return round(float(value), 6)
        case datetime():
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        case date() | UUID():
            return str(value)
        case dict():
            return json.dumps(value, sort_keys=True)
        case str() if value.startswith("{"):
            return json.dumps(json.loads(value), sort_keys=True)
    return value
