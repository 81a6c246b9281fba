"""No definition and no row makes an unquoted identifier, or an unbound value, reach a driver.

Names and values all hold a mark. What reaches the drivers is recorded, and whatever SQL takes for a quoted
identifier or a literal is taken out of it: no mark may be left. Where values are bound, none is in a literal
either.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pymssql
import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe
from tests.servers.stub_mssql import StubServer
from tests.servers.stub_mssql import execute as execute_in_stub
from tests.servers.stub_oracle import StubCursor, StubOracle
from tests.servers.stub_oracle import execute as execute_in_stub_oracle

from atlas_etl import Atlas
from atlas_etl.connectors.sql._duckdb import writer as duckdb_writer
from atlas_etl.connectors.sql._sqlite import driver as sqlite_driver
from atlas_etl.model import RunStatus
from atlas_etl.pipeline.events import RunFinished

NAME, VALUE = "zqn", "zqv"
STRING = r"'(?:[^']|'')*'"
QUOTED = {
    "sqlite": rf'{STRING}|"(?:[^"]|"")*"',
    "duckdb": rf'{STRING}|"(?:[^"]|"")*"',
    "postgresql": rf"""[eE]'(?:[^'\\]|\\.|'')*'|{STRING}|"(?:[^"]|"")*\"""",
    "mysql": r"`(?:[^`]|``)*`|'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"",
    "mssql": rf"{STRING}|\[(?:[^\]]|\]\])*\]",
    "oracle": rf'{STRING}|"[^"]*"',
}
BOUND = {"sqlite", "duckdb"}  # their values never stand in a statement

hostile = st.text(alphabet="aB\"'`;-/*\\)(%?:$[]{}.=,#@ é", max_size=9)
names = st.lists(hostile, min_size=5, max_size=5).map(
    lambda found: [f"{NAME}{number}{text}{number}" for number, text in enumerate(found)]
)
# Three keys: MySQL's are the same where they differ in blanks at the end.
texts = st.lists(hostile.map(lambda text: f"{VALUE}{text}"), min_size=3, max_size=3, unique_by=str.rstrip)


def left_bare(dialect: str, sql: str) -> str:
    """The statement without what is quoted."""
    return re.sub(QUOTED[dialect], " ", sql, flags=re.DOTALL)


def test_the_judge_sees_what_is_bare() -> None:
    for dialect in QUOTED:
        assert NAME in left_bare(dialect, f"SELECT {NAME} FROM t")
        assert VALUE in left_bare(dialect, f"SELECT * FROM t WHERE a = 'x' OR {VALUE}")
        assert VALUE in left_bare(dialect, f"SELECT 'it''s' || {VALUE} || 'x'")
        assert VALUE not in left_bare(dialect, f"SELECT 'it''s {VALUE}'")
    assert VALUE in left_bare("postgresql", f"SELECT E'a\\'' || {VALUE} || ''")
    assert NAME not in left_bare("mysql", f"SELECT `a``{NAME}`")
    assert NAME not in left_bare("mssql", f"SELECT [a]]{NAME}]")
    assert NAME in left_bare("mssql", f"SELECT [a]{NAME}]")


class _RecordedCursor:
    """A cursor of SQL Server's driver whose statements are written down."""

    def __init__(self, cursor: pymssql.Cursor, seen: list[tuple[str, str]]) -> None:
        self._cursor = cursor
        self._seen = seen

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[object]:
        return iter(self._cursor)

    def __enter__(self) -> _RecordedCursor:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cursor.close()

    def execute(self, sql: str) -> None:
        self._seen.append(("mssql", sql))
        self._cursor.execute(sql)


class _RecordedClient:
    """The same of a connection."""

    def __init__(self, client: pymssql.Connection, seen: list[tuple[str, str]]) -> None:
        self._client = client
        self._seen = seen

    def __getattr__(self, name: str) -> object:
        return getattr(self._client, name)

    def cursor(self) -> _RecordedCursor:
        return _RecordedCursor(self._client.cursor(), self._seen)


