"""What a close look at databases that are files, and at folders of files, finds."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from msgspec.structs import replace

from atlas_etl.connectors import registry
from atlas_etl.connectors.sql._duckdb import examined as duckdb_examined
from atlas_etl.contracts import Connector, Destination
from atlas_etl.errors import ExitCode
from atlas_etl.model import Disposition, Severity, Stream
from tests.unit.connectors.findings import look

KEYED = Stream("t", table="t", cursor="moved_at")
FULL = 1024


def source(protocol: str, **config: object) -> Connector:
    adapter = registry.load(protocol)
    assert adapter.connector is not None
    made: Connector = adapter.connector(adapter.connection.model_validate(config))
    return made


def target(protocol: str, **config: object) -> Destination:
    adapter = registry.load(protocol)
    assert adapter.destination is not None
    made: Destination = adapter.destination(adapter.connection.model_validate(config))
    return made


def sqlite_file(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as client:
        for statement in statements:
            client.execute(statement)
        client.commit()
    return path


def duckdb_file(path: Path, *statements: str) -> Path:
    with closing(duckdb.connect(str(path))) as client:
        for statement in statements:
            client.execute(statement)
    return path


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) "


def test_sqlite(tmp_path: Path) -> None:
    file = sqlite_file(
        tmp_path / "a b.sqlite",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, moved_at TIMESTAMP, n INT)",
        f"{NUMBERS} INSERT INTO t SELECT i, CASE WHEN i > 2 THEN '2026-01-01 00:00:00' END, i FROM n",
    )
    with closing(source("sqlite", database_path=file)) as connector:
        found = look(connector, KEYED)
        assert found.problems() == [("cursor_nulls", "t.moved_at")]
        assert found["cursor_nulls", "t.moved_at"].exit_code is ExitCode.DATA
        ties = found["cursor_ties", "t.moved_at"]
        assert (ties.severity, ties.fix) == (Severity.WARNING, "cursor: id")
        assert found.severity("time_zone", "t") is Severity.NOTE
        index = found["cursor_index", "t.moved_at"]
        assert (index.severity, index.fix) == (Severity.NOTE, 'CREATE INDEX "t_moved_at" ON "t" ("moved_at")')
        sqlite_file(file, str(index.fix))
        assert look(connector, KEYED).severity("cursor_index", "t.moved_at") is Severity.OK
        by_id = look(connector, Stream("t", table="t", cursor="id"))
        assert by_id.severity("cursor_index", "t.id") is Severity.OK  # the table itself is in its order


MERGED = Stream("t", primary_key=("id", "line"), disposition=Disposition.MERGE)


def test_the_key_of_merges_in_sqlite(tmp_path: Path) -> None:
    file = tmp_path / "a b.sqlite"
    check = ("merge_key", "destination shop__t")
    with closing(target("sqlite", database_path=file)) as destination:
        assert check not in look(destination, MERGED)  # nothing is there, and nothing is made
        assert not file.exists()
        sqlite_file(file, "CREATE TABLE shop__t (id INTEGER, line INTEGER)")
        sqlite_file(file, "INSERT INTO shop__t VALUES (1, 1), (1, 2), (1, 2)")
        found = look(destination, MERGED)
        assert found.problems() == [check]
        assert "2 of the 3 rows that are there share id, line" in found[check].message
        sqlite_file(file, "DELETE FROM shop__t WHERE rowid = 3")
        found = look(destination, MERGED)
        assert found.severity(*check) is Severity.NOTE
        sqlite_file(file, str(found[check].fix))
        assert look(destination, MERGED).severity(*check) is Severity.OK


def test_one_column_of_a_key_of_two_is_not_unique(tmp_path: Path) -> None:
    table = "CREATE TABLE shop__t (id INTEGER, no INTEGER, PRIMARY KEY (id, no))"
    file = sqlite_file(tmp_path / "x.sqlite", table, "INSERT INTO shop__t VALUES (1, 1), (1, 2)")
    by_id = replace(MERGED, primary_key=("id",))
    by_both = replace(MERGED, primary_key=("no", "id"))
    with closing(target("sqlite", database_path=file)) as destination:
        assert look(destination, by_id).problems() == [("merge_key", "destination shop__t")]
        assert look(destination, by_both).severity("merge_key", "destination shop__t") is Severity.OK


def test_the_key_of_merges_in_duckdb(tmp_path: Path) -> None:
    """Which needs no index for it, and keeps none; a table of somebody else may have one."""
    file = tmp_path / "a b.duckdb"
    check = ("merge_key", "destination shop.t")
    with closing(target("duckdb", path=file)) as destination:
        assert check not in look(destination, MERGED)
        assert not file.exists()
        duckdb_file(file, "CREATE SCHEMA shop", "CREATE TABLE shop.t (id INT, line INT)")
        assert look(destination, MERGED).severity(*check) is Severity.OK
        duckdb_file(file, "INSERT INTO shop.t VALUES (1, 1), (1, 2), (1, 2)")
        assert look(destination, MERGED).problems() == [check]
        duckdb_file(file, "DELETE FROM shop.t WHERE line = 2")
        found = look(destination, MERGED)[check]
        assert (found.severity, found.fix) == (Severity.OK, None)
        duckdb_file(file, "CREATE OR REPLACE TABLE shop.t (id INT, line INT, PRIMARY KEY (id, line))")
        assert "keeps id, line unique" in look(destination, MERGED)[check].message


def test_keys_of_sqlite(tmp_path: Path) -> None:
    file = sqlite_file(
        tmp_path / "a.sqlite",
        "CREATE TABLE t (a INT NOT NULL, b INT NOT NULL, moved_at TIMESTAMP)",
        "CREATE UNIQUE INDEX partly ON t (a) WHERE b > 1",
        "INSERT INTO t VALUES (1, 1, 1), (1, 2, 1)",
    )
    keyed = Stream("t", table="t", primary_key=("a",))
    both = Stream("t", table="t", primary_key=("a", "b"))
    with closing(source("sqlite", database_path=file)) as connector:
        assert look(connector, keyed).problems() == [("primary_key", "t")]
        fix = look(connector, both)["primary_key", "t"].fix
        assert fix is not None
        sqlite_file(file, fix)
        assert look(connector, both).severity("primary_key", "t") is Severity.OK


def test_duckdb(tmp_path: Path) -> None:
    file = duckdb_file(
        tmp_path / "a b.duckdb",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, moved_at TIMESTAMP)",
        "INSERT INTO t SELECT range, CASE WHEN range > 1 THEN TIMESTAMP '2026-01-01' END FROM range(300)",
    )
    with closing(source("duckdb", path=file)) as connector:
        found = look(connector, KEYED)
        assert found.problems() == [("cursor_nulls", "t.moved_at")]
        assert found.severity("cursor_index", "t.moved_at") is Severity.OK
        assert found.severity("cursor_ties", "t.moved_at") is Severity.WARNING
        assert found.severity("primary_key", "t") is Severity.OK


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) AS id FROM n"


def test_sqlite_begins_nothing_that_it_cannot_end(tmp_path: Path) -> None:
    file = sqlite_file(tmp_path / "a.sqlite", f"CREATE VIEW v AS {ENDLESS}")
    query = Stream("query", query=ENDLESS, cursor="id", primary_key=("id",))
    with closing(source("sqlite", database_path=file)) as connector:
        found = look(connector, query, Stream("view", table="v", cursor="id"))
    for name in ("query", "view"):
        assert found.severity("stream", name) is Severity.NOTE
        assert "could not be looked at" in found["stream", name].message


def test_duckdb_ends_what_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckdb_examined, "SECONDS", 0.2)
    file = duckdb_file(tmp_path / "a.duckdb", "CREATE TABLE t (id INTEGER)")
    query = Stream("slow", query=ENDLESS, cursor="id", primary_key=("id",))
    with closing(source("duckdb", path=file)) as connector:
        found = look(connector, query)
    ties = found["cursor_ties", "slow.id"]
    assert ties.severity is Severity.NOTE
    assert "more than 0.2 s" in ties.message


@pytest.mark.parametrize(
    ("protocol", "setting"), [("sqlite", "database_path"), ("duckdb", "path"), ("parquet", "path")]
)
def test_a_folder_that_takes_no_files(protocol: str, setting: str) -> None:
    """Not even root makes files in /proc."""
    with closing(target(protocol, **{setting: "/proc/atlas/a"})) as destination:
        found = look(destination, Stream("t", table="t"))
    refused = found["write_permission", "destination"]
    assert (refused.severity, refused.exit_code) == (Severity.PROBLEM, ExitCode.DESTINATION)
    assert refused.fix is not None
    assert not Path("/proc/atlas").exists()


@pytest.mark.parametrize(
    ("protocol", "setting"), [("sqlite", "database_path"), ("duckdb", "path"), ("parquet", "path")]
)
def test_a_look_leaves_nothing_behind(protocol: str, setting: str, tmp_path: Path) -> None:
    with closing(target(protocol, **{setting: tmp_path / "new" / "a"})) as destination:
        found = look(destination, Stream("t", table="t"))
    assert not found.problems()
    assert "will be made" in found["write_permission", "destination"].message
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that is really full needs the rights to mount one; what it would answer stands in."""
    file = duckdb_file(tmp_path / "a.duckdb", "CREATE TABLE t (id INTEGER)")
    usage = shutil.disk_usage(tmp_path)

    def found(free: int) -> tuple[Severity, str]:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        with closing(target("duckdb", path=file)) as destination:
            space = look(destination)["disk_space", "destination"]
        return space.severity, space.message

    assert found(FULL)[0] is Severity.PROBLEM
    assert "1.0 KiB" in found(FULL)[1]
    assert found(100 * 1024**2)[0] is Severity.WARNING
    assert found(100 * 1024**3)[0] is Severity.OK


