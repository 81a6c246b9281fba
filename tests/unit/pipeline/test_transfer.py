"""The data path end to end on real files: what is undone, what is refused, and how a run ends."""

from __future__ import annotations

from contextlib import closing

import duckdb
import pytest

from atlas_etl.errors import ConfigError, DataError, DestinationError, SchemaChangeError, SourceError
from atlas_etl.model import (
    BatchLimits,
    Disposition,
    RetryPolicy,
    Run,
    RunStatus,
    Stream,
    Window,
)
from atlas_etl.pipeline.events import (
    BatchLoaded,
    RunFinished,
    StreamFinished,
    StreamRead,
    StreamStarted,
    TransferEvent,
)
from atlas_etl.pipeline.run import exit_code, run_streams
from tests.unit.pipeline.house import STARTED, House, orders

# Undoing


@pytest.mark.parametrize("at", [StreamStarted, BatchLoaded, StreamRead])
@pytest.mark.parametrize("disposition", Disposition)
def test_closing_the_iterator_undoes_the_load(
    house: House, at: type[TransferEvent], disposition: Disposition
) -> None:
    house.source("CREATE TABLE orders AS SELECT i AS id, 'x' AS v FROM range(5) AS r(i)")
    stream = orders(cursor="id", primary_key=("id",), disposition=disposition)
    house.sync(stream)
    before, there = house.rows(stream), house.state(stream)
    house.source("UPDATE orders SET v = 'y'", "INSERT INTO orders SELECT i, 'z' FROM range(5, 5000) AS r(i)")
    events = house.events(stream, limits=BatchLimits(rows=100))
    seen = next(event for event in events if isinstance(event, at))
    assert seen.stream == "orders"
    events.close()  # type: ignore[attr-defined]
    assert (house.rows(stream), house.state(stream)) == (before, there)
    assert house.sync(stream).rows_read >= 4996
    assert len(house.rows(stream)) == 5000


def test_an_error_in_the_middle_undoes_the_load_and_says_where(duck: House) -> None:
    duck.source("CREATE TABLE orders AS SELECT i AS id, date '2026-01-01' AS day FROM range(3000) AS r(i)")
    stream = orders(cursor="id")
    duck.sync(stream)
    before, there = duck.rows(stream), duck.state(stream)
    duck.source(
        "INSERT INTO orders SELECT i, date '2026-01-02' FROM range(3000, 6000) AS r(i)",
        "INSERT INTO orders VALUES (6001, 'infinity')",
    )
    loaded = []
    with pytest.raises(DataError) as caught:
        loaded += duck.events(stream, limits=BatchLimits(rows=1000))
    assert (caught.value.column, caught.value.stream, caught.value.exit_code) == ("day", "orders", 7)
    assert "6001" in caught.value.message
    assert (duck.rows(stream), duck.state(stream)) == (before, there)


def test_the_events_of_a_transfer_come_in_order(duck: House) -> None:
    duck.source("CREATE TABLE orders AS SELECT i AS id FROM range(250) AS r(i)")
    stream = orders(cursor="id")
    started, *loaded, read, finished = duck.events(stream, limits=BatchLimits(rows=100))
    assert isinstance(started, StreamStarted)
    assert (started.table, started.disposition, started.resumed_from) == (
        "shop.orders", Disposition.APPEND, None,
    )  # fmt: skip
    assert all(isinstance(event, BatchLoaded) for event in loaded)
    counts = [event.rows for event in loaded if isinstance(event, BatchLoaded)]
    assert counts == sorted(counts)
    assert (counts[-1], len(counts) > 2) == (250, True)
    assert isinstance(read, StreamRead)
    assert isinstance(finished, StreamFinished)
    outcome = finished.outcome
    assert (outcome.status, outcome.rows_read, outcome.rows_loaded) == (RunStatus.COMPLETED, 250, 250)
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.high.text == "249"
    started, *_ = duck.events(stream)
    assert isinstance(started, StreamStarted)
    assert started.resumed_from == outcome.checkpoint
    again = duck.sync(stream)
    assert (again.rows_read, again.rows_loaded, again.checkpoint) == (1, 0, outcome.checkpoint)


# Whose table, and by which cursor


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.REPLACE, None])
def test_a_table_with_somebody_elses_rows_is_refused(duck: House, disposition: Disposition | None) -> None:
    duck.source("CREATE TABLE orders AS SELECT 1 AS id")
    with duckdb.connect(str(duck.settings["path"])) as warehouse:
        warehouse.execute("CREATE SCHEMA shop")
        warehouse.execute("CREATE TABLE shop.orders AS SELECT 7 AS id")
    stream = orders(cursor="id", disposition=disposition)
    for full_refresh in (False, True):
        with pytest.raises(DestinationError, match=r"shop\.orders") as caught:
            duck.sync(stream, full_refresh=full_refresh)
        assert (caught.value.code, caught.value.exit_code) == ("table_not_ours", 4)
    assert duck.rows(stream) == [("7",)]
    with duckdb.connect(str(duck.settings["path"])) as warehouse:
        warehouse.execute("DELETE FROM shop.orders")
    assert duck.sync(stream).rows_loaded == 1


