"""`connector plan`: what a sync would do, told without doing any of it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from tests.servers import ServerAddress
from tests.terminal import on_terminal
from tests.unit.connectors.postgres_database import Database
from werkzeug import Request, Response

from atlas_etl import Atlas
from atlas_etl.api.forecast import forecast_connector
from atlas_etl.errors import SourceError
from atlas_etl.model import Disposition
from atlas_etl.pipeline.forecast import StreamForecast


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    found.execute(
        "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL, name text NOT NULL)",
        "INSERT INTO events SELECT n, timestamptz '2026-01-01' + n * interval '1s', n::text"
        " FROM generate_series(1, 1000) n",
        "ANALYZE events",
    )
    yield found
    found.close()


def connection_of(server: ServerAddress, **more: object) -> dict[str, object]:
    return {
        "host": server.host, "port": server.port, "database": server.database,
        "username": server.username, "password": server.password, **more,
    }  # fmt: skip


def defined(
    project: Project, protocol: str, connection: dict[str, object], settings: str = "", **more: object
) -> Atlas:
    definition = {"protocol": protocol, "connection": connection, **more}
    project.write("connectors.d/shop.yaml", json.dumps(definition))
    project.write("atlas.yaml", settings)
    return Atlas.open(project.folder, {})


def plan(atlas: Atlas, *, full_refresh: bool = False) -> StreamForecast:
    (found,) = forecast_connector(atlas, "shop", full_refresh=full_refresh)
    return found


def run(atlas: Atlas) -> None:
    for _ in atlas.sync(["shop"]):
        pass


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_a_plan_tells_what_the_sync_then_does_and_touches_nothing(
    project: Project, database: Database
) -> None:
    streams = [{"table": "events", "cursor": "at"}]
    atlas = defined(project, "postgresql", connection_of(database.address), streams=streams)
    before = files(project.folder)
    first = plan(atlas)
    assert files(project.folder) == before
    assert (first.stream, first.table, first.disposition) == ("events", "shop.events", Disposition.MERGE)
    assert (first.primary_key, first.cursor, first.since) == (("id",), "at", None)
    assert (first.estimated_rows, first.replaces, first.format) == (1000, False, "arrow")
    assert first.promise.startswith("exact: ")
    (asked,) = first.statements
    assert asked.startswith("SELECT ")
    with duckdb.connect() as elsewhere:  # the statements are what they say
        for statement in first.changes:
            elsewhere.execute(statement)
        assert elsewhere.sql("DESCRIBE shop.events").fetchall()[0][:2] == ("id", "INTEGER")
    run(atlas)
    database.execute("ALTER TABLE events ADD COLUMN note text")
    later = plan(atlas)
    assert later.since == "2026-01-01T00:16:40.000000Z"
    assert "2026-01-01" in later.statements[0]
    assert later.changes == ('ALTER TABLE "shop"."events" ADD COLUMN "note" VARCHAR',)
    assert not later.replaces
    assert later.estimated_rows is not None
    assert later.estimated_rows < 100
    anew = plan(atlas, full_refresh=True)
    assert (anew.since, anew.replaces) == (None, True)
    run(atlas)
    assert plan(atlas).changes == ()


def test_rows_that_pass_as_they_come_are_told(project: Project, database: Database) -> None:
    server = connection_of(database.address)
    settings = json.dumps({"destinations": {"here": {"protocol": "postgresql", **server}}})
    streams = [{"table": "events", "into": "copy.events"}]
    atlas = defined(project, "postgresql", server, settings, streams=streams, destination="here")
    found = plan(atlas)
    assert (found.format, found.disposition) == ("wire", Disposition.REPLACE)
    assert found.promise == "exact: no row is lost or doubled"
    assert database.rows("SELECT 1 FROM pg_namespace WHERE nspname = 'copy'") == []


@pytest.mark.parametrize(("cursor", "why"), [("name", "of the kind text"), ("at", "its role does not see")])
def test_a_weaker_promise_says_why(project: Project, database: Database, cursor: str, why: str) -> None:
    streams = [{"table": "events", "cursor": cursor}]
    with database.role() as role, database.session():
        database.execute(f'GRANT SELECT ON events TO "{role.address.username}"')
        found = plan(defined(project, "postgresql", connection_of(role.address), streams=streams))
    assert found.promise.startswith("weaker: ")
    assert why in found.promise


@pytest.mark.parametrize("cursor", [None, "at"])
def test_a_materialized_view_has_rows_that_come_late(
    project: Project, database: Database, cursor: str | None
) -> None:
    """What committed after its refresh, and before the sync, comes with the next one: below the tail."""
    database.execute("CREATE MATERIALIZED VIEW seen AS SELECT * FROM events")
    stream = {"table": "seen", **({"cursor": cursor} if cursor else {})}
    found = plan(defined(project, "postgresql", connection_of(database.address), streams=[stream]))
    assert ("materialized view" in found.promise) is (cursor is not None)
    assert found.promise.startswith("weaker: " if cursor else "exact: ")


@pytest.mark.parametrize(
    ("pagination", "key", "why"),
    [
        ("offset", ["id"], "overlap"),
        ("offset", [], "by offset, a record"),
        ("page", ["id"], "read again behind the next one"),
        ("page", [], "by page, a record"),
        ("link_header", ["id"], "where links number pages"),
        ("none", ["id"], "no snapshot"),
    ],
)
def test_an_api_has_a_weaker_promise_and_shows_no_secret(
    project: Project, httpserver: HTTPServer, pagination: str, key: list[str], why: str
) -> None:
    rows = [{"id": 1, "at": "2026-01-01T00:00:00Z"}]

    def answer(request: Request) -> Response:
        is_first = request.args.get("page", "1") == "1" and request.args.get("offset", "0") == "0"
        return Response(json.dumps(rows if is_first else []), content_type="application/json")

    httpserver.expect_request("/things").respond_with_handler(answer)
    things = {
        "path": "things", "primary_key": key, "incremental": {"parameter": "since"},
        "cursor": "at", "params": {"key": "hush-hush"},
    }  # fmt: skip
    api = {"base_url": httpserver.url_for("/"), "pagination": pagination, "resources": {"things": things}}
    atlas = defined(project, "http", api)
    found = plan(atlas)
    assert found.promise.startswith("weaker: an API has no snapshot")
    assert why in found.promise
    assert found.statements == (f"GET {httpserver.url_for('/things')}?key=...",)
    rows.clear()
    empty = plan(atlas)
    assert (empty.disposition, empty.table) == (None, "shop.things")


def test_a_source_that_is_gone_is_the_error_of_a_sync(project: Project) -> None:
    atlas = defined(project, "sqlite", {"database_path": "gone.db"}, streams=[{"table": "things"}])
    with pytest.raises(SourceError) as caught:
        plan(atlas)
    assert (caught.value.connector, files(project.folder / ".atlas")) == ("shop", set())


def test_the_command_shows_it_to_people_and_scripts(project: Project) -> None:
    project.write("things.csv", "id,at\n1,2026-01-01T00:00:00Z\n")
    connection = {"path": "things.csv"}
    defined(project, "csv", connection, streams=[{"path": "things.csv", "name": "things", "cursor": "at"}])
    shown = project.atlas("connector", "plan", "shop")
    assert shown.returncode == 0
    assert "things -> shop.things" in shown.stdout
    (stream,) = project.atlas("connector", "plan", "shop", "--json").json()["streams"]
    assert stream.keys() >= {
        "name", "disposition", "table", "statements", "window", "ddl", "estimated_rows", "promise",
    }  # fmt: skip
    assert stream["window"] == {"cursor": "at", "from": None}
    assert "older cursors" in stream["promise"]


def test_on_a_terminal_words_stay_whole_and_statements_can_be_pasted(project: Project) -> None:
    columns = ", ".join(f"a_rather_long_name_{number} INTEGER" for number in range(8))
    with closing(sqlite3.connect(project.folder / "shop.db")) as made:
        made.execute(f"CREATE TABLE orders (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, {columns})")
        made.commit()
    streams = [{"table": "orders", "cursor": "at"}]
    defined(project, "sqlite", {"database_path": "shop.db"}, streams=streams)
    with on_terminal(project, "connector", "plan", "shop") as terminal:
        assert terminal.end() == 0
    lines = terminal.shown.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("  promise   exact: no row"))
    assert lines[at + 1].startswith(" " * 12)
    assert max(len(line) for line in lines[at:]) <= 100
    told = project.atlas("connector", "plan", "shop", "--json").json()["streams"][0]
    assert " ".join(line.strip() for line in lines[at:]).removeprefix("promise   ") == told["promise"]
    for statement in (*told["statements"], *told["ddl"]):
        assert statement in terminal.shown
