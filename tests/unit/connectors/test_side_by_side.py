"""Several readers at once: every batch is taken once, in turn where wanted, and memory is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl.connectors.sql._fetching import Batches
from atlas_etl.connectors.sql._side_by_side import AsTheyCome, InTurn, SideBySide, Waiting, dealt

CELL = 8  # bytes of one

Parts = Sequence[Sequence[int]]  # of each part its batches, by their rows
PARTS = st.lists(st.lists(st.integers(1, 40), max_size=4), max_size=12)


def batch(part: int, place: int, rows: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array([1000 * part + place] * rows, pa.int64())})


class Counted:
    """Reads these parts, by their numbers among all. `given` are the batches that it was rid of."""

    def __init__(self, parts: Sequence[tuple[int, Sequence[int]]]) -> None:
        self._parts = parts
        self.given: list[pa.RecordBatch] = []
        self.interrupted = False

    def parts(self) -> Iterator[Batches]:
        return (self._batches(*part) for part in self._parts)

    def _batches(self, part: int, sizes: Sequence[int]) -> Batches:
        for place, rows in enumerate(sizes):
            made = batch(part, place, rows)
            yield made, ()
            self.given.append(made)

    def interrupt(self) -> None:
        self.interrupted = True


def readers_of(parts: Parts, count: int) -> list[Counted]:
    return [Counted(own) for own in dealt(list(enumerate(parts)), count)]


def rows_of(batches: Batches) -> list[int]:
    return [number for found, _ in batches for number in found.column("n").to_pylist()]


def expected(parts: Parts) -> list[int]:
    return [
        1000 * part + place
        for part, sizes in enumerate(parts)
        for place, rows in enumerate(sizes)
        for _ in range(rows)
    ]


@given(PARTS, st.integers(1, 5), st.integers(0, 50))
def test_parts_come_in_their_order(parts: Parts, count: int, room: int) -> None:
    together = SideBySide(room * CELL, InTurn(count))
    assert rows_of(together.batches(readers_of(parts, count))) == expected(parts)


@given(PARTS, st.integers(1, 5), st.integers(0, 50))
def test_every_batch_comes_once(parts: Parts, count: int, room: int) -> None:
    together = SideBySide(room * CELL, AsTheyCome())
    assert sorted(rows_of(together.batches(readers_of(parts, count)))) == sorted(expected(parts))


@given(PARTS, st.integers(1, 4), st.integers(0, 50), st.booleans())
def test_what_waits_has_room(parts: Parts, count: int, room: int, in_turn: bool) -> None:
    """When a batch is taken, what was read beside it is within the room, but for what is waited for."""
    readers = readers_of(parts, count)
    waiting: Waiting = InTurn(count) if in_turn else AsTheyCome()
    taken = 0
    largest = max((rows for sizes in parts for rows in sizes), default=0)
    for found, _ in SideBySide(room * CELL, waiting).batches(readers):
        read = sum(made.num_rows for reader in readers for made in list(reader.given))
        assert read - taken <= room + 2 * largest
        taken += found.num_rows


@pytest.mark.parametrize("waiting", [AsTheyCome(), InTurn(2)])
def test_a_read_that_is_left_ends_its_threads(waiting: Waiting) -> None:
    readers = readers_of([[10] * 10] * 4, 2)
    threads = set(threading.enumerate())
    batches = SideBySide(CELL, waiting).batches(readers)
    next(batches)
    batches.close()
    assert set(threading.enumerate()) <= threads
    assert all(reader.interrupted for reader in readers)


class Failing(Counted):
    """Fails before its first part."""

    def parts(self) -> Iterator[Batches]:
        raise ValueError("broken")


@pytest.mark.parametrize("waiting", [AsTheyCome(), InTurn(2)])
def test_the_first_failure_ends_all(waiting: Waiting) -> None:
    readers = [Failing(()), *readers_of([[10] * 10] * 4, 1)]
    threads = set(threading.enumerate())
    with pytest.raises(ValueError, match="broken"):
        rows_of(SideBySide(CELL, waiting).batches(readers))
    assert set(threading.enumerate()) <= threads
