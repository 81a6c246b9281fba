"""Types inferred from text: the same however the cells are dealt out, and no value changed by them."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.declared import declared
from atlas_etl.connectors.files._types import held, wider
from atlas_etl.connectors.infer import TextColumn, first_misfit, plain_numbers
from atlas_etl.errors import ConfigError


def inferred(*batches: list[str | None]) -> pa.DataType:
    column = TextColumn()
    for batch in batches:
        column.see(pa.array(batch, pa.string()))
    return column.type


TEXT = pa.string()


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-20", None, ""], pa.int64()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["9223372036854775808"], pa.decimal128(19, 0)),
        (["1" * 76], pa.decimal256(76, 0)),
        (["1" * 77], TEXT),
        (["007", "1"], TEXT),
        (["00"], TEXT),
        (["+1"], TEXT),
        (["1,000"], TEXT),
        ([".5"], TEXT),
        (["5."], TEXT),
        ([" 1"], TEXT),
        (["1_000"], TEXT),
        (["12.50", "3"], pa.decimal128(18, 2)),
        (["123456789012345678.125"], pa.decimal128(21, 3)),
        (["0." + "1" * 40], pa.decimal256(41, 40)),
        (["-0.00"], pa.decimal128(18, 2)),
        (["1e5", "2.5"], pa.float64()),
        (["1E+5"], pa.float64()),
        (["0.1", "1e-05", "0.30000000000000004"], pa.float64()),
        (["0.1234567890123456789", "1e5"], TEXT),
        (["12345678901234567890", "1e5"], TEXT),
        (["1e400"], TEXT),
        (["1e-400"], TEXT),
        (["nan", "1.5"], TEXT),
        (["true", "False", "TRUE"], pa.bool_()),
        (["true", "1"], TEXT),
        (["0", "1"], pa.int64()),
        (["t", "f"], TEXT),
        (["2024-02-29", "0001-01-01", "9999-12-31"], pa.date32()),
        (["2023-02-29"], TEXT),
        (["0000-00-00"], TEXT),
        (["0000-01-01"], TEXT),
        (["0000-01-01T00:00:00"], TEXT),
        (["29.02.2024"], TEXT),
        (["2024-1-1"], TEXT),
        (["2024-01-01 10:00", "2024-01-01T10:00:00.5"], pa.timestamp("us")),
        (["2024-01-01T10:00:00.123456789"], pa.timestamp("ns")),
        (["2024-01-01T10:00:00Z", "2024-01-01T10:00:00+02:00"], pa.timestamp("us", "UTC")),
        (["2024-01-01T10:00:00Z", "2024-01-01T10:00:00"], TEXT),
        (["2024-01-01", "2024-01-01T10:00:00"], TEXT),
        (["3000-01-01T10:00:00", "2024-01-01T10:00:00.123456789"], TEXT),
        (["9999-12-31T23:59:59-05:00"], TEXT),
        (["2024-01-01T24:00:00"], TEXT),
        (["10:00:00"], TEXT),
        (["", None], TEXT),
        ([], TEXT),
        (["1", "x"], TEXT),
        (["1", "2024-01-01"], TEXT),
    ],
)
def test_what_a_column_is(cells: list[str | None], kind: pa.DataType) -> None:
    assert inferred(cells) == kind
    assert inferred(*([cell] for cell in cells)) == kind
    assert inferred(*([cell] for cell in reversed(cells))) == kind


@pytest.mark.parametrize(
    ("known", "cells", "kind"),
    [
        (pa.int64(), ["1e-05"], pa.decimal128(18, 5)),
        (pa.int64(), ["1e3"], pa.int64()),
        (pa.decimal128(18, 2), ["5E-1", "2"], pa.decimal128(18, 2)),
        (pa.decimal128(18, 2), ["1e75"], pa.string()),
        (pa.decimal128(18, 2), ["1e9999999999"], pa.string()),
        (pa.float64(), ["5"], pa.float64()),
        (pa.float64(), ["0.1234567890123456789"], pa.string()),
        (pa.bool_(), ["1"], pa.string()),
        (pa.int64(), ["true"], pa.string()),
        (pa.date32(), ["2024-01-01T10:00:00"], pa.string()),
        (pa.timestamp("us"), ["2024-01-01T10:00:00Z"], pa.string()),
        (pa.timestamp("us", "UTC"), ["2024-01-01T10:00:00Z"], pa.timestamp("us", "UTC")),
        (pa.string(), ["2024-01-01"], pa.string()),
        (pa.int16(), ["32767", "-32768"], pa.int16()),
        (pa.int16(), ["32768"], pa.int64()),
        (pa.uint8(), ["255"], pa.uint8()),
        (pa.uint8(), ["-1"], pa.int64()),
        (pa.decimal128(10, 2), ["12345678.25", "7"], pa.decimal128(10, 2)),
        (pa.decimal128(10, 2), ["123456789"], pa.decimal128(18, 2)),
        (pa.uuid(), ["0B1f5a3e-7c3a-4c7b-9d2e-2f6f5a3e7c3a"], pa.uuid()),
        (pa.uuid(), ["0b 1f5a3e7c3a4c7b9d2e2f6f5a3e7c3a"], pa.string()),
        (pa.uuid(), ["1"], pa.string()),
        (pa.time64("us"), ["08:00:00", "23:59:59.5"], pa.time64("us")),
        (pa.time64("us"), ["24:00:00"], pa.string()),
        (pa.time64("us"), ["08:00:00.0000001"], pa.string()),
        (pa.json_(), ['{"a": 1}', "5"], pa.json_()),
        (pa.json_(), ["{a: 1}"], pa.string()),
    ],
    ids=str,
)
def test_cells_are_told_beside_those_before(
    known: pa.DataType, cells: list[str | None], kind: pa.DataType
) -> None:
    column = TextColumn(known)
    column.see(pa.array(cells))
    assert column.type == kind
    if pa.types.is_decimal(kind) or pa.types.is_integer(kind):
        plain = plain_numbers(pa.array(cells), kind)
        assert [*map(Decimal, values.from_text(plain, kind).to_pylist())] == [*map(Decimal, cells)]


DIGITS = st.text("0123456789", min_size=1, max_size=25)
CELLS = st.one_of(
    st.none(),
    st.just(""),
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(lambda d: format(d, "f")),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.builds("{}.{}".format, DIGITS, DIGITS),
    st.builds("{}e{}".format, DIGITS, st.integers(-330, 330)),
    st.sampled_from(["true", "False", "x", "+1", "-0", "0", "0.0", "1e0", "-0.0e0"]),
    st.dates().map(str),
    st.datetimes().map(lambda d: d.isoformat()),
    st.datetimes().map(lambda d: d.isoformat() + "Z"),
)
COLUMNS = st.one_of(
    st.lists(CELLS, max_size=6),
    *(
        st.lists(st.one_of(cells, st.none()), max_size=6)
        for cells in (DIGITS, st.floats(allow_nan=False, allow_infinity=False).map(repr))
    ),
)


def same(written: str, read: str) -> bool:
    if written == read:
        return True
    try:
        return Decimal(written) == Decimal(read)
    except ArithmeticError:
        plain = written.replace(" ", "T").lower()
        return plain.rstrip("z") == read.rstrip("Z").rstrip("0").rstrip(".").lower() or same_time(
            written, read
        )


def same_time(written: str, read: str) -> bool:
    kind = pa.timestamp("us", "UTC" if read.endswith("Z") else None)
    first, second = (pa.array([text]).cast(kind)[0] for text in (written, read))
    return bool(first == second)


@settings(max_examples=400, deadline=None)
@given(COLUMNS, st.integers(0, 6))
def test_no_value_changes_and_no_order_matters(cells: list[str | None], cut: int) -> None:
    kind = inferred(cells)
    assert inferred(cells[cut:], cells[:cut]) == kind
    if pa.types.is_string(kind):
        return
    filled = [cell for cell in cells if cell]
    read = values.to_text(values.from_text(pa.array(filled, pa.string()), kind)).to_pylist()
    for written, found in zip(filled, read, strict=True):
        if kind != pa.bool_():
            assert same(written, found), (written, found, kind)
        else:
            assert written.lower() == found


@given(st.lists(st.sampled_from(["1", "2", None]), max_size=40), st.integers(0, 40))
def test_the_first_misfit_is_found(cells: list[str | None], at: int) -> None:
    cells.insert(min(at, len(cells)), "x")
    column = pa.array([*cells, "y"], pa.string())
    assert first_misfit(column, lambda some: values.from_text(some, pa.int64())) == cells.index("x")


def test_declared_types() -> None:
    assert declared("Decimal(12, 2)") == pa.decimal128(12, 2)
    assert declared("numeric(60)") == pa.decimal256(60, 0)
    assert declared("timestamptz") == pa.timestamp("us", "UTC")
    for wrong in ("decimal(2,3)", "decimal(77)", "timestmp", ""):
        with pytest.raises(ConfigError) as caught:
            declared(wrong)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint64(), pa.int8(), pa.decimal128(20, 0)),
        (pa.int64(), pa.decimal128(5, 2), pa.decimal128(21, 2)),
        (pa.decimal128(38, 0), pa.decimal128(10, 10), pa.decimal256(48, 10)),
        (pa.decimal256(76, 0), pa.decimal128(2, 2), None),
        (pa.float32(), pa.int32(), pa.float64()),
        (pa.float64(), pa.int64(), None),
        (pa.float64(), pa.decimal128(5, 2), None),
        (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.date32(), pa.timestamp("us"), None),
        (pa.string(), pa.int64(), None),
        (pa.null(), pa.int64(), pa.int64()),
        (pa.list_(pa.int8()), pa.list_(pa.int32()), pa.list_(pa.int32())),
        (pa.list_(pa.int8()), pa.int8(), None),
    ],
)
def test_columns_of_several_files(one: pa.DataType, other: pa.DataType, both: pa.DataType | None) -> None:
    assert wider(one, other) == both
    assert wider(other, one) == both


def test_what_is_held_is_held_as_it_is() -> None:
    kinds = [pa.int8(), pa.uint64(), pa.decimal256(60, 5), pa.timestamp("us"), pa.timestamp("ns", "UTC")]
    kinds += [pa.date32(), pa.time64("us"), pa.string(), pa.binary(), pa.uuid(), pa.json_(), pa.float32()]
    kinds += [pa.list_(pa.int64()), pa.month_day_nano_interval(), pa.bool_()]
    assert [held(kind) for kind in kinds] == kinds
