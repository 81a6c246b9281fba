"""The command as scripts use it: JSON shapes, exit codes, hints, and what stays unloaded."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from tests.project import Project
from tests.waiting import until

from atlas_etl.cli.app import GROUPS

ROOT = Path(__file__).parents[2]
SOURCE = {"protocol": "sqlite", "connection": {"database_path": "shop.db"}}

RUN_KEYS = {
    "run_id", "connector", "status", "triggered_by", "started_at", "completed_at", "duration_seconds",
    "rows_processed", "bytes_processed", "destination", "error",
}  # fmt: skip
STREAM_KEYS = {
    "name", "status", "disposition", "table", "rows_read", "rows_loaded", "rows_quarantined", "rows_left_out",
    "rows_deleted", "loads", "checkpoint", "error",
}  # fmt: skip


def execute(project: Project, *statements: str) -> None:
    connection = sqlite3.connect(project.folder / "shop.db")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


@pytest.fixture
def shop(project: Project) -> Project:
    """A project with a SQLite shop of three orders, and its connector."""
    execute(
        project,
        "CREATE TABLE orders"
        " (id INTEGER PRIMARY KEY, customer TEXT, amount DECIMAL(10,2), updated_at TIMESTAMP)",
        "CREATE INDEX orders_updated_at ON orders (updated_at)",
        "INSERT INTO orders VALUES (1, 'Ada', 10.5, '2026-01-01 10:00:00'),"
        " (2, 'Łukasz', 20, '2026-01-01 11:00:00'), (3, NULL, 0.1, '2026-01-01 11:00:00')",
    )
    done = project.atlas(
        "connector", "add", "shop", "--protocol", "sqlite", "--set", "database_path=shop.db",
        "--table", "orders", "--cursor", "updated_at", "--schedule", "0 * * * *",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return project


def test_help_loads_no_driver_no_arrow_and_no_sqlalchemy() -> None:
    heavy = (
        "atlas_etl.model",
        "importlib.metadata",
        "pyarrow",
        "sqlalchemy",
        "duckdb",
        "numpy",
        "psycopg",
        "pymysql",
        "requests",
        "rich",
        "pydantic",
    )
    script = (
        "import sys; from atlas_etl.cli.app import run; code = run(['--help']);"
        f"print(code, [name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "0 []"
    assert "connector" in done.stdout


@pytest.mark.parametrize(
    "command", [[], *([name] for name in GROUPS), ["connector", "add"], ["connector", "sync"]]
)
def test_every_command_has_help(project: Project, command: list[str]) -> None:
    done = project.atlas(*command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout


def test_every_command_has_an_example() -> None:
    """The reference page is every command's help (scripts/docs)."""
    _, *helps = (ROOT / "docs" / "cli.md").read_text().split("## `")
    commands = {text.partition("`")[0]: text for text in helps if "COMMAND [ARGS]" not in text}
    assert {"atlas connector sync", "atlas state set", "atlas query"} <= set(commands)
    assert [name for name, text in commands.items() if "Example: atlas" not in text] == []


def test_refused_rows_are_listed_and_replayed(shop: Project) -> None:
    execute(shop, "INSERT INTO orders VALUES (4, 'Eve', 'much', '2026-01-02 09:00:00')")
    failed = shop.atlas("connector", "sync", "shop")
    assert failed.returncode == 7
    assert "quarantine_limit" in failed.stderr
    assert shop.atlas("connector", "update", "shop", "--set", "quarantine_limit=5").returncode == 0
    synced = shop.atlas("connector", "sync", "shop", "--json")
    assert synced.returncode == 0
    (stream,) = synced.json()["runs"][0]["streams"]
    assert (stream["rows_read"], stream["rows_loaded"], stream["rows_quarantined"]) == (4, 3, 1)
    assert "1 row was refused and kept aside: atlas quarantine list shop" in synced.stderr
    document = shop.atlas("quarantine", "list", "--json").json()
    assert document["total"] == 1
    (row,) = document["quarantine"]
    assert (row["connector"], row["stream"], row["key"]) == ("shop", "orders", {"id": "4"})
    assert row["row"]["amount"] == "much"
    assert (row["run_id"], row["column"]) == (synced.json()["runs"][0]["run_id"], "amount")
    assert "id=4" in shop.atlas("quarantine", "list", "shop", "--stream", "orders").stdout
    again = shop.atlas("quarantine", "replay", "shop", "--json")
    assert again.returncode == 7
    (stream,) = again.json()["streams"]
    assert stream == {"name": "orders", "loaded": 0, "outdated": 0, "remaining": 1, "warnings": []}
    (replay, *_) = shop.atlas("connector", "history", "shop", "--json").json()["runs"]
    assert (replay["triggered_by"], replay["status"]) == ("quarantine replay", "completed")
    execute(shop, "UPDATE orders SET amount = 7 WHERE id = 4")
    assert shop.atlas("connector", "sync", "shop").returncode == 0
    assert shop.atlas("quarantine", "list", "--json").json() == {"quarantine": [], "total": 0}
    assert shop.atlas("quarantine", "replay", "shop").returncode == 0


