"""One SQLite table read by several connections at once, whose snapshots are proved to be the same."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from msgspec.structs import replace

from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._sqlite import ranges as sqlite_ranges
from atlas_etl.connectors.sql._sqlite import snapshot as sqlite_snapshot
from atlas_etl.connectors.sql._sqlite.connection import SqliteConnection, open_to_read
from atlas_etl.connectors.sql._sqlite.driver import Driver
from atlas_etl.connectors.sql._sqlite.ranges import begin
from atlas_etl.errors import SourceError
from atlas_etl.model import (
    BatchLimits,
    CursorKind,
    CursorValue,
    Hazard,
    HazardPolicy,
    ReadRequest,
    Stream,
    Window,
)
from tests.unit.connectors.sqlite_files import connector, make, other_process
from tests.waiting import until

ROWS = 250_000
BIG = Stream("big", table="big", cursor="id", partitions=3)
SMALL_BATCHES = BatchLimits(bytes=64 * 1024, rows=1000)
JOURNALS = ("wal", "delete", "truncate", "persist")
NUMBERS = f"WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT {ROWS})"


def made(path: Path, journal: str = "wal") -> Path:
    make(
        path,
        f"PRAGMA journal_mode = {journal}",
        "CREATE TABLE big (id INTEGER PRIMARY KEY, sum INT NOT NULL, filler TEXT NOT NULL)",
        f"INSERT INTO big {NUMBERS} SELECT n, 100, printf('%040d', n) FROM n",
    )
    return path


@pytest.fixture(autouse=True)
def _short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_ranges, "_RANGE_BYTES", 1024 * 1024)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    return made(tmp_path / "big.db")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Driver]:
    """The connections beside the first ones that were opened."""
    found: list[Driver] = []

    def counted(config: SqliteConnection, raises: Failure) -> Driver:
        found.append(open_to_read(config, raises))
        return found[-1]

    monkeypatch.setattr(sqlite_ranges, "open_to_read", counted)
    return found


def ids(batches: Iterable[pa.RecordBatch]) -> list[int]:
    return [found for batch in batches for found in batch.column("id").to_pylist()]


def read(path: Path, stream: Stream = BIG) -> tuple[pa.Table, list[str]]:
    """Every row, and the warnings."""
    with connector(path).open(ReadRequest(stream)) as extract:
        return pa.Table.from_batches(extract.batches(), extract.schema), list(extract.warnings())


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("partitions", [2, 4])
def test_every_row_comes_once(tmp_path: Path, opened: list[Driver], partitions: int, journal: str) -> None:
    path = made(tmp_path / "a.db", journal)
    with connector(path).open(ReadRequest(replace(BIG, partitions=partitions))) as extract:
        assert len(opened) == partitions - 1
        assert ids(extract.batches()) == list(range(1, ROWS + 1))
        checkpoint = extract.checkpoint()
        assert checkpoint is not None
        assert checkpoint.high.text == str(ROWS)
        assert extract.warnings() == ()
    make(path, "DELETE FROM big")  # nobody reads any more


@pytest.mark.parametrize(("cores", "more"), [(1, 0), (2, 1), (64, 1)])
def test_a_large_table_is_read_by_two_where_there_are_two_cores(
    big: Path, opened: list[Driver], monkeypatch: pytest.MonkeyPatch, cores: int, more: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    table, warnings = read(big, replace(BIG, partitions=None))
    assert (table["id"].to_pylist(), warnings) == (list(range(1, ROWS + 1)), [])
    assert len(opened) == more


def test_one_connection_is_one(big: Path, opened: list[Driver]) -> None:
    table, warnings = read(big, replace(BIG, partitions=1))
    assert (table.num_rows, warnings, opened) == (ROWS, [], [])


def test_what_was_not_asked_for_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    path = made(tmp_path / "a.db")
    make(path, "CREATE VIEW seen AS SELECT * FROM big")
    assert read(path, replace(BIG, table="seen", partitions=None))[1] == []


def test_a_long_load_by_the_rowid_has_windows(big: Path) -> None:
    """In the order of the cursor, so that what was read so far may be committed."""
    request = ReadRequest(BIG, window=Window(rows=10_000), limits=SMALL_BATCHES)
    with connector(big).open(request) as extract:
        read = 0
        for batch in extract.batches():
            assert ids([batch]) == list(range(read + 1, read + batch.num_rows + 1))
            read += batch.num_rows
            reached = extract.reached()
            assert reached is not None
            assert reached.high.text == str(read)
    assert read == ROWS


@pytest.mark.parametrize(("partitions", "windows"), [(None, True), (3, False)])
def test_another_cursor_has_windows_unless_ranges_were_asked_for(
    big: Path, monkeypatch: pytest.MonkeyPatch, partitions: int | None, windows: bool
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    make(big, "ALTER TABLE big ADD number INTEGER NOT NULL DEFAULT 0", "UPDATE big SET number = -id")
    make(big, "CREATE INDEX numbers ON big (number)")
    stream = replace(BIG, cursor="number", partitions=partitions)
    with connector(big).open(ReadRequest(stream, window=Window(rows=10_000))) as extract:
        first = next(iter(extract.batches()))
        assert (extract.reached() is not None) == windows
        assert first["id"][0].as_py() == (ROWS if windows else 1)


def test_every_range_is_looked_up_by_the_rowid(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another index would be searched whole for each of them."""
    monkeypatch.setattr(sqlite_ranges, "_RANGE_BYTES", 4 * 1024 * 1024)
    make(big, "CREATE INDEX sums ON big (sum, id, filler)", "ANALYZE")
    until = CursorValue(CursorKind.INTEGER, "100")
    with connector(big).open(ReadRequest(replace(BIG, cursor="sum"), until=until)) as extract:
        statements = extract.outline().statements
    assert len(statements) > 3
    with sqlite3.connect(big) as database:
        for statement in statements:
            ((*_, step),) = database.execute(f"EXPLAIN QUERY PLAN {statement.replace(' -- 100', '')}", (100,))
            assert "USING INTEGER PRIMARY KEY (rowid" in step


