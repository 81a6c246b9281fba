"""What differs between two multisets of rows, against a model of it in Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from itertools import groupby

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.pipeline.differences import Counts, Differences
from atlas_etl.pipeline.digest import row_digests

Row = tuple[int, str, int]
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("at", pa.int64())])
KEY = pa.schema([SCHEMA.field("id")])

rows = st.lists(st.tuples(st.integers(1, 4), st.sampled_from("ab"), st.integers(1, 3)), max_size=8)


def batch(some: Iterable[Row]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in some], SCHEMA)


def counted(
    key: pa.Schema, read: list[Row], stored: list[Row], *, tail_from: int, later: list[Row], appends: bool
) -> Counts:
    with closing(Differences(key, None)) as differences:
        for part in (read[:3], read[3:]):
            differences.add_read(batch(part), row_digests(batch(part)))
        in_tail = pa.array([appends and row[2] >= tail_from for row in stored], pa.bool_())
        differences.add_stored(batch(stored), row_digests(batch(stored)), in_tail)
        assert differences.compare() == len(read)
        differences.add_tail(row_digests(batch(row for row in read if row[2] >= tail_from)))
        if key:
            differences.add_later(batch(later))
        counts = differences.counts(tail_is_open=True)
        if key:
            shown = {int(str(text)) for example in differences.examples(99) for _, text in example.key}
            assert shown == {key for keys in differences.differing_keys() for key in keys[0].to_pylist()}
        return counts


def model(
    by_key: bool, read: list[Row], stored: list[Row], *, tail_from: int, later: list[Row], appends: bool
) -> Counts:
    here, there = Counter(read), Counter(stored)
    only_read, only_stored = (here - there).elements(), (there - here).elements()
    sides = [*((row, True) for row in only_read), *((row, False) for row in only_stored)]
    missing = extra = changed = pending = 0
    later_ids, read_ids = {row[0] for row in later}, {row[0] for row in read}

    def group(side: tuple[Row, bool]) -> object:
        return side[0][0] if by_key else side[0]

    for _, found in groupby(sorted(sides, key=lambda side: (group(side), side)), key=group):
        ours = list(found)
        lacks = [row for row, is_read in ours if is_read]
        surplus = [row for row, is_read in ours if not is_read]
        come = [row for row in lacks if row[2] >= tail_from]
        go = [row for row in surplus if appends and row[2] >= tail_from and row not in here]
        left = 0 if by_key and come else len(surplus) - len(go)
        both = min(len(lacks) - len(come), left)
        changed += both
        missing += len(lacks) - len(come) - both
        pending += max(len(come), len(go))
        key = ours[0][0][0]
        if by_key and key in later_ids - read_ids:
            pending += left - both
        else:
            extra += left - both
    return Counts(missing, extra, changed, pending)


@settings(max_examples=30, deadline=None)
@given(
    by_key=st.booleans(),
    read=rows,
    stored=rows,
    tail_from=st.integers(1, 4),
    later=rows,
    appends=st.booleans(),
)
def test_counts_are_those_of_the_model(
    by_key: bool, read: list[Row], stored: list[Row], tail_from: int, later: list[Row], appends: bool
) -> None:
    key = KEY if by_key else pa.schema([])
    found = counted(key, read, stored, tail_from=tail_from, later=later, appends=appends)
    assert found == model(by_key, read, stored, tail_from=tail_from, later=later, appends=appends)


@settings(max_examples=8, deadline=None)
@given(read=rows, tail_from=st.integers(1, 4))
def test_equal_sides_have_no_difference(read: list[Row], tail_from: int) -> None:
    for key in (KEY, pa.schema([])):
        found = counted(key, read, read[::-1], tail_from=tail_from, later=[], appends=True)
        assert found == Counts()
