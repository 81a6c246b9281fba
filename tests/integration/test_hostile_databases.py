"""Databases and queries that want more than to be read: each is refused, with nothing done."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe

import atlas_etl
from atlas_etl import Atlas
from atlas_etl.errors import AtlasError, DestinationError, SourceError, UsageError

PRIVATE = "canary of a file that nobody gave away"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A file of this machine that a database has no business with."""
    path = tmp_path / "private.csv"
    path.write_text(f"line\n{PRIVATE}\n")
    return path


def duckdb_with(path: Path, *statements: str) -> str:
    with closing(duckdb.connect(str(path))) as made:
        for statement in statements:
            made.execute(statement)
    return str(path)


def test_a_view_of_a_duckdb_file_reads_no_other_file(tmp_path: Path, private: Path) -> None:
    path = duckdb_with(
        tmp_path / "gift.duckdb",
        "CREATE TABLE honest AS SELECT 1 AS n",
        f"CREATE VIEW stolen AS SELECT * FROM read_csv('{private}')",
    )
    source = {"protocol": "duckdb", "path": path}
    with atlas_etl.create_connector(source) as opened:
        assert [item.data for item in opened.fetch_data("SELECT * FROM honest")] == [{"n": 1}]
        with pytest.raises(SourceError) as caught:
            opened.fetch_data("SELECT * FROM stolen")
    assert caught.value.code == "external_access"
    assert "enable_external_access: true" in str(caught.value.hint)
    trusted = {**source, "options": {"enable_external_access": True}}
    with atlas_etl.create_connector(trusted) as opened:
        assert [item.data for item in opened.fetch_data("SELECT * FROM stolen")] == [{"line": PRIVATE}]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT 1) AS q; ATTACH '{file}.db'; SELECT * FROM (SELECT 1",
        "SELECT 1) AS q; COPY (SELECT 1) TO '{file}'; SELECT * FROM (SELECT 1",
        "SELECT 1) AS q; SET enable_external_access = true; SELECT * FROM (SELECT 1",
        "SELECT 1) AS q; INSTALL httpfs; SELECT * FROM (SELECT 1",
    ],
)
def test_a_query_of_duckdb_reaches_nothing_else(tmp_path: Path, private: Path, query: str) -> None:
    path = duckdb_with(tmp_path / "shop.duckdb", "CREATE TABLE t AS SELECT 1 AS n")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with (
        atlas_etl.create_connector({"protocol": "duckdb", "path": path}) as opened,
        pytest.raises(SourceError) as caught,
    ):
        opened.fetch_data(query.format(file=private))
    assert caught.value.code in ("external_access", "sql")
    assert PRIVATE not in caught.value.message
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("protocol", ["duckdb", "parquet", "csv"])
def test_a_question_to_the_warehouse_reaches_nothing_else(
    project: Project, private: Path, protocol: str
) -> None:
    project.write("data/orders.csv", "id\n1\n")
    project.write("connectors.d/shop.json", json.dumps({"protocol": "csv", "connection": {"path": "data"}}))
    place = "w.duckdb" if protocol == "duckdb" else "lake [1]"
    project.write("atlas.yaml", json.dumps({"destinations": {"w": {"protocol": protocol, "path": place}}}))
    atlas = Atlas.open(project.folder, {})
    list(atlas.sync(["shop"]))
    assert atlas.query("SELECT * FROM shop.orders").to_pylist() == [{"id": 1}]
    for question in (
        f"SELECT * FROM read_text('{private}')",
        f"SELECT * FROM shop.orders, '{private}'",
        f"COPY (SELECT 1) TO '{private}'",
        f"ATTACH '{private}.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT 1; DROP TABLE shop.orders",
    ):
        with pytest.raises((UsageError, DestinationError)) as caught:
            atlas.query(question)
        assert caught.value.code in ("query", "external_access"), question
        assert PRIVATE not in caught.value.message
    assert atlas.query("SELECT * FROM shop.orders").to_pylist() == [{"id": 1}]


def test_a_sqlite_file_and_its_queries_change_and_load_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gift.db"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(
            "CREATE TABLE t (n); INSERT INTO t VALUES (1);"
            "CREATE VIEW code AS SELECT load_extension('/tmp/evil.so') AS n;"
        )
    before = path.read_bytes()
    with atlas_etl.create_connector({"protocol": "sqlite", "database_path": str(path)}) as opened:
        for query, why in (
            ("SELECT * FROM code", "unsafe use of load_extension"),
            ("SELECT load_extension('/tmp/evil.so')", "not authorized"),
            ("DELETE FROM t", "syntax error"),
        ):
            with pytest.raises(SourceError, match=why):
                opened.fetch_data(query)
        for more in (f"ATTACH '{tmp_path}/new.db' AS new", "DELETE FROM t", "PRAGMA journal_mode = wal"):
            # SQLite compiles the first statement and never looks at what follows it.
            found = opened.fetch_data(f"SELECT 1 AS n) AS q; {more}; SELECT * FROM (SELECT 1")
            assert [item.data for item in found] == [{"n": 1}]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["gift.db"]