def test_rowids_of_all_kinds_have_a_range(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    keys = [-(2**63), -1, 0, 1, 2**62, 2**63 - 1, *range(5, 200_005, 1000)]
    make(path, 'CREATE TABLE big (id INTEGER PRIMARY KEY, rowid TEXT, "_RowId_" TEXT)')
    make(path, rows=[[key, None, "x"] for key in keys], into="big")
    for partitions in (2, 3, 7):
        table, warnings = read(path, replace(BIG, partitions=partitions))
        assert (sorted(table["id"].to_pylist()), warnings) == (sorted(keys), [])


def test_values_that_trip_the_driver_do_so_in_their_range_alone(big: Path) -> None:
    odd = (1, ROWS // 2, ROWS)
    make(big, f"UPDATE big SET sum = 'n/a' WHERE id IN {odd}")
    table, _ = read(big, replace(BIG, hazards={Hazard.TYPE_MISMATCH: HazardPolicy.NULL}))
    assert sorted(table["id"].to_pylist()) == list(range(1, ROWS + 1))
    nulls = table.filter(table["sum"].is_null())
    assert sorted(nulls["id"].to_pylist()) == list(odd)


def test_the_rows_are_those_that_the_first_connection_sees(big: Path) -> None:
    with other_process(big) as other, connector(big).open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        assert other.execute("UPDATE big SET sum = 0 WHERE id % 2 = 0") == "done"
        assert other.execute("DELETE FROM big WHERE id % 3 = 0") == "done"
        batches = extract.batches()
        first = list(islice(batches, 2))
        assert other.execute(f"UPDATE big SET id = id + {2 * ROWS} WHERE id % 5 = 1") == "done"
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)") == "done"
        table = pa.Table.from_batches([*first, *batches])
        checkpoint = extract.checkpoint()
    assert sorted(table["id"].to_pylist()) == list(range(1, ROWS + 1))
    assert set(table["sum"].to_pylist()) == {100}
    assert checkpoint is not None
    assert checkpoint.high.text == str(ROWS)


_MOVING = f"""
import os, random, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
chosen, moved, last = random.Random(1), 0, time.monotonic() + 120
print("begun", flush=True)
while not os.path.exists("stop"):
    one, other = chosen.sample(range(1, {ROWS} + 1), 2)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE big SET sum = sum - 1 WHERE id = ?", (one,))
    connection.execute("UPDATE big SET sum = sum + 1 WHERE id = ?", (other,))
    connection.execute("COMMIT")
    moved += 1
    time.sleep(chosen.random() / 100)  # the pace of a busy application
    assert time.monotonic() < last
print(moved, flush=True)
"""


@contextmanager
def moving(path: Path, processes: int) -> Iterator[list[int]]:
    """Others move parts of a sum between rows; afterwards, how often each did."""
    moved: list[int] = []
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _MOVING, str(path)],
            cwd=path.parent, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(processes)
    ]  # fmt: skip
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        yield moved
    finally:
        (path.parent / "stop").touch()
        for process in started:
            moved.append(int(process.communicate(timeout=120)[0] or 0))


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_it_is_one_moment_while_others_write(tmp_path: Path, journal: str, opened: list[Driver]) -> None:
    """Every transaction moves a part of a sum from one range to another: any other sum was never there."""
    path = made(tmp_path / "a.db", journal)
    split = 0
    with moving(path, 2) as moved:
        for _ in range(8):
            opened.clear()
            table, warnings = read(path)
            assert len(opened) == 2
            split += not warnings
            assert sum(table["sum"].to_pylist()) == 100 * ROWS
            assert sorted(table["id"].to_pylist()) == list(range(1, ROWS + 1))
    assert all(moved)
    assert split