def test_refused_rows_are_listed_beside_a_definition_that_is_wrong(shop: Project) -> None:
    execute(shop, "INSERT INTO orders VALUES (4, 'Eve', 'much', '2026-01-02 09:00:00')")
    assert shop.atlas("connector", "update", "shop", "--set", "quarantine_limit=5").returncode == 0
    assert shop.atlas("connector", "sync", "shop").returncode == 0
    (shop.folder / "connectors.d" / "another.yaml").write_text("protocol: sqlit\n", encoding="utf-8")
    listed = shop.atlas("quarantine", "list", "--json")
    assert (listed.returncode, listed.json()["total"]) == (2, 1)
    assert "error: another: " in listed.stderr
    table = shop.atlas("quarantine", "list")
    assert (table.returncode, "id=4" in table.stdout) == (2, True)
    assert shop.atlas("quarantine", "list", "another").returncode == 2


def test_a_sync_and_the_next_one(shop: Project) -> None:
    document = shop.atlas("connector", "sync", "shop", "--json").json()
    assert document["status"] == "completed"
    (run,) = document["runs"]
    assert RUN_KEYS | {"streams"} <= set(run)
    assert run["started_at"].endswith("Z")
    (stream,) = run["streams"]
    assert set(stream) >= STREAM_KEYS
    assert (stream["rows_read"], stream["rows_loaded"], stream["table"]) == (3, 3, "shop.orders")
    assert stream["checkpoint"]["high"] == "2026-01-01T11:00:00.000000"
    execute(
        shop,
        "UPDATE orders SET customer = 'Ada L.', updated_at = '2026-01-02 09:00:00' WHERE id = 1",
        "INSERT INTO orders VALUES (4, 'Eve', 7, '2026-01-02 09:00:00')",
    )
    (run,) = shop.atlas("connector", "sync", "shop", "--json").json()["runs"]
    assert (run["rows_processed"], run["streams"][0]["rows_read"]) == (2, 4)
    answer = shop.atlas("query", "SELECT id, customer, amount FROM shop.orders ORDER BY id", "--json").json()
    assert answer["columns"] == ["id", "customer", "amount"]
    assert answer["rows"] == [
        [1, "Ada L.", "10.50"],
        [2, "Łukasz", "20.00"],
        [3, None, "0.10"],
        [4, "Eve", "7.00"],
    ]


def test_deleted_rows_are_told_and_too_many_are_refused(shop: Project) -> None:
    definition = shop.folder / "connectors.d" / "shop.yaml"
    text = definition.read_text().replace(
        "  cursor: updated_at", "  cursor: updated_at\n    deletes: reconcile"
    )
    definition.write_text(text)
    shop.atlas("connector", "sync", "shop", "-q")
    execute(
        shop,
        "DELETE FROM orders WHERE id = 1",
        "INSERT INTO orders VALUES (4, 'Eve', 7, '2026-01-02 09:00:00')",
    )
    refused = shop.atlas("connector", "sync", "shop")
    assert refused.returncode == 7
    _, loaded, error, hint, _more, _ = refused.stderr.splitlines()
    assert loaded.endswith("1 row into shop.orders (3 read)")
    assert "the source no longer has 1 of the 4 rows of shop.orders" in error
    assert "max_share: 0.25" in hint
    definition.write_text(text.replace("deletes: reconcile", "deletes: {how: soft, max_share: 0.25}"))
    done = shop.atlas("connector", "sync", "shop", "--json")
    (stream,) = done.json()["runs"][0]["streams"]
    assert (stream["status"], stream["rows_deleted"]) == ("completed", 1)
    assert "shop orders: 1 row marked as deleted that the source no longer has (3 kept)" in done.stderr


