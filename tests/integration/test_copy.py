"""`atlas copy`: one line from one URI to another, repeatable; its checkpoint is at the destination alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from tests.crash.harness import sabotaged
from tests.crash.sabotage import Plan, Point
from tests.project import Finished, Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe

from atlas_etl.api.copy import Wanted, copy_job, run_once
from atlas_etl.api.ends import end_of, reference_context
from atlas_etl.cli import app
from atlas_etl.model import RunStatus
from atlas_etl.pipeline.events import RunFinished

Atlas = Callable[..., Finished]
Rows = list[tuple[object, ...]]

ORDERS = "SELECT id, amount, updated_at FROM orders ORDER BY id"
FIRST: Rows = [
    (1, Decimal("10.50"), "2026-01-01 10:00:00"),
    (2, Decimal("20.00"), "2026-01-01 11:00:00"),
    (3, Decimal("0.10"), "2026-01-01 11:00:00"),
]
CHANGES = (
    "UPDATE orders SET amount = 11.25, updated_at = '2026-01-02 09:00:00' WHERE id = 1",
    "INSERT INTO orders VALUES (4, 7.75, '2026-01-01 11:00:00')",  # a tie of the greatest cursor
)
LATER: Rows = [
    (1, Decimal("11.25"), "2026-01-02 09:00:00"),
    *FIRST[1:],
    (4, Decimal("7.75"), "2026-01-01 11:00:00"),
]


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The project's folder as the working folder of this process, where nobody is at home."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HOME", str(project.home))
    return project


@pytest.fixture
def atlas(here: Project, capsys: pytest.CaptureFixture[str]) -> Atlas:
    """The command, run in this process."""

    def run(*arguments: str) -> Finished:
        capsys.readouterr()
        code = app.run([*arguments])
        said = capsys.readouterr()
        return Finished([*arguments], int(code), said.out, said.err)

    return run


def execute_sqlite(*statements: str, path: str = "shop.db") -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def made(amount: str = "DECIMAL(10,2)") -> tuple[str, ...]:
    rows = ", ".join(f"({key}, {value}, '{at}')" for key, value, at in FIRST)
    return (
        f"CREATE TABLE orders (id INT PRIMARY KEY, amount {amount}, updated_at TIMESTAMP)",
        f"INSERT INTO orders VALUES {rows}",
    )


@pytest.fixture
def shop(here: Project) -> Project:
    """A SQLite file of three orders."""
    execute_sqlite(*made())
    return here


def rows_of(answer: Sequence[Sequence[Any]]) -> Rows:
    return [(key, Decimal(str(amount)).quantize(Decimal("0.01")), str(at)[:19]) for key, amount, at in answer]


class Side:
    """A database that a test writes to and looks into by the system's own client."""

    def __init__(self, uri: str, run: Callable[[str], Sequence[Sequence[Any]]]) -> None:
        self.uri = uri
        self.run = run

    def orders(self, sql: str = ORDERS) -> Rows:
        return rows_of(self.run(sql))


def _duckdb(folder: Path) -> Side:
    def run(sql: str) -> Sequence[Sequence[Any]]:
        with duckdb.connect(folder / "copy.duckdb") as connection:
            return connection.execute(sql).fetchall()

    return Side("duckdb:///copy.duckdb", run)


def _sqlite(folder: Path) -> Side:
    def run(sql: str) -> Sequence[Sequence[Any]]:
        with closing(sqlite3.connect(folder / "copy.db")) as connection, connection:
            return connection.execute(sql).fetchall()

    return Side("sqlite:///copy.db", run)


def _parquet(folder: Path) -> Side:
    def run(sql: str) -> Sequence[Sequence[Any]]:
        name = "events" if "events" in sql else "orders"
        table = folder / "lake" / "shop" / name
        manifest = json.loads((table / "_atlas_manifest.json").read_text())
        files = [str(table / file["name"]) for file in manifest["files"]]
        with duckdb.connect() as connection:
            return connection.execute(sql.replace(name, f"read_parquet({files})")).fetchall()

    return Side("lake/", run)


