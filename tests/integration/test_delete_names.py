"""Columns whose names are words of SQL: rows that the source has are not taken for deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from tests.project import Project


@pytest.mark.parametrize("name", ["true", "false", "rowid", "excluded"])
def test_a_column_of_a_word_of_sql_deletes_nothing(project: Project, name: str) -> None:
    with closing(sqlite3.connect(project.folder / "shop.db")) as source, source:
        source.execute(f'CREATE TABLE orders (id INTEGER PRIMARY KEY, seen INTEGER, "{name}" TEXT)')
        source.execute("INSERT INTO orders VALUES (1, 1, 'x'), (2, 2, 'y')")
    project.write("atlas.yaml", "destinations: {out: {protocol: sqlite, database_path: out.db}}\n")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection: {database_path: shop.db}\ndestination: out\n"
        "streams: [{table: orders, cursor: seen, deletes: {mode: reconcile, max_share: 1}}]\n",
    )
    done = project.atlas("connector", "sync", "shop", "--json")
    assert done.json()["runs"][0]["streams"][0]["rows_deleted"] == 0
    with closing(sqlite3.connect(project.folder / "out.db")) as copy:
        assert copy.execute("SELECT count(*) FROM shop__orders").fetchone() == (2,)