def test_partitions_of_a_source_without_ranges_are_told(shop: Project) -> None:
    execute(shop, "CREATE VIEW seen AS SELECT * FROM orders")
    shop.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [{table: seen, partitions: 4}]\n",
    )
    (stream,) = shop.atlas("connector", "sync", "shop", "--json").json()["runs"][0]["streams"]
    (warning,) = stream["warnings"]
    assert warning == "read by one connection, whatever `partitions` says: it is a view"


def test_lines_without_a_terminal_have_no_control_codes(shop: Project) -> None:
    done = shop.atlas("connector", "sync", "shop")
    assert "\x1b" not in done.stdout + done.stderr
    assert "3 rows into shop.orders" in done.stderr
    assert done.stdout == ""
    assert shop.atlas("connector", "sync", "shop", "-q").stderr == ""
    for line in shop.atlas("connector", "sync", "shop", "--log-format", "json").stderr.splitlines():
        assert json.loads(line)["time"].endswith("Z")


def test_all_of_nothing_is_told_with_the_folder(shop: Project, tmp_path: Path) -> None:
    shop.atlas("connector", "disable", "shop")
    done = shop.atlas("connector", "sync", "--all", "--json")
    assert (done.returncode, done.json()) == (0, {"status": "completed", "runs": []})
    assert done.stderr == f"nothing to sync: no connector is enabled in {shop.folder}\n"
    empty = tmp_path / "empty"
    empty.mkdir()
    for command in ("sync", "test"):
        done = shop.atlas("-C", str(empty), "connector", command, "--all")
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == f"nothing to {command}: there are no connectors in {empty}\n"
    assert shop.atlas("-C", str(empty), "connector", "sync", "--all", "-q").stderr == ""


@pytest.mark.parametrize(
    ("group", "commands"), [(["quarantine"], "list, replay"), (["schedule", "dead"], "list, retry, drop")]
)
def test_a_group_without_a_command_is_an_error_in_json(
    project: Project, group: list[str], commands: str
) -> None:
    done = project.atlas(*group, "--json")
    assert done.returncode == 2
    assert done.json()["error"]["hint"] == f"its commands are {commands}"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sync", "shop"], "table_not_found"),
        (["-vv", "sync", "shop"], "table_not_found"),
        (["sync", "none"], "unknown_connector"),
        (["sync", "shop", "--jobs", "x"], "usage"),
    ],
)
def test_errors_are_json_too_where_the_log_is(shop: Project, command: list[str], code: str) -> None:
    definition = shop.folder / "connectors.d" / "shop.yaml"
    definition.write_text(definition.read_text().replace("table: orders", "table: gone"))
    done = shop.atlas("connector", *command, "--log-format", "json")
    assert done.returncode != 0
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["code"] for line in lines if "code" in line] == [code]


def test_data_cannot_steer_a_terminal(shop: Project) -> None:
    execute(
        shop,
        "UPDATE orders SET customer = char(27) || '[31mred' || char(10) || 'x', updated_at = '2026-02-01'",
    )
    shop.atlas("connector", "sync", "shop")
    done = shop.atlas("query", "SELECT customer FROM shop.orders LIMIT 1")
    assert "\\x1b[31mred\\x0ax" in done.stdout


def test_lists_and_details(shop: Project) -> None:
    (line,) = shop.atlas("connector", "list", "--json").json()["connectors"]
    assert line["name"] == "shop"
    assert (line["protocol"], line["enabled"], line["last_sync_status"]) == ("sqlite", True, None)
    assert line["next_sync_at"].endswith("Z")
    shop.atlas("connector", "sync", "shop")
    (line,) = shop.atlas("connector", "list", "--json").json()["connectors"]
    assert line["last_sync_status"] == "completed"
    types = shop.atlas("connector", "types", "--json").json()
    assert types["total"] == len(types["connector_types"])
    assert {"protocol", "summary", "reads", "writes", "extra", "installed"} == set(
        types["connector_types"][0]
    )


def test_test_discover_and_preview(shop: Project) -> None:
    (result,) = shop.atlas("connector", "test", "shop", "--json").json()["results"]
    assert (result["connector"], result["connection_status"]) == ("shop", "success")
    assert {"message", "latency_ms", "server_version", "warnings"} <= set(result)
    (stream,) = shop.atlas("connector", "discover", "shop", "--json").json()["streams"]
    assert (stream["name"], stream["primary_key"]) == ("orders", ["id"])
    assert "updated_at" in stream["cursor_candidates"]
    assert stream["columns"][0].keys() == {"name", "type", "nullable"}
    preview = shop.atlas("connector", "preview", "shop", "--limit", "2", "--json").json()
    assert (preview["connector"], preview["stream"], len(preview["rows"])) == ("shop", "orders", 2)


