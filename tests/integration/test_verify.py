"""`atlas connector verify` as scripts use it: its document, its exit codes, its run in the history."""

from __future__ import annotations

import duckdb
import pytest
from tests.integration.test_cli import execute
from tests.project import Project

DIFFERENT, LOCKED = 8, 6
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
    assert done.returncode == 7
    assert done.json()["error"]["code"] == "too_many_deletes"
    run, _ = shop.atlas("connector", "history", "shop", "--json").json()["runs"]
    assert (run["status"], run["rows_processed"]) == ("partial", 3)
    assert shop.atlas("connector", "verify", "shop", "--stream", "colours").returncode == 0
