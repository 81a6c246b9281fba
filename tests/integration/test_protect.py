"""Columns with rules: what arrives, what stays true of loads, and that their values are written nowhere."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import psycopg
import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import postgres as postgres_servers
from tests.waiting import until

from atlas_etl import Atlas
from atlas_etl.api.forecast import forecast_connector
from atlas_etl.api.verify import verify_connector
from atlas_etl.errors import ConfigError, UsageError
from atlas_etl.model import Run
from atlas_etl.pipeline.events import RunFinished
from atlas_etl.pipeline.verify import Comparison, StreamVerified

RULES = {
    "id": "hash",
    "email": "hash",
    "phone": {"mask": {"keep_last": 4}},
    "ssn": "drop",
    "card": "tokenize",
    "born": "hash",
}
CANARIES = ("canary", "+4930123", "SSN-RAW", "5425233430", "1984-0")


def define(project: Project, connection: dict[str, object], protocol: str, **stream: object) -> Atlas:
    content = {"protocol": protocol, "connection": connection, "streams": [{"table": "people", **stream}]}
    project.write("connectors.d/shop.yaml", json.dumps(content))
    return Atlas.open(project.folder, {})


def ended(atlas: Atlas, **how: object) -> Run:
    *_, last = atlas.sync(["shop"], **how)  # type: ignore[arg-type]
    assert isinstance(last, RunFinished)
    return last.run


def synced(atlas: Atlas, **how: object) -> Run:
    run = ended(atlas, **how)
    assert run.error is None, run.error
    return run


def refused(run: Run) -> str:
    assert run.error is not None
    return run.error.code


def verified(atlas: Atlas) -> Comparison:
    events = list(verify_connector(atlas, "shop"))
    (found,) = [event.comparison for event in events if isinstance(event, StreamVerified)]
    return found


def people(numbers: Iterator[int] | range, up: int) -> list[str]:
    return [
        f"({n}, 'canary{n}@raw.example', '+4930123{n:04d}', 'SSN-RAW-{n}', '542523343011{n:04d}', "
        f"DATE '1984-01-01' + {n}, {up})"
        for n in numbers
    ]


class DuckDB:
    """A source of one file, beside the project."""

    def __init__(self, project: Project) -> None:
        self.path = project.home / "source.duckdb"
        self.run(
            "CREATE TABLE people (id BIGINT PRIMARY KEY, email TEXT, phone TEXT, ssn TEXT, card TEXT, "
            "born DATE, up BIGINT)"
        )

    def run(self, statement: str) -> None:
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(statement)

    def put(self, numbers: range, up: int) -> None:
        self.run(f"INSERT OR REPLACE INTO people VALUES {', '.join(people(numbers, up))}")

    def define(self, project: Project, **stream: object) -> Atlas:
        return define(project, {"path": str(self.path)}, "duckdb", **stream)


@pytest.fixture
def source(project: Project) -> DuckDB:
    project.home.mkdir(exist_ok=True)
    found = DuckDB(project)
    found.put(range(50), 1)
    return found


def leaks(folder: Path) -> list[str]:
    """Files that hold a canary, in any of the project's folders."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.parent.name != "connectors.d"]
    assert files
    return [f"{file.name}: {c}" for file in files for c in CANARIES if c.encode() in file.read_bytes()]


@pytest.mark.parametrize("destination", ["duckdb", "sqlite", "parquet", "csv"])
def test_what_arrives_and_nothing_else_is_written(project: Project, source: DuckDB, destination: str) -> None:
    where = "database_path" if destination == "sqlite" else "path"
    target = {"protocol": destination, where: f"out.{destination}", "compression": "none"}
    if destination not in ("csv",):
        target.pop("compression")
    project.write("atlas.yaml", json.dumps({"destinations": {"warehouse": target}}))
    atlas = source.define(project, cursor="up", protect=RULES)
    synced(atlas)
    source.put(range(40, 60), 2)
    run = synced(atlas)
    assert run.streams[0].disposition == "merge"
    assert verified(atlas).is_equal
    table = "shop__people" if destination == "sqlite" else "shop.people"
    rows = atlas.query(f"SELECT * FROM {table}").to_pylist()
    assert len(rows) == 60
    assert set(rows[0]) == {"id", "email", "phone", "card", "born", "up"}
    assert len({row["id"] for row in rows}) == len({row["card"] for row in rows}) == 60
    assert {row["phone"] for row in rows} == {f"***{n:04d}" for n in range(60)}
    shown = atlas.preview("shop", None, 5)
    assert len(shown[2]) == 5
    assert not [c for c in CANARIES if c in json.dumps(shown)]
    assert leaks(project.folder) == []