def test_what_cannot_be_looked_at_is_named(shop: Project) -> None:
    wrong = {"streams": [{"name": "totals", "query": "SELECT amount FROM ordrs"}]}
    shop.write("connectors.d/wrong.yaml", json.dumps(SOURCE | wrong))
    error = shop.atlas("connector", "preview", "wrong", "--json").json()["error"]
    assert (error["connector"], error["stream"]) == ("wrong", "totals")
    (shop.folder / "shop.db").unlink()
    error = shop.atlas("connector", "discover", "shop", "--json").json()["error"]
    assert error["connector"] == "shop"


def test_history_counts_filters_and_names_nobody(shop: Project) -> None:
    for cause in ("one", "two", "three"):
        shop.atlas("connector", "sync", "shop", "--triggered-by", cause)
    document = shop.atlas("connector", "history", "shop", "--limit", "2", "--json").json()
    assert document["total_runs"] == 3
    assert [run["triggered_by"] for run in document["runs"]] == ["three", "two"]
    assert "streams" not in document["runs"][0]
    assert shop.atlas("connector", "history", "shop", "--status", "failed", "--json").json()["runs"] == []
    done = shop.atlas("connector", "history", "shpo")
    assert (done.returncode, "did you mean 'shop'?" in done.stderr) == (2, True)


def test_state_is_shown_set_and_reset(shop: Project) -> None:
    assert shop.atlas("state", "show", "shop", "--json").json() == {"connector": "shop", "streams": []}
    (run,) = shop.atlas("connector", "sync", "shop", "--json").json()["runs"]
    (line,) = shop.atlas("state", "show", "shop", "--json").json()["streams"]
    assert (line["name"], line["high"]) == ("orders", "2026-01-01T11:00:00.000000")
    assert line["run_id"] == run["run_id"]
    assert line["committed_at"].endswith("Z")
    assert shop.atlas("state", "set", "shop", "2026-01-01 10:00:00").returncode == 0
    (run,) = shop.atlas("connector", "sync", "shop", "--json").json()["runs"]
    assert run["streams"][0]["rows_read"] == 3
    assert shop.atlas("state", "set", "shop", "soon").returncode == 2
    assert shop.atlas("state", "reset", "shop", "--stream", "orders").returncode == 0
    assert shop.atlas("state", "show", "shop", "--json").json()["streams"] == []
    assert shop.atlas("connector", "sync", "shop", "--json").json()["runs"][0]["streams"][0]["rows_read"] == 3
    rows = shop.atlas("query", "SELECT count(*) FROM shop.orders", "--json").json()["rows"]
    assert rows == [[3]]


def test_a_full_refresh_forgets_what_the_source_lost(shop: Project) -> None:
    shop.atlas("connector", "sync", "shop")
    execute(shop, "DELETE FROM orders WHERE id = 1")
    shop.atlas("connector", "sync", "shop", "--full-refresh")
    assert shop.atlas("query", "SELECT id FROM shop.orders ORDER BY 1", "--json").json()["rows"] == [[2], [3]]


def test_a_deleted_warehouse_is_loaded_again_and_a_deleted_state_changes_nothing(shop: Project) -> None:
    shop.atlas("connector", "sync", "shop")
    (shop.folder / "warehouse.duckdb").unlink()
    assert shop.atlas("connector", "sync", "shop", "--json").json()["runs"][0]["rows_processed"] == 3
    for file in (shop.folder / ".atlas").iterdir():
        file.unlink()
    assert shop.atlas("connector", "sync", "shop", "--json").json()["runs"][0]["rows_processed"] == 0


