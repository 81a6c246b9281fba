"""`atlas connector verify` as scripts use it: its document, its exit codes, its run in the history."""

from __future__ import annotations

import re
from dataclasses import replace

import duckdb
import pytest
from tests.integration.test_cli import execute
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers.postgres import connect

DIFFERENT, LOCKED, PARTIAL = 8, 6, 5
KEYS = {"name", "status", "source_rows", "destination_rows", "missing", "extra", "changed"}


def at_warehouse(project: Project, *statements: str) -> None:
    with duckdb.connect(str(project.folder / "warehouse.duckdb")) as client:
        for statement in statements:
            client.execute(statement)


@pytest.fixture
def shop(project: Project) -> Project:
    """A shop of two tables, synced; each row of `orders` has a day of its own."""
    execute(
        project,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, secret TEXT, updated_at TIMESTAMP)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 28) "
        "INSERT INTO orders SELECT i, 'hidden-' || i, date('2026-01-01', i || ' days') FROM n",
        "CREATE TABLE colours (name TEXT)",
        "INSERT INTO colours VALUES ('red'), ('green')",
    )
    project.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection: {database_path: shop.db}\n"
        "streams:\n  - {table: orders, cursor: updated_at}\n  - {table: colours}\n",
    )
    done = project.atlas("connector", "sync", "shop")
    assert done.returncode == 0, done.stderr
    return project


def test_equal_different_and_repaired(shop: Project) -> None:
    done = shop.atlas("connector", "verify", "shop", "--json")
    assert done.returncode == 0, done.stderr
    document = done.json()
    assert document["connector"] == "shop"
    orders, colours = document["streams"]
    assert set(orders) >= KEYS
    assert (orders["name"], orders["status"], orders["source_rows"]) == ("orders", "equal", 28)
    assert (colours["status"], colours["destination_rows"], colours["keys"]) == ("equal", 2, [])
    at_warehouse(
        shop,
        "DELETE FROM shop.orders WHERE id = 3",
        "UPDATE shop.orders SET secret = 'other' WHERE id BETWEEN 10 AND 20",
        "INSERT INTO shop.orders (id) VALUES (99)",
        "INSERT INTO shop.colours VALUES ('red')",
    )
    done = shop.atlas("connector", "verify", "shop", "--stream", "orders", "--json")
    assert done.returncode == DIFFERENT
    (orders,) = done.json()["streams"]
    assert {name: orders[name] for name in (*KEYS, "pending", "differing_keys")} == {
        "name": "orders", "status": "different", "source_rows": 28, "destination_rows": 28,
        "missing": 1, "extra": 1, "changed": 11, "pending": 0, "differing_keys": 13,
    }  # fmt: skip
    assert orders["keys"][:2] == [
        {"kind": "missing", "key": {"id": "3"}},
        {"kind": "changed", "key": {"id": "10"}},
    ]
    assert len(orders["keys"]) == 10
    done = shop.atlas("connector", "verify", "shop")
    assert done.returncode == DIFFERENT
    assert "orders: missing id=3\n" in done.stdout
    assert "orders: and 3 more\n" in done.stdout
    assert "orders, colours differ from the source" in done.stderr
    assert "--repair" in done.stderr
    assert "hidden" not in done.stdout + done.stderr  # of other values nothing is said
    assert shop.atlas("connector", "history", "shop", "--json").json()["total_runs"] == 1
    done = shop.atlas("connector", "verify", "shop", "--repair")
    assert done.returncode == 0, done.stderr
    assert "shop orders: repaired: 12 rows read again" in done.stderr
    run, _ = shop.atlas("connector", "history", "shop", "--json").json()["runs"]
    assert (run["status"], run["triggered_by"], run["rows_processed"]) == ("completed", "verify --repair", 14)
    assert shop.atlas("connector", "verify", "shop").returncode == 0
    assert shop.atlas("connector", "sync", "shop").returncode == 0


def test_what_cannot_be_verified_is_an_error(shop: Project) -> None:
    done = shop.atlas("connector", "verify", "shop", "--stream", "order", "--json")
    assert done.returncode == 2
    assert "orders" in done.json()["error"]["hint"]
    (shop.folder / "shop.db").rename(shop.folder / "gone.db")
    done = shop.atlas("connector", "verify", "shop", "--json")
    assert done.returncode == 3
    assert done.json()["error"]["connector"] == "shop"