def test_tokens_are_revealed_to_who_has_the_key(project: Project, source: DuckDB) -> None:
    assert project.atlas("reveal", "00").returncode == 2
    synced(source.define(project, protect={"card": "tokenize"}))
    atlas = Atlas.open(project.folder, {})
    tokens = [row["card"] for row in atlas.query("SELECT card FROM shop.people ORDER BY id").to_pylist()]
    assert atlas.reveal(tokens) == [f"542523343011{n:04d}" for n in range(50)]
    done = project.atlas("--json", "reveal", input="\n".join(tokens[:2]) + "\n")
    assert [found["value"] for found in done.json()["values"]] == ["5425233430110000", "5425233430110001"]
    with pytest.raises(UsageError, match="number 2 is no token"):
        atlas.reveal([tokens[0], tokens[1][:-2] + "00"])
    asked = project.atlas("audit", "--kind", "token", "--json").json()["entries"]
    told = [(entry["action"], entry["after"]) for entry in asked]
    assert told == [("revealed", {"values": 2}), ("revealed", {"values": 50})]
    assert asked[0]["command"] == "atlas reveal"
    assert b"54252334" not in (project.folder / ".atlas" / "state.db").read_bytes()


def test_what_the_audit_cannot_be_told_is_not_revealed(project: Project, source: DuckDB) -> None:
    synced(source.define(project, protect={"card": "tokenize"}))
    found = Atlas.open(project.folder, {}).query("SELECT card FROM shop.people LIMIT 1").to_pylist()
    with closing(sqlite3.connect(project.folder / ".atlas" / "state.db")) as state, state:
        state.execute("CREATE TRIGGER no BEFORE INSERT ON audit_log BEGIN SELECT raise(ABORT, 'no'); END")
    done = project.atlas("reveal", found[0]["card"])
    assert (done.returncode, done.stdout) == (4, "")


def test_equal_values_have_equal_hashes_whatever_connector_and_type(project: Project, source: DuckDB) -> None:
    source.run("CREATE TABLE orders AS SELECT id::TEXT AS person, id AS n FROM people")
    content = {
        "protocol": "duckdb",
        "connection": {"path": str(source.path)},
        "streams": [{"table": "orders", "protect": {"person": "hash"}}],
    }
    project.write("connectors.d/other.yaml", json.dumps(content))
    atlas = source.define(project, protect={"id": "hash"})
    synced(atlas)
    list(Atlas.open(project.folder, {}).sync(["other"]))
    joined = atlas.query("SELECT count(*) AS n FROM shop.people JOIN other.orders ON id = person")
    assert joined.to_pylist() == [{"n": 50}]


def test_a_changed_rule_or_key_needs_a_full_refresh(project: Project, source: DuckDB) -> None:
    atlas = source.define(project, cursor="up")
    synced(atlas)
    atlas = source.define(project, cursor="up", protect=RULES)
    run = ended(atlas)
    assert refused(run) == "rules_changed"
    with pytest.raises(ConfigError, match="the rules of"):
        list(forecast_connector(atlas, "shop"))
    synced(atlas, full_refresh=True)
    assert "canary" not in str(atlas.query("SELECT * FROM shop.people").to_pylist())
    synced(atlas)
    atlas.keep({"atlas.protect/key": "quite another key of the tests"})
    atlas = Atlas.open(project.folder, {})
    assert refused(ended(atlas)) == "rules_changed"
    synced(atlas, full_refresh=True)
    assert verified(atlas).is_equal
    atlas = source.define(project, cursor="up")
    assert refused(ended(atlas)) == "rules_changed"


TARGETS = ("duckdb", "sqlite", "parquet", "csv", "postgresql", "mysql")


@pytest.fixture(params=TARGETS)
def merged(request: pytest.FixtureRequest, project: Project, source: DuckDB) -> tuple[Atlas, str]:
    """A stream without a cursor that is merged by a hashed key, and its table in each kind of destination."""
    kind = str(request.param)
    target: dict[str, object] = {"database_path" if kind == "sqlite" else "path": f"out.{kind}"}
    if kind in ("postgresql", "mysql"):
        server: ServerAddress = request.getfixturevalue("postgres" if kind == "postgresql" else kind)
        target = {
            "host": server.host, "port": server.port, "database": server.database,
            "username": server.username, "password": server.password,
        }  # fmt: skip
    project.write("atlas.yaml", json.dumps({"destinations": {"warehouse": {"protocol": kind, **target}}}))
    schema = {"sqlite": "", "mysql": f"{target.get('database')}."}.get(kind, "shop.")
    into = f"{schema}merged"
    return source.define(project, disposition="merge", into=into, protect={"id": "hash"}), into


