"""Keys that are read in another form than those that were loaded: no row is doubled or deleted by it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import duckdb
from tests.project import Finished, Project

OWNER = """protocol: sqlite
connection: {{database_path: shop.db}}
streams:
- table: orders
  cursor: seen
  primary_key: [id]
  disposition: {disposition}
  quarantine_limit: 10
  hazards: {{type_mismatch: {policy}}}
  deletes: {{how: hard, max_share: 1}}
"""


def change(project: Project, *statements: str) -> None:
    with closing(sqlite3.connect(project.folder / "shop.db")) as source, source:
        for statement in statements:
            source.execute(statement)


def sync(project: Project, policy: str, *more: str, disposition: str = "merge") -> Finished:
    project.write("connectors.d/shop.yaml", OWNER.format(policy=policy, disposition=disposition))
    return project.atlas("connector", "sync", "shop", *more, "--json")


def ids(project: Project) -> list[str]:
    with duckdb.connect(str(project.folder / "warehouse.duckdb")) as warehouse:
        return sorted(str(row[0]) for row in warehouse.sql("SELECT id FROM shop.orders").fetchall())


def test_a_key_that_is_refused_now_keeps_the_row_that_was_loaded_before(project: Project) -> None:
    """Where policies let its column be text, the table has it."""
    change(
        project,
        "CREATE TABLE orders (id INTEGER, seen INTEGER)",
        "INSERT INTO orders VALUES (1, 1), ('odd', 2), (x'61ff', 3), (1.5, 4), (5, 5)",
    )
    assert sync(project, "text").returncode == 0
    there = ["1", "1.5", "5", "61ff", "odd"]
    assert ids(project) == there
    change(project, "DELETE FROM orders WHERE id = 1")
    done = sync(project, "quarantine")
    assert done.json()["runs"][0]["streams"][0]["rows_deleted"] == 1, done.stderr
    assert ids(project) == there[1:]
    change(project, "DELETE FROM orders WHERE id = 'odd'")
    assert sync(project, "quarantine").returncode == 0
    assert ids(project) == ["1.5", "5", "61ff"]


def test_a_key_that_its_table_cannot_have_any_more_is_told_and_kept_aside_by_a_repair(
    project: Project,
) -> None:
    change(
        project,
        "CREATE TABLE orders (id INTEGER, seen INTEGER)",
        "INSERT INTO orders VALUES (1, 1), (2, 2), (3, 3)",
    )
    assert sync(project, "quarantine").returncode == 0
    change(project, "UPDATE orders SET id = 'odd' WHERE id = 1")
    (stream,) = sync(project, "quarantine").json()["runs"][0]["streams"]
    assert (stream["rows_deleted"], stream["rows_quarantined"]) == (1, 0)
    assert "`atlas connector verify shop --repair` keeps aside" in stream["warnings"][0]
    assert project.atlas("connector", "verify", "shop").returncode == 8
    assert project.atlas("connector", "verify", "shop", "--repair").returncode == 0
    assert "id=odd" in project.atlas("quarantine", "list", "shop").stdout
    assert ids(project) == ["2", "3"]


def test_numbers_of_a_key_that_turn_into_texts_and_back_need_a_full_refresh(project: Project) -> None:
    change(
        project,
        "CREATE TABLE orders (id DECIMAL(5, 2), seen INTEGER)",
        "INSERT INTO orders VALUES (1.25, 1), (2, 2), (3, 3)",
    )
    assert sync(project, "quarantine").returncode == 0
    before = ["1.25", "2.00", "3.00"]
    change(project, "INSERT INTO orders VALUES ('odd', 4)")
    for policy, texts in (("text", ["1.25", "2", "3", "odd"]), ("quarantine", before)):
        for disposition in ("merge", "append"):
            refused = sync(project, policy, disposition=disposition)
            (stream,) = refused.json()["runs"][0]["streams"]
            assert (refused.returncode, stream["error"]["code"]) == (7, "key_changed")
            assert ids(project) == before
        assert sync(project, policy, "--full-refresh").returncode == 0
        assert ids(project) == texts
        assert sync(project, policy).returncode == 0
        assert ids(project) == texts
        before = texts
