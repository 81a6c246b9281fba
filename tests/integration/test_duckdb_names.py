"""A DuckDB file, and a schema in it, that are called the same: `shop.orders` could then be either's."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from tests.project import Project

from atlas_etl.connectors.sql._duckdb.names import database_name

FILES = ["shop.duckdb", "SHOP.v2.duckdb", ".shop", "temp.duckdb", "main.db", "system.db", "out.db", "ü x.db"]


def rows(project: Project, file: str, schema: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(project.folder / file), read_only=True) as opened:
        ((database,),) = opened.execute("SELECT current_database()").fetchall()
        return opened.execute(f'SELECT * FROM "{database}"."{schema}".orders ORDER BY id').fetchall()


@pytest.mark.parametrize(
    ("file", "connector"),
    [("shop.duckdb", "shop"), ("SHOP.v2.duckdb", "shop"), ("out.db", "temp"), ("out.db", "system")],
)
@pytest.mark.parametrize("disposition", ["append", "merge", "replace"])
def test_a_connector_that_is_called_like_the_warehouse(
    project: Project, file: str, connector: str, disposition: str
) -> None:
    project.write("atlas.yaml", f"destinations: {{out: {{protocol: duckdb, path: {file}}}}}\n")
    stream = (
        f"{{table: orders, cursor: id, primary_key: id, disposition: {disposition}, quarantine_limit: 9}}"
    )
    project.write(
        f"connectors.d/{connector}.yaml",
        f"protocol: csv\nconnection: {{path: .}}\nstreams: [{stream}]\n",
    )
    project.write("orders.csv", "id,name\n1,a\n2,b\n")
    for text in ("id,name\n1,a\n2,b\n3,c\n", "id,name,more\n1,a,\n2,b,\n3,c,x\n4,d,y\n"):
        done = project.atlas("connector", "sync", connector)
        assert done.returncode == 0, done.stderr
        project.write("orders.csv", text)
    done = project.atlas("connector", "sync", connector)
    assert done.returncode == 0, done.stderr
    assert len(rows(project, file, connector)) == 4
    verified = project.atlas("connector", "verify", connector, "--repair")
    assert verified.returncode == 0, verified.stderr
    assert rows(project, file, connector)[3][:2] == (4, "d")
    refused = project.atlas("query", f"SELECT * FROM {connector}.orders")
    assert (refused.returncode, "write FILE.SCHEMA.TABLE" in refused.stderr) == (2, True)


def test_a_source_that_has_a_schema_of_its_own_name(project: Project) -> None:
    with duckdb.connect(str(project.folder / "shop.duckdb")) as made:
        made.execute("CREATE SCHEMA shop")
        made.execute("CREATE TABLE shop.shop.orders AS SELECT 1 AS id, 'a' AS name")
    project.write(
        "connectors.d/own.yaml",
        "protocol: duckdb\nconnection: {path: shop.duckdb}\nstreams: [{table: shop.orders, cursor: id}]\n",
    )
    found = project.atlas("connector", "discover", "own", "--json").json()["streams"]
    assert [stream["name"] for stream in found] == ["shop.orders"]
    done = project.atlas("connector", "sync", "own")
    assert done.returncode == 0, done.stderr
    assert project.atlas("connector", "verify", "own").returncode == 0


@pytest.mark.parametrize("file", FILES)
def test_the_name_that_duckdb_gives_a_file(tmp_path: Path, file: str) -> None:
    with duckdb.connect(str(tmp_path / file)) as opened:
        assert opened.execute("SELECT current_database()").fetchall() == [(database_name(tmp_path / file),)]