def postgresql(address: ServerAddress) -> Side:
    def run(sql: str) -> Sequence[Sequence[Any]]:
        with psycopg.connect(address.url("postgresql"), autocommit=True) as connection:
            answer = connection.execute(sql.encode())
            return answer.fetchall() if answer.description else []

    return Side(address.url("postgresql+psycopg"), run)


def mysql_side(address: ServerAddress) -> Side:
    def run(sql: str) -> Sequence[Sequence[Any]]:
        with mysql_recipe.connect(address) as client, client.cursor() as cursor:
            cursor.execute("SET sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'")
            cursor.execute(f"USE `{address.database}`")
            cursor.execute(sql)
            client.commit()
            return cursor.fetchall()

    return Side(address.url("mysql+pymysql"), run)


@pytest.fixture(params=["duckdb", "sqlite", "parquet", "postgresql", "mysql"])
def destination(request: pytest.FixtureRequest, project: Project) -> Side:
    match request.param:
        case "postgresql":
            return postgresql(request.getfixturevalue("postgres"))
        case "mysql":
            return mysql_side(request.getfixturevalue("mysql"))
        case name:
            return {"duckdb": _duckdb, "sqlite": _sqlite, "parquet": _parquet}[name](project.folder)


def copied(done: Finished) -> list[tuple[object, ...]]:
    assert done.returncode == 0, done.stderr
    return [
        (stream["name"], stream["disposition"], stream["rows_loaded"])
        for run in done.json()["runs"]
        for stream in run["streams"]
    ]


def test_one_line_copies_what_is_new_into_every_destination(
    shop: Project, atlas: Atlas, destination: Side
) -> None:
    line = by_time("sqlite:///shop.db", destination.uri)
    assert copied(atlas(*line)) == [("orders", "merge", 3)]
    assert destination.orders() == FIRST
    assert copied(atlas(*line)) == [("orders", "merge", 0)]
    execute_sqlite(*CHANGES)
    assert copied(atlas(*line)) == [("orders", "merge", 2)]
    assert destination.orders() == LATER


def by_time(source: str, target: str) -> tuple[str, ...]:
    return ("copy", source, target, "--table", "orders", "--cursor", "updated_at", "--json")


@pytest.mark.parametrize("server", ["postgresql", "mysql"])
def test_one_line_copies_what_is_new_out_of_servers(
    here: Project, atlas: Atlas, request: pytest.FixtureRequest, server: str
) -> None:
    if server == "postgresql":
        source = postgresql(request.getfixturevalue("postgres"))
    else:
        source = mysql_side(request.getfixturevalue("mysql"))
    for statement in made("DECIMAL(10,2)"):
        source.run(statement.replace("TIMESTAMP", "DATETIME") if server == "mysql" else statement)
    target = _duckdb(here.folder)
    line = by_time(source.uri, target.uri)
    assert copied(atlas(*line)) == [("orders", "merge", 3)]
    assert target.orders() == FIRST
    for statement in CHANGES:
        source.run(statement)
    atlas(*line)
    assert target.orders() == LATER
    assert target.run("SELECT typeof(amount) FROM orders LIMIT 1") == [("DECIMAL(10,2)",)]


def test_nothing_is_written_but_the_destination(shop: Project, atlas: Atlas) -> None:
    before = {path.name for path in shop.folder.iterdir()}
    done = atlas("copy", "sqlite:///shop.db", "duckdb:///copy.duckdb", "--table", "orders")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in shop.folder.iterdir()} - before == {"copy.duckdb"}
    assert list(shop.home.iterdir()) == []
    assert done.stdout.split() == [
        "read",
        "into",
        "rows",
        "how",
        "up",
        "to",
        "orders",
        "main.orders",
        "3",
        "replace",
    ]


def test_a_destination_that_is_deleted_is_filled_again(shop: Project, atlas: Atlas) -> None:
    line = by_time("sqlite:///shop.db", "sqlite:///copy.db")
    atlas(*line)
    (shop.folder / "copy.db").unlink()
    assert copied(atlas(*line)) == [("orders", "merge", 3)]