def test_definitions_are_changed_and_removed(shop: Project) -> None:
    done = shop.atlas(
        "connector", "update", "shop", "--set", "schedule=@daily", "--set", "database_path=other.db"
    )
    assert done.returncode == 0, done.stderr
    settings = shop.atlas("connector", "show", "shop", "--json").json()["settings"]
    assert settings["schedule"] == "@daily"
    assert settings["connection.database_path"] == "other.db"
    wrong = shop.atlas("connector", "update", "shop", "--set", "databse_path=x")
    assert (wrong.returncode, "database_path" in wrong.stderr) == (2, True)
    assert shop.atlas("connector", "show", "shop", "--json").json()["settings"] == settings
    assert shop.atlas("connector", "update", "shop", "--set", "streams[0].lag=5m").returncode == 0
    settings = shop.atlas("connector", "show", "shop", "--json").json()["settings"]
    assert settings["streams[0].lag"] == "5m"
    by_name = shop.atlas("connector", "update", "shop", "--set", "streams.orders.lag=5m")
    assert (by_name.returncode, "streams[0].lag" in by_name.stderr) == (2, True)
    shop.atlas("connector", "disable", "shop")
    assert shop.atlas("connector", "list", "--json").json()["connectors"][0]["enabled"] is False
    assert shop.atlas("connector", "sync", "--all", "--json").json() == {"status": "completed", "runs": []}
    shop.atlas("connector", "enable", "shop")
    assert shop.atlas("connector", "remove", "shop").returncode == 0
    assert shop.atlas("connector", "list", "--json").json() == {"connectors": []}


def test_add_refuses_what_cannot_work_and_writes_nothing(project: Project) -> None:
    def add(*more: str, input: str | None = None) -> tuple[int, str]:
        done = project.atlas("connector", "add", "x", *more, input=input)
        return done.returncode, done.stderr

    code, text = add("--protocol", "postgrsql")
    assert (code, "'postgresql'" in text) == (2, True)
    code, text = add("--protocol", "sqlite", "--set", "databse_path=x.db")
    assert (code, "database_path" in text) == (2, True)
    code, _ = add("--protocol", "sqlite", "--set", "database_path=missing.db", "--table", "t")
    assert code == 3
    code, _ = add(
        "--protocol", "sqlite", "--set", "database_path=missing.db", "--table", "t", "--schedule", "soon"
    )
    assert code == 2
    code, text = add("--protocol", "sqlite", "--set", "streams[0].table=t")
    assert (code, "--table" in text) == (2, True)
    own = project.write("atlas.yaml", "destinaton: warehouse\n")
    code, text = add("--protocol", "sqlite", "--set", "database_path=x.db", "--table", "t", "--no-test")
    assert (code, "destinaton: unknown key" in text) == (2, True)
    own.unlink()
    assert not list((project.folder / "connectors.d").glob("x.*"))
    code, _ = add("--protocol", "sqlite", "--set", "database_path=missing.db", "--table", "t", "--no-test")
    assert code == 0


@pytest.mark.parametrize(
    ("flags", "then"),
    [
        (("--protocol", "sqlite", "--set", "database_path=x.db"), "discover x, and `streams:` in the file"),
        (("--protocol", "sqlite", "--set", "database_path=x.db", "--table", "t"), "sync x"),
        (("--protocol", "csv", "--set", "path=*.csv"), "sync x"),
    ],
)
def test_what_comes_next_is_what_there_is_to_do(project: Project, flags: tuple[str, ...], then: str) -> None:
    done = project.atlas("connector", "add", "x", *flags, "--no-test")
    assert done.stdout.endswith(f"next: atlas connector {then}\n")


