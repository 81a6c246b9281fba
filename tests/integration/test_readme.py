"""What the README says of reading a folder of files is true of files that Atlas wrote."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from tests.project import Project

from atlas_etl.api.atlas import Atlas

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    """The README's code block in this language with this text."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in code]
    return str(found)


@pytest.fixture
def lake(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder has `lake/shop/orders/`, of two loads and a file that no manifest names."""
    project.write(
        "atlas.yaml", json.dumps({"destinations": {"lake": {"protocol": "parquet", "path": "lake"}}})
    )
    definition = {
        "protocol": "sqlite",
        "connection": {"database_path": "shop.db"},
        "streams": [{"table": "orders", "cursor": "id"}],
    }
    project.write("connectors.d/shop.yaml", json.dumps(definition))
    with sqlite3.connect(project.folder / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        for number in (1, 2):
            shop.execute("INSERT INTO orders VALUES (?, 'Łukasz')", [number])
            shop.commit()
            assert project.atlas("connector", "sync", "shop").returncode == 0
    orphan = project.folder / "lake" / "shop" / "orders" / "left-over.parquet"
    duckdb.execute(f"COPY (SELECT 9 AS id, 'x' AS name) TO '{orphan}'")
    monkeypatch.chdir(project.folder)


@pytest.mark.parametrize(
    "found", re.findall(r"```yaml\n(protocol: .*?)```", README, re.S), ids=lambda s: s[10:18]
)
def test_definitions_are_valid(project: Project, found: str) -> None:
    project.write("connectors.d/shop.yaml", found)
    atlas = Atlas.open(project.folder, {"BILLING_TOKEN": "x"})
    atlas.keep({"shop/password": "x"})
    atlas.connector("shop")


@pytest.mark.usefixtures("lake")
def test_duckdb_reads_a_folder_by_its_manifest() -> None:
    with duckdb.connect() as connection:
        rows = connection.execute(block("sql", "_atlas_manifest.json")).fetchall()
    assert sorted(rows) == [(1, "Łukasz"), (2, "Łukasz")]


@pytest.mark.usefixtures("lake")
def test_python_reads_a_folder_by_its_manifest() -> None:
    assert os.path.exists("lake")
    names: dict[str, pa.Table] = {}
    exec(block("python", "_atlas_manifest.json"), names)
    assert sorted(names["orders"]["id"].to_pylist()) == [1, 2]
