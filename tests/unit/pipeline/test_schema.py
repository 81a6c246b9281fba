"""Schema evolution: added, widened, never narrowed, and every value exact."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.errors import DataError, SchemaChangeError
from atlas_etl.model import AddColumn, CreateTable, Stream, WidenColumn
from atlas_etl.pipeline.schema import conform, evolve, known_columns, reading_texts, unread_values, widest

UNLIMITED = values.UNLIMITED_DECIMAL
INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


@st.composite
def decimals(draw: st.DrawFn) -> pa.DataType:
    precision = draw(st.integers(1, 38))
    return pa.decimal128(precision, draw(st.integers(0, precision)))


def as_it_is(schema: pa.Schema, _: pa.Schema | None) -> pa.Schema:
    """What a destination stores that has every type."""
    return schema


NUMBERS = st.one_of(st.sampled_from(INTEGERS), decimals())


def bounds(kind: pa.DataType) -> list[str]:
    """The least and greatest number that a type holds, as digits."""
    if pa.types.is_decimal(kind):
        digits = "9" * (kind.precision - kind.scale) or "0"
        text = f"{digits}.{'9' * kind.scale}" if kind.scale else digits
        return [text, f"-{text}"]
    low, high = (
        (0, 2**kind.bit_width - 1)
        if "u" in str(kind)
        else (-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    )
    return [str(low), str(high)]


def numbers(column: pa.Array) -> list[Decimal]:
    return [Decimal(text) for text in values.to_text(column).to_pylist()]


@given(NUMBERS, NUMBERS)
def test_the_widest_number_holds_every_value_of_both(one: pa.DataType, other: pa.DataType) -> None:
    found = widest(one, other)
    assert found is not None
    assert found == widest(other, one)
    for kind in (one, other):
        column = values.from_text(pa.array(bounds(kind)), kind)
        there = values.convert(column, found)
        assert numbers(there) == numbers(column)


@given(NUMBERS)
def test_a_type_is_its_own_widest(kind: pa.DataType) -> None:
    assert widest(kind, kind) == kind


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.int64(), pa.uint32(), pa.int64()),
        (pa.int64(), pa.uint64(), pa.decimal128(20, 0)),
        (pa.int64(), pa.decimal128(5, 2), pa.decimal128(21, 2)),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.int32(), pa.float64(), pa.float64()),
        (pa.int64(), pa.float64(), None),
        (pa.int64(), pa.string(), pa.string()),
        (pa.string(), pa.int64(), pa.string()),
        (pa.bool_(), pa.int32(), None),
        (pa.string(), pa.bool_(), None),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None),
        (pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns")),
        (pa.date32(), pa.timestamp("us"), None),
        (pa.list_(pa.int32()), pa.list_(pa.int64()), pa.list_(pa.int64())),
        (pa.binary(), pa.string(), None),
        (pa.uuid(), pa.string(), pa.string()),
        (pa.string(), UNLIMITED, pa.string()),
        (UNLIMITED, pa.int64(), UNLIMITED),
        (pa.decimal128(38, 2), UNLIMITED, UNLIMITED),
        (pa.decimal256(76, 0), pa.decimal256(76, 76), UNLIMITED),
        (pa.float64(), UNLIMITED, None),
        (pa.json_(), UNLIMITED, None),
    ],
)
def test_what_widens(one: pa.DataType, other: pa.DataType, expected: pa.DataType | None) -> None:
    assert widest(one, other) == expected


def test_a_missing_table_is_created() -> None:
    incoming = pa.schema([("a", pa.int64())])
    assert evolve(None, incoming, as_it_is) == (incoming, (CreateTable(),))


def test_columns_are_added_widened_and_left() -> None:
    there = pa.schema([("a", pa.int32()), ("gone", pa.string()), ("same", pa.int64())])
    incoming = pa.schema([("new", pa.string()), ("a", pa.int64()), ("same", pa.int16())])
    schema, changes = evolve(there, incoming, as_it_is)
    assert schema == pa.schema([("new", pa.string()), ("a", pa.int64()), ("same", pa.int64())])
    assert changes == (
        AddColumn(incoming.field("new")),
        WidenColumn("a", pa.int32(), incoming.field("a")),
    )


def test_what_is_widened_is_of_a_type_that_the_destination_has() -> None:
    there, read = (pa.schema([("a", pa.decimal128(38, scale))]) for scale in (0, 10))

    def of_few_digits(schema: pa.Schema, _: pa.Schema | None) -> pa.Schema:
        return pa.schema([("a", pa.string())]) if pa.types.is_decimal256(schema.field("a").type) else schema

    schema, changes = evolve(there, read, of_few_digits)
    assert schema == pa.schema([("a", pa.string())])
    assert changes == (WidenColumn("a", pa.decimal128(38, 0), schema.field("a")),)
    schema, _ = evolve(there, read, as_it_is)
    assert schema == pa.schema([("a", pa.decimal256(48, 10))])


def test_a_column_of_numbers_of_any_digits_reads_the_texts_of_numbers() -> None:
    """Somebody made it so, for there is no other way to it from a source of texts."""
    there, read = pa.schema([("a", UNLIMITED)]), pa.schema([("a", pa.string())])
    assert evolve(reading_texts(there, read), read, as_it_is) == (read, ())
    assert reading_texts(there, there) == there
    known = known_columns(Stream("s"), there, as_it_is)
    assert known is not None
    assert (known.schema, known.settled) == (read, {"a"})


def test_what_a_destination_holds_as_another_type_tells_nothing_of_the_values() -> None:
    def as_numbers(schema: pa.Schema, _: pa.Schema | None) -> pa.Schema:
        return pa.schema(
            [
                field.with_type(pa.int8() if pa.types.is_boolean(field.type) else field.type)
                for field in schema
            ]
        )

    there = pa.schema(
        [("flag", pa.int8()), ("n", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("day", pa.date32())]
    )
    known = known_columns(Stream("s"), there, as_numbers)
    assert known is not None
    assert known.settled == {"n", "at", "day"}
    zoned = known_columns(Stream("s", timezone="Europe/Berlin"), there, as_numbers)
    assert zoned is not None
    assert zoned.settled == {"n", "day"}


SPELLED = [pa.bool_(), pa.float64(), pa.date32(), pa.timestamp("us"), pa.timestamp("ns", "UTC")]


@pytest.mark.parametrize("kind", SPELLED, ids=str)
def test_texts_of_a_source_without_types_make_their_column_text(kind: pa.DataType) -> None:
    there, text = pa.schema([("a", kind)]), pa.field("a", pa.string())
    read = pa.schema([values.inferred(text)])
    assert evolve(there, read, as_it_is) == (read, (WidenColumn("a", kind, text),))
    (warning,) = unread_values([WidenColumn("a", kind, text)])
    assert "their values as texts of one form" in warning
    with pytest.raises(SchemaChangeError):  # a database said what its column is
        evolve(there, pa.schema([text]), as_it_is)


def test_what_cannot_be_widened_names_the_column_and_both_types() -> None:
    with pytest.raises(SchemaChangeError, match=r"'a'.*boolean.*timestamp with time zone") as caught:
        evolve(pa.schema([("a", pa.bool_())]), pa.schema([("a", pa.timestamp("us", "UTC"))]), as_it_is)
    assert (caught.value.exit_code, caught.value.column) == (7, "a")


def test_a_time_that_is_too_fine_is_to_be_loaded_as_text() -> None:
    fine = pa.record_batch([pa.array([1], pa.timestamp("ns", "UTC"))], ["at"])
    with pytest.raises(DataError, match="cannot hold exactly") as caught:
        conform(fine, pa.schema([("at", pa.timestamp("us", "UTC"))]))
    assert "as text" in str(caught.value.hint)


def test_conform_renames_and_converts_by_position() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1, None], pa.int32())], names=["long name"])
    target = pa.schema([("long_name_1", pa.string())])
    assert conform(batch, target).to_pylist() == [{"long_name_1": "1"}, {"long_name_1": None}]


def test_conform_refuses_a_value_that_would_change() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([300], pa.int64())], names=["a"])
    with pytest.raises(DataError, match="'a'"):
        conform(batch, pa.schema([("a", pa.int8())]))