def test_a_secret_comes_from_stdin_and_is_never_shown(project: Project) -> None:
    done = project.atlas(
        "connector", "add", "pg", "--protocol", "postgresql", "--set", "host=localhost",
        "--set", "username=etl", "--set", "password=-", "--table", "orders", "--no-test",
        input="s3cr3t-word\n",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    file = project.folder / "connectors.d" / "pg.yaml"
    assert "password: ${secret:pg/password}" in file.read_text()
    found = [path.read_bytes() for path in project.folder.rglob("*") if path.is_file()]
    assert found
    assert not any(b"s3cr3t-word" in content for content in found)
    for command in (["connector", "show", "pg"], ["config", "show", "pg", "--origin"], ["connector", "list"]):
        shown = project.atlas(*command)
        assert shown.returncode == 0, shown.stderr
        assert "s3cr3t-word" not in shown.stdout + shown.stderr + done.stdout + done.stderr


def test_the_older_json_form_loads_with_the_same_meaning(shop: Project) -> None:
    older = {
        "source_name": "legacy", "source_type": "sqlite", "config": {"database_path": "shop.db"},
        "table": "orders", "incremental": True, "timestamp_column": "updated_at",
        "schedule_cron": "0 6 * * *", "enabled": True, "description": "as it was",
    }  # fmt: skip
    file = shop.write("older.json", json.dumps(older))
    done = shop.atlas("connector", "add", "legacy", "--from-file", str(file))
    assert done.returncode == 0, done.stderr
    (run,) = shop.atlas("connector", "sync", "legacy", "--json").json()["runs"]
    assert (run["rows_processed"], run["streams"][0]["checkpoint"]["high"]) == (
        3,
        "2026-01-01T11:00:00.000000",
    )


def test_partial_and_failed_runs_have_their_exit_codes(shop: Project) -> None:
    shop.write(
        "connectors.d/mixed.yaml",
        "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [orders, {table: nothing}]\n",
    )
    done = shop.atlas("connector", "sync", "mixed", "--json")
    assert done.returncode == 5
    document = done.json()
    assert document["status"] == "partial"
    error = document["runs"][0]["streams"][1]["error"]
    assert (error["code"], "nothing" in error["message"]) == ("table_not_found", True)
    shop.write(
        "connectors.d/lost.yaml", "protocol: sqlite\nconnection: {database_path: no.db}\nstreams: [orders]\n"
    )
    assert shop.atlas("connector", "sync", "lost").returncode == 3
    assert shop.atlas("connector", "sync", "shop", "lost").returncode == 5
    assert shop.atlas("connector", "test", "lost").returncode == 3
    assert shop.atlas("connector", "sync").returncode == 2
    assert shop.atlas("connector", "sync", "shop", "--stream", "order").returncode == 2


def test_a_null_cursor_and_a_changed_type_break_a_rule(shop: Project) -> None:
    shop.atlas("connector", "sync", "shop")
    execute(shop, "INSERT INTO orders VALUES (9, 'x', 1, NULL)")
    done = shop.atlas("connector", "sync", "shop", "--json")
    assert done.returncode == 7
    assert "updated_at" in done.json()["runs"][0]["error"]["message"]
    assert shop.atlas("query", "SELECT count(*) FROM shop.orders", "--json").json()["rows"] == [[3]]


def test_an_error_is_a_document_too(shop: Project) -> None:
    done = shop.atlas("connector", "discover", "shpo", "--json")
    error = done.json()["error"]
    assert set(error) == {"code", "message", "hint", "connector", "stream"}
    assert (done.returncode, error["code"]) == (2, "unknown_connector")
    assert "Traceback" not in done.stderr
    assert "Traceback" in shop.atlas("connector", "discover", "shpo", "-vv").stderr


def test_a_second_run_at_once_is_refused(shop: Project) -> None:
    def fill(rows: int) -> None:
        numbers = f"n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        view = f"CREATE VIEW big AS WITH RECURSIVE {numbers} SELECT i FROM n"
        execute(shop, "DROP VIEW IF EXISTS big", view)

    fill(10**12)  # so that the first one is there for as long as anybody looks
    shop.write(
        "connectors.d/big.yaml", "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [big]\n"
    )
    first = shop.start("connector", "sync", "big")
    history = ("connector", "history", "big", "--status", "running", "--json")
    until(lambda: shop.atlas(*history).json()["runs"], "the first run is seen")
    second = shop.atlas("connector", "sync", "big", "--json")
    assert second.returncode == 6, second.stderr
    assert second.json()["runs"][0]["status"] == "skipped"
    first.kill()
    first.wait()
    assert shop.atlas("connector", "history", "big", "--json").json()["runs"][-1]["status"] == "interrupted"
    fill(3)
    assert shop.atlas("connector", "sync", "big").returncode == 0
    assert shop.atlas("query", "SELECT count(*) FROM big.big", "--json").json()["rows"] == [[3]]


def test_several_connectors_side_by_side(shop: Project) -> None:
    for number in range(4):
        shop.write(
            f"connectors.d/c{number}.yaml",
            "protocol: sqlite\nconnection: {database_path: shop.db}\n"
            "streams: [{table: orders, cursor: id}]\n",
        )
    document = shop.atlas("connector", "sync", "--all", "--jobs", "3", "--json").json()
    assert document["status"] == "completed"
    assert sorted(run["connector"] for run in document["runs"]) == ["c0", "c1", "c2", "c3", "shop"]
    assert all(run["rows_processed"] == 3 for run in document["runs"])


def test_the_environment_overrides_a_connection(shop: Project) -> None:
    done = shop.atlas(
        "connector", "test", "shop", env={"ATLAS_CONNECTOR_SHOP__DATABASE_PATH": "elsewhere.db"}
    )
    assert (done.returncode, "elsewhere.db" in done.stderr) == (3, True)
    origin = shop.atlas(
        "config", "show", "shop", "--origin", env={"ATLAS_CONNECTOR_SHOP__DATABASE_PATH": "e.db"}
    )
    assert "ATLAS_CONNECTOR_SHOP__DATABASE_PATH" in origin.stdout


def test_config_check_warns_of_passwords_that_others_may_read(shop: Project) -> None:
    text = "protocol: postgresql\nconnection:\n  database: d\n  password: {}\nstreams: [t]\n"
    file = shop.write("connectors.d/open.yaml", text.format("hunter2hunter2"))
    file.chmod(0o640)
    done = shop.atlas("config", "check")
    assert done.returncode == 0
    assert "password is written out at connectors.d/open.yaml:4, which others may read" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    (warning,) = shop.atlas("config", "check", "open", "--json").json()["warnings"]
    assert warning["connector"] == "open"
    file.chmod(0o600)
    assert "written out" not in shop.atlas("config", "check").stderr
    shop.write("connectors.d/open.yaml", text.format("${env:PASSWORD}")).chmod(0o644)
    assert "written out" not in shop.atlas("config", "check", env={"PASSWORD": "x"}).stderr


def test_config_check_names_file_key_and_nearest(shop: Project) -> None:
    assert shop.atlas("config", "check").returncode == 0
    shop.write(
        "connectors.d/typo.yaml", "protocol: sqlite\nconnection: {database_path: a.db}\nstreems: [orders]\n"
    )
    done = shop.atlas("config", "check")
    assert done.returncode == 2
    assert "connectors.d/typo.yaml:3" in done.stderr
    assert "streams" in done.stderr
    schema = shop.atlas("config", "schema").json()
    assert "sqlite" in schema["properties"]["protocol"]["enum"]


def test_init_writes_what_is_missing_only(project: Project) -> None:
    made = project.atlas("init", "new", "--json").json()["made"]
    assert {"atlas.yaml", ".gitignore"} <= set(made)
    assert ".atlas/" in (project.folder / "new" / ".gitignore").read_text()
    (project.folder / "new" / "atlas.yaml").write_text("timezone: Europe/Berlin\n")
    assert project.atlas("init", "new", "--json").json()["made"] == []
    assert project.atlas("-C", "new", "connector", "list").returncode == 0
    assert project.atlas("connector", "list", "-C", "nowhere").returncode == 2


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").exists(), reason="needs an unwritable folder")
def test_a_destination_that_cannot_be_written(shop: Project) -> None:
    shop.write("atlas.yaml", "destinations: {warehouse: {protocol: duckdb, path: missing/folder/w.duckdb}}\n")
    done = shop.atlas("connector", "sync", "shop", "--json")
    assert done.returncode == 4
    shop.write("atlas.yaml", "state: /proc/atlas/state.db\n")
    assert shop.atlas("connector", "sync", "shop").returncode == 4


def test_a_corrupt_state_file_is_named(shop: Project) -> None:
    shop.write(".atlas/state.db", "this is no database, and never was one" * 100)
    done = shop.atlas("connector", "sync", "shop")
    assert (done.returncode, "state.db" in done.stderr) == (4, True)
    assert not (shop.folder / "warehouse.duckdb").exists()


def test_a_wrong_query_is_a_usage_error(shop: Project) -> None:
    assert shop.atlas("query", "SELEC 1").returncode == 2
    done = shop.atlas("query", "SELECT * FROM nothing")
    assert (done.returncode, "nothing" in done.stderr) == (2, True)


def test_quickstart_moves_rows_and_shows_an_answer(project: Project) -> None:
    document = project.atlas("quickstart", "demo", "--json").json()
    first, second = document["runs"]
    assert (first["status"], second["status"]) == ("completed", "completed")
    assert first["rows_processed"] > 30_000
    assert second["rows_processed"] == 930 + 72 + 54
    assert document["columns"][0] == "city"
    with duckdb.connect(str(project.folder / "demo" / "warehouse.duckdb")) as warehouse:
        (kind,) = warehouse.execute(
            "SELECT data_type FROM duckdb_columns() "
            "WHERE table_name = 'flights' AND column_name = 'updated_at'"
        ).fetchone() or ("",)
    assert kind == "TIMESTAMP"
    assert project.atlas("quickstart", "demo").returncode == 2


def test_a_broken_definition_hides_no_other_and_keeps_none_from_running(shop: Project) -> None:
    """Of those that are named, all run or none: exit code 2 says that nothing was touched."""
    shop.write("connectors.d/broken.yaml", "protocol: sqlite\nstreams: 7\n")
    listed = shop.atlas("connector", "list", "--json")
    broken, whole = listed.json()["connectors"]
    assert listed.returncode == 2
    assert (broken["name"], whole["name"], whole["protocol"]) == ("broken", "shop", "sqlite")
    assert broken["error"]["connector"] == "broken"
    assert "connectors.d/broken.yaml" in broken["error"]["message"]
    assert "connectors.d/broken.yaml" in shop.atlas("connector", "list").stderr
    synced = shop.atlas("connector", "sync", "shop", "broken", "--json")
    assert (synced.returncode, synced.json()["error"]["connector"]) == (2, "broken")
    assert shop.atlas("connector", "history", "--json").json()["total_runs"] == 0
    shop.write("connectors.d/resting.yaml", "protocol: sqlite\nconnection: {}\nenabled: false\n")
    synced = shop.atlas("connector", "sync", "--all", "--json")
    assert synced.returncode == 5
    assert synced.json()["status"] == "partial"
    wrong, done = synced.json()["runs"]
    assert (wrong["connector"], wrong["status"], wrong["streams"]) == ("broken", "failed", [])
    assert "connectors.d/broken.yaml" in wrong["error"]["message"]
    assert "error: broken: connectors.d/broken.yaml" in synced.stderr
    assert (done["connector"], done["status"]) == ("shop", "completed")
    kept = shop.atlas("connector", "history", "broken", "--json").json()["runs"]
    assert [(run["run_id"], run["error"]) for run in kept] == [(wrong["run_id"], wrong["error"])]
    shop.atlas("connector", "disable", "shop")
    alone = shop.atlas("connector", "sync", "--all", "--json")
    assert (alone.returncode, alone.json()["error"]["connector"]) == (2, "broken")
    assert shop.atlas("connector", "history", "--json").json()["total_runs"] == 2


def test_a_table_that_is_not_there_is_not_added(shop: Project) -> None:
    flags = (
        "--protocol",
        "sqlite",
        "--set",
        "database_path=shop.db",
        "--table",
        "orders",
        "--table",
        "ordes",
    )
    done = shop.atlas("connector", "add", "again", *flags, "--json")
    assert done.returncode == 3
    error = done.json()["error"]
    assert (error["code"], error["stream"]) == ("table_not_found", "ordes")
    assert "'orders'" in error["hint"]
    assert not (shop.folder / "connectors.d/again.yaml").exists()
    assert shop.atlas("connector", "add", "again", *flags, "--no-test").returncode == 0


def test_a_history_without_runs_says_what_begins_one(shop: Project) -> None:
    done = shop.atlas("connector", "history", "shop")
    assert (done.returncode, done.stdout) == (0, "no runs yet; `atlas connector sync` begins one\n")
    done = shop.atlas("connector", "history", "--status", "failed")
    assert (done.returncode, done.stdout) == (0, "no run is failed\n")


@pytest.mark.parametrize("flag", ["--cursor", "--primary-key"])
def test_a_column_that_is_not_there_is_not_added(shop: Project, flag: str) -> None:
    flags = ("--protocol", "sqlite", "--set", "database_path=shop.db", "--table", "orders")
    done = shop.atlas("connector", "add", "again", *flags, flag, "updatd_at", "--json")
    error = done.json()["error"]
    assert (done.returncode, error["code"], error["stream"]) == (3, "column_not_found", "orders")
    assert "'updated_at'" in error["hint"]
    assert not (shop.folder / "connectors.d/again.yaml").exists()


def test_a_slot_is_run_once(shop: Project) -> None:
    slot = ("connector", "sync", "shop", "--slot", "2026-03-01T06:00:00Z", "--triggered-by", "cron", "--json")
    first = shop.atlas(*slot)
    assert (first.returncode, first.json()["status"]) == (0, "completed")
    again = shop.atlas(*slot)
    assert (again.returncode, again.json()["status"]) == (6, "skipped")
    assert "is settled (completed" in again.stderr
    wrong = shop.atlas("connector", "sync", "shop", "--slot", "tomorrow")
    assert wrong.returncode == 2
    assert "--slot: 'tomorrow' is no time" in wrong.stderr