def test_a_stream_that_cannot_be_repaired_does_not_stop_the_others(shop: Project) -> None:
    execute(shop, "DELETE FROM orders", "INSERT INTO colours VALUES ('blue')")
    done = shop.atlas("connector", "verify", "shop", "--repair", "--json")
    assert done.returncode == PARTIAL
    assert done.json()["error"]["code"] == "too_many_deletes"
    assert [stream["status"] for stream in done.json()["streams"]] == ["failed", "equal"]
    run, _ = shop.atlas("connector", "history", "shop", "--json").json()["runs"]
    assert (run["status"], run["rows_processed"]) == ("partial", 3)
    assert shop.atlas("connector", "verify", "shop", "--stream", "colours").returncode == 0


def test_a_stream_that_cannot_be_compared_does_not_stop_the_others(shop: Project) -> None:
    execute(shop, "DROP TABLE orders")
    done = shop.atlas("connector", "verify", "shop", "--json")
    assert done.returncode == PARTIAL
    orders, colours = sorted(done.json()["streams"], key=lambda stream: stream["name"] != "orders")
    assert (orders["name"], orders["status"]) == ("orders", "failed")
    assert orders["error"] == done.json()["error"]
    assert (orders["error"]["code"], orders["error"]["stream"]) == ("table_not_found", "orders")
    assert (colours["name"], colours["status"], colours["source_rows"]) == ("colours", "equal", 2)
    at_warehouse(shop, "INSERT INTO shop.colours VALUES ('red')")
    done = shop.atlas("connector", "verify", "shop")
    assert done.returncode == DIFFERENT
    assert "error: shop orders: " in done.stderr
    assert "colours differs from the source" in done.stderr
    assert done.stderr.index("shop orders: ") < done.stderr.index("colours differs")
    assert re.search(r"orders +failed", done.stdout)
    done = shop.atlas("connector", "verify", "shop", "--stream", "orders", "--json")
    assert done.returncode == 3
    assert [stream["status"] for stream in done.json()["streams"]] == ["failed"]


def test_blanks_at_the_end_of_a_char_are_a_difference(project: Project, postgres: ServerAddress) -> None:
    project.write("atlas.yaml", f"destinations: {{pg: '{postgres.url('postgresql')}'}}")
    project.write(
        "connectors.d/copy.yaml",
        "protocol: postgresql\ndestination: pg\n"
        f"connection: {{host: {postgres.host}, port: {postgres.port}, database: {postgres.database}, "
        f"username: {postgres.username}, password: {postgres.password}}}\n"
        "streams: [{table: public.t, name: t}]\n",
    )
    with connect(postgres) as client:
        client.execute("CREATE TABLE t (id int PRIMARY KEY, code char(5))")
        client.execute("INSERT INTO t VALUES (1, 'ab'), (2, 'abcde')")
        done = project.atlas("connector", "sync", "copy")
        assert done.returncode == 0, done.stderr
        assert project.atlas("connector", "verify", "copy").returncode == 0
        client.execute("UPDATE copy.t SET code = rtrim(code)")
    (found,) = project.atlas("connector", "verify", "copy", "--json").json()["streams"]
    assert (found["status"], found["changed"]) == ("different", 1)


