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

from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection
from atlas_etl.connectors.sql._duckdb.insert import StreamedInsert
from atlas_etl.connectors.sql._duckdb.writer import DuckDBDestination
from atlas_etl.errors import DestinationError, RefusedRowError
from atlas_etl.model import CreateTable, Disposition, LoadPlan, TableName

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


@pytest.mark.parametrize("many", [False, True])
def test_an_interval_finer_than_duckdbs_is_refused(opened: duckdb.DuckDBPyConnection, many: bool) -> None:
    interval = pa.month_day_nano_interval()
    kind = pa.list_(interval) if many else interval
    opened.execute(f"CREATE TABLE spans (n INTERVAL{'[]' if many else ''})")
    schema = pa.schema([("n", kind)])

    def spans(*nanoseconds: int | None) -> pa.RecordBatch:
        found = [None if n is None else pa.MonthDayNano([1, 2, n]) for n in nanoseconds]
        return pa.record_batch([pa.array([[each] if many else each for each in found], kind)], schema)

    insert = StreamedInsert(opened, "spans", schema)
    insert.put(spans(1, None, 3_000).slice(1))  # what is cut off does not count
    with pytest.raises(RefusedRowError) as caught:
        insert.put(spans(3_000, 3_001))
    assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "n")
    insert.finish()
    assert opened.execute("SELECT count(*) FROM spans").fetchall() == [(2,)]


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
        "from atlas_etl.connectors.sql._duckdb.insert import StreamedInsert\n"
        "opened = duckdb.connect()\n"
        "opened.execute('CREATE TABLE t (n BIGINT NOT NULL)')\n"
        "insert = StreamedInsert(opened, 't', pa.schema([('n', pa.int64())]))\n"
        "insert.put(pa.record_batch({'n': pa.array([None], pa.int64())}))\n"
        "insert.abandon()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_load_has_little_memory_unless_its_definition_gives_more(tmp_path: Path) -> None:
    limits: list[object] = []
    choices: list[dict[str, str | int | float | bool]] = [
        {"threads": 2}, {"threads": 8}, {"memory_limit": "7GiB"}, {"Max_Memory": "7GiB"},
    ]  # fmt: skip
    for options in choices:
        path = tmp_path / f"{len(limits)}.duckdb"
        destination = DuckDBDestination(DuckDBConnection(path=path, options=options))
        with closing(destination), destination.connect() as connection:
            limits += connection.execute("SELECT current_setting('memory_limit')")[0]
    assert limits == ["95.3 MiB", "381.4 MiB", "7.0 GiB", "7.0 GiB"]


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (4, None)])
def test_a_load_leaves_one_of_two_cores_to_what_reads(
    cores: int, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    with duckdb.connect() as untouched:
        given = untouched.execute("SELECT current_setting('threads')").fetchall()[0][0]
    chosen: dict[str, str | int | float | bool] = {"Worker_Threads": 3}
    for options, expected in (({}, threads or given), (chosen, 3)):
        destination = DuckDBDestination(DuckDBConnection(options=options))
        with closing(destination), destination.connect() as connection:
            assert connection.execute("SELECT current_setting('threads')") == [(expected,)]


def test_a_query_has_as_much_memory_as_duckdb_gives(tmp_path: Path) -> None:
    with closing(DuckDBDestination(DuckDBConnection(path=tmp_path / "t.duckdb"))) as destination:
        limits = [destination.query("SELECT current_setting('memory_limit') AS l")["l"][0].as_py()]
        with destination.connect():
            limits += destination.query("SELECT current_setting('memory_limit') AS l")["l"].to_pylist()
    with duckdb.connect() as unlimited:
        assert limits[0] == unlimited.sql("SELECT current_setting('memory_limit')").fetchall()[0][0]
    assert limits[1] != limits[0]


@pytest.mark.parametrize(("options", "limit"), [({"threads": 2}, 190), ({"memory_limit": "150MiB"}, 150)])
def test_many_changed_rows_may_take_more_memory(
    options: dict[str, str | int | float | bool], limit: int
) -> None:
    destination = DuckDBDestination(DuckDBConnection(options=options))
    with closing(destination), destination.connect() as connection:
        for rows in (100, 5_000_000, 100):  # what one load was given, one beside it does not take away
            for statement in destination.dialect.before_changing(rows):
                connection.execute(statement)
        ((now,),) = connection.execute("SELECT current_setting('memory_limit')")
    assert int(float(str(now).removesuffix(" MiB"))) == limit


def test_rows_of_one_key_are_ranked_only_where_a_key_comes_again() -> None:
    """A window over all rows takes as much memory as they do."""
    destination = DuckDBDestination(DuckDBConnection())
    schema = pa.schema([("id", pa.int64()), ("n", pa.int64())])
    plan = LoadPlan("run", "c", "s", TableName("t"), Disposition.MERGE, schema, ("id",), "n")
    with closing(destination), destination.connect() as connection:
        connection.execute(
            "CREATE TABLE stage AS SELECT range AS id, range AS n, range AS _atlas_row FROM range(9)"
        )
        connection.execute("INSERT INTO stage VALUES (3, 1, 9), (4, 4, 10), (4, 4, 11)")
        for statement in destination.dialect.delete_superseded(plan, "stage"):
            connection.execute(statement)
        rows = connection.execute("SELECT id, n, _atlas_row FROM stage WHERE id IN (3, 4)")
        explained = connection.execute(f"EXPLAIN {destination.dialect.superseded(plan, 'stage')}")
    assert sorted(rows) == [(3, 3, 3), (4, 4, 11)]
    window, join = (str(explained).index(name) for name in ("Window", "Join"))
    assert window < join  # above it: only what the join lets through


def test_a_load_that_needs_more_memory_than_thought_is_tried_again_with_all_there_is(tmp_path: Path) -> None:
    config = DuckDBConnection(path=tmp_path / "t.duckdb", options={"threads": 2})
    needs_more = "SELECT list(range::VARCHAR || repeat('x', 99)) FROM range(3000000)"  # lists do not spill
    with closing(DuckDBDestination(config)) as destination:
        with pytest.raises(DestinationError) as caught, destination.connect() as connection:
            connection.execute(needs_more)
        assert (caught.value.code, caught.value.retryable) == ("out_of_memory", True)
        with destination.connect() as connection, duckdb.connect() as unlimited:
            limit = "SELECT current_setting('memory_limit')"
            assert connection.execute(limit) == unlimited.execute(limit).fetchall()


def test_a_table_of_many_columns_may_take_more_memory() -> None:
    schema = pa.schema([(f"n{number}", pa.int64()) for number in range(300)])
    plan = LoadPlan(
        "run", "c", "s", TableName("t", "c"), Disposition.APPEND, schema, (), None, (CreateTable(),)
    )
    destination = DuckDBDestination(DuckDBConnection(options={"threads": 2}))
    with closing(destination), destination.begin(plan):
        limit = destination.query("SELECT current_setting('memory_limit') AS l")["l"][0].as_py()
    assert limit == "572.2 MiB"


def test_too_little_memory_says_how_to_have_more(tmp_path: Path) -> None:
    config = DuckDBConnection(path=tmp_path / "t.duckdb", options={"memory_limit": "1MiB", "threads": 1})
    with closing(DuckDBDestination(config)) as destination, destination.connect() as connection:
        with pytest.raises(DestinationError, match="memory") as caught:
            connection.execute(
                "CREATE TABLE t AS SELECT range AS n, md5(range::VARCHAR) AS m FROM range(1000000)"
            )
        assert (caught.value.code, "memory_limit" in str(caught.value.hint)) == ("out_of_memory", True)