def test_tables_by_pattern_and_by_name(shop: Project, atlas: Atlas) -> None:
    execute_sqlite(
        "CREATE TABLE order_items (id INTEGER PRIMARY KEY)",
        "CREATE TABLE customers (id INTEGER PRIMARY KEY)",
        "CREATE TABLE _atlas_loads (id INTEGER)",
    )
    line = ("copy", "sqlite:///shop.db", "duckdb:///copy.duckdb", "--json")
    names = [name for name, *_ in copied(atlas(*line, "--table", "order*", "--table", "customers"))]
    assert names == ["order_items", "orders", "customers"]
    assert len(copied(atlas(*line, "--table", "*"))) == 3
    done = atlas(*line, "--table", "odrers*")
    assert (done.returncode, done.json()["error"]["code"]) == (2, "usage")
    assert "orders" in done.json()["error"]["hint"]
    done = atlas(*line)
    assert (done.returncode, "--table '*'" in done.stderr) == (2, True)
    done = atlas(*line, "--table", "*", "--into", "one")
    assert (done.returncode, "--schema" in done.stderr) == (2, True)


def test_where_tables_land(shop: Project, atlas: Atlas) -> None:
    line = ("copy", "shop.db", "copy.duckdb")
    for more, table in (
        (("--table", "orders", "--schema", "raw"), "raw.orders"),
        (("--table", "orders", "--into", "bought"), "main.bought"),
        (("--query", "SELECT id FROM orders WHERE amount > 1", "--into", "raw.large"), "raw.large"),
    ):
        done = atlas(*line, *more)
        assert done.returncode == 0, done.stderr
        assert table in done.stdout
    assert _duckdb(shop.folder).run("SELECT count(*) FROM raw.large") == [(2,)]
    done = atlas(*line, "--query", "SELECT 1")
    assert (done.returncode, "--into" in done.stderr) == (2, True)


def test_two_tables_do_not_land_in_one(here: Project, atlas: Atlas) -> None:
    with duckdb.connect("shop.duckdb") as connection:
        for schema in ("a", "b"):
            connection.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.orders (id INT)")
    done = atlas("copy", "shop.duckdb", "copy.duckdb", "--table", "*.orders")
    assert (done.returncode, "a.orders and b.orders would land in one table" in done.stderr) == (2, True)
    assert not (here.folder / "copy.duckdb").exists()


def test_tables_that_the_destination_holds_as_one_do_not_land_in_it(
    here: Project, atlas: Atlas, postgres: ServerAddress
) -> None:
    source = postgresql(postgres)
    for name in ("Orders", "orders"):
        source.run(f'CREATE TABLE "{name}" (id INT)')
    done = atlas("copy", source.uri, "copy.duckdb", "--table", "orders", "--table", "Orders")
    assert (done.returncode, "orders and Orders would land in one table" in done.stderr) == (2, True)
    assert not (here.folder / "copy.duckdb").exists()


@pytest.mark.parametrize("target", ["copy.duckdb", "sqlite:///copy.db"], ids=["duckdb", "sqlite"])
def test_rows_of_another_spelling_of_the_table_are_not_replaced(
    here: Project, atlas: Atlas, target: str
) -> None:
    for name, first in (("a", 0), ("b", 3)):
        with duckdb.connect(f"{name}.duckdb") as connection:
            connection.execute(f"CREATE TABLE t AS SELECT range AS id FROM range({first}, {first + 3})")
    line = ("copy", target, "--table", "t", "--cursor", "id", "--primary-key", "id")
    assert atlas(line[0], "a.duckdb", *line[1:], "--into", "Orders").returncode == 0
    assert atlas(line[0], "b.duckdb", *line[1:], "--into", "orders").returncode == 0
    done = atlas("copy", "a.duckdb", target, "--table", "t", "--into", "Orders", "--disposition", "replace")
    assert (done.returncode, "table_not_ours" in done.stderr) == (4, True)