class _Recorded:
    """A DuckDB connection whose statements are written down."""

    def __init__(self, opened: object, seen: list[tuple[str, str]]) -> None:
        self._opened = opened
        self._seen = seen

    def __getattr__(self, name: str) -> object:
        return getattr(self._opened, name)

    def __enter__(self) -> _Recorded:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()  # type: ignore[attr-defined]

    def cursor(self) -> _Recorded:
        return _Recorded(self._opened.cursor(), self._seen)  # type: ignore[attr-defined]

    def execute(self, sql: str, *more: object) -> object:
        self._seen.append(("duckdb", sql))
        return self._opened.execute(sql, *more)  # type: ignore[attr-defined]

    def sql(self, sql: str, **more: object) -> object:
        self._seen.append(("duckdb", sql))
        return self._opened.sql(sql, **more)  # type: ignore[attr-defined]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What reaches the drivers: (dialect, statement)."""
    found: list[tuple[str, str]] = []
    driver = sqlite_driver.Driver
    for method in ("execute", "change", "stream"):
        before = getattr(driver, method)

        def recorded(self: object, sql: str, *more: object, before: object = before) -> object:
            found.append(("sqlite", sql))
            return before(self, sql, *more)  # type: ignore[operator]

        monkeypatch.setattr(driver, method, recorded)
    connect = duckdb_writer.connect
    monkeypatch.setattr(
        duckdb_writer, "connect", lambda *how, **more: _Recorded(connect(*how, **more), found)
    )
    for method in ("execute", "copy"):
        before = getattr(psycopg.Cursor, method)

        def sent(
            self: object, query: object, *more: object, before: object = before, **named: object
        ) -> object:
            text = query.decode() if isinstance(query, bytes) else str(query)
            found.append(("postgresql", text))
            return before(self, query, *more, **named)  # type: ignore[operator]

        monkeypatch.setattr(psycopg.Cursor, method, sent)
    command = pymysql.connections.Connection._execute_command  # type: ignore[attr-defined]

    def commanded(self: object, kind: int, sql: object) -> None:
        text = sql.decode("utf-8", "replace") if isinstance(sql, bytes | bytearray) else str(sql)
        if kind in (3, 22):  # COM_QUERY, COM_STMT_PREPARE
            found.append(("mysql", text))
        command(self, kind, sql)

    monkeypatch.setattr(pymysql.connections.Connection, "_execute_command", commanded)
    opened = pymssql.connect
    monkeypatch.setattr(pymssql, "connect", lambda **how: _RecordedClient(opened(**how), found))
    for method in ("execute", "executemany", "parse"):
        before = getattr(StubCursor, method)

        def told(self: StubCursor, sql: str, *bound: object, before: Callable[..., None] = before) -> None:
            found.append(("oracle", sql))
            before(self, sql, *bound)

        monkeypatch.setattr(StubCursor, method, told)
    return found


def synced(folder: Path) -> None:
    for event in Atlas.open(folder, {}).sync(["shop"]):
        if isinstance(event, RunFinished):
            assert event.run.status is RunStatus.COMPLETED, event.run.streams


def judge(seen: list[tuple[str, str]]) -> None:
    dialects = set()
    for dialect, sql in seen:
        bare = left_bare(dialect, sql)
        assert NAME not in bare, sql
        assert VALUE not in bare, sql
        if dialect in BOUND:
            assert VALUE not in sql, sql
        if NAME in sql:
            dialects.add(dialect)
    assert dialects, "nothing was recorded"
    seen.clear()


def define(folder: Path, source: dict[str, object], destination: dict[str, object], stream: object) -> None:
    shutil.rmtree(folder / ".atlas", ignore_errors=True)
    for old in folder.glob("w.*"):
        old.unlink()
    (folder / "connectors.d").mkdir(exist_ok=True)
    text = json.dumps({**source, "streams": [stream]}).replace("${", "$${")  # none is a reference
    (folder / "connectors.d/shop.json").write_text(text)
    (folder / "atlas.yaml").write_text(json.dumps({"destinations": {"w": destination}, "destination": "w"}))


def streamed(table: str, found: list[str], disposition: str) -> dict[str, object]:
    _, key, cursor, into, _ = found
    return {
        "name": "s", "table": table, "cursor": cursor, "primary_key": [key], "disposition": disposition,
        "into": {"schema": into, "table": f"{into}t"}, "metadata_columns": True,
        **({"deletes": "reconcile"} if disposition == "merge" else {}),
    }  # fmt: skip


EMBEDDED = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SERVED = settings(EMBEDDED, max_examples=4)


@pytest.mark.parametrize("disposition", ["merge", "append"])
@pytest.mark.parametrize("destination", ["duckdb", "sqlite"])
@EMBEDDED
@given(names, texts)
def test_of_files(
    seen: list[tuple[str, str]], project: Project, destination: str, disposition: str, found: list[str],
    values: list[str],
) -> None:  # fmt: skip
    table, key, cursor, _, other = found
    path = project.folder / "source.db"
    path.unlink(missing_ok=True)
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in (table, key, cursor, other)]
    with closing(sqlite3.connect(path)) as made:
        columns = f"{quoted[1]} TEXT PRIMARY KEY NOT NULL, {quoted[2]} TEXT NOT NULL, {quoted[3]} TEXT"
        made.execute(f"CREATE TABLE {quoted[0]} ({columns})")
        made.executemany(f"INSERT INTO {quoted[0]} VALUES (?, ?, ?)", [(v, v, v) for v in values[:2]])
        made.commit()
        place = "database_path" if destination == "sqlite" else "path"
        define(
            project.folder,
            {"protocol": "sqlite", "connection": {"database_path": str(path)}},
            {"protocol": destination, place: f"w.{destination}"},
            streamed(table, found, disposition),
        )
        synced(project.folder)
        made.execute(f"INSERT INTO {quoted[0]} VALUES (?, ?, ?)", [values[2]] * 3)
        made.commit()
        synced(project.folder)
    judge(seen)