def test_a_warehouse_that_another_process_has_open(tmp_path: Path) -> None:
    file = duckdb_file(tmp_path / "a.duckdb", "CREATE TABLE t (id INTEGER)")
    holding = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holding, str(file)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        closing(target("duckdb", path=file)) as destination,
    ):
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"open\n"
        locked = look(destination)["database_file", "destination"]
        assert locked.severity is Severity.WARNING
        assert "another process" in locked.message
        other.stdin.close()
        other.wait()
        assert look(destination).severity("database_file", "destination") is Severity.OK


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "a.duckdb").write_text("no database at all, but a text that is long enough" * 100)
    with closing(target("duckdb", path=tmp_path / "a.duckdb")) as destination:
        assert look(destination).problems() == [("database_file", "destination")]


def test_folders_of_files(tmp_path: Path) -> None:
    old = tmp_path / "a1.csv"
    old.write_text("id,at\n1,2026-01-01\n")
    os.utime(old, (1, 1))
    stream = Stream("a", path="a*.csv", cursor="at")
    with closing(source("csv", path=tmp_path)) as connector:
        found = look(connector, stream)
        assert found.severity("files", "a") is Severity.OK
        assert found.severity("files_settled", "a") is Severity.OK
        assert found.severity("primary_key", "a") is Severity.WARNING
        assert found.severity("cursor_index", "a.at") is Severity.NOTE
        (tmp_path / "a2.csv").write_text("id,at\n2,2026-01-02\n")
        settled = look(connector, stream)["files_settled", "a"]
        assert settled.severity is Severity.NOTE
        assert "a2.csv" in settled.message
        nowhere = look(connector, Stream("b", path="b*.csv"))
        assert nowhere.problems() == [("files", "b")]
        assert nowhere["files", "b"].exit_code is ExitCode.SOURCE
