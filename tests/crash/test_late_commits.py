"""Rows that a transaction wrote before a sync and committed after it: the next sync finds them.

docs/exactness.md lists the cases.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import psycopg
import pytest
from pymysql.cursors import Cursor

from tests.crash.targets import server_keys
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe

SYNC = ("connector", "sync", "late")


def define(project: Project, protocol: str, address: ServerAddress) -> None:
    """A connector of the table `t` by its cursor `at`, appended to a DuckDB file."""
    stream = {"table": "t", "cursor": "at", "disposition": "append"}
    definition = {"protocol": protocol, "connection": server_keys(address), "streams": [stream]}
    project.write("connectors.d/late.yaml", json.dumps(definition))


def synced(project: Project) -> list[str]:
    """The notes of the rows at the destination, after a sync."""
    done = project.atlas(*SYNC)
    assert done.returncode == 0, done.stderr
    with duckdb.connect(str(Path(project.folder) / "warehouse.duckdb"), read_only=True) as opened:
        return sorted(note for (note,) in opened.execute("SELECT note FROM late.t").fetchall())


@pytest.mark.parametrize(
    "cursor",
    [
        "timestamptz DEFAULT now()",
        "timestamp DEFAULT now()",
        "date DEFAULT now()",
        "bigserial",
    ],
)
def test_postgresql(project: Project, postgres: ServerAddress, cursor: str) -> None:
    define(project, "postgresql", postgres)
    with postgres_recipe.connect(postgres) as early, postgres_recipe.connect(postgres) as client:
        client.execute(f"CREATE TABLE t (note text, at {cursor})")
        client.execute("INSERT INTO t VALUES ('first')")
        early.execute("BEGIN; INSERT INTO t VALUES ('late')")
        client.execute("INSERT INTO t VALUES ('second')")
        # The guard goes back a second before now, so the late row has to be older than that.
        client.execute("SELECT pg_sleep(1.2)")
        client.execute("INSERT INTO t VALUES ('third')")
        assert synced(project) == ["first", "second", "third"]
        client.execute("INSERT INTO t VALUES ('fourth')")
        assert synced(project) == ["first", "fourth", "second", "third"]
        early.execute("COMMIT")
        assert synced(project) == ["first", "fourth", "late", "second", "third"]


@pytest.mark.parametrize(
    "kind", ["smallint", "int", "bigint", "numeric(9,0)", "numeric(20,3)", "numeric(3,3)"]
)
def test_postgresql_ids_before_the_first_that_is_read(
    project: Project, postgres: ServerAddress, kind: str
) -> None:
    define(project, "postgresql", postgres)
    step = "/ 1000.0" if kind == "numeric(3,3)" else ""
    with postgres_recipe.connect(postgres) as early, postgres_recipe.connect(postgres) as client:
        client.execute(
            f"CREATE SEQUENCE ids; CREATE TABLE t (note text, at {kind} DEFAULT nextval('ids') {step})"
        )
        early.execute("BEGIN; INSERT INTO t VALUES ('late')")
        client.execute("INSERT INTO t VALUES ('first')")
        assert synced(project) == ["first"]
        client.execute("INSERT INTO t VALUES ('second')")
        assert synced(project) == ["first", "second"]
        early.execute("COMMIT")
        assert synced(project) == ["first", "late", "second"]


def test_postgresql_prepared_id_after_a_deleted_row(project: Project, postgres: ServerAddress) -> None:
    define(project, "postgresql", postgres)
    with postgres_recipe.connect(postgres) as client:
        client.execute("CREATE TABLE t (note text, at bigserial)")
        client.execute("INSERT INTO t VALUES ('first'), ('deleted')")
        assert synced(project) == ["deleted", "first"]
        client.execute("BEGIN; INSERT INTO t VALUES ('late'); PREPARE TRANSACTION 'later'")
        client.execute("DELETE FROM t WHERE note = 'deleted'; INSERT INTO t VALUES ('second')")
        assert synced(project) == ["first", "second"]
        client.execute("COMMIT PREPARED 'later'")
        assert synced(project) == ["first", "late", "second"]


def test_postgresql_writes_only_after_the_sync(project: Project, postgres: ServerAddress) -> None:
    define(project, "postgresql", postgres)
    with postgres_recipe.connect(postgres) as early, postgres_recipe.connect(postgres) as client:
        client.execute("CREATE TABLE t (note text, at timestamptz DEFAULT now())")
        early.execute("BEGIN; SELECT 1")  # now() stays what it is
        client.execute("SELECT pg_sleep(1.2)")
        client.execute("INSERT INTO t VALUES ('first')")
        assert synced(project) == ["first"]
        early.execute("INSERT INTO t VALUES ('late')")
        early.execute("COMMIT")
        assert synced(project) == ["first", "late"]


def test_postgresql_prepared_transaction(project: Project, postgres: ServerAddress) -> None:
    define(project, "postgresql", postgres)
    with postgres_recipe.connect(postgres) as client:
        client.execute("CREATE TABLE t (note text, at timestamptz DEFAULT now())")
        client.execute("BEGIN; INSERT INTO t VALUES ('late'); PREPARE TRANSACTION 'later'")
        client.execute("SELECT pg_sleep(1.2)")
        client.execute("INSERT INTO t VALUES ('first')")
        assert synced(project) == ["first"]
        client.execute("INSERT INTO t VALUES ('second')")
        assert synced(project) == ["first", "second"]
        client.execute("COMMIT PREPARED 'later'")
        assert synced(project) == ["first", "late", "second"]


def test_postgresql_cursor_that_rounds(project: Project, postgres: ServerAddress) -> None:
    """`timestamptz(0)` rounds to the nearest second: to before the beginning of its own transaction."""
    define(project, "postgresql", postgres)
    with postgres_recipe.connect(postgres) as early, postgres_recipe.connect(postgres) as client:
        client.execute("CREATE TABLE t (note text, at timestamptz(0) DEFAULT now())")
        _until_rounded_down(early)
        early.execute("INSERT INTO t VALUES ('late')")
        client.execute("SELECT pg_sleep(2.2)")
        client.execute("INSERT INTO t VALUES ('first')")
        assert synced(project) == ["first"]
        early.execute("COMMIT")
        assert synced(project) == ["first", "late"]


def _until_rounded_down(client: psycopg.Connection) -> None:
    """Begin a transaction whose now() is less when it is rounded to a second."""
    while True:
        client.execute("BEGIN")
        ((rounded_down,),) = client.execute(
            "SELECT now()::timestamptz(0) < now() - interval '0.1 s'"
        ).fetchall()
        if rounded_down:
            return
        client.execute("ROLLBACK; SELECT pg_sleep(0.05)")


@contextmanager
def mysql_client(address: ServerAddress) -> Iterator[Cursor]:
    with closing(mysql_recipe.connect(address)) as client, client.cursor() as cursor:
        yield cursor


@pytest.mark.parametrize(
    "cursor",
    [
        "timestamp(6) DEFAULT now(6)",
        "datetime(6) DEFAULT now(6)",
        "bigint AUTO_INCREMENT UNIQUE",
    ],
)
def test_mysql(project: Project, mysql: ServerAddress, cursor: str) -> None:
    define(project, "mysql", mysql)
    with mysql_client(mysql) as early, mysql_client(mysql) as client:
        client.execute(f"CREATE TABLE t (note text, at {cursor} NOT NULL)")
        client.execute("INSERT INTO t (note) VALUES ('first')")
        early.execute("BEGIN")
        early.execute("INSERT INTO t (note) VALUES ('late')")
        client.execute("SELECT sleep(3.2)")
        client.execute("INSERT INTO t (note) VALUES ('second')")
        assert synced(project) == ["first", "second"]
        client.execute("INSERT INTO t (note) VALUES ('third')")
        assert synced(project) == ["first", "second", "third"]
        early.execute("COMMIT")
        assert synced(project) == ["first", "late", "second", "third"]


@pytest.mark.parametrize("kind", ["tinyint", "bigint", "bigint unsigned"])
def test_mysql_ids_before_the_first_that_is_read(project: Project, mysql: ServerAddress, kind: str) -> None:
    define(project, "mysql", mysql)
    with mysql_client(mysql) as early, mysql_client(mysql) as client:
        client.execute(f"CREATE TABLE t (note text, at {kind} NOT NULL AUTO_INCREMENT UNIQUE)")
        early.execute("BEGIN")
        early.execute("INSERT INTO t (note) VALUES ('late')")
        client.execute("INSERT INTO t (note) VALUES ('first')")
        assert synced(project) == ["first"]
        client.execute("INSERT INTO t (note) VALUES ('second')")
        assert synced(project) == ["first", "second"]
        early.execute("COMMIT")
        assert synced(project) == ["first", "late", "second"]