@pytest.mark.parametrize(
    "spelt", ["sub/../shop.db", "sqlite:////{folder}/shop.db", "sqlite://///{folder}/shop.db"]
)
def test_a_file_is_one_source_however_it_is_spelt(shop: Project, atlas: Atlas, spelt: str) -> None:
    (shop.folder / "sub").mkdir()
    line = ("copy.duckdb", "--table", "orders", "--cursor", "id", "--disposition", "append", "--json")
    assert copied(atlas("copy", "shop.db", *line)) == [("orders", "append", 3)]
    again = spelt.format(folder=str(shop.folder).removeprefix("/"))
    assert atlas("copy", again, *line).returncode == 0
    assert _duckdb(shop.folder).run("SELECT count(*) FROM orders") == [(3,)]


def test_files_are_read_whole_and_a_key_makes_them_merge(here: Project, atlas: Atlas) -> None:
    here.write("orders.csv", "id,amount\n1,10.50\n2,3\n")
    assert copied(atlas("copy", "orders.csv", "copy.duckdb", "--json")) == [("orders", "replace", 2)]
    here.write("orders.csv", "id,amount\n1,11.50\n")
    line = ("copy", "orders.csv", "sqlite:///copy.db", "--key", "id", "--disposition", "merge", "--json")
    assert copied(atlas(*line)) == [("orders", "merge", 1)]
    here.write("orders.csv", "id,amount\n2,1.00\n1,12.50\n")
    assert copied(atlas(*line)) == [("orders", "merge", 2)]
    assert _sqlite(here.folder).run("SELECT id, amount FROM orders ORDER BY id") == [
        (1, "12.50"),
        (2, "1.00"),
    ]


