"""How far a run is, from its events."""

from __future__ import annotations

from atlas_etl.model import (
    Disposition,
    RunError,
    RunProgress,
    RunStatus,
    Side,
    StreamProgress,
    StreamRun,
    StreamState,
)
from atlas_etl.pipeline.events import (
    BatchLoaded,
    Event,
    KeysRead,
    StreamFinished,
    StreamRead,
    StreamRetrying,
    StreamStarted,
    WindowCommitted,
)
from atlas_etl.pipeline.progress import Progress

ERROR = RunError("source", "gone")


def started(stream: str, estimate: int | None = None) -> Event:
    return StreamStarted("shop", stream, f"shop.{stream}", Disposition.APPEND, None, estimate)


def loaded(stream: str, rows: int) -> Event:
    return BatchLoaded("shop", stream, rows, rows * 10, Side.SOURCE)


def finished(stream: str, rows: int, error: RunError | None = None) -> Event:
    status = RunStatus.FAILED if error else RunStatus.COMPLETED
    return StreamFinished("shop", StreamRun(stream, status, rows_read=rows, rows_loaded=rows, error=error))


class Heard:
    """A run with a clock of the test's own."""

    def __init__(self, *streams: str) -> None:
        self.seconds = 0.0
        self.progress = Progress(streams, lambda: ("crm",), lambda: self.seconds)

    def after(self, seconds: float, *events: Event) -> RunProgress:
        self.seconds += seconds
        for event in events:
            self.progress.heard(event)
        return self.progress.now()


def test_rows_speed_and_what_is_left_are_those_of_the_attempt() -> None:
    run = Heard("orders", "items", "refunds")
    assert run.after(0) == RunProgress(3, 0, (), ("orders", "items", "refunds"), ("crm",))
    run.after(5, started("orders", 1000))
    now = run.after(2, loaded("orders", 200))
    (orders,) = now.streams
    assert (orders.rows, orders.bytes, orders.slower) == (200, 2000, Side.SOURCE)
    assert (orders.rows_per_second, orders.bytes_per_second, orders.seconds_left) == (100, 1000, 8)
    assert now.waiting == ("items", "refunds")
    (orders,) = run.after(8, loaded("orders", 1000)).streams
    assert orders.seconds_left is None  # the estimate was too small, or is reached
    (orders,) = run.after(0, StreamRead("shop", "orders")).streams
    assert orders.state is StreamState.COMMITTING
    window = WindowCommitted("shop", StreamRun("orders", RunStatus.RUNNING, rows_loaded=900))
    run.after(1, window, StreamRetrying("shop", "orders", ERROR, 1))
    (orders,) = run.after(1).streams
    assert (orders.state, orders.attempt, orders.rows_committed) == (StreamState.RETRYING, 2, 900)
    (orders,) = run.after(0, started("orders", 100), loaded("orders", 7)).streams
    assert (orders.state, orders.attempt, orders.rows, orders.rows_committed) == ("loading", 2, 7, 900)
    (orders,) = run.after(0, KeysRead("shop", "orders", 50)).streams
    assert (orders.state, orders.keys) == (StreamState.COMPARING, 50)
    now = run.after(3, finished("orders", 1200))
    assert (now.over, now.streams[0].state, now.streams[0].seconds) == (1, StreamState.COMPLETED, 3)
    assert run.after(60).streams[0].seconds == 3
    now = run.after(0, started("items"), finished("refunds", 0, ERROR))
    assert [stream.state.value for stream in now.streams] == ["completed", "loading", "failed"]
    assert (now.total, now.over, now.waiting) == (3, 2, ())


def test_time_alone_is_no_news() -> None:
    run = Heard("orders")
    before = run.after(0, started("orders"), loaded("orders", 1))
    after = run.after(9)
    assert before == after
    assert after.streams[0].seconds == 9


def test_what_is_published_is_bounded_and_has_whatever_goes_on() -> None:
    run = Heard(*(f"t{number}" for number in range(1000)))
    run.after(1, started("t0"), loaded("t0", 5))
    for number in range(1, 500):
        run.after(1, started(f"t{number}"), finished(f"t{number}", 1))
    now = run.after(0)
    assert (now.total, now.over, len(now.streams), len(now.waiting)) == (1000, 499, 40, 10)
    assert now.streams[0] == StreamProgress("t0", StreamState.LOADING, "shop.t0", 5, 50, slower=Side.SOURCE)
    assert now.waiting[0] == "t500"