def test_a_merge_without_a_cursor_notices_another_key(
    project: Project, source: DuckDB, merged: tuple[Atlas, str]
) -> None:
    atlas, table = merged

    def rows() -> list[dict[str, object]]:
        return atlas.query(f"SELECT count(*) AS n, min(id) AS id FROM {table}").to_pylist()

    synced(atlas)
    synced(Atlas.open(project.folder, {}))
    before = rows()
    assert before[0]["n"] == 50
    atlas.keep({"atlas.protect/key": "quite another key of the tests"})
    atlas = Atlas.open(project.folder, {})
    run = ended(atlas)
    assert refused(run) == "rules_changed"
    assert run.error is not None
    assert "--full-refresh" in str(run.error.hint)
    with pytest.raises(ConfigError, match="or their key"):
        list(forecast_connector(atlas, "shop"))
    assert rows() == before
    synced(atlas, full_refresh=True)
    synced(atlas)
    after = rows()
    assert after[0]["n"] == 50
    assert after != before


def test_rows_that_were_merged_before_rules_were_noted_are_merged_on(
    project: Project, source: DuckDB
) -> None:
    atlas = source.define(project, disposition="merge", protect={"id": "hash"})
    synced(atlas)
    with duckdb.connect(str(project.folder / "warehouse.duckdb")) as connection:
        connection.execute("UPDATE shop._atlas_checkpoints SET protection = NULL")
    synced(atlas)
    assert refused(ended(source.define(project, disposition="merge", protect={"id": "tokenize"}))) == (
        "rules_changed"
    )


def test_a_checkpoint_that_was_forgotten_leaves_the_key_of_its_rows(project: Project, source: DuckDB) -> None:
    atlas = source.define(project, cursor="up", protect={"id": "hash"})
    synced(atlas)
    assert project.atlas("state", "reset", "shop").returncode == 0
    synced(atlas)
    assert project.atlas("state", "reset", "shop").returncode == 0
    atlas.keep({"atlas.protect/key": "quite another key of the tests"})
    assert refused(ended(Atlas.open(project.folder, {}))) == "rules_changed"
    assert atlas.query("SELECT count(*) AS n FROM shop.people").to_pylist() == [{"n": 50}]


def test_a_key_that_the_project_refers_to(project: Project, source: DuckDB) -> None:
    project.write("atlas.yaml", "protect_key: ${env:PROTECT_KEY}\n")
    source.define(project, protect={"id": "hash"})
    found = []
    for key in ("the first key of the tests", "the other key of the tests", "the first key of the tests"):
        atlas = Atlas.open(project.folder, {"PROTECT_KEY": key})
        synced(atlas)
        found.append(atlas.query("SELECT min(id) AS id FROM shop.people").to_pylist())
    assert found[0] == found[2] != found[1]
    assert atlas.secrets().changed() == {}
    project.write("atlas.yaml", "protect_key: written-out-in-clear\n")
    assert refused(ended(Atlas.open(project.folder, {}))) == "protect_key"


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        ({"protect": {"emial": "hash"}}, "column_not_found"),
        ({"protect": {"emial": "drop"}}, "column_not_found"),
        ({"cursor": "up", "protect": {"id": "mask"}}, "protected_key"),
        ({"cursor": "up", "protect": {"id": "drop"}}, "protected_key"),
    ],
)
def test_rules_that_cannot_hold(
    project: Project, source: DuckDB, stream: dict[str, object], code: str
) -> None:
    assert refused(ended(source.define(project, **stream))) == code


def test_a_refused_row_is_kept_without_its_values(project: Project, source: DuckDB) -> None:
    for number, born in ((77, "'infinity'"), (78, "NULL")):
        values = (
            f"({number}, 'canary{number}@raw.example', '+49301234567', 'SSN-RAW', '5425233430', {born}, 3)"
        )
        source.run(f"INSERT INTO people VALUES {values}")
    atlas = source.define(project, cursor="up", protect=RULES)
    run = ended(atlas)
    assert refused(run) == "value_hazard"
    assert run.error is not None
    assert "77" not in run.error.message
    atlas = source.define(project, cursor="up", protect=RULES, quarantine_limit=5)
    synced(atlas)
    (row,) = atlas.quarantine("shop").rows()
    assert not [c for c in (*CANARIES, "infinity") if c in f"{row.row}{row.key}{row.reason}"]
    assert len(str(row.row["born"])) == len(str(row.key["id"])) == 32
    assert row.row["phone"] == "***4567"
    assert "77" not in row.reason
    source.run("UPDATE people SET born = DATE '1984-05-05', up = 4 WHERE id = 77")
    synced(atlas)
    assert atlas.quarantine("shop").rows() == []
    assert verified(atlas).is_equal
    assert leaks(project.folder) == []


