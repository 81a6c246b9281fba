"""Cursor order in Arrow: what a file's edges tell of it is true of its rows, and a buffer loses none."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.files._order import Share, Tail, cursor_text
from atlas_etl.connectors.files._tail import TailBuffer
from atlas_etl.connectors.order import Edges, at_or_after, before, edges
from atlas_etl.errors import SchemaChangeError
from atlas_etl.model import Checkpoint, CursorKind, CursorValue, NextTail

NAN = float("nan")
NUMBERS = st.one_of(st.none(), st.sampled_from([NAN, -1.0, 0.0, 1.0, 2.0, 3.0]))
WORDS = st.one_of(st.none(), st.sampled_from(["", "A", "a", "b", "é"]))


def checkpoint(value: pa.Scalar, spellings: tuple[str, ...] = ()) -> Checkpoint:
    at = values.cursor_value(value, stream="s", column="c")
    return Checkpoint("c", at, at, spellings)


@given(st.lists(NUMBERS, max_size=8), st.sampled_from([NAN, 0.0, 1.5, 3.0]), st.booleans())
def test_a_files_edges_tell_what_its_rows_do(cells: list[float | None], bound: float, nulls: bool) -> None:
    tail = Tail(checkpoint(pa.scalar(bound)), pa.float64(), with_nulls=nulls)
    agrees(pa.array(cells, pa.float64()), tail)


@given(st.lists(WORDS, max_size=8), st.sets(st.sampled_from(["", "A", "b", "x"])), st.booleans())
def test_a_files_edges_tell_what_its_texts_do(cells: list[str | None], tail: set[str], nulls: bool) -> None:
    at = checkpoint(pa.scalar("b"), tuple(tail))
    agrees(pa.array(cells, pa.string()), Tail(at, pa.string(), with_nulls=nulls))


def agrees(column: pa.Array, tail: Tail) -> None:
    found = edges(column)
    share = tail.share(cursor_text(found.low), cursor_text(found.high), found.nulls)
    inside = tail.mask(column).to_pylist()
    assert None not in inside
    if share is Share.ALL:
        assert all(inside)
    if share is Share.NONE:
        assert not any(inside)
    if len(column) and len({str(cell) for cell in column}) == 1:
        assert share is (Share.ALL if inside[0] else Share.NONE)


@given(st.lists(st.lists(NUMBERS, max_size=4), max_size=4))
def test_edges_of_batches_are_those_of_all_rows(batches: list[list[float | None]]) -> None:
    together = Edges()
    for batch in batches:
        together = together.with_column(pa.array(batch, pa.float64()))
    everything = edges(pa.array([cell for batch in batches for cell in batch], pa.float64()))
    for one, other in ((together.low, everything.low), (together.high, everything.high)):
        assert cursor_text(one) == cursor_text(other)
    assert together.nulls == everything.nulls


def test_not_a_number_is_the_greatest() -> None:
    one, nan = pa.scalar(1.0), pa.scalar(NAN)
    assert before(one, nan)
    assert not before(nan, one)
    assert not before(nan, nan)
    assert at_or_after(pa.array([1.0, NAN, None]), nan).to_pylist() == [False, True, None]


def test_a_tail_of_numbers_in_a_column_of_text_is_refused() -> None:
    number = CursorValue(CursorKind.INTEGER, "9")
    with pytest.raises(SchemaChangeError):
        Tail(Checkpoint("c", number, number), pa.string(), with_nulls=False)


@given(
    st.lists(st.lists(st.one_of(NUMBERS, st.integers(0, 30).map(float)), max_size=30), max_size=8),
    st.sampled_from([1, 100, 400, 10_000]),
)
def test_a_buffer_gives_every_row_once_and_keeps_the_newest(
    batches: list[list[float | None]], size: int
) -> None:
    passed: list[float | None] = []
    buffer = TailBuffer("c", lambda rows: passed.extend(rows.column("c").to_pylist()), size=size)
    for cells in batches:
        buffer.write(pa.RecordBatch.from_arrays([pa.array(cells, pa.float64())], ["c"]))
    kept = [cell for batch in buffer.drain() for cell in batch.column("c").to_pylist()]
    everything = [cell for cells in batches for cell in cells]
    assert Counter(map(str, passed + kept)) == Counter(map(str, everything))
    assert buffer.drain() == []
    if size == 10_000:
        assert not passed


MINUTES = st.integers(0, 90)


@given(
    st.lists(st.lists(st.none() | MINUTES, max_size=30), max_size=8),
    st.none() | MINUTES,
    MINUTES,
)
def test_a_buffer_that_knows_where_the_tail_begins_keeps_nothing_else(
    batches: list[list[int | None]], bound: int | None, lag: int
) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    kind = pa.timestamp("us", "UTC")
    passed: list[datetime | None] = []
    known = None
    if bound is not None:
        known = values.cursor_value(pa.scalar(start + timedelta(minutes=bound), kind), stream="", column="c")
    buffer = TailBuffer(
        "c",
        lambda rows: passed.extend(rows.column("c").to_pylist()),
        size=100_000,
        next_tail=NextTail(known, timedelta(minutes=lag)),
    )
    for cells in batches:
        times = [None if cell is None else start + timedelta(minutes=cell) for cell in cells]
        buffer.write(pa.RecordBatch.from_arrays([pa.array(times, kind)], ["c"]))
    kept = [cell for batch in buffer.drain() for cell in batch.column("c").to_pylist()]
    everything = [cell for cells in batches for cell in cells]
    numbers = [cell for cell in everything if cell is not None]
    floor = max(numbers, default=0) - lag
    floor = floor if bound is None else min(bound, floor)
    inside = [None if at is None else (at - start) // timedelta(minutes=1) for at in kept]
    outside = [(at - start) // timedelta(minutes=1) for at in passed if at is not None]
    assert Counter(inside) == Counter(cell for cell in everything if cell is None or cell >= floor)
    assert Counter(outside) == Counter(cell for cell in numbers if cell < floor)
