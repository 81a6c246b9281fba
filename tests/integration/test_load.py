"""`atlas load`: files and standard input into a table, each of them once."""

from __future__ import annotations

import gzip
import io
import os
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.crash.harness import sabotaged
from tests.crash.sabotage import Plan, Point
from tests.project import Finished, Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe

from atlas_etl.api import inputs
from atlas_etl.cli import app
from atlas_etl.pipeline import transfer

Load = Callable[..., Finished]

CSV = b"id,amount\n1,2.50\n2,3\n"
JSONL = b'{"id": 1, "amount": 2.50}\n{"id": 2, "amount": 3}\n'
DOCUMENT = b'[\n {"id": 1,\n  "amount": 2.50},\n {"id": 2, "amount": 3}]\n'


@pytest.fixture
def here(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HOME", str(project.home))
    return project


@pytest.fixture
def load(here: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Load:
    """The command with what it is given on standard input, run in this process."""

    def run(*arguments: str, stdin: bytes = b"") -> Finished:
        capsys.readouterr()
        piped = SimpleNamespace(buffer=io.BytesIO(stdin), isatty=lambda: False)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", piped)
            code = app.run(["load", *arguments])
        said = capsys.readouterr()
        return Finished([*arguments], int(code), said.out, said.err)

    return run


def asked(sql: str) -> Sequence[Sequence[Any]]:
    with duckdb.connect("shop.duckdb") as connection:
        return connection.execute(sql).fetchall()


def loaded(done: Finished) -> list[int]:
    assert done.returncode == 0, done.stderr
    return [stream["rows_loaded"] for run in done.json()["runs"] for stream in run["streams"]]


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(
        pa.table({"id": [1, 2], "amount": pa.array([Decimal("2.50"), 3], pa.decimal128(10, 2))}), file
    )
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [CSV, JSONL, DOCUMENT, gzip.compress(CSV), gzip.compress(DOCUMENT), b'\xef\xbb\xbf{"id":1}{"id":2}'[:11]],
    ids=["csv", "jsonl", "json", "csv.gz", "json.gz", "one-object"],
)
def test_the_format_is_told_from_the_content(load: Load, content: bytes) -> None:
    rows = load("shop.duckdb", "--table", "orders", "--json", stdin=content)
    assert loaded(rows) in ([2], [1])
    assert asked("SELECT id FROM orders ORDER BY id")[0] == (1,)


def test_parquet_keeps_its_types(load: Load) -> None:
    assert loaded(load("shop.duckdb", "--table", "orders", "--json", stdin=parquet())) == [2]
    found = asked("SELECT sum(amount)::VARCHAR, any_value(typeof(amount)) FROM orders")
    assert found == [("5.50", "DECIMAL(10,2)")]


def test_a_number_in_a_document_keeps_its_digits(load: Load) -> None:
    document = b'[{"id": 12345678901234567890, "amount": 0.10000000000000000001}]'
    assert loaded(load("shop.duckdb", "--table", "t", "--json", stdin=document)) == [1]
    assert asked("SELECT id::VARCHAR, amount::VARCHAR FROM t") == [
        ("12345678901234567890", "0.10000000000000000001")
    ]


@pytest.mark.parametrize(
    ("name", "code"), [("a.json", "invalid_json"), ("a.jsonl", "malformed_row"), ("a", "invalid_json")]
)
def test_a_document_without_a_bottom_is_refused(here: Project, load: Load, name: str, code: str) -> None:
    deep = '{"a":' * 10_000 + "1" + "}" * 10_000
    here.write(name, f'{{"id": {deep}}}\n')
    refused = load("shop.duckdb", "--table", "t", "--json", name)
    assert (refused.returncode, code in refused.stdout) == (3, True)
    assert "nested too deeply" in refused.stderr


@pytest.mark.parametrize("content", [b'{"id\xff": 1}\n', b'[{"id\xff": 1}]'], ids=["lines", "document"])
def test_a_name_that_is_no_text_is_refused(load: Load, content: bytes) -> None:
    done = load("shop.duckdb", "--table", "t", "--json", stdin=content)
    assert (done.returncode, '"code": "invalid_text"' in done.stdout) == (3, True)


def test_half_of_a_character_is_named(here: Project, load: Load) -> None:
    here.write("a.json", '[{"id": 1, "name": "\\ud83d"}]')
    refused = load("shop.duckdb", "--table", "t", "a.json")
    assert refused.returncode == 3
    assert "a.json is not a JSON document: \\ud83d is half of a character" in refused.stderr


def test_gigantic_numbers_of_any_file_are_their_text(here: Project, load: Load) -> None:
    digits = "9" * 5000
    here.write("n.csv", f"n\n{digits}\n1e400000\n")
    here.write("n.jsonl", f'{{"n": {digits}}}\n{{"n": 1e400000}}\n')
    here.write("n.json", f'[{{"n": {digits}}}, {{"n": 1e400000}}]')
    for form in ("csv", "jsonl", "json"):
        assert loaded(load("shop.duckdb", "--table", form, "--json", f"n.{form}")) == [2]
        assert asked(f"SELECT n FROM {form} ORDER BY length(n)") == [("1e400000",), (digits,)]


def test_the_same_bytes_are_added_once(here: Project, load: Load) -> None:
    here.write("orders.csv", CSV.decode())
    line = ("shop.duckdb", "--table", "orders", "--json")
    assert loaded(load(*line, stdin=CSV)) == [2]
    again = load(*line, "orders.csv")
    assert (loaded(again), "loaded before" in again.stderr) == ([0], True)
    os.rename("orders.csv", "other.txt")
    assert loaded(load(*line, "--format", "csv", "other.txt")) == [0]
    assert asked("SELECT count(*) FROM orders") == [(2,)]
    assert loaded(load(*line, "--again", stdin=CSV)) == [2]
    assert loaded(load(*line, stdin=CSV + b"3,4\n")) == [3]
    assert asked("SELECT count(*) FROM orders") == [(7,)]


@pytest.mark.parametrize(
    ("uri", "home"), [("shop.duckdb", "main"), ("sqlite:///shop.db", "main"), ("lake/", "load")]
)
def test_a_table_with_and_without_its_schema_is_one(load: Load, uri: str, home: str) -> None:
    assert loaded(load(uri, "--table", "orders", "--json", stdin=CSV)) == [2]
    assert loaded(load(uri, "--table", f"{home}.orders", "--json", stdin=CSV)) == [0]
    assert loaded(load(uri, "--table", f"{home}.orders", "--json", stdin=b"id,amount\n3,4\n")) == [1]
    assert loaded(load(uri, "--table", "orders", "--json", stdin=b"id,amount\n3,4\n")) == [0]


@pytest.mark.parametrize(
    ("uri", "one", "other"),
    [
        ("shop.duckdb", "orders", "Orders"),
        ("shop.duckdb", "raw.Orders", "RAW.orders"),
        ("sqlite:///shop.db", "Orders", "orders"),
        ("sqlite:///shop.db", "raw.orders", "main.ORDERS"),
    ],
    ids=["duckdb", "duckdb-schema", "sqlite", "sqlite-schema"],
)
def test_a_table_is_one_however_it_is_spelt(load: Load, uri: str, one: str, other: str) -> None:
    assert loaded(load(uri, "--table", one, "--json", stdin=CSV)) == [2]
    assert loaded(load(uri, "--table", other, "--json", stdin=CSV)) == [0]
    again = b"id,amount\n3,4\n"
    assert loaded(load(uri, "--table", other, "--disposition", "replace", "--json", stdin=again)) == [1]
    assert loaded(load(uri, "--table", one, "--json", stdin=CSV)) == [2]


def test_letters_that_duckdb_tells_apart_name_two_tables(load: Load) -> None:
    assert loaded(load("shop.duckdb", "--table", "Ärger", "--json", stdin=CSV)) == [2]
    assert loaded(load("shop.duckdb", "--table", "ärger", "--json", stdin=CSV)) == [2]


def test_files_are_loaded_one_after_another_each_whole(here: Project, load: Load) -> None:
    here.write("a.csv", "id\n1\n")
    here.write("b.jsonl", '{"id": 2}\n')
    here.write("c.json", '{"id": "three"}')
    line = ("shop.duckdb", "--table", "raw.ids", "--json", "a.csv", "b.jsonl", "-")
    assert loaded(load(*line, stdin=b'[{"id": 3}]')) == [1, 1, 1]
    assert asked("SELECT id FROM raw.ids ORDER BY id") == [(1,), (2,), (3,)]
    done = load(*line, "c.json", stdin=b"id\n4\n")  # a text for what was a number widens the column
    assert loaded(done) == [0, 0, 1, 1]
    assert asked("SELECT id FROM raw.ids ORDER BY id") == [("1",), ("2",), ("3",), ("4",), ("three",)]


def test_a_key_merges_and_replace_replaces(load: Load) -> None:
    line = ("shop.duckdb", "--table", "orders", "--json")
    assert loaded(load(*line, "--key", "id", stdin=CSV)) == [2]
    assert loaded(load(*line, "--key", "id", stdin=b"id,amount\n2,9.75\n3,1\n3,2\n")) == [2]
    assert asked("SELECT id, amount::VARCHAR FROM orders ORDER BY id") == [
        (1, "2.50"),
        (2, "9.75"),
        (3, "2.00"),
    ]
    assert loaded(load(*line, stdin=CSV)) == [2]
    assert loaded(load(*line, "--disposition", "replace", stdin=CSV)) == [2]
    assert loaded(load(*line, stdin=CSV)) == [2]  # what was loaded before is gone
    assert asked("SELECT count(*) FROM orders") == [(4,)]
    asked("DROP TABLE orders")
    assert loaded(load(*line, stdin=CSV)) == [2]


@pytest.mark.parametrize("how", ["DROP TABLE orders", "DELETE FROM orders"])
def test_what_was_taken_away_is_loaded_again(load: Load, how: str) -> None:
    line = ("shop.duckdb", "--table", "orders", "--json")
    assert loaded(load(*line, stdin=CSV)) == [2]
    asked(how)
    assert loaded(load(*line, stdin=b"id,amount\n7,7\n")) == [
        1
    ]  # the table is there again, without the others
    assert loaded(load(*line, stdin=CSV)) == [2]
    assert loaded(load(*line, stdin=CSV)) == [0]
    assert asked("SELECT id FROM orders ORDER BY id") == [(1,), (2,), (7,)]


def test_rows_of_somebody_else_are_not_replaced_later_either(load: Load) -> None:
    asked("CREATE TABLE orders (id BIGINT, amount DECIMAL(10,2))")
    asked("INSERT INTO orders VALUES (7, 1)")
    line = ("shop.duckdb", "--table", "orders", "--json")
    assert loaded(load(*line, stdin=CSV)) == [2]
    done = load(*line, "--disposition", "replace", stdin=CSV)
    assert (done.returncode, "table_not_ours" in done.stdout) == (4, True)
    assert asked("SELECT count(*) FROM orders") == [(3,)]


def test_rows_are_added_to_a_table_of_somebody_else(load: Load) -> None:
    asked("CREATE TABLE orders (id BIGINT PRIMARY KEY, amount DECIMAL(10,2), note VARCHAR DEFAULT 'none')")
    asked("INSERT INTO orders VALUES (7, 1, 'theirs')")
    assert loaded(load("shop.duckdb", "--table", "orders", "--json", stdin=CSV)) == [2]
    assert asked("SELECT id, note FROM orders ORDER BY id") == [(1, "none"), (2, "none"), (7, "theirs")]
    done = load("shop.duckdb", "--table", "orders", "--json", stdin=b"id\n9\n7\n")
    assert done.returncode == 7
    assert asked("SELECT count(*) FROM orders") == [(3,)]


@pytest.mark.parametrize("protocol", ["postgresql", "mysql", "sqlite", "parquet"])
def test_every_destination_takes_rows_once(
    load: Load, here: Project, request: pytest.FixtureRequest, protocol: str
) -> None:
    if protocol in ("postgresql", "mysql"):
        address: ServerAddress = request.getfixturevalue(
            {"postgresql": "postgres", "mysql": "mysql"}[protocol]
        )
        uri = address.url(protocol)
    else:
        uri = {"sqlite": "sqlite:///shop.db", "parquet": "lake/"}[protocol]
    line = (uri, "--table", "orders", "--json")
    assert loaded(load(*line, stdin=CSV)) == [2]
    assert loaded(load(*line, stdin=CSV)) == [0]
    assert loaded(load(*line, stdin=JSONL)) == [2]
    assert loaded(load(*line, "--key", "id", stdin=b"id,amount\n5,1\n")) == [1]
    assert loaded(load(*line, stdin=CSV)) == [0]
    if protocol == "postgresql":
        with psycopg.connect(uri) as connection:
            assert connection.execute("SELECT count(*), sum(amount) FROM orders").fetchone() == (5, 12)
    if protocol == "mysql":
        with mysql_recipe.connect(address) as client, client.cursor() as cursor:
            cursor.execute(f"SELECT count(*), sum(amount) FROM `{address.database}`.orders")
            assert cursor.fetchall() == ((5, 12),)


def test_what_is_wrong_is_said(here: Project, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    here.write("a.csv", "id\n1\n")
    line = ("shop.duckdb", "--table", "t", "--json")
    for arguments, stdin, code in (
        (("shop.duckdb", "--json"), CSV, "usage"),
        ((*line, "none.csv"), b"", "file_not_found"),
        (line, b"", "usage"),
        (line, b"[1, 2", "invalid_json"),
        ((*line, "--disposition", "replace", "a.csv", "-"), CSV, "usage"),
        ((*line, "-", "-"), CSV, "usage"),
        ((*line, "--set", "delimiter", "a.csv"), b"", "usage"),
        ((*line, "--set", "delimeter=;", "a.csv"), b"", "invalid_config"),
    ):
        done = load(*arguments, stdin=stdin)
        assert done.returncode in (2, 3), arguments
        assert done.json()["error"]["code"] == code, arguments
    monkeypatch.setattr(inputs, "_LARGEST_DOCUMENT", 10)
    assert load(*line, stdin=DOCUMENT).json()["error"]["code"] == "document_too_large"
    assert not (here.folder / "shop.duckdb").exists()


def append(file: Path) -> None:
    with file.open("a") as more:
        more.write("3,4\n")


def rewrite_unseen(file: Path) -> None:
    """As many bytes, and the time of the last change put back, as `rsync --times` does."""
    before = file.stat()
    file.write_text(CSV.decode().replace("2.50", "9.50"))
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # the kernel's clock has ticks
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("change", "rows"), [(append, 3), (rewrite_unseen, 2)])
def test_a_file_that_changes_meanwhile_is_not_loaded(
    here: Project, load: Load, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], rows: int
) -> None:
    file = here.write("orders.csv", CSV.decode())
    opened = transfer.opened

    def changed(*args: Any, **named: Any) -> Any:
        change(file)
        monkeypatch.setattr(transfer, "opened", opened)
        return opened(*args, **named)

    monkeypatch.setattr(transfer, "opened", changed)
    line = ("shop.duckdb", "--table", "orders", "--json")
    done = load(*line, "orders.csv")
    assert (done.returncode, done.json()["error"]["code"]) == (3, "changed_while_reading")
    assert loaded(load(*line, "orders.csv")) == [rows]
    assert asked("SELECT id FROM orders ORDER BY id") == [(number,) for number in range(1, rows + 1)]


@pytest.mark.parametrize("protocol", ["duckdb", "postgresql"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_a_load_that_is_killed_is_loaded_once(
    here: Project, load: Load, request: pytest.FixtureRequest, protocol: str, side: str
) -> None:
    uri = "shop.duckdb"
    if protocol == "postgresql":
        uri = request.getfixturevalue("postgres").url("postgresql")
    for name in ("a", "b"):
        here.write(f"{name}.csv", f"id\n{ord(name)}\n")
    arguments = ("load", uri, "--table", "ids", "a.csv", "b.csv")
    for number in (1, 2):
        plan = Plan(protocol, Point("commit", number, side))
        killed = sabotaged(here, plan, *arguments, TMPDIR=str(here.home))
        assert killed.returncode in (-9, 0)
    done = here.atlas(*arguments, env={"TMPDIR": str(here.home)})
    assert (done.returncode, list(here.home.iterdir())) == (0, []), done.stderr
    if protocol == "duckdb":
        found = asked("SELECT id FROM ids ORDER BY id")
    else:
        with psycopg.connect(uri) as connection:
            found = connection.execute("SELECT id FROM ids ORDER BY id").fetchall()
    assert found == [(97,), (98,)]
