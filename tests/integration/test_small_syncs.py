"""What a sync does that finds nothing new: how much it loads, asks, and opens. Counts, never times."""

from __future__ import annotations

import importlib
import inspect
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import psycopg
import pytest
from tests.crash.proxy import Fault, Forward, proxy
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_servers
from tests.servers import postgres as postgres_servers

from atlas_etl import Atlas
from atlas_etl.cli.connector import COMMANDS
from atlas_etl.connectors.sql._duckdb import writer as duckdb_writer
from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection
from atlas_etl.pipeline.events import Event, RunFinished

# pyarrow looks for numpy.ma where it is given an array of numpy's.
_NEVER = {"asyncssh", "rich", "croniter", "requests", "pandas", "numpy.ma"}
_ROWS = "SELECT n, n || ' pieces', now() - n * interval '1 minute' FROM generate_series(1, 100) n"


def definition(address: ServerAddress, protocol: str, table: str, cursor: str) -> dict[str, object]:
    connection = {
        "host": address.host, "port": address.port, "database": address.database,
        "username": address.username, "password": address.password,
    }  # fmt: skip
    return {
        "protocol": protocol,
        "connection": connection,
        "streams": [{"table": table, "cursor": cursor}],
    }


def write(folder: Path, name: str, content: dict[str, object]) -> None:
    file = folder / "connectors.d" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))


def fill(address: ServerAddress, *, nullable: bool = False) -> None:
    with postgres_servers.connect(address) as session:
        at = "timestamptz" if nullable else "timestamptz NOT NULL"
        session.execute(f"CREATE TABLE orders (id bigint PRIMARY KEY, pieces text, at {at})".encode())
        session.execute(f"INSERT INTO orders {_ROWS}".encode())


def synced(atlas: Atlas, jobs: int = 1) -> list[RunFinished]:
    events: list[Event] = list(atlas.sync(jobs=jobs))
    ended = [event for event in events if isinstance(event, RunFinished)]
    assert {event.run.status for event in ended} == {"completed"}, [event.run.error for event in ended]
    return ended


class Asked(Fault):
    """Counts the queries of a session: libpq sends each in one piece, which begins with Q and its length."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[str] = []

    def up(self, data: bytes, forward: Forward) -> None:
        if data[:1] == b"Q":
            self.queries.append(data[5:-1].decode())
        super().up(data, forward)


@contextmanager
def watched(address: ServerAddress) -> Iterator[tuple[ServerAddress, Asked]]:
    asked = Asked()
    with proxy(address.host, address.port, asked) as port:
        yield replace(address, port=port), asked


def test_a_sync_imports_what_its_two_ends_need(project: Project, postgres: ServerAddress) -> None:
    fill(postgres)
    write(project.folder, "shop", definition(postgres, "postgresql", "public.orders", "at"))
    target = {"protocol": "postgresql", "database": postgres.database, "host": postgres.host}
    target |= {"port": str(postgres.port), "username": postgres.username, "password": postgres.password}
    project.write("atlas.yaml", json.dumps({"destinations": {"warehouse": target}}))
    assert loaded(project) & (_NEVER | {"duckdb", "pymysql", "adbc_driver_manager"}) == set()


def test_a_sync_of_files_imports_no_driver(project: Project) -> None:
    project.write("in/orders.csv", "id,at\n1,2026-01-01\n")
    write(project.folder, "shop", {"protocol": "csv", "connection": {"path": "in/*.csv"}})
    found = loaded(project)
    assert "duckdb" in found  # the default destination
    assert found & (_NEVER | {"psycopg", "pymysql", "adbc_driver_manager"}) == set()
    project.write(
        "atlas.yaml", json.dumps({"destinations": {"warehouse": {"protocol": "parquet", "path": "lake"}}})
    )
    assert loaded(project) & (_NEVER | {"duckdb", "psycopg", "pymysql", "adbc_driver_manager"}) == set()


def test_decoding_rows_of_sqlite_imports_nothing_more(project: Project) -> None:
    with closing(sqlite3.connect(project.folder / "shop.db")) as file:
        file.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, price DECIMAL(10, 2), at DATETIME NOT NULL)"
        )
        file.execute(
            "INSERT INTO orders VALUES (1, 9.99, '2026-01-01 00:00:00'), (2, NULL, '2026-01-02 00:00:00')"
        )
        file.commit()
    stream = {"table": "orders", "cursor": "at"}
    source = {"protocol": "sqlite", "connection": {"database_path": "shop.db"}, "streams": [stream]}
    write(project.folder, "shop", source)
    assert loaded(project) & (_NEVER | {"psycopg", "pymysql"}) == set()


def test_decoding_rows_of_mysql_imports_nothing_more(project: Project, mysql: ServerAddress) -> None:
    with mysql_servers.connect(mysql) as session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE orders (id bigint PRIMARY KEY, item text, at datetime NOT NULL)")
        cursor.execute("INSERT INTO orders VALUES (1, 'a nut', '2026-01-01'), (2, NULL, '2026-01-02')")
        session.commit()
    write(project.folder, "shop", definition(mysql, "mysql", "orders", "at"))
    assert loaded(project) & (_NEVER | {"psycopg", "adbc_driver_manager"}) == set()


def loaded(project: Project) -> set[str]:
    """The modules of a process that synced `shop`."""
    script = (
        "import sys; from atlas_etl.cli.app import run; code = run(['connector', 'sync', 'shop']);"
        "print(code, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project.folder, env=project.environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, *modules = done.stdout.split()
    assert code == "0", done.stderr
    return set(modules)


def test_no_garbage_is_looked_for_in_what_was_imported(project: Project) -> None:
    script = (
        "import gc; from atlas_etl.cli.app import run; run(['connector', 'sync', '--help']);"
        "print('\\n', gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project.folder, env=project.environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["True", "True"]


@pytest.mark.parametrize("name", COMMANDS)
def test_summaries_are_those_of_the_commands(name: str) -> None:
    command = COMMANDS[name]
    function = getattr(importlib.import_module(f"atlas_etl.cli.{command.module}"), command.name)
    assert " ".join(str(inspect.getdoc(function)).partition("\n\n")[0].split()) == command.summary


@pytest.mark.parametrize(("cursor", "nullable"), [("at", False), ("id", False)])
def test_postgresql_is_asked_at_most_five_times(
    tmp_path: Path, postgres: ServerAddress, cursor: str, nullable: bool
) -> None:
    """Queries as the server's log_statement counts them: what goes over in one message is one."""
    fill(postgres, nullable=nullable)
    with watched(postgres) as (address, asked):
        source = definition(address, "postgresql", "public.orders", cursor)
        source["connection"] = {**dict(source["connection"]), "sslmode": "disable"}  # type: ignore[call-overload]
        write(tmp_path, "shop", source)
        atlas = Atlas.open(tmp_path, {})
        synced(atlas)
        asked.queries.clear()
        (again,) = synced(atlas)
        assert again.run.rows_processed == 0
        assert 3 <= len(asked.queries) <= 5, asked.queries
        with postgres_servers.connect(postgres) as session:
            session.execute("INSERT INTO orders VALUES (1000, 'new', now())")
        (third,) = synced(atlas)
        assert third.run.rows_processed == 1


