"""Text forms and cursors: what is written is read back exactly."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.errors import ConfigError, SchemaChangeError
from atlas_etl.model import BatchLimits, CursorKind, CursorValue

SCALARS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(lambda n: pa.scalar(n, pa.int64())),
    st.integers(0, 2**64 - 1).map(lambda n: pa.scalar(n, pa.uint64())),
    st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**20), max_value=10**20).map(
        lambda d: pa.scalar(d, pa.decimal128(38, 10))
    ),
    st.floats(allow_nan=False).map(lambda x: pa.scalar(x, pa.float64())),
    st.text(alphabet=st.characters(exclude_categories=["Cs"])).map(lambda t: pa.scalar(t, pa.string())),
    st.dates().map(lambda d: pa.scalar(d, pa.date32())),
    st.datetimes().map(lambda d: pa.scalar(d, pa.timestamp("us"))),
    st.datetimes(timezones=st.just(UTC)).map(lambda d: pa.scalar(d, pa.timestamp("us", "UTC"))),
    st.integers(-(2**62), 2**62).map(lambda n: pa.scalar(n, pa.timestamp("ns"))),
    st.uuids().map(
        lambda u: pa.ExtensionArray.from_storage(pa.uuid(), pa.array([u.bytes], pa.binary(16)))[0]
    ),
)


@given(SCALARS)
def test_a_cursor_is_lossless(scalar: pa.Scalar) -> None:
    text = values.cursor_value(scalar, stream="s", column="c")
    assert values.cursor_scalar(text, scalar.type).equals(scalar)


def test_text_forms_are_plain() -> None:
    def text(cell: object, kind: pa.DataType) -> object:
        return values.to_text(pa.array([cell], kind))[0].as_py()

    assert text(Decimal("0.00000001"), pa.decimal128(20, 8)) == "0.00000001"
    assert text(datetime(2026, 1, 2, 3, 4, 5, 6), pa.timestamp("us")) == "2026-01-02T03:04:05.000006"
    assert text(datetime(2026, 1, 2, tzinfo=UTC), pa.timestamp("us", "UTC")) == "2026-01-02T00:00:00.000000Z"
    assert text(b"\x00\xff", pa.binary()) == "00ff"
    assert text((14, -3, 5_500_000_000), pa.month_day_nano_interval()) == "P14M-3DT5.5S"
    assert text((0, 0, 0), pa.month_day_nano_interval()) == "PT0S"
    assert text([1, None], pa.list_(pa.int64())) == "[1,null]"
    assert text([Decimal("1.50")], pa.list_(pa.decimal128(5, 2))) == '["1.50"]'


def test_a_cursor_that_no_longer_fits_its_column() -> None:
    with pytest.raises(SchemaChangeError):
        values.cursor_scalar(CursorValue(CursorKind.TEXT, "abc"), pa.int64())


@pytest.mark.parametrize("kind", [pa.bool_(), pa.binary(), pa.json_(), pa.list_(pa.int64())])
def test_types_without_a_useful_order_are_refused(kind: pa.DataType) -> None:
    with pytest.raises(ConfigError, match="cannot be a cursor"):
        values.cursor_kind(kind, stream="s", column="c")


@given(
    st.datetimes(min_value=datetime(1700, 1, 1), max_value=datetime(2200, 1, 1)),
    st.timedeltas(timedelta(0), timedelta(days=900)),
)
def test_earlier_is_the_time_before(moment: datetime, lag: timedelta) -> None:
    value = values.cursor_value(pa.scalar(moment, pa.timestamp("us")), stream="s", column="c")
    found = values.cursor_scalar(values.earlier(value, lag), pa.timestamp("us")).as_py()
    assert found == moment - lag


def test_earlier_rounds_dates_down_and_refuses_numbers() -> None:
    day = values.cursor_value(pa.scalar(date(2026, 3, 1), pa.date32()), stream="s", column="c")
    assert values.earlier(day, timedelta(minutes=5)).text == "2026-02-28"
    with pytest.raises(ConfigError, match="lag"):
        values.earlier(CursorValue(CursorKind.INTEGER, "7"), timedelta(minutes=5))


@given(st.integers(0, 500), st.integers(1, 50), st.integers(1, 2000))
def test_split_keeps_every_row_within_the_limits(rows: int, most: int, size: int) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(rows), pa.int64())], names=["n"])
    parts = list(values.split(batch, BatchLimits(bytes=size, rows=most)))
    assert [n for part in parts for n in part.column(0).to_pylist()] == list(range(rows))
    assert all(part.num_rows <= most for part in parts)
    assert all(part.nbytes <= size or part.num_rows == 1 for part in parts)


def test_json_rows_lose_no_digit() -> None:
    batch = pa.RecordBatch.from_pydict({"n": pa.array([2**53, 2**60]), "x": pa.array([0.5, float("nan")])})
    assert values.json_rows(batch) == [[2**53, 0.5], [str(2**60), "nan"]]


@pytest.mark.parametrize(
    ("kind", "written", "canonical"),
    [
        (CursorKind.INTEGER, " 42 ", "42"),
        (CursorKind.DECIMAL, "1.50", "1.50"),
        (CursorKind.DATE, "2026-03-01", "2026-03-01"),
        (CursorKind.TIMESTAMP, "2026-03-01", "2026-03-01T00:00:00.000000"),
        (CursorKind.TIMESTAMPTZ, "2026-03-01", "2026-03-01T00:00:00.000000Z"),
        (CursorKind.TIMESTAMPTZ, "2026-03-01 12:30:45.5+02:00", "2026-03-01T10:30:45.500000Z"),
        (CursorKind.TIMESTAMPTZ, "2026-03-01T12:30:45Z", "2026-03-01T12:30:45.000000Z"),
        (CursorKind.TEXT, "x y", "x y"),
    ],
)
def test_a_cursor_that_a_person_writes(kind: CursorKind, written: str, canonical: str) -> None:
    assert values.parse_cursor(kind, written) == CursorValue(kind, canonical)


@pytest.mark.parametrize(
    ("kind", "wrong"), [(CursorKind.INTEGER, "abc"), (CursorKind.DATE, "soon"), (CursorKind.INTEGER, "1.5")]
)
def test_a_cursor_that_is_none(kind: CursorKind, wrong: str) -> None:
    with pytest.raises(pa.ArrowInvalid):
        values.parse_cursor(kind, wrong)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("9" * 39, pa.decimal128(38, 0)),
        ("9" * 29, pa.decimal128(38, 10)),
        ("1" * 80, pa.decimal256(76, 0)),
        ("1.3275754835941537e-307", pa.decimal128(10, 3)),
        ("1.125", pa.decimal128(10, 2)),
        ("x", pa.decimal128(10, 2)),
    ],
)
def test_a_decimal_that_does_not_fit_is_refused(text: str, kind: pa.DataType) -> None:
    for column in (pa.array([text]), pa.array([None, "1", text])):
        with pytest.raises(pa.ArrowInvalid):
            values.convert(column, kind)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**10), max_value=10**10))
def test_a_decimal_that_fits_is_read_exactly(number: Decimal) -> None:
    assert values.convert(pa.array([f"{number:f}", None]), pa.decimal128(16, 4)).to_pylist() == [number, None]
