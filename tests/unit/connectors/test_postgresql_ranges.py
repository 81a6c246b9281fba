"""One table read by several sessions at once: every row of one snapshot, once, whatever goes on meanwhile."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import pyarrow as pa
import pytest
from msgspec.structs import replace

from atlas_etl.connectors.sql._postgresql import snapshot as postgresql_snapshot
from atlas_etl.connectors.sql._postgresql.ranges import (
    Exported,
    RangesRead,
    Run,
    conditions,
    export,
)
from atlas_etl.connectors.sql._postgresql.session import SessionPool
from atlas_etl.connectors.sql._source import Select
from atlas_etl.errors import InterruptedRunError, SourceError
from atlas_etl.model import BatchLimits, CursorKind, CursorValue, NullCursor, ReadRequest, Stream, Window
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database, read, read_all
from tests.unit.connectors.threads import reading_threads

ROWS = 36_000  # seven to a page, in five times 8 MiB
MADE = (
    "CREATE TABLE big (id int PRIMARY KEY, sum int NOT NULL DEFAULT 100, filler text DEFAULT "
    "repeat('x', 1000)) WITH (autovacuum_enabled = false)",
    f"INSERT INTO big SELECT n FROM generate_series(1, {ROWS}) n",
)
BIG = Stream("big", table="big", partitions=4)
SMALL_BATCHES = BatchLimits(bytes=64 * 1024, rows=100)
READING = "FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND query ~ '^COPY'"


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


@pytest.fixture
def big(database: Database) -> Database:
    database.execute(*MADE)
    return database


def ids(batches: Iterable[pa.RecordBatch]) -> list[int]:
    return [found for batch in batches for found in batch.column("id").to_pylist()]


def warnings(database: Database, stream: Stream) -> tuple[str, ...]:
    with database.connector().open(ReadRequest(stream)) as extract:
        assert extract.schema
        return tuple(extract.warnings())


@pytest.mark.parametrize("partitions", [1, 2, 3, 5])
def test_every_row_comes_once(big: Database, partitions: int) -> None:
    stream = replace(BIG, cursor="id", partitions=partitions)
    table, checkpoint, _ = read_all(big.connector(), stream)
    assert sorted(table["id"].to_pylist()) == list(range(1, ROWS + 1))
    assert checkpoint is not None
    assert checkpoint.high.text == str(ROWS)


def test_several_sessions_read(big: Database) -> None:
    with big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        batches = extract.batches()
        first = ids(islice(batches, 1))
        found = big.rows(f"SELECT substring(query FROM 'ctid.*\\)\\)') {READING}")
        assert len(found) == len(set(found)) == 4
        assert sorted([*first, *ids(batches)]) == list(range(1, ROWS + 1))
    assert big.rows(f"SELECT count(*) {READING}") == [(0,)]


def test_the_rows_are_those_of_the_first_sessions_snapshot(big: Database) -> None:
    """All that follows it moves rows to other pages, of other ranges: none may be seen, or seen twice."""
    with big.connector().open(ReadRequest(replace(BIG, cursor="id"), limits=SMALL_BATCHES)) as extract:
        big.execute(
            "UPDATE big SET sum = sum + 1",
            "DELETE FROM big WHERE id % 3 = 0",
            f"INSERT INTO big SELECT n FROM generate_series({ROWS + 1}, {ROWS + 500}) n",
        )
        batches = extract.batches()
        first = list(islice(batches, 3))
        big.execute("UPDATE big SET id = -id", "VACUUM big")
        table = pa.Table.from_batches([*first, *batches])
        checkpoint = extract.checkpoint()
    assert sorted(table["id"].to_pylist()) == list(range(1, ROWS + 1))
    assert set(table["sum"].to_pylist()) == {100}
    assert checkpoint is not None
    assert checkpoint.high.text == str(ROWS)


def test_it_is_one_moment_while_others_write(big: Database) -> None:
    """Every transaction moves a part of a sum, and rows to other pages: any other sum was never there."""
    stop = threading.Event()

    def move(parity: int) -> int:
        chosen = random.Random(parity)
        count = 0
        with big.session() as session:
            while not stop.is_set():
                one, other = (2 * number - parity for number in chosen.sample(range(1, ROWS // 2 + 1), 2))
                session.execute(
                    f"BEGIN; UPDATE big SET sum = sum - 1 WHERE id = {one};"
                    f"UPDATE big SET sum = sum + 1 WHERE id = {other}; COMMIT".encode()
                )
                count += 1
        return count

    with ThreadPoolExecutor() as threads:
        writers = [threads.submit(move, parity) for parity in (0, 1)]
        try:
            connector = big.connector()
            for _ in range(4):
                table = read_all(connector, BIG, limits=BatchLimits(rows=500))[0]
                assert sorted(table["id"].to_pylist()) == list(range(1, ROWS + 1))
                assert sum(table["sum"].to_pylist()) == 100 * ROWS
        finally:
            stop.set()
        assert all(writer.result() for writer in writers)


def test_an_error_in_one_range_ends_all(big: Database) -> None:
    threads = reading_threads()
    with big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        batches = extract.batches()
        next(batches)
        big.execute(f"SELECT pg_terminate_backend(pid) {READING} LIMIT 1")
        with pytest.raises(SourceError) as caught:
            ids(batches)
        assert (caught.value.code, caught.value.retryable) == ("server_gone", True)
        assert reading_threads() <= threads  # others may end meanwhile
        ended(big)
    assert read(big.connector(), BIG).num_rows == ROWS


def ended(database: Database) -> None:
    """The server notices a moment later that nobody reads any more."""
    deadline = time.monotonic() + 30
    while database.rows(f"SELECT count(*) {READING}") != [(0,)]:
        assert time.monotonic() < deadline


def test_a_read_that_is_left_ends_and_the_snapshot_stays(big: Database) -> None:
    threads = reading_threads()
    with big.connector().open(ReadRequest(replace(BIG, cursor="id"), limits=SMALL_BATCHES)) as extract:
        next(extract.batches())
        big.execute("UPDATE big SET id = -id")
        assert sorted(ids(extract.again().batches())) == list(range(1, ROWS + 1))
        assert reading_threads() <= threads  # others may end meanwhile
        ended(big)
        next(extract.again().batches())
    assert reading_threads() <= threads  # others may end meanwhile
    ended(big)


def test_an_interruption_waits_for_no_server(big: Database) -> None:
    """The servers' processes are stopped, so nothing would ever come: as if the network were gone."""
    with big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        batches = extract.batches()
        next(batches)
        backends = [int(str(pid)) for (pid,) in big.rows(f"SELECT pid {READING}")]
        assert len(backends) == 4
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        previous = signal.signal(signal.SIGALRM, interrupted)
        began = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(InterruptedRunError):
                ids(batches)
            assert time.monotonic() - began < 10
        finally:
            signal.signal(signal.SIGALRM, previous)
            for pid in backends:
                os.kill(pid, signal.SIGCONT)