def test_mysql_is_asked_at_most_five_times_for_each_stream(tmp_path: Path, mysql: ServerAddress) -> None:
    """Statements as the general log counts them, without those of a connection or a look at writers."""
    with mysql_servers.connect(mysql) as session, session.cursor() as cursor:
        for table in ("one", "two"):
            cursor.execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, at datetime NOT NULL)")
            cursor.execute(f"INSERT INTO {table} VALUES (1, '2026-01-01')")
        session.commit()
    source = definition(mysql, "mysql", "one", "at")
    source["streams"] = [{"table": table, "cursor": "at"} for table in ("one", "two")]
    write(tmp_path, "shop", source)
    atlas = Atlas.open(tmp_path, {})
    synced(atlas)
    with general_log(mysql) as asked:
        synced(atlas)
    looks = sum("PROCESSLIST" in statement for statement in asked)
    others = [statement for statement in asked if not statement.startswith("SET ")]
    assert 2 * 3 <= len(others) - 4 * looks <= 2 * 5, others


@contextmanager
def general_log(address: ServerAddress) -> Iterator[list[str]]:
    """What was executed by others during the block, in the database of this address."""
    found: list[str] = []
    with mysql_servers.connect(address) as session, session.cursor() as cursor:
        cursor.execute("SELECT @@log_output")
        before = cursor.fetchall()[0]
        cursor.execute("SET GLOBAL log_output = 'TABLE'")
        cursor.execute("TRUNCATE mysql.general_log")
        cursor.execute("SET GLOBAL general_log = 1")
        try:
            yield found
        finally:
            cursor.execute("SET GLOBAL general_log = 0")
            cursor.execute("SET GLOBAL log_output = %s", before)
        cursor.execute(
            "SELECT CONVERT(argument USING utf8mb4) FROM mysql.general_log "
            "WHERE command_type IN ('Query', 'Execute') AND thread_id <> CONNECTION_ID()"
        )
        found += (str(text) for (text,) in cursor.fetchall())


def test_a_hundred_connectors_log_in_once_and_open_their_warehouse_once(
    tmp_path: Path, postgres: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(postgres)
    for number in range(10):
        write(tmp_path, f"shop{number}", definition(postgres, "postgresql", "public.orders", "at"))
    opened: list[object] = []
    connect = duckdb_writer.connect

    def counted(config: DuckDBConnection, *, read_only: bool) -> object:
        opened.append(config)
        return connect(config, read_only=read_only)

    monkeypatch.setattr(duckdb_writer, "connect", counted)
    logins: list[object] = []
    log_in = psycopg.Connection.connect.__func__  # type: ignore[attr-defined]
    logged_in = classmethod(lambda *a, **k: logins.append(k) or log_in(*a, **k))
    monkeypatch.setattr(psycopg.Connection, "connect", logged_in)
    atlas = Atlas.open(tmp_path, {})
    assert sum(event.run.rows_processed for event in synced(atlas, jobs=3)) == 1000
    assert len(opened) == 1
    assert 1 <= len(logins) <= 3
    # Nothing is left open: another process could write now.
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), config={"threads": 1}) as file:
        assert file.execute("SELECT count(*) FROM shop7.orders").fetchall() == [(100,)]
    with postgres_servers.connect(postgres) as session:
        others = session.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert others == (0,)