def test_what_was_found_is_kept_without_rows_or_keys(shop: Project) -> None:
    assert shop.atlas("connector", "history", "shop", "--verifications", "--json").json() == {
        "connector": "shop", "total_verifications": 0, "verifications": [],
    }  # fmt: skip
    (line,) = shop.atlas("connector", "list", "--json").json()["connectors"]
    assert (line["last_verify_at"], line["last_verify_status"]) == (None, None)
    assert shop.atlas("connector", "verify", "shop").returncode == 0
    at_warehouse(shop, "DELETE FROM shop.orders WHERE id = 17")
    assert shop.atlas("connector", "verify", "shop", "--stream", "orders").returncode == DIFFERENT
    document = shop.atlas("connector", "history", "shop", "--verifications", "--json").json()
    assert document["total_verifications"] == 3
    latest, colours, first = document["verifications"]
    assert set(latest) == {
        "connector", "name", "status", "verified_at", "duration_seconds", "mode", "source_rows",
        "destination_rows", "missing", "extra", "changed", "pending", "quarantined",
    }  # fmt: skip
    assert (latest["name"], latest["status"], latest["mode"]) == ("orders", "different", "compare")
    assert (latest["source_rows"], latest["destination_rows"], latest["missing"]) == (28, 27, 1)
    assert (colours["name"], colours["status"], first["status"]) == ("colours", "equal", "equal")
    (line,) = shop.atlas("connector", "list", "--json").json()["connectors"]
    assert (line["last_verify_at"], line["last_verify_status"]) == (latest["verified_at"], "different")
    assert shop.atlas("connector", "verify", "shop", "--repair").returncode == 0
    after = shop.atlas("connector", "history", "shop", "--verifications", "--json").json()["verifications"]
    assert [(each["name"], each["status"], each["mode"]) for each in after[:3]] == [
        ("colours", "equal", "repair"), ("orders", "equal", "repair"), ("orders", "different", "repair"),
    ]  # fmt: skip
    (line,) = shop.atlas("connector", "list", "--json").json()["connectors"]
    assert line["last_verify_status"] == "equal"
    text = shop.atlas("connector", "history", "shop", "--verifications", "--limit", "1").stdout
    assert "colours" in text
    assert "orders" not in text
    for state in shop.folder.glob(".atlas/state.db*"):
        assert b"hidden" not in state.read_bytes()


def test_options_of_history_that_exclude_each_other(shop: Project) -> None:
    both = shop.atlas("connector", "history", "--tests", "--verifications")
    assert both.returncode == 2
    assert "--tests and --verifications show different things" in both.stderr
    done = shop.atlas("connector", "history", "--verifications", "--status", "failed")
    assert done.returncode == 2
    assert shop.atlas("connector", "history", "shp", "--verifications").returncode == 2


def test_a_state_that_cannot_be_written_is_told_and_holds_nothing_up(
    shop: Project, postgres: ServerAddress
) -> None:
    shop.write("atlas.yaml", "state: {protocol: sqlite, database_path: /proc/atlas/state.db}\n")
    done = shop.atlas("connector", "verify", "shop", "--json")
    assert done.returncode == 0, done.stderr
    assert [each["status"] for each in done.json()["streams"]] == ["equal", "equal"]
    assert done.stderr.count("warning: the result is not kept: the state file /proc/atlas/state.db") == 1
    assert shop.atlas("connector", "verify", "shop", "--repair").returncode == 4
    shop.write("atlas.yaml", "state: ${env:STATE}\n")
    everybody = {"STATE": postgres.url("postgresql")}
    assert shop.atlas("connector", "verify", "shop", env=everybody).returncode == 0
    at_warehouse(shop, "DELETE FROM shop.orders WHERE id = 17")
    with connect(postgres) as client:
        client.execute("CREATE ROLE atlas_verify_reader LOGIN PASSWORD 'x'")
        try:
            client.execute(
                "GRANT USAGE ON SCHEMA pipeline TO atlas_verify_reader;"
                "GRANT SELECT ON ALL TABLES IN SCHEMA pipeline TO atlas_verify_reader"
            )
            reader = {
                "STATE": replace(postgres, username="atlas_verify_reader", password="x").url("postgresql")
            }
            done = shop.atlas("connector", "verify", "shop", env=reader)
            assert done.returncode == DIFFERENT
            assert "warning: the result is not kept" in done.stderr
            client.execute(  # all but the new table
                "GRANT INSERT, UPDATE ON pipeline.leases, pipeline.slots, pipeline.scheduled_runs"
                " TO atlas_verify_reader"
            )
            done = shop.atlas("connector", "verify", "shop", env=reader)
            assert done.returncode == DIFFERENT
            assert done.stderr.count("warning: the result is not kept") == 1
            assert "a sync at the same time" not in done.stderr
            document = shop.atlas("connector", "history", "--verifications", "--json", env=reader).json()
            assert document["total_verifications"] == 2
            assert shop.atlas("report", env=reader).returncode == 0
        finally:
            client.execute("DROP OWNED BY atlas_verify_reader CASCADE; DROP ROLE atlas_verify_reader")