def test_another_thread_ends_a_read_that_waits(big: Database) -> None:
    with (
        ThreadPoolExecutor() as threads,
        big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract,
    ):
        batches = extract.batches()
        next(batches)
        backends = [int(str(pid)) for (pid,) in big.rows(f"SELECT pid {READING}")]
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            reading = threads.submit(ids, batches)
            extract.interrupt()
            with pytest.raises(SourceError, match=r"interrupted|closed"):
                reading.result(timeout=60)
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)


def interrupted(_number: int, _frame: object) -> None:
    raise InterruptedRunError("stopped")


@pytest.mark.parametrize(
    "other",
    [
        Exported("00000003-FFFFFFF0-1", ()),  # of another server
        None,  # there is one of that name, and it is another one
    ],
)
def test_a_snapshot_of_another_server_is_no_snapshot(
    big: Database, monkeypatch: pytest.MonkeyPatch, other: Exported | None
) -> None:
    def exported(run: Run, table: str) -> Exported:
        return other or replace(export(run, table), identity=("2026-01-01", "1:1:"))

    monkeypatch.setattr(postgresql_snapshot, "export", exported)
    with pytest.raises(SourceError) as caught:
        read(big.connector(), BIG)
    assert caught.value.code == "snapshot_not_shared"


def test_who_waits_to_change_the_table_is_not_waited_for(big: Database) -> None:
    """They would wait for our first session, and the others for them, until somebody gave up."""
    pool = SessionPool(big.config(lock_timeout=0), SourceError)
    with ThreadPoolExecutor() as threads, closing(pool):
        with big.connector().snapshot() as snapshot:
            relation = snapshot.relation(BIG)
            select = Select(f"SELECT * FROM big WHERE {relation.ranges[0]}", (), relation.columns)
            found = export(snapshot.run, '"public"."big"')
            changing = threads.submit(big.execute, "ALTER TABLE big ADD more text")
            while big.rows("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
                assert not changing.done()
            with pytest.raises(SourceError) as caught:
                list(RangesRead(pool, found, '"public"."big"', (select,), BatchLimits()).batches())
            assert (caught.value.code, caught.value.retryable) == ("lock_timeout", True)
        changing.result()


def test_a_table_truncated_after_the_snapshot_is_no_empty_table(big: Database) -> None:
    with big.connector().open(ReadRequest(BIG)) as extract:
        big.execute("TRUNCATE big")
        with pytest.raises(SourceError) as caught:
            ids(extract.batches())
    assert caught.value.code == "table_rewritten"


def test_what_is_not_an_ordinary_table_is_read_by_one_and_that_is_told(big: Database) -> None:
    big.execute(
        "CREATE VIEW seen AS SELECT * FROM big",
        "CREATE TABLE parent (LIKE big)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO child SELECT * FROM big",
        "CREATE TABLE small (id int)",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE TABLE mixed (LIKE big) PARTITION BY RANGE (id)",
        "CREATE TABLE mixed_1 PARTITION OF mixed FOR VALUES FROM (0) TO (100)",
        "CREATE FOREIGN TABLE mixed_2 PARTITION OF mixed FOR VALUES FROM (100) TO (200) SERVER elsewhere",
    )
    for name in ("seen", "parent", "mixed"):
        (warning,) = warnings(big, replace(BIG, table=name))
        assert "not an ordinary table" in warning
    assert read(big.connector(), replace(BIG, table="seen")).num_rows == ROWS
    assert warnings(big, BIG) == warnings(big, replace(BIG, table="small")) == ()


def test_servers_before_14_are_read_by_one(big: Database) -> None:
    with big.connector().snapshot() as snapshot:
        ranges, unsplit = conditions(snapshot.run, 13_00_15, '"public"."big"', 4)
    assert ranges == ()
    assert unsplit is not None
    assert "14" in unsplit


def test_a_table_of_partitions_is_read_in_ranges_of_all_of_them(big: Database) -> None:
    big.execute(
        "CREATE TABLE parts (LIKE big) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100)",
        f"CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO ({ROWS + 1})",
        "INSERT INTO parts SELECT * FROM big",
    )
    stream = replace(BIG, table="parts")
    assert warnings(big, stream) == ()
    with big.connector().open(ReadRequest(stream, limits=SMALL_BATCHES)) as extract:
        batches = extract.batches()
        found = ids(islice(batches, 1))
        assert big.rows(f"SELECT count(*) {READING}") == [(4,)]
        assert sorted([*found, *ids(batches)]) == list(range(1, ROWS + 1))


def test_only_whole_tables_are_read_in_ranges(big: Database) -> None:
    """An incremental read has an index, a limit few rows; a whole one is not committed in windows."""
    big.execute(
        "ALTER TABLE big DROP CONSTRAINT big_pkey",
        "ALTER TABLE big ALTER id DROP NOT NULL",
        "INSERT INTO big VALUES (NULL)",
    )
    stream = replace(BIG, cursor="id", null_cursor=NullCursor.EXCLUDE)
    window = Window(rows=1000)

    def sessions(request: ReadRequest) -> tuple[int, int]:
        with big.connector().open(replace(request, limits=SMALL_BATCHES)) as extract:
            batches = extract.batches()
            rows = ids(islice(batches, 1))
            ((count,),) = big.rows(f"SELECT count(*) {READING}")
            assert count == 1 or extract.reached() is None
            rows += ids(batches)
            assert len(rows) == len(set(rows))
            return int(str(count)), len(rows)

    since = CursorValue(CursorKind.INTEGER, str(ROWS // 2 + 1))
    assert sessions(ReadRequest(stream, window=window)) == (4, ROWS)
    assert sessions(ReadRequest(replace(stream, null_cursor=NullCursor.INCLUDE))) == (4, ROWS + 1)
    assert sessions(ReadRequest(stream, until=since)) == (4, ROWS // 2 + 1)
    assert sessions(ReadRequest(stream, since=since)) == (1, ROWS // 2)
    assert sessions(ReadRequest(stream, after=since)) == (1, ROWS // 2 - 1)
    assert sessions(ReadRequest(replace(stream, partitions=1), window=window)) == (1, ROWS)
