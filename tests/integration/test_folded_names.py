"""MySQL's protocol, whose servers were made to tell `orders` and `Orders` apart, or to hold one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest
from tests.conftest import unavailable
from tests.project import Project
from tests.servers import ServerAddress, Unavailable
from tests.servers import mysql as mysql_recipe


@pytest.fixture(scope="module")
def folding_server() -> Iterator[ServerAddress]:
    """A server for which names of tables are one that differ in case, as by default on Windows and macOS."""
    try:
        with mysql_recipe.private_server("--lower-case-table-names=1") as (_, address):
            yield address
    except Unavailable as missing:
        unavailable("mysql", str(missing))


@pytest.fixture
def folding(folding_server: ServerAddress) -> Iterator[ServerAddress]:
    with mysql_recipe.fresh_database(folding_server) as address:
        yield address


def rows(project: Project, address: ServerAddress, *line: str) -> Sequence[int]:
    """How many rows each run of a command changed in a database."""
    done = project.atlas(*line, "--json", env={"URI": address.url("mysql")})
    assert done.returncode == 0, done.stderr
    return [run["rows_processed"] for run in done.json()["runs"]]


def test_a_file_is_added_once_however_the_table_is_spelt(project: Project, folding: ServerAddress) -> None:
    project.write("a.csv", "id\n1\n2\n")
    line = ("load", "${env:URI}", "a.csv", "--table")
    assert rows(project, folding, *line, "orders") == [2]
    assert rows(project, folding, *line, "Orders") == [0]
    assert rows(project, folding, *line, f"{folding.database.upper()}.ORDERS") == [0]
    assert rows(project, folding, *line, "ÄRGER") == [2]
    assert rows(project, folding, *line, "ärger") == [0]
    assert rows(project, folding, *line, "Orders", "--disposition", "replace") == [2]
    assert rows(project, folding, *line, "orders") == [2]  # a replace forgets what was added before


def test_names_that_a_server_tells_apart_are_two_tables(project: Project, mysql: ServerAddress) -> None:
    project.write("a.csv", "id\n1\n2\n")
    for table in ("orders", "Orders"):
        assert rows(project, mysql, "load", "${env:URI}", "a.csv", "--table", table) == [2]


def test_rows_of_another_spelling_of_the_table_are_not_replaced(
    project: Project, folding: ServerAddress
) -> None:
    project.write("a.csv", "id\n1\n")
    project.write("b.csv", "id\n2\n")
    line = ("--cursor", "id", "--primary-key", "id", "--into")
    assert rows(project, folding, "copy", "a.csv", "${env:URI}", *line, "Orders") == [1]
    assert rows(project, folding, "copy", "b.csv", "${env:URI}", *line, "orders") == [1]
    replaced = ("--into", "Orders", "--disposition", "replace", "--json")
    env = {"URI": folding.url("mysql")}
    done = project.atlas("copy", "a.csv", "${env:URI}", *replaced, env=env)
    assert (done.returncode, "table_not_ours" in done.stdout) == (4, True)


def test_tables_that_the_server_holds_as_one_do_not_land_in_it(
    project: Project, folding: ServerAddress, mysql: ServerAddress
) -> None:
    with mysql_recipe.connect(mysql) as source, source.cursor() as cursor:
        for table in ("orders", "Orders"):
            cursor.execute(f"CREATE TABLE `{table}` (id INT PRIMARY KEY)")
    env = {"SOURCE": mysql.url("mysql"), "URI": folding.url("mysql")}
    line = ("copy", "${env:SOURCE}", "${env:URI}", "--table", "orders", "--table", "Orders")
    done = project.atlas(*line, env=env)
    assert (done.returncode, "orders and Orders would land in one table" in done.stderr) == (2, True)


def test_streams_that_land_in_one_table_are_refused_before_anything_is_made(
    project: Project, folding: ServerAddress, mysql: ServerAddress
) -> None:
    with mysql_recipe.connect(mysql) as source, source.cursor() as cursor:
        for table in ("orders", "Orders"):
            cursor.execute(f"CREATE TABLE `{table}` (id INT PRIMARY KEY)")
            cursor.execute(f"INSERT INTO `{table}` VALUES (1)")
    login = ("host", "port", "username", "password", "database")
    destinations = {
        "duckdb": {"protocol": "duckdb", "path": "warehouse.duckdb"},
        "folding": {"protocol": "mysql", **{key: getattr(folding, key) for key in login}},
        "telling": {"protocol": "mysql", **{key: getattr(mysql, key) for key in login}},
    }
    project.write("atlas.yaml", json.dumps({"destinations": destinations}))
    for destination, code in (("duckdb", 2), ("folding", 2), ("telling", 0)):
        definition = {
            "protocol": "mysql",
            "connection": {key: getattr(mysql, key) for key in login},
            "streams": [{"table": table, "disposition": "merge"} for table in ("orders", "Orders")],
            "destination": destination,
        }
        project.write(f"connectors.d/{destination}.yaml", json.dumps(definition))
        for command in ("plan", "sync"):
            done = project.atlas("connector", command, destination)
            refused = "orders and Orders would land in one table" in done.stderr
            assert (done.returncode, refused) == (code, code == 2), done.stderr
    done = project.atlas("connector", "sync", "--all", "--json")
    ended = {run["connector"]: run["status"] for run in done.json()["runs"]}
    assert ended == {"duckdb": "failed", "folding": "failed", "telling": "completed"}