def test_another_cursor_needs_a_full_refresh(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT i AS id, 100 - i AS version FROM range(10) AS r(i)")
    house.sync(orders(cursor="id"))
    with pytest.raises(ConfigError, match=r"'version'.*'id'") as caught:
        house.sync(orders(cursor="version"))
    assert (caught.value.code, caught.value.column) == ("cursor_changed", "version")
    assert "--full-refresh" in str(caught.value.hint)
    with pytest.raises(SourceError, match="'versoin'") as missing:  # is no other cursor, but none
        house.sync(orders(cursor="versoin"))
    assert (missing.value.code, missing.value.column) == ("column_not_found", "versoin")
    assert "'version'" in str(missing.value.hint)
    house.sync(orders(cursor="version"), full_refresh=True)
    found = house.state(orders(cursor="version")).checkpoint
    assert found is not None
    assert (found.cursor, found.high.text) == ("version", "100")
    assert len(house.rows(orders())) == 10


@pytest.mark.parametrize(("before", "after"), [("INTEGER", "VARCHAR"), ("VARCHAR", "INTEGER")])
def test_a_cursor_that_is_ordered_otherwise_now_needs_a_full_refresh(
    house: House, before: str, after: str
) -> None:
    house.source(f"CREATE TABLE orders (id {before})", "INSERT INTO orders VALUES (9), (10), (11), (100)")
    house.sync(orders(cursor="id"))
    there = house.rows(orders())
    house.source(f"ALTER TABLE orders ALTER id TYPE {after}", "INSERT INTO orders VALUES (12)")
    with pytest.raises(SchemaChangeError, match="'id'") as caught:
        house.sync(orders(cursor="id"))
    assert (caught.value.code, caught.value.exit_code) == ("cursor_type_changed", 7)
    assert "--full-refresh" in str(caught.value.hint)
    assert house.rows(orders()) == there
    house.sync(orders(cursor="id"), full_refresh=True)
    assert len(house.rows(orders())) == 5


def test_a_cursor_of_another_number_type_goes_on(house: House) -> None:
    house.source("CREATE TABLE orders (id SMALLINT)", "INSERT INTO orders VALUES (1), (2), (2)")
    house.sync(orders(cursor="id"))
    house.source("ALTER TABLE orders ALTER id TYPE BIGINT", "INSERT INTO orders VALUES (2), (5000000000)")
    assert house.sync(orders(cursor="id")).rows_loaded == 2
    house.source("ALTER TABLE orders ALTER id TYPE DECIMAL(20,2)", "INSERT INTO orders VALUES (5000000000.5)")
    assert house.sync(orders(cursor="id")).rows_loaded == 1
    found = sorted(float(str(row[0])) for row in house.rows(orders()))
    assert found == [1, 2, 2, 2, 5000000000, 5000000000.5]


# Runs


def run_of(house: House, *streams: Stream) -> Run:
    run = Run("run-1", "shop", RunStatus.RUNNING, "test", STARTED)
    with closing(house.connector()) as source, closing(house.destination()) as target:
        *_, last = run_streams(
            run,
            source,
            target,
            streams,
            limits=BatchLimits(),
            window=Window(),
            retry=RetryPolicy(attempts=1),
        )
    assert isinstance(last, RunFinished)
    return last.run


def test_a_stream_that_fails_does_not_stop_the_others(house: House) -> None:
    house.source("CREATE TABLE one AS SELECT 1 AS id", "CREATE TABLE three AS SELECT 3 AS id")
    run = run_of(house, *(Stream(name, table=name) for name in ("one", "two", "three")))
    assert run.status is RunStatus.PARTIAL
    assert [outcome.status for outcome in run.streams] == [
        RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.COMPLETED,
    ]  # fmt: skip
    assert run.rows_processed == 2
    assert run.error is not None
    assert (run.error.code, run.error.exit_code) == ("table_not_found", 3)
    assert run.completed_at is not None
    assert exit_code([run]) == 5
    assert house.rows(Stream("three")) == [("3",)]


def test_a_run_whose_streams_all_fail_ends_with_the_first_ones_code(house: House) -> None:
    house.source("CREATE TABLE one (id INTEGER)", "INSERT INTO one VALUES (NULL)")
    run = run_of(house, Stream("one", table="one", cursor="id"), Stream("two", table="two"))
    assert (run.status, exit_code([run])) == (RunStatus.FAILED, 7)
    assert run.error is not None
    assert run.error.code == "null_cursor"


def test_a_run_without_streams_is_completed(duck: House) -> None:
    duck.source("SELECT 1")
    run = run_of(duck)
    assert (run.status, run.rows_processed, exit_code([run])) == (RunStatus.COMPLETED, 0, 0)
