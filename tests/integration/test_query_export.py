"""`atlas query --to`: rows as files and on standard output, exact, whole or not at all, in little memory."""

from __future__ import annotations

import gzip
import io
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.disks import mounted
from tests.project import Finished, Project
from tests.servers import ServerAddress

from atlas_etl.cli import app

Query = Callable[..., tuple[Finished, bytes]]

ROWS = """SELECT * FROM (VALUES (1, 12.50::DECIMAL(30,2), NULL, 'a "b"'), (2, NULL, '', 'ü'))
    AS t(id, amount, x, name)"""
AS_CSV = b'"id","amount","x","name"\n1,12.50,,"a ""b"""\n2,,"","\xc3\xbc"\n'


@pytest.fixture
def query(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Query:
    """The command, run in this process, and the bytes that it wrote."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HOME", str(project.home))
    duckdb.connect("shop.duckdb").close()

    def run(sql: str, *arguments: str, destination: str = "duckdb:///shop.duckdb") -> tuple[Finished, bytes]:
        capsys.readouterr()
        written = io.BytesIO()
        out = SimpleNamespace(
            buffer=written, isatty=lambda: False, flush=lambda: None, encoding="utf-8",
            write=lambda text: written.write(text.encode()),
        )  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", out)
            code = app.run(["query", sql, "--destination", destination, *arguments])
        said = capsys.readouterr()
        return Finished([*arguments], int(code), said.out, said.err), written.getvalue()

    return run


@pytest.mark.parametrize("to", ["csv", "-", "rows.csv", "rows.CSV.gz"])
def test_csv(query: Query, to: str) -> None:
    done, written = query(ROWS, "--to", to)
    assert done.returncode == 0, done.stderr
    if "rows" in to:
        assert (written, "2 rows into" in done.stderr) == (b"", True)
        written = Path(to).read_bytes()
    assert (gzip.decompress(written) if to.endswith("gz") else written) == AS_CSV


@pytest.mark.parametrize("to", ["jsonl", "rows.ndjson"])
def test_json_lines(query: Query, to: str) -> None:
    done, written = query("SELECT 1 AS id, 0.10::DECIMAL(30,2) AS d, 9007199254740993 AS n", "--to", to)
    assert done.returncode == 0, done.stderr
    assert (written or Path(to).read_bytes()) == b'{"id":1,"d":"0.10","n":9007199254740993}\n'


@pytest.mark.parametrize("to", ["parquet", "rows.parquet"])
def test_parquet_has_the_types(query: Query, to: str) -> None:
    sql = """SELECT 1::UBIGINT AS id, 1.5::DECIMAL(38,10) AS d, TIMESTAMPTZ '2026-01-01 00:00Z' AS at,
        'x'::BLOB AS b"""
    done, written = query(sql, "--to", to)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(io.BytesIO(written) if written else to)
    assert table.schema.types == [pa.uint64(), pa.decimal128(38, 10), pa.timestamp("us", "UTC"), pa.binary()]
    assert table.column("d").to_pylist() == [Decimal("1.5000000000")]


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "sqlite"])
def test_every_database_streams(query: Query, request: pytest.FixtureRequest, kind: str) -> None:
    uri = "sqlite:///shop.db"
    if kind != "sqlite":
        uri = request.getfixturevalue({"postgresql": "postgres"}.get(kind, kind)).url(kind)
    sql = "SELECT 1 AS id, 'x' AS name UNION ALL SELECT 2, NULL ORDER BY id"
    done, written = query(sql, "--to", "csv", destination=uri)
    assert done.returncode == 0, done.stderr
    assert written == b'"id","name"\n1,"x"\n2,\n'
    done, _ = query("SELEC 1", "--to", "rows.csv", destination=uri)
    assert (done.returncode, Path("rows.csv").exists()) == (2, False)


def test_what_has_no_exact_form_is_refused_and_leaves_the_file_as_it_was(
    query: Query, postgres: ServerAddress
) -> None:
    uri = postgres.url("postgresql")
    Path("rows.csv").write_text("before")
    sql = "SELECT date 'infinity' AS d UNION ALL SELECT date '2026-01-01'"
    done, _ = query(sql, "--to", "rows.csv", destination=uri)
    assert (done.returncode, "CAST" in done.stderr) == (7, True)
    assert Path("rows.csv").read_text() == "before"
    assert [path.name for path in Path.cwd().glob(".*.tmp")] == []
    done, _ = query(sql, "--json", destination=uri)  # an answer that is shown has it as text
    assert done.returncode == 0
    with psycopg.connect(uri) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_file_is_replaced_whole_and_others_are_refused(query: Query) -> None:
    Path("rows.csv").write_text("before\n" * 1000)
    Path("rows.csv").chmod(0o600)
    done, written = query("SELECT 1 AS id", "--to", "rows.csv", "--json")
    assert written == f'{{"file": "{Path.cwd()}/rows.csv", "format": "csv", "rows": 1}}\n'.encode()
    assert (done.returncode, Path("rows.csv").read_text()) == (0, '"id"\n1\n')
    assert Path("rows.csv").stat().st_mode & 0o777 == 0o600
    for arguments, sql, code in (
        (("--to", "rows"), "SELECT 1", 2),
        (("--to", "rows.parquet.gz"), "SELECT 1", 2),
        (("--to", "csv", "--json"), "SELECT 1", 2),
        (("--to", "a.csv"), "SELECT 1 AS a, 2 AS a", 2),
        (("--to", "none/rows.csv"), "SELECT 1 AS a", 4),
        (("--to", "/dev/null"), "SELECT 1 AS a", 2),
        (("--to", "a.csv"), "CREATE TABLE t (n INT)", 2),
    ):
        done, _ = query(sql, *arguments)
        assert done.returncode == code, (arguments, done.stderr)


@pytest.mark.parametrize("to", ["csv", "jsonl", "rows.parquet"])
@pytest.mark.parametrize("value", ["TIME '24:00:00'", "[TIME '24:00:00']"], ids=["time", "list"])
def test_the_end_of_a_day_is_refused_and_read_as_text(query: Query, to: str, value: str) -> None:
    done, _ = query(f"SELECT {value} AS t", "--to", to)
    assert (done.returncode, "24:00:00" in done.stderr) == (7, True)
    assert not Path("rows.parquet").exists()
    done, shown = query(f"SELECT {value} AS t", "--json")
    assert (done.returncode, b"24:00:00" in shown) == (0, True)


def start(project: Project, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "atlas_etl", "query", *arguments],
        cwd=project.folder,
        env=project.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


LONG = "SELECT range AS n, repeat('x', 100) AS t FROM range(1000000000000)"  # for ever, as tests go


def test_a_reader_that_has_seen_enough_ends_the_query(project: Project) -> None:
    with start(project, LONG, "--to", "csv") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b'"n","t"\n'
        running.stdout.close()
        assert running.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_file_that_was_not_finished_is_not_there(project: Project, number: signal.Signals) -> None:
    (project.folder / "rows.csv").write_text("before")
    with start(project, LONG, "--to", "rows.csv") as running:
        while not [*project.folder.glob(".rows.csv.*.tmp")] and running.poll() is None:
            pass
        running.send_signal(number)
        assert running.wait(30) in (130, -9)
    assert (project.folder / "rows.csv").read_text() == "before"
    assert (number is signal.SIGKILL) == bool([*project.folder.glob(".rows.csv.*.tmp")])


@pytest.fixture
def disk(project: Project) -> Iterator[Path]:
    """A file system of its own, that can be made read-only."""
    with mounted(project.folder / "disk", "32m") as point:
        yield point


def test_a_warehouse_that_may_only_be_read_is_asked_and_refuses_loads_as_that(
    project: Project, disk: Path
) -> None:
    project.write("orders.csv", "id\n1\n2\n")
    project.write("atlas.yaml", "destinations: {there: {protocol: duckdb, path: disk/shop.duckdb}}\n")
    definition = "protocol: csv\nconnection: {path: .}\nstreams: [{table: orders, cursor: id}]\n"
    project.write("connectors.d/shop.yaml", definition)
    assert project.atlas("connector", "sync", "shop").returncode == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    asked = project.atlas("query", "SELECT id FROM shop.shop.orders ORDER BY id", "--json")
    assert asked.json()["rows"] == [[1], [2]]
    assert project.atlas("connector", "verify", "shop").returncode == 0
    (line,) = project.atlas("state", "show", "shop", "--json").json()["streams"]
    assert line["high"] == "2"
    project.write("orders.csv", "id\n1\n2\n3\n")
    refused = project.atlas("connector", "sync", "shop", "--json")
    assert refused.returncode == 4
    assert refused.json()["runs"][0]["error"]["code"] == "read_only"