def beginning(monkeypatch: pytest.MonkeyPatch, after: Callable[[int], None]) -> list[int]:
    """Has `after` called after each transaction that begins, with its number from 0, and counts them."""
    begun: list[int] = []

    def disturbed(driver: Driver) -> None:
        begin(driver)
        begun.append(len(begun))
        after(begun[-1])

    for module in (sqlite_ranges, sqlite_snapshot):
        monkeypatch.setattr(module, "begin", disturbed)
    return begun


@pytest.mark.parametrize("place", range(3))
def test_a_commit_between_two_snapshots_is_seen(
    big: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """`place` transactions of the attempt have begun; after the last one a commit does no harm."""
    with other_process(big) as other:

        def commit(number: int) -> None:
            if number == 1 + place:  # the snapshot's own is the first
                assert other.execute("DELETE FROM big WHERE id IN (1, 125000, 250000)") == "done"

        begun = beginning(monkeypatch, commit)
        table, warnings = read(big)
        assert warnings == []
        assert len(begun) == (4 if place == 2 else 8)  # began anew: what was there, and three more
        assert table.num_rows == (ROWS if place == 2 else ROWS - 3)


def test_a_file_that_others_commit_to_all_the_time_is_read_by_one(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with other_process(big) as other:

        def commit(_: int) -> None:
            assert other.execute("UPDATE big SET sum = sum + 1 WHERE id = 1") == "done"

        beginning(monkeypatch, commit)
        with connector(big).open(ReadRequest(BIG)) as extract:
            assert sorted(ids(extract.batches())) == list(range(1, ROWS + 1))
            (warning,) = extract.warnings()
            assert "commit" in warning


def test_whoever_waits_to_commit_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a rollback journal, a writer that waits for readers keeps new ones out."""
    path = made(tmp_path / "a.db", "delete")
    with (
        ThreadPoolExecutor() as threads,
        other_process(path) as other,
        other_process(path) as one_more,
    ):
        assert other.execute("PRAGMA busy_timeout = 60000") == "done"
        assert other.execute("BEGIN IMMEDIATE") == "done"
        assert other.execute("DELETE FROM big WHERE id = 7") == "done"
        committed = []

        def commit(number: int) -> None:
            if number == 0:
                committed.append(threads.submit(other.execute, "COMMIT"))
                kept_out = "SELECT * FROM sqlite_schema"
                until(lambda: one_more.execute(kept_out) == "database is locked", "the writer waits")

        beginning(monkeypatch, commit)
        table, warnings = read(path)
        assert committed[0].result(timeout=60) == "done"
        assert (table.num_rows, warnings) == (ROWS - 1, [])


def test_another_file_in_the_place_of_the_first_is_not_read(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = made(tmp_path / "new.db", "delete")
    make(big, "PRAGMA journal_mode = delete")
    make(new, "UPDATE big SET sum = 0")

    def replaced(config: SqliteConnection, raises: Failure) -> Driver:
        if new.exists():
            os.replace(new, big)
        return open_to_read(config, raises)

    monkeypatch.setattr(sqlite_ranges, "open_to_read", replaced)
    table, (warning,) = read(big)
    assert set(table["sum"].to_pylist()) == {100}
    assert table.num_rows == ROWS
    assert "another file" in warning


def test_a_second_connection_that_cannot_be_opened_is_told(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> Driver:
        raise SourceError("too many open files")

    monkeypatch.setattr(sqlite_ranges, "open_to_read", refused)
    table, (warning,) = read(big)
    assert table.num_rows == ROWS
    assert "too many open files" in warning


def test_what_has_no_ranges_is_read_by_one_and_that_is_told(tmp_path: Path, opened: list[Driver]) -> None:
    path = tmp_path / "a.db"
    make(
        path,
        "CREATE TABLE small (id INTEGER PRIMARY KEY)",
        "CREATE TABLE empty (id INTEGER PRIMARY KEY)",
        "CREATE VIEW seen AS SELECT * FROM small",
        "CREATE TABLE keyed (id INT PRIMARY KEY) WITHOUT ROWID",
        "CREATE TABLE hidden (id INT, rowid INT, oid INT, _rowid_ INT)",
        "INSERT INTO small VALUES (1), (99999)",
    )
    told = {}
    for name in ("small", "empty", "seen", "keyed", "hidden"):
        _, warnings = read(path, replace(BIG, table=name, cursor=None))
        told[name] = "".join(warnings)
    assert "view" in told["seen"]
    assert "rowid" in told["keyed"]
    assert "rowid" in told["hidden"]
    assert told["small"] == told["empty"] == ""
    assert opened == []


def test_reads_that_are_not_of_the_whole_table_open_one_connection(big: Path, opened: list[Driver]) -> None:
    since = CursorValue(CursorKind.INTEGER, str(ROWS - 9))
    for request in (ReadRequest(BIG, since=since), ReadRequest(BIG, limit=10)):
        with connector(big).open(request) as extract:
            assert len(ids(extract.batches())) == 10
    assert opened == []


def test_a_read_that_is_left_ends_and_the_next_one_sees_the_same(big: Path) -> None:
    threads = set(threading.enumerate())
    with other_process(big) as other:
        with connector(big).open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
            left = extract.batches()
            next(left)
            assert other.execute("DELETE FROM big WHERE id % 2 = 0") == "done"
            assert sorted(ids(extract.again().batches())) == list(range(1, ROWS + 1))
            assert set(threading.enumerate()) <= threads  # others may end meanwhile
            left = extract.again().batches()
            next(left)
        assert set(threading.enumerate()) <= threads  # others may end meanwhile
        assert other.execute("PRAGMA journal_mode = delete") == "done"  # needs the file for itself
        assert list(left) == []


def test_an_error_in_one_range_ends_all(tmp_path: Path) -> None:
    path = made(tmp_path / "a.db", "delete")
    content = bytearray(path.read_bytes())
    page, at = 4096, content.rindex(b"%040d" % (ROWS - 20_000)) // 4096 * 4096
    content[at : at + page] = b"\xff" * page
    path.write_bytes(content)
    threads = set(threading.enumerate())
    with connector(path).open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        with pytest.raises(SourceError) as caught:
            ids(extract.batches())
        assert caught.value.code == "database_corrupt"
        assert set(threading.enumerate()) <= threads  # others may end meanwhile


def test_another_thread_ends_a_read(big: Path) -> None:
    with (
        ThreadPoolExecutor() as threads,
        connector(big).open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract,
    ):
        batches = extract.batches()
        next(batches)
        extract.interrupt()
        with pytest.raises(SourceError) as caught:
            threads.submit(ids, batches).result(timeout=60)
        assert caught.value.code == "interrupted"


def test_the_statements_are_those_of_the_ranges(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_ranges, "_RANGE_BYTES", 4 * 1024 * 1024)
    with connector(big).open(ReadRequest(BIG)) as extract:
        first, *inner, last = extract.outline().statements
    assert [first.count("rowid"), last.count("rowid")] == [1, 1]
    assert {statement.count("rowid") for statement in inner} == {2}


def test_of_many_statements_two_are_told(big: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_ranges, "_RANGE_BYTES", 64 * 1024)
    with connector(big).open(ReadRequest(BIG)) as extract:
        first, between, last = extract.outline().statements
    count = int(first.rpartition("<")[2].rstrip(")")) - 1  # rowids of a range, from 1 on
    assert between == f"-- and {round(ROWS / count) - 2} ranges between them"
    assert last.count("rowid") == 1
