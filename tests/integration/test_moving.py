"""The guide for those who come from another tool: its own commands do what it says, step by step."""

from __future__ import annotations

import re
import shlex
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import psycopg
from tests.documents import DOCS, blocks
from tests.project import Project
from tests.servers import ServerAddress

GUIDE = DOCS / "guides" / "moving.md"
STEPS = GUIDE.read_text(encoding="utf-8").partition("## From the old tool's checkpoint")[2]
BEGINNING = datetime(2026, 2, 1)
DAYS, LOST = 28, 5
SOURCE = "protocol: sqlite\nconnection: {database_path: shop.db}\n"


def step(number: int) -> str:
    return STEPS.partition(f"**{number}.**")[2].partition(f"**{number + 1}.**")[0]


def block(number: int, language: str) -> str:
    """The step's only block in this language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", step(number), re.S | re.M)
    return str(found)


def typed(project: Project, number: int) -> None:
    """The step's commands, all of which end well."""
    for line in re.findall(r"^atlas (.*)$", step(number), re.M):
        done = project.atlas(*shlex.split(line))
        assert done.returncode == 0, (line, done.stdout, done.stderr)


def make_source(file: Path) -> list[tuple[int, str]]:
    """Four orders a day, some of which are of one instant."""
    rows = [(n, str(BEGINNING + timedelta(days=n // 4))) for n in range(1, 4 * DAYS)]
    with closing(sqlite3.connect(file)) as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, updated_at TIMESTAMP)")
        shop.executemany("INSERT INTO orders VALUES (?, ?)", rows)
        shop.commit()
    return rows


def stub_of_dlt(file: Path, rows: list[tuple[int, str]]) -> None:
    """What dlt left in the warehouse: rows up to its checkpoint but one, with columns of its own."""
    with duckdb.connect(str(file)) as warehouse:
        warehouse.execute("CREATE SCHEMA shop_dlt")
        warehouse.execute(
            "CREATE TABLE shop_dlt.orders (id BIGINT, updated_at TIMESTAMP, "
            "_dlt_load_id VARCHAR NOT NULL, _dlt_id VARCHAR NOT NULL)"
        )
        warehouse.executemany(
            "INSERT INTO shop_dlt.orders VALUES (?, ?, '1767225600.5', 'x')",
            [row for row in rows if row[1] <= "2026-02-22 00:00:00" and row[0] != LOST],
        )


def test_atlas_goes_on_from_the_checkpoint_of_another_tool(project: Project) -> None:
    rows = make_source(project.folder / "shop.db")
    warehouse = project.folder / "warehouse.duckdb"
    stub_of_dlt(warehouse, rows)
    project.write("connectors.d/shop.yaml", SOURCE + block(1, "yaml"))
    typed(project, 1)
    with duckdb.connect(str(warehouse)) as client:
        newest = client.execute("SELECT count(*) FROM shop.orders").fetchone()
        assert newest == (sum(updated_at >= "2026-02-22" for _, updated_at in rows),)
        client.execute(block(2, "sql"))
    project.write("connectors.d/shop.yaml", SOURCE + block(3, "yaml"))
    typed(project, 3)
    found = project.atlas("connector", "verify", "shop", "--json")
    assert found.returncode == 8
    assert found.json()["streams"][0]["missing"] == 1
    typed(project, 4)
    with duckdb.connect(str(warehouse)) as client:
        ids = client.execute("SELECT id FROM shop.orders ORDER BY id").fetchall()
    assert ids == [(n,) for n, _ in rows]


def test_a_merge_takes_a_table_over_only_where_it_can(project: Project) -> None:
    rows = make_source(project.folder / "shop.db")
    stub_of_dlt(project.folder / "warehouse.duckdb", rows)
    stream = "streams: [{table: orders, cursor: updated_at, into: shop_dlt.orders%s}]\n"
    project.write("connectors.d/shop.yaml", SOURCE + stream % "")
    refused = project.atlas("connector", "sync", "shop")
    assert refused.returncode == 7
    assert "_dlt_" in refused.stderr
    project.write("connectors.d/shop.yaml", SOURCE + stream % ", disposition: append")
    refused = project.atlas("connector", "sync", "shop")
    assert refused.returncode == 4
    assert "atlas explain table_not_ours" in refused.stderr
    with duckdb.connect(str(project.folder / "warehouse.duckdb")) as client:
        client.execute("ALTER TABLE shop_dlt.orders DROP COLUMN _dlt_load_id")
        client.execute("ALTER TABLE shop_dlt.orders DROP COLUMN _dlt_id")
    project.write("connectors.d/shop.yaml", SOURCE + stream % "")
    for command in ("sync", "verify"):
        done = project.atlas("connector", command, "shop")
        assert done.returncode == 0, done.stderr


def test_a_copy_takes_the_place_of_ingestr(project: Project, postgres: ServerAddress) -> None:
    (line,) = re.findall(r"^atlas (copy .*)$", "".join(blocks(GUIDE)), re.M)
    url = postgres.url("postgresql")
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("CREATE TABLE orders (id int PRIMARY KEY, updated_at timestamptz)")
        for _ in range(2):
            owner.execute("INSERT INTO orders SELECT count(*) + 1, now() FROM orders")
            done = project.atlas(*shlex.split(line), env={"PG_URL": url})
            assert done.returncode == 0, done.stderr
    with duckdb.connect(str(project.folder / "warehouse.duckdb")) as client:
        assert client.execute("SELECT id FROM shop_atlas.orders ORDER BY id").fetchall() == [(1,), (2,)]
