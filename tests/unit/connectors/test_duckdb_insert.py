"""A load into DuckDB is one INSERT that takes its batches as they come, in little memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from atlas_etl.connectors.sql._duckdb_database import DuckDBConnection
from atlas_etl.connectors.sql._duckdb_insert import StreamedInsert
from atlas_etl.connectors.sql._duckdb_writer import DuckDBDestination
from atlas_etl.errors import DestinationError, RefusedRowError

SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture
def opened() -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as connection:
        connection.execute("CREATE TABLE t (n BIGINT NOT NULL)")
        yield connection


def batch(*numbers: int | None) -> pa.RecordBatch:
    return pa.record_batch([pa.array(numbers, pa.int64())], SCHEMA)


def rows(opened: duckdb.DuckDBPyConnection) -> list[int]:
    return [number for (number,) in opened.execute("SELECT n FROM t ORDER BY n").fetchall()]


def test_its_batches_arrive_in_one_statement(opened: duckdb.DuckDBPyConnection) -> None:
    insert = StreamedInsert(opened, "t", SCHEMA)
    assert insert.takes("t", SCHEMA)
    assert not insert.takes("u", SCHEMA)
    for number in range(100):
        insert.put(batch(number))
    insert.finish()
    assert rows(opened) == list(range(100))


def test_an_abandoned_one_leaves_nothing(opened: duckdb.DuckDBPyConnection) -> None:
    opened.execute("BEGIN")
    insert = StreamedInsert(opened, "t", SCHEMA)
    insert.put(batch(1))
    insert.abandon()
    opened.execute("ROLLBACK")
    assert rows(opened) == []


def test_a_refused_row_is_told_however_many_follow_it(opened: duckdb.DuckDBPyConnection) -> None:
    insert = StreamedInsert(opened, "t", SCHEMA)
    with pytest.raises(RefusedRowError, match="NOT NULL"):
        insert.put(batch(None))
        for number in range(100_000):
            insert.put(batch(number))
        insert.finish()
    insert.abandon()
    assert rows(opened) == []


def test_a_failed_one_leaves_no_connection_behind() -> None:
    """The driver says at the process's end what it could not free, on a person's terminal."""
    program = (
        "import duckdb, pyarrow as pa\n"
        "from atlas_etl.connectors.sql._duckdb_insert import StreamedInsert\n"
        "opened = duckdb.connect()\n"
        "opened.execute('CREATE TABLE t (n BIGINT NOT NULL)')\n"
        "insert = StreamedInsert(opened, 't', pa.schema([('n', pa.int64())]))\n"
        "insert.put(pa.record_batch({'n': pa.array([None], pa.int64())}))\n"
        "insert.abandon()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_load_has_little_memory_unless_its_definition_gives_more(tmp_path: Path) -> None:
    limits = []
    for options in ({"threads": 2}, {"threads": 8}, {"memory_limit": "7GiB"}):
        path = tmp_path / f"{len(limits)}.duckdb"
        destination = DuckDBDestination(DuckDBConnection(path=path, options=options))
        with closing(destination), destination.connect() as connection:
            limits += connection.execute("SELECT current_setting('memory_limit')")[0]
    assert limits == ["244.1 MiB", "976.5 MiB", "7.0 GiB"]


def test_too_little_memory_says_how_to_have_more(tmp_path: Path) -> None:
    config = DuckDBConnection(path=tmp_path / "t.duckdb", options={"memory_limit": "1MiB", "threads": 1})
    with closing(DuckDBDestination(config)) as destination, destination.connect() as connection:
        with pytest.raises(DestinationError, match="memory") as caught:
            connection.execute(
                "CREATE TABLE t AS SELECT range AS n, md5(range::VARCHAR) AS m FROM range(1000000)"
            )
        assert (caught.value.code, "memory_limit" in str(caught.value.hint)) == ("out_of_memory", True)
