"""A destination in memory, which is gone with the command: rows are not loaded into it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from tests.project import Project

IN_MEMORY = ["{protocol: duckdb}", "{protocol: duckdb, path: ':memory:'}"]
IN_MEMORY += ["{protocol: sqlite, database_path: ':memory:'}"]


@pytest.fixture
def shop(project: Project) -> Project:
    with closing(sqlite3.connect(project.folder / "shop.db")) as made, made:
        made.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    stream = "{table: orders, cursor: id}"
    project.write(
        "connectors.d/shop.yaml",
        f"protocol: sqlite\nconnection: {{database_path: shop.db}}\nstreams: [{stream}]\n",
    )
    return project


@pytest.mark.parametrize("destination", IN_MEMORY)
def test_a_sync_is_refused(shop: Project, destination: str) -> None:
    shop.write("atlas.yaml", f"destinations: {{there: {destination}}}\n")
    for command in (("connector", "sync", "shop"), ("config", "check")):
        refused = shop.atlas(*command)
        assert (refused.returncode, "destination 'there' is in memory" in refused.stderr) == (2, True)
    asked = shop.atlas("query", "SELECT 1", "--json")
    assert asked.json()["rows"] == [[1]]
    assert not (shop.folder / ":memory:").exists()


@pytest.mark.parametrize("uri", ["duckdb://", "duckdb:///:memory:", "sqlite:///:memory:"])
def test_a_copy_and_a_load_are_refused(shop: Project, uri: str) -> None:
    for command in (("copy", "sqlite:///shop.db", uri, "--table", "orders"), ("load", uri, "--table", "t")):
        refused = shop.atlas(*command, input="id\n1\n")
        assert (refused.returncode, "is in memory" in refused.stderr) == (2, True)


def test_a_source_in_memory_is_read(project: Project) -> None:
    stream = "{name: numbers, query: SELECT range AS n FROM range(3)}"
    project.write(
        "connectors.d/made.yaml", f"protocol: duckdb\nconnection: {{path: ':memory:'}}\nstreams: [{stream}]\n"
    )
    done = project.atlas("connector", "sync", "made")
    assert done.returncode == 0, done.stderr