def test_deletes_are_found_by_hashed_keys(project: Project, source: DuckDB) -> None:
    deletes = {"mode": "reconcile", "max_share": 1}
    atlas = source.define(project, cursor="up", protect=RULES, deletes=deletes)
    synced(atlas)
    source.run("DELETE FROM people WHERE id < 10")
    run = synced(atlas)
    assert run.streams[0].rows_deleted == 10
    assert atlas.query("SELECT count(*) AS n FROM shop.people").to_pylist() == [{"n": 40}]


def test_rows_between_servers_are_decoded_where_there_are_rules(
    project: Project, postgres: ServerAddress
) -> None:
    with postgres_servers.connect(postgres) as session:
        session.execute("CREATE TABLE people (id bigint PRIMARY KEY, email text, born date, up bigint)")
        session.execute(
            "INSERT INTO people SELECT n, 'canary' || n, '1984-01-01', n FROM generate_series(1, 90) n"
        )
    connection: dict[str, object] = {
        "host": postgres.host, "port": postgres.port, "database": postgres.database,
        "username": postgres.username, "password": postgres.password, "sslmode": "disable",
    }  # fmt: skip
    project.write(
        "atlas.yaml", json.dumps({"destinations": {"warehouse": {"protocol": "postgresql", **connection}}})
    )
    for rules, form in (({}, "wire"), ({"email": "hash", "born": {"mask": None}}, "arrow")):
        atlas = define(project, connection, "postgresql", cursor="up", protect=rules)
        (plan,) = forecast_connector(atlas, "shop", full_refresh=True)
        assert plan.format == form
        synced(atlas, full_refresh=True)
        assert verified(atlas).is_equal
    with closing(psycopg.connect(postgres.url("postgresql"))) as session:
        found = session.execute("SELECT count(*), max(born), max(length(email)) FROM shop.people").fetchone()
        assert found == (90, "***", 32)


def test_the_plan_shows_the_rules_and_makes_no_key(project: Project, source: DuckDB) -> None:
    atlas = source.define(project, cursor="up", protect=RULES)
    (plan,) = forecast_connector(atlas, "shop")
    assert dict(plan.protect)["phone"] == "mask, but the last 4"
    assert any('"id" VARCHAR' in change for change in plan.changes)
    assert not (project.folder / ".atlas" / "secret.key").exists()


def test_a_recording_would_hold_the_values(project: Project) -> None:
    define(project, {"base_url": "http://127.0.0.1:9/"}, "http", protect={"email": "hash"})
    with pytest.raises(UsageError, match="recording"):
        list(Atlas.open(project.folder, {}).sync(["shop"], record=project.folder / "tape.yaml"))


def test_nothing_is_left_behind_by_a_run_that_fails_or_is_killed(project: Project, source: DuckDB) -> None:
    source.run(
        "INSERT INTO people SELECT n, 'canary' || n || '@raw.example', '+4930123' || (1000 + n % 9000), "
        "'SSN-RAW-' || n, '5425233430' || n, DATE '1984-01-01', 1 FROM generate_series(1000, 400000) t(n)"
    )
    source.run(
        "INSERT INTO people VALUES (999999, 'canary', '+49301234567', 'SSN-RAW', '5425233430', 'infinity', 1)"
    )
    source.define(project, protect=RULES)
    failed = project.atlas("-vv", "--json", "connector", "sync", "shop")
    assert failed.returncode == 7
    assert not [c for c in CANARIES if c in failed.stdout + failed.stderr]
    assert leaks(project.folder) == []
    source.run("DELETE FROM people WHERE id = 999999")
    source.run("ALTER TABLE people RENAME TO real")
    source.run("CREATE VIEW people AS SELECT real.* FROM range(1000000) again, real")  # hours of work
    process = project.start("connector", "sync", "shop")

    def is_loading() -> bool:
        size = 0
        for file in project.folder.glob("warehouse.duckdb*"):
            with suppress(FileNotFoundError):
                size += file.stat().st_size
        return size > 1_000_000 or process.poll() is not None

    until(is_loading, "rows are in the warehouse's files")
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert leaks(project.folder) == []
    source.run("DROP VIEW people")
    source.run("ALTER TABLE real RENAME TO people")
    assert project.atlas("connector", "sync", "shop").returncode == 0
    assert leaks(project.folder) == []


