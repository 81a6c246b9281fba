"""Streams side by side: each as it would be alone, and none past an event that nobody has seen."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue

import pytest

from atlas_etl.errors import DataError
from atlas_etl.model import BatchLimits, Disposition, RetryPolicy, Run, RunStatus, Stream, Window
from atlas_etl.pipeline import interleaved as interleaving
from atlas_etl.pipeline.events import (
    BatchLoaded,
    Event,
    RunFinished,
    StreamFinished,
    StreamRead,
    StreamRetrying,
    StreamStarted,
)
from atlas_etl.pipeline.interleaved import interleaved
from atlas_etl.pipeline.run import Turns, run_streams
from tests.unit.pipeline.conftest import server_house
from tests.unit.pipeline.house import STARTED, House

ROWS = 2000
TABLES = tuple(f"t{number}" for number in range(6))
STREAMS = tuple(Stream(name, table=name, cursor="id") for name in TABLES)
AT_ONCE = RetryPolicy(first_wait=timedelta(0))


@pytest.fixture(params=["duckdb", "parquet", "postgresql", "mysql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    """Six tables of one system that takes several loads at once."""
    house = server_house(request, tmp_path)
    house.source(
        *(
            f"CREATE TABLE {name} AS SELECT i::BIGINT AS id, '{name}' AS x FROM range({ROWS}) n(i)"
            for name in TABLES
        )
    )
    return house


@contextmanager
def running(
    house: House, lanes: int = 3, turns: Turns | None = None
) -> Iterator[Generator[Event, None, None]]:
    run = Run("run-1", house.connector_name, RunStatus.RUNNING, "manual", STARTED)
    with closing(house.connector()) as source, closing(house.destination()) as target:
        events = run_streams(
            run,
            source,
            target,
            STREAMS,
            limits=BatchLimits(rows=500),
            window=Window(),
            retry=AT_ONCE,
            turns=turns,
            lanes=lanes,
        )
        with closing(events):
            yield events


def lanes_alive() -> int:
    return sum(thread.name == "atlas-lane" for thread in threading.enumerate())


def test_streams_side_by_side_are_each_as_if_alone(shop: House) -> None:
    with running(shop) as events:
        told = list(events)
    assert isinstance(told[-1], RunFinished)
    run = told[-1].run
    assert [(stream.name, stream.rows_loaded) for stream in run.streams] == [(name, ROWS) for name in TABLES]
    assert run.status is RunStatus.COMPLETED
    assert not [event for event in told if isinstance(event, StreamRetrying)]  # they keep out of their way
    for stream in STREAMS:
        assert shop.rows(stream) == sorted((str(number), stream.name) for number in range(ROWS))
        checkpoint = shop.state(stream).checkpoint
        assert checkpoint is not None
        assert checkpoint.high.text == str(ROWS - 1)
    begun = [event for event in told if isinstance(event, StreamStarted | StreamFinished)]
    assert len([event for event in begun[:3] if isinstance(event, StreamStarted)]) > 1


def test_one_that_fails_does_not_stop_the_others(shop: House) -> None:
    shop.source("UPDATE t3 SET id = NULL WHERE id = 7")
    with running(shop) as events:
        *_, last = events
    assert isinstance(last, RunFinished)
    assert last.run.status is RunStatus.PARTIAL
    assert [stream.name for stream in last.run.streams if stream.error] == ["t3"]
    assert [len(shop.rows(stream)) for stream in STREAMS if stream.name != "t3"] == 5 * [ROWS]


def test_none_commits_before_its_reader_asks_for_more(shop: House) -> None:
    """Whoever reads the events looks there whether the run's lease is still its own."""
    with running(shop) as events:
        next(event for event in events if isinstance(event, StreamRead))
    assert lanes_alive() == 0
    assert [shop.state(stream).empty for stream in STREAMS] == 6 * [True]


def test_closing_the_events_undoes_what_is_open(shop: House) -> None:
    done: set[str] = set()
    with running(shop) as events:
        for event in events:
            if isinstance(event, StreamFinished):
                done.add(event.outcome.name)
            if done and isinstance(event, BatchLoaded):
                undone = event.stream
                break
    assert lanes_alive() == 0
    loaded = {stream.name: len(shop.rows(stream)) for stream in STREAMS if not shop.state(stream).empty}
    assert done <= set(loaded)  # one more may have been committed whose event was still to come
    assert undone not in loaded
    assert set(loaded.values()) == {ROWS}


def test_no_more_run_than_have_a_turn(duck: House) -> None:
    duck.source(*(f"CREATE TABLE {name} AS SELECT i::BIGINT AS id FROM range(9) n(i)" for name in TABLES))
    going: set[str] = set()
    most = 0
    with running(duck, lanes=4, turns=Turns(2)) as events:
        for event in events:
            if isinstance(event, StreamStarted):
                going.add(event.stream)
            if isinstance(event, StreamFinished):
                going.discard(event.outcome.name)
            most = max(most, len(going))
    assert most == 2


def told(name: str, count: int, failure: Exception | None = None) -> Generator[Event, None, None]:
    for _ in range(count):
        yield StreamRead("c", name)
    if failure:
        raise failure


def test_what_one_raises_ends_all() -> None:
    works = [told("a", 1000), told("b", 3, DataError("no")), told("c", 1000)]
    seen: list[Event] = []
    with pytest.raises(DataError):
        seen += interleaved(works)
    assert lanes_alive() == 0
    assert [next(work, None) for work in works] == [None, None, None]


def test_a_signal_that_comes_as_an_event_is_taken_stops_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is out of the queue and in nobody's hands: its thread has to be let go on all the same."""

    class SignalledQueue(SimpleQueue[object]):
        """A stand-in: `get` takes what is there, and is interrupted as it returns."""

        def get(self, block: bool = True, timeout: float | None = None) -> object:
            super().get(block, timeout)
            raise KeyboardInterrupt

    closed: list[int] = []

    def work(number: int) -> Generator[Event, None, None]:
        try:
            while True:
                yield StreamStarted("shop", f"t{number}", "main.t", Disposition.APPEND, None, None)
        finally:
            closed.append(number)

    monkeypatch.setattr(interleaving, "SimpleQueue", SignalledQueue)
    with pytest.raises(KeyboardInterrupt):
        list(interleaved([work(number) for number in range(3)]))
    assert sorted(closed) == [0, 1, 2]
    assert lanes_alive() == 0