ESCAPES = (
    "DELETE FROM t",
    "SELECT 1) AS q; COMMIT; DELETE FROM t; SELECT * FROM (SELECT 1",
    "SELECT 1) AS q LIMIT 0; COMMIT; DELETE FROM t; COMMIT; --",
    "SELECT 1) AS q; ROLLBACK; BEGIN; DELETE FROM t; COMMIT; SELECT * FROM (SELECT 1",
    "SELECT 1 AS n) AS q) TO STDOUT; COMMIT; DELETE FROM t; COPY (SELECT * FROM (SELECT 1",
    "SELECT 1\n) AS atlas_query LIMIT 0; COMMIT; DELETE FROM t; --",
)


@pytest.mark.parametrize("query", [*ESCAPES, "WITH gone AS (DELETE FROM t RETURNING 1) SELECT * FROM gone"])
def test_a_query_of_postgresql_changes_nothing(postgres: ServerAddress, query: str) -> None:
    with postgres_recipe.connect(postgres) as client:
        client.execute("CREATE TABLE t AS SELECT 1 AS n")
        with (
            atlas_etl.create_connector({"protocol": "postgresql", **_settings(postgres)}) as opened,
            pytest.raises(AtlasError),
        ):
            opened.fetch_data(query)
        assert client.execute("SELECT n FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize("query", [*ESCAPES, "SELECT 1 INTO OUTFILE '/tmp/atlas-outfile'"])
def test_a_query_of_mysql_changes_nothing(mysql: ServerAddress, query: str) -> None:
    with mysql_recipe.connect(mysql) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT 1 AS n")
        with (
            atlas_etl.create_connector({"protocol": "mysql", **_settings(mysql)}) as opened,
            pytest.raises(AtlasError),
        ):
            opened.fetch_data(query)
        cursor.execute("SELECT n FROM t")
        assert cursor.fetchall() == ((1,),)
    assert not Path("/tmp/atlas-outfile").exists()


def test_functions_that_write_are_refused_by_the_transaction(postgres: ServerAddress) -> None:
    with postgres_recipe.connect(postgres) as client:
        client.execute("CREATE TABLE t (n int)")
        client.execute(
            "CREATE FUNCTION wink() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1); SELECT 1'"
        )
        client.execute("CREATE VIEW innocent AS SELECT wink() AS n")
        with (
            atlas_etl.create_connector({"protocol": "postgresql", **_settings(postgres)}) as opened,
            pytest.raises(SourceError) as caught,
        ):
            opened.fetch_data("SELECT * FROM innocent")
        assert caught.value.code == "read_only"
        assert client.execute("SELECT count(*) FROM t").fetchone() == (0,)


def _settings(server: ServerAddress) -> dict[str, object]:
    return {
        "host": server.host, "port": server.port, "database": server.database,
        "username": server.username, "password": server.password,
    }  # fmt: skip


@pytest.mark.parametrize("protocol", ["postgresql", "mysql"])
def test_a_question_to_a_servers_warehouse_changes_nothing(
    protocol: str, request: pytest.FixtureRequest, project: Project
) -> None:
    server: ServerAddress = request.getfixturevalue("postgres" if protocol == "postgresql" else "mysql")
    recipe = postgres_recipe if protocol == "postgresql" else mysql_recipe
    place = {"protocol": protocol, **_settings(server)}
    project.write("atlas.yaml", json.dumps({"destinations": {"w": place}, "destination": "w"}))
    atlas = Atlas.open(project.folder, {})
    with recipe.connect(server) as client, client.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT 1 AS n")
        for question in (
            "DELETE FROM t",
            "SELECT 1; DELETE FROM t",
            "SELECT 1; COMMIT; DELETE FROM t",
            "SELECT 1; ROLLBACK; BEGIN; DELETE FROM t; COMMIT",
            "COMMIT; DELETE FROM t",
            "SELECT 1) TO STDOUT; COMMIT; DELETE FROM t; COPY (SELECT 1",
            "SELECT 1) AS q LIMIT 0; COMMIT; DELETE FROM t; --",
        ):
            with pytest.raises(AtlasError):
                atlas.query(question)
            cursor.execute("SELECT n FROM t")
            assert list(cursor.fetchall()) == [(1,)], question