@pytest.mark.parametrize("protocol", ["postgresql", "mysql"])
@SERVED
@given(names, texts)
def test_of_servers(
    seen: list[tuple[str, str]], project: Project, request: pytest.FixtureRequest, protocol: str,
    found: list[str], values: list[str],
) -> None:  # fmt: skip
    is_mysql = protocol == "mysql"
    server: ServerAddress = request.getfixturevalue("mysql" if is_mysql else "postgres")
    mark = "`" if is_mysql else '"'
    if is_mysql:  # where a table is written without quotes, so that a dot would part two names
        found = [name.replace(".", "") for name in found]
    table, key, cursor, into, other = found
    quoted = [f"{mark}{name.replace(mark, mark * 2)}{mark}" for name in (table, key, cursor, other, into)]
    columns = (
        f"{quoted[1]} varchar(50) PRIMARY KEY, {quoted[2]} varchar(50) NOT NULL, {quoted[3]} varchar(50)"
    )
    insert = f"INSERT INTO {quoted[0].replace('%', '%%')} VALUES (%s, %s, %s)"
    recipe = mysql_recipe if is_mysql else postgres_recipe
    with recipe.connect(server) as made, made.cursor() as client:
        client.execute(f"DROP TABLE IF EXISTS {quoted[0]}")  # of an example that failed
        client.execute(f"CREATE TABLE {quoted[0]} ({columns})")
        for value in values[:2]:
            client.execute(insert, [value] * 3)
        connection = _settings(server)
        stream = streamed(table if is_mysql else f"public.{quoted[0]}", found, "merge")
        source: dict[str, object] = {"protocol": protocol, "connection": connection}
        define(project.folder, source, {"protocol": protocol, **connection}, stream)
        seen.clear()
        synced(project.folder)
        judge(seen)
        client.execute(insert, [values[2]] * 3)
        seen.clear()
        synced(project.folder)
        judge(seen)
        client.execute(f"DROP SCHEMA {quoted[4]} {'' if is_mysql else 'CASCADE'}")
        client.execute(f"DROP TABLE {quoted[0]}")


@pytest.mark.parametrize("protocol", ["mssql", "oracle"])
@SERVED
@given(names, texts)
def test_of_stand_ins(
    seen: list[tuple[str, str]], project: Project, stub_mssql_server: StubServer, stub_oracle: StubOracle,
    protocol: str, found: list[str], values: list[str],
) -> None:  # fmt: skip
    """SQL Server is read and written; Oracle is only read, and no name of it has a quotation mark."""
    found = [name.replace(".", "") for name in found]  # which would part a schema from a table
    destination: dict[str, object] = {"protocol": "duckdb", "path": "w.duckdb"}
    if protocol == "mssql":
        database, text = stub_mssql_server.fresh_database(), "nvarchar(50)"
        connection = stub_mssql_server.connection(database)
        destination = {"protocol": "mssql", **connection}
        execute = execute_in_stub
    else:
        found = [name.replace('"', "") for name in found]
        connection, text = stub_oracle.fresh_database(), "VARCHAR2(50)"
        database, execute = str(connection["service_name"]), execute_in_stub_oracle
    table, key, cursor, _, other = found
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in (table, key, cursor, other)]
    columns = f"{quoted[1]} {text} PRIMARY KEY NOT NULL, {quoted[2]} {text} NOT NULL, {quoted[3]} {text}"
    execute(database, f"CREATE TABLE {quoted[0]} ({columns})")
    source: dict[str, object] = {"protocol": protocol, "connection": connection}
    define(project.folder, source, destination, streamed(table, found, "merge"))
    for new in (values[:2], values[2:]):
        for value in new:
            execute(database, f"INSERT INTO {quoted[0]} VALUES (?, ?, ?)", [value] * 3)
        synced(project.folder)
        assert protocol in {dialect for dialect, sql in seen if NAME in sql}
        judge(seen)


def _settings(server: ServerAddress) -> dict[str, object]:
    return {
        "host": server.host, "port": server.port, "database": server.database,
        "username": server.username, "password": server.password,
    }  # fmt: skip