def test_a_scan_tells_what_to_protect(project: Project, source: DuckDB) -> None:
    source.run("CREATE TABLE notes (id BIGINT, note TEXT)")
    source.run("INSERT INTO notes VALUES (1, 'wrote to canary@raw.example about the bill once more')")
    content = {
        "protocol": "duckdb",
        "connection": {"path": str(source.path)},
        "streams": [{"table": "people", "cursor": "up", "protect": {"ssn": "drop"}}, {"table": "notes"}],
    }
    project.write("connectors.d/shop.yaml", json.dumps(content))
    done = project.atlas("--json", "connector", "scan", "shop", "--rows", "40")
    people, notes = done.json()["streams"]
    assert people["sampled_rows"] == 40
    found = {column["name"]: column for column in people["columns"]}
    assert {name: column["kind"] for name, column in found.items()} == {
        "email": "email",
        "phone": "phone",
        "ssn": "national_id:US",
        "born": "birth_date",
    }
    assert found["email"]["match_share"] == 1.0
    assert found["email"]["confidence"] > 0.9
    assert found["ssn"]["protected"] == "drop"
    assert people["protect"] == {"email": "hash", "phone": {"mask": {"keep_last": 4}}, "born": "drop"}
    assert notes["protect"] == {"note": "mask"}
    shown = project.atlas("connector", "scan", "shop", "--stream", "people", "--rows", "40").stdout
    assert "the first 40 rows" in shown
    assert "protect:\n" in shown
    assert "canary" not in shown + done.stdout + done.stderr
    assert [file.name for file in project.folder.rglob("*") if file.is_file()] == ["shop.yaml"]
    rules = people["protect"] | {"ssn": "drop"}
    synced(source.define(project, cursor="up", protect=rules))


def test_a_cursor_with_personal_data_is_told(project: Project, source: DuckDB) -> None:
    source.define(project, cursor="email")
    found = project.atlas("connector", "scan", "shop")
    assert "email is the cursor" in found.stderr
    assert "email:" not in found.stdout


def test_an_error_of_another_column_does_not_tell_a_hashed_key(project: Project, source: DuckDB) -> None:
    source.run("INSERT INTO people VALUES (7654321, 'a', '1', 'b', '2', 'infinity', 3)")
    run = ended(source.define(project, cursor="up", protect={"id": "hash"}))
    assert refused(run) == "value_hazard"
    assert run.error is not None
    assert "7654321" not in run.error.message


def test_a_file_that_cannot_be_read_is_told_without_its_values(project: Project) -> None:
    project.write("in/people.csv", "id,phone\n1,canary\n")
    content = {
        "protocol": "csv",
        "connection": {"path": "in", "types": {"phone": "int64"}},
        "streams": [{"path": "people.csv", "protect": {"phone": "hash"}}],
    }
    project.write("connectors.d/shop.yaml", json.dumps(content))
    run = ended(Atlas.open(project.folder, {}))
    assert refused(run) == "value_type"
    assert run.error is not None
    assert "'phone'" in run.error.message
    assert "canary" not in run.error.message


def test_an_api_s_member_may_be_missing_once_the_table_is_there(
    project: Project, httpserver: HTTPServer
) -> None:
    rules = {"email": "hash", "ssn": "drop", "phone": "mask"}
    atlas = define(
        project,
        {"base_url": httpserver.url_for("/"), "pagination": "none"},
        "http",
        cursor="at",
        primary_key="id",
        protect=rules,
    )
    first = {"id": 1, "at": "2026-01-01T00:00:00Z", "email": 1.50, "ssn": "canary", "phone": "canary"}
    second = {"id": 2, "at": "2026-01-02T00:00:00Z", "name": "Ada"}
    httpserver.expect_request("/people").respond_with_json([second])
    assert refused(ended(atlas)) == "column_not_found"  # nobody has seen it yet: it may be misspelt
    for records in ([first], [first, second], []):
        httpserver.clear()
        httpserver.expect_request("/people").respond_with_json(records)
        run = synced(atlas)
    assert run.streams[0].warnings == ()
    rows = atlas.query("SELECT * FROM shop.people ORDER BY id").to_pylist()
    assert [(row["id"], row["email"] is None, row["phone"]) for row in rows] == [
        (1, False, "***"),
        (2, True, None),
    ]
    assert "ssn" not in rows[0]
    assert leaks(project.folder) == []
