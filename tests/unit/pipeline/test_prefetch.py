"""Reading ahead: the same items in the same order, never more than the bound ahead, and a prompt end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.model import Side
from atlas_etl.pipeline import prefetch
from atlas_etl.pipeline.prefetch import Prefetch
from tests.waiting import until


def nothing() -> None:
    """No wait to end."""


def ahead(items: Generator[int, None, None], most: int = 1) -> Prefetch[int]:
    return Prefetch(items, size=lambda item: item, most=most, interrupt=nothing)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 10))
def test_what_comes_is_what_is_given(items: list[int], most: int) -> None:
    assert list(ahead((item for item in items), most)) == items


def test_no_more_than_the_bound_waits() -> None:
    made: list[int] = []
    reached = threading.Event()

    def items() -> Generator[int, None, None]:
        for item in range(10):
            made.append(item)
            if len(made) == 3:
                reached.set()
            yield 2

    waiting = Prefetch(items(), size=lambda item: item, most=5, interrupt=nothing)
    assert reached.wait(30)  # two wait, and a third is made
    assert made == [0, 1, 2]
    next(waiting)
    assert len(list(waiting)) == 9


def test_a_failure_comes_after_what_was_given_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise KeyError("here")

    reading = ahead(items(), most=100)
    assert next(reading) == 1
    with pytest.raises(KeyError, match="here"):
        next(reading)
    with pytest.raises(StopIteration):
        next(reading)


def test_closing_ends_a_wait_for_room_and_closes_the_iterator_where_it_ran() -> None:
    closed_in: list[str] = []

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed_in.append(threading.current_thread().name)

    reading = ahead(items())
    assert next(reading) == 1
    reading.close()
    assert closed_in == ["atlas-prefetch"]
    reading.close()


def test_closing_interrupts_a_wait_for_the_source() -> None:
    waits, interrupted = threading.Event(), threading.Event()

    def items() -> Generator[int, None, None]:
        waits.set()
        assert interrupted.wait(30)
        raise ConnectionError("interrupted")
        yield 1

    reading = Prefetch(items(), size=lambda item: item, most=1, interrupt=interrupted.set)
    assert waits.wait(30)
    reading.close()
    assert interrupted.is_set()


@pytest.mark.parametrize("slow", [Side.SOURCE, Side.DESTINATION])
def test_the_side_that_is_waited_for_is_told(slow: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on only while the other side waits: it is asked when a wait begins and ends."""
    now, asked = [0.0], Counter[int]()
    reader = threading.get_ident()

    def clock() -> float:
        asked[threading.get_ident()] += 1
        return now[0]

    def waits(side: Side) -> bool:
        return any(
            times % 2 and (thread == reader) is (side is Side.DESTINATION)
            for thread, times in list(asked.items())
        )

    def delay(side: Side) -> None:
        if side is slow:
            other = Side.DESTINATION if side is Side.SOURCE else Side.SOURCE
            until(lambda: waits(other), "the other side waits")
            now[0] += 1

    def items() -> Generator[int, None, None]:
        for item in range(5):
            delay(Side.SOURCE)
            yield item

    monkeypatch.setattr(prefetch, "monotonic", clock)
    reading = ahead(items())
    for item in reading:
        if item < 3:  # the items behind it fill what may wait
            delay(Side.DESTINATION)
    assert reading.slower is slow