def test_secrets_are_named_and_never_shown(
    shop: Project, atlas: Atlas, postgres: ServerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(postgres.url("postgresql"), autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS copier")
        connection.execute("CREATE ROLE copier LOGIN PASSWORD 'p@ss/w:rd#1'")
        connection.execute("GRANT CREATE ON SCHEMA public TO copier")
        monkeypatch.setenv("COPY_PASSWORD", "p@ss/w:rd#1")
        at = f"{postgres.host}:{postgres.port}/{postgres.database}"

        def copy(destination: str) -> Finished:
            return atlas("copy", "shop.db", destination, "--table", "orders", "--json", "-vv")

        try:
            done = copy(f"postgresql://copier:${{env:COPY_PASSWORD}}@{at}")
            assert done.returncode == 0, done.stderr
            assert "command line" not in done.stderr
            monkeypatch.setenv("COPY_URL", f"postgres://copier:p%40ss%2Fw%3Ard%231@{at}?sslmode=disable")
            assert atlas("copy", "shop.db", "${env:COPY_URL}", "--table", "orders").returncode == 0
            written = atlas(
                "copy", "shop.db", f"postgres://copier:p%40ss%2Fw%3Ard%231@{at}", "--table", "orders"
            )
            assert "others saw the password of DESTINATION" in written.stderr
            for wrong in ("hunter2", "hunter2/x", "hunter2?x", "hunter2#", "1/hunter2@"):
                done = atlas(
                    "copy", "shop.db", f"postgres://copier:{wrong}@{at}", "--table", "orders", "--json", "-vv"
                )
                assert done.returncode in (2, 4)
                assert "hunter2" not in done.stdout + done.stderr
        finally:
            connection.execute("DROP OWNED BY copier CASCADE")
            connection.execute("DROP ROLE copier")


def test_a_uri_may_refer_to_what_a_project_keeps(shop: Project, atlas: Atlas) -> None:
    shop.write("where.txt", "sqlite:///shop.db")
    assert shop.atlas("secret", "set", "copy/target", input="duckdb:///kept.duckdb").returncode == 0
    done = atlas("copy", "${file:where.txt}", "${secret:copy/target}", "--table", "orders", "--json")
    assert copied(done) == [("orders", "replace", 3)]
    assert (shop.folder / "kept.duckdb").exists()


@pytest.mark.parametrize(
    ("ends", "code", "said"),
    [
        (("postgresql://h:x/d", "a.duckdb"), "invalid_uri", "SOURCE: a connection URI is wrong"),
        (("shop.db", "somewhere"), "invalid_uri", "DESTINATION: it is neither a URI nor a path"),
        (
            ("shop.db", "${env:COPY_NOWHERE}"),
            "missing_variable",
            "DESTINATION: environment variable COPY_NOWHERE",
        ),
        (("shop.db", "postgresq://h/d"), "unknown_protocol", "did you mean 'postgresql'"),
        (("shop.db", "postgresql://h/d?sslmod=require"), "invalid_config", "did you mean 'sslmode'"),
        (("https://api.example.com/v1", "a.duckdb"), "usage", "an API's records"),
        (("graphql://h/d", "a.duckdb"), "usage", "an API's records"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_touched(
    shop: Project, atlas: Atlas, ends: tuple[str, str], code: str, said: str
) -> None:
    done = atlas("copy", *ends, "--table", "orders", "--json")
    assert (done.returncode, done.json()["error"]["code"]) == (2, code)
    assert said in done.stderr


def test_copies_at_once_double_nothing(shop: Project, postgres: ServerAddress) -> None:
    context = reference_context(shop.folder, {}, lambda: shop.folder)
    source = end_of("shop.db", "SOURCE", context)
    target = end_of(postgres.url("postgresql"), "DESTINATION", context)
    side = postgresql(postgres)
    execute_sqlite("CREATE TABLE events (n INTEGER)", "INSERT INTO events VALUES (1), (2), (2)")
    wanted = Wanted(("events",), cursor="n")  # without a key: an append

    def run(_: int) -> RunStatus:
        *_, last = run_once((copy_job(source, target, wanted),))
        assert isinstance(last, RunFinished)
        errors = [stream.error.code for stream in last.run.streams if stream.error]
        assert set(errors) <= {"lease_lost", "overtaken"}, errors
        return last.run.status

    there = [1, 2, 2]
    for number in range(2, 6):
        with ThreadPoolExecutor(3) as pool:
            assert RunStatus.COMPLETED in [*pool.map(run, range(3))]
        assert [n for (n,) in side.run("SELECT n FROM events ORDER BY n")] == there
        execute_sqlite(f"INSERT INTO events VALUES ({number}), ({number + 1})")
        there = sorted([*there, number, number + 1])


@pytest.fixture(params=["duckdb", "postgresql", "parquet"])
def killed_into(request: pytest.FixtureRequest, project: Project) -> Iterator[tuple[str, Side]]:
    name = request.param
    if name == "postgresql":
        yield name, postgresql(request.getfixturevalue("postgres"))
    else:
        yield name, {"duckdb": _duckdb, "parquet": _parquet}[name](project.folder)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_copy_that_is_killed_goes_on_exactly(
    shop: Project, atlas: Atlas, killed_into: tuple[str, Side], side: str
) -> None:
    protocol, target = killed_into
    # Without a key: an append.
    execute_sqlite("CREATE TABLE events (n INTEGER)", "INSERT INTO events VALUES (1), (2), (2)")
    line = by_time("sqlite:///shop.db", target.uri)
    events = ("copy", "sqlite:///shop.db", target.uri, "--table", "events", "--cursor", "n", "--json")
    assert sabotaged(shop, Plan(protocol, Point("commit", 1, side)), *line).returncode == -9
    assert sabotaged(shop, Plan(protocol, Point("commit", 1, side)), *events).returncode == -9
    execute_sqlite(*CHANGES, "INSERT INTO events VALUES (2), (3)")
    assert sabotaged(shop, Plan(protocol, Point("commit", 1, side)), *events).returncode == -9
    assert atlas(*line).returncode == 0
    assert target.orders() == LATER
    assert copied(atlas(*events))[0][:2] == ("events", "append")
    assert [n for (n,) in target.run("SELECT n FROM events ORDER BY n")] == [1, 2, 2, 2, 3]
