"""One table read by several sessions at once, whose snapshots see the same rows of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pyarrow as pa
import pytest
from msgspec.structs import replace

from atlas_etl.errors import SourceError
from atlas_etl.model import BatchLimits, CursorKind, CursorValue, ReadRequest, Stream
from tests.servers import ServerAddress
from tests.unit.connectors.mysql_database import Database, read
from tests.unit.connectors.threads import reading_threads

ROWS = 250_000  # InnoDB's estimate may be a few percent less
MADE = (
    "CREATE TABLE big (id INT PRIMARY KEY, sum INT NOT NULL, filler VARCHAR(100) NOT NULL) ENGINE=InnoDB",
    f"INSERT INTO big SELECT seq, 100, REPEAT('x', 80) FROM seq_1_to_{ROWS}",
    "ANALYZE TABLE big",
)
BIG = Stream("big", table="big", cursor="id", partitions=3)
SMALL_BATCHES = BatchLimits(bytes=64 * 1024, rows=1000)
READING = "FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND ID <> CONNECTION_ID()"


@pytest.fixture
def big(mysql: ServerAddress) -> Database:
    database = Database(mysql)
    database.execute(*MADE)
    return database


def ids(batches: Iterable[pa.RecordBatch]) -> list[int]:
    return [found for batch in batches for found in batch.column("id").to_pylist()]


def sessions(database: Database) -> int:
    ((count,),) = database.rows(f"SELECT COUNT(*) {READING}")
    return int(str(count))


def sessions_end(database: Database) -> bool:
    deadline = time.monotonic() + 30
    while sessions(database):
        assert time.monotonic() < deadline
    return True


@pytest.mark.parametrize("partitions", [1, 2, 4])
def test_every_row_comes_once(big: Database, partitions: int) -> None:
    with big.connector().open(ReadRequest(replace(BIG, partitions=partitions))) as extract:
        assert sessions(big) == (1 if partitions == 1 else 1 + partitions)
        assert sorted(ids(extract.batches())) == list(range(1, ROWS + 1))
        checkpoint = extract.checkpoint()
        assert checkpoint is not None
        assert checkpoint.high.text == str(ROWS)
        assert extract.warnings() == ()
    assert sessions_end(big)


def test_the_rows_are_those_that_the_first_session_sees(big: Database) -> None:
    with big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        big.execute(
            "UPDATE big SET sum = 0 WHERE id % 2 = 0",
            "DELETE FROM big WHERE id % 3 = 0",
            f"INSERT INTO big VALUES ({ROWS + 1}, 1, '')",
        )
        batches = extract.batches()
        first = list(islice(batches, 2))
        big.execute(f"UPDATE big SET id = id + {2 * ROWS} WHERE id % 5 = 1")
        table = pa.Table.from_batches([*first, *batches])
        checkpoint = extract.checkpoint()
    assert sorted(table["id"].to_pylist()) == list(range(1, ROWS + 1))
    assert set(table["sum"].to_pylist()) == {100}
    assert checkpoint is not None
    assert checkpoint.high.text == str(ROWS)


def test_it_is_one_moment_while_others_write(big: Database) -> None:
    """Every transaction moves a part of a sum from one range to another: any other sum was never there."""
    stop = threading.Event()

    def move(seed: int) -> int:
        chosen, count = random.Random(seed), 0
        with big.client() as client, client.cursor() as cursor:
            while not stop.is_set():
                one, other = sorted(chosen.sample(range(1, ROWS + 1), 2))
                cursor.execute("BEGIN")
                cursor.execute(f"UPDATE big SET sum = sum - 1 WHERE id = {one}")
                cursor.execute(f"UPDATE big SET sum = sum + 1 WHERE id = {other}")
                cursor.execute("COMMIT")
                count += 1
        return count

    with ThreadPoolExecutor() as threads:
        writers = [threads.submit(move, seed) for seed in range(3)]
        try:
            for _ in range(6):
                with big.connector().open(ReadRequest(BIG)) as extract:
                    table = pa.Table.from_batches(list(extract.batches()))
                    assert extract.warnings() == ()  # nobody holds the table for a second
                assert sum(table["sum"].to_pylist()) == 100 * ROWS
                assert table.num_rows == ROWS
        finally:
            stop.set()
        assert all(writer.result() for writer in writers)


def test_a_table_that_stays_changed_is_read_by_one_and_that_is_told(big: Database) -> None:
    with big.client() as client, client.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE big SET sum = 0 WHERE id = 1")
        with big.connector().open(ReadRequest(BIG)) as extract:
            assert sessions(big) <= 2  # the writer's, too
            assert len(ids(extract.batches())) == ROWS
            (warning,) = extract.warnings()
            assert "cannot be locked" in warning
        cursor.execute("ROLLBACK")


def test_an_account_that_may_not_lock_reads_by_one_and_is_told(big: Database) -> None:
    with big.account("SELECT ON {}.*") as poor, poor.connector().open(ReadRequest(BIG)) as extract:
        assert len(ids(extract.batches())) == ROWS
        (warning,) = extract.warnings()
        assert "cannot be locked" in warning
    with (
        big.account("SELECT, LOCK TABLES ON {}.*") as able,
        able.connector().open(ReadRequest(BIG)) as extract,
    ):
        assert len(ids(extract.batches())) == ROWS
        assert extract.warnings() == ()


def test_what_has_no_ranges_is_read_by_one_and_that_is_told(big: Database) -> None:
    big.execute(
        "CREATE TABLE texts (id VARCHAR(20) PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE bare (id INT) ENGINE=InnoDB",
        "CREATE TABLE other (id INT PRIMARY KEY) ENGINE=Aria",
        "CREATE VIEW seen AS SELECT * FROM big",
        "CREATE TABLE small (id INT PRIMARY KEY) ENGINE=InnoDB",
    )
    told = {}
    for name in ("texts", "bare", "other", "seen", "small"):
        with big.connector().open(ReadRequest(replace(BIG, table=name, cursor=None))) as extract:
            told[name] = "".join(extract.warnings())
    assert "whole number" in told["texts"]
    assert "whole number" in told["bare"]
    assert "InnoDB" in told["other"]
    assert "InnoDB" in told["seen"]
    assert told["small"] == ""


def test_reads_that_are_not_of_the_whole_table_lock_nothing(big: Database) -> None:
    since = CursorValue(CursorKind.INTEGER, str(ROWS - 9))
    with big.connector().open(ReadRequest(BIG, since=since)) as extract:
        assert sessions(big) == 1
        assert len(ids(extract.batches())) == 10


def test_a_read_that_is_left_ends_and_the_next_one_sees_the_same(big: Database) -> None:
    threads = reading_threads()
    with big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        next(extract.batches())
        big.execute("DELETE FROM big WHERE id % 2 = 0")
        assert sorted(ids(extract.again().batches())) == list(range(1, ROWS + 1))
        assert reading_threads() <= threads  # others may end meanwhile
    assert sessions_end(big)


def test_an_error_in_one_range_ends_all(big: Database) -> None:
    threads = reading_threads()
    with big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract:
        batches = extract.batches()
        next(batches)
        ((victim,),) = big.rows(f"SELECT MAX(ID) {READING} AND INFO LIKE 'SELECT%'")
        big.execute(f"KILL {victim}")
        with pytest.raises(SourceError) as caught:
            ids(batches)
        assert caught.value.retryable
        assert reading_threads() <= threads  # others may end meanwhile
    assert sessions_end(big)
    assert read(big.connector(), BIG).num_rows == ROWS


def test_another_thread_ends_a_read_that_waits(big: Database) -> None:
    with (
        ThreadPoolExecutor() as threads,
        big.connector().open(ReadRequest(BIG, limits=SMALL_BATCHES)) as extract,
    ):
        batches = extract.batches()
        next(batches)
        extract.interrupt()
        with pytest.raises(SourceError):
            threads.submit(ids, batches).result(timeout=60)
