"""From where on rows may still appear, held to writers in every zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.sql._late import OpenWriters, beginning, late_from
from atlas_etl.model import CursorKind, CursorValue

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OFFSETS = st.integers(-12 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))
AGES = st.timedeltas(timedelta(), timedelta(days=400))


def timestamp(instant: datetime) -> CursorValue:
    return CursorValue(CursorKind.TIMESTAMP, instant.replace(tzinfo=None).isoformat(timespec="microseconds"))


@given(OFFSETS, AGES, AGES, AGES)
def test_no_row_of_an_open_writer_is_before_it(
    zone: timezone, age: timedelta, wrote: timedelta, high: timedelta
) -> None:
    began, written = NOW - age, NOW - min(wrote, age)
    writers = OpenWriters(began, began, NOW)
    greatest = (NOW - high).astimezone(zone)
    found = late_from(timestamp(greatest), writers, None)
    assert found is not None
    assert found.text <= timestamp(written.astimezone(zone)).text
    day = late_from(CursorValue(CursorKind.DATE, greatest.date().isoformat()), writers, None)
    assert day is not None
    assert day.text <= written.astimezone(zone).date().isoformat()


@given(OFFSETS, st.timedeltas(timedelta(), timedelta(hours=1)))
def test_it_is_no_further_back_than_the_writer_is_old(zone: timezone, age: timedelta) -> None:
    high = NOW.astimezone(zone)
    found = late_from(timestamp(high), OpenWriters(NOW - age, NOW - age, NOW), None)
    assert found == timestamp(high - age)


def test_a_cursor_of_the_future_bounds_nothing() -> None:
    high = timestamp(NOW + timedelta(days=365))
    found = late_from(high, OpenWriters(NOW, NOW, NOW), None)
    assert found == timestamp(NOW - timedelta(hours=12))


def test_a_known_zone_is_taken_at_its_word() -> None:
    writers = OpenWriters(NOW, NOW, NOW)
    assert late_from(timestamp(NOW), writers, "Asia/Tokyo") == timestamp(NOW + timedelta(hours=9))
    instant = CursorValue(CursorKind.TIMESTAMPTZ, "2030-01-01T00:00:00.000000Z")
    assert late_from(instant, writers, None) == CursorValue(
        CursorKind.TIMESTAMPTZ, "2026-03-01T12:00:00.000000Z"
    )
    day = CursorValue(CursorKind.DATE, "2026-03-01")
    assert late_from(day, OpenWriters(NOW, NOW, NOW), "Pacific/Kiritimati") == CursorValue(
        CursorKind.DATE, "2026-03-02"
    )


def test_no_clock_bounds_a_number() -> None:
    assert late_from(CursorValue(CursorKind.INTEGER, "7"), OpenWriters(NOW, NOW, NOW), None) is None


def test_writers_that_began_who_knows_when() -> None:
    ever = datetime(1, 1, 2, tzinfo=UTC)
    found = late_from(timestamp(NOW - timedelta(days=20_000)), OpenWriters(ever, ever, NOW), None)
    assert found == CursorValue(CursorKind.TIMESTAMP, "0001-01-01T12:00:00.000000")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.int16(), "-32768"),
        (pa.int64(), "-9223372036854775808"),
        (pa.uint64(), "0"),
        (pa.decimal128(5, 2), "-999.99"),
        (pa.decimal128(3, 3), "-0.999"),
        (pa.decimal256(40, 0), "-" + "9" * 40),
        (pa.decimal128(3, -2), "-99900"),
    ],
)
def test_the_beginning_is_a_value_of_the_column(kind: pa.DataType, text: str) -> None:
    found = beginning(kind)
    assert found.text == text
    if getattr(kind, "scale", 0) >= 0:
        assert values.cursor_value(values.cursor_scalar(found, kind), stream="s", column="c") == found
