"""The binary COPY codec by itself: what it encodes it decodes, and malformed bytes never become values."""

from __future__ import annotations

import random
import struct
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.connectors.sql._pgcopy.decode import Payloads, RowDecoder
from atlas_etl.connectors.sql._pgcopy.encode import RowEncoder
from atlas_etl.connectors.sql._pgcopy.types import (
    HEADER,
    SIGNATURE,
    TRAILER,
    PgCopyError,
    PgType,
    UnrepresentableError,
    Wire,
    array_type,
    builtin_type,
    text_type,
)
from atlas_etl.model import Hazard

OIDS = {
    Wire.BOOL: 16, Wire.INT2: 21, Wire.INT4: 23, Wire.INT8: 20, Wire.OID: 26, Wire.FLOAT4: 700,
    Wire.FLOAT8: 701, Wire.NUMERIC: 1700, Wire.TEXT: 25, Wire.CHAR: 18, Wire.BYTEA: 17, Wire.DATE: 1082,
    Wire.TIME: 1083, Wire.TIMESTAMP: 1114, Wire.TIMESTAMPTZ: 1184, Wire.INTERVAL: 1186, Wire.UUID: 2950,
    Wire.JSON: 114, Wire.JSONB: 3802,
}  # fmt: skip


def pg(wire: Wire, typmod: int = -1) -> PgType:
    type_ = builtin_type(OIDS[wire], typmod)
    assert type_ is not None
    return type_


def numeric(precision: int, scale: int) -> PgType:
    return pg(Wire.NUMERIC, (precision << 16 | scale & 0x7FF) + 4)


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**precision - 1
    unscaled = st.integers(-most, most) | st.integers(-min(9999, most), min(9999, most))
    return unscaled.map(lambda value: Decimal(f"{value}E{-scale}"))


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
NANOSECONDS = st.integers(-((2**63 - 1) // 1000), (2**63 - 1) // 1000).map(lambda value: value * 1000)
VALUES: list[tuple[PgType, st.SearchStrategy[object]]] = [
    (pg(Wire.BOOL), st.booleans()),
    (pg(Wire.INT2), integers(16)),
    (pg(Wire.INT4), integers(32)),
    (pg(Wire.INT8), integers(64)),
    (pg(Wire.OID), st.integers(0, 2**32 - 1)),
    (pg(Wire.FLOAT4), st.floats(width=32)),
    (pg(Wire.FLOAT8), st.floats()),
    *((numeric(p, s), decimals(p, s)) for p, s in [(1, 0), (9, 3), (16, 2), (17, 3), (18, 18), (19, 1)]),
    *((numeric(p, s), decimals(p, s)) for p, s in [(38, 0), (38, 17), (39, 38), (76, 0), (76, 76)]),
    (pg(Wire.TEXT), TEXT),
    (text_type(99_999), TEXT),
    (pg(Wire.CHAR), st.sampled_from(["", "a", "\\377", "\\200", "\x7f"])),
    (pg(Wire.BYTEA), st.binary(max_size=12)),
    (pg(Wire.DATE), st.dates()),
    (pg(Wire.TIME), st.times()),
    (pg(Wire.TIMESTAMP), st.datetimes()),
    (pg(Wire.TIMESTAMPTZ), st.datetimes(timezones=st.just(UTC))),
    (
        pg(Wire.INTERVAL),
        st.builds(lambda *parts: pa.MonthDayNano(parts), integers(32), integers(32), NANOSECONDS),
    ),
    (pg(Wire.UUID), st.binary(min_size=16, max_size=16)),
    (pg(Wire.JSON), TEXT),
    (pg(Wire.JSONB), TEXT),
]
VALUES += [(array_type(type_), st.lists(st.none() | cell, max_size=5)) for type_, cell in VALUES]


def array(values: list[object], kind: pa.DataType) -> pa.Array:
    """pa.array, for extension types too."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_list(kind) and isinstance(kind.value_type, pa.BaseExtensionType):
        plain = pa.array(values, pa.list_(kind.value_type.storage_type))
        inner = pa.ExtensionArray.from_storage(kind.value_type, plain.values)
        return pa.ListArray.from_arrays(plain.offsets, inner, mask=plain.is_null(), type=kind)
    return pa.array(values, kind)


def batch_of(columns: list[tuple[PgType, list[object]]]) -> pa.RecordBatch:
    arrays = [array(values, type_.arrow_type()) for type_, values in columns]
    return pa.RecordBatch.from_arrays(arrays, [f"c{i}" for i in range(len(arrays))])


def encode(batch: pa.RecordBatch, types: list[PgType]) -> bytes:
    return RowEncoder(batch.schema, types).encode(batch)


def decode(schema: pa.Schema, types: list[PgType], messages: list[bytes]) -> pa.RecordBatch:
    decoder = RowDecoder(schema, types)
    decoded = decoder.feed(Payloads.joined(messages))
    decoder.finish()
    decoded.batch.validate(full=True)
    assert decoded.hazards == ()
    return decoded.batch


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[PgType], pa.RecordBatch]:
    chosen = draw(st.lists(st.sampled_from(VALUES), min_size=1, max_size=5))
    rows = draw(st.integers(1, 9))
    columns: list[tuple[PgType, list[object]]] = []
    for type_, cell in chosen:
        nullable = cell if draw(st.booleans()) else st.none() | cell
        columns.append((type_, draw(st.lists(nullable, min_size=rows, max_size=rows))))
    batch = batch_of(columns)
    start = draw(st.integers(0, rows))
    return [type_ for type_, _ in chosen], batch.slice(start, draw(st.integers(0, rows - start)))


@settings(max_examples=300, deadline=None)
@given(tables(), st.data())
def test_what_is_encoded_is_decoded_however_the_messages_are_cut(
    table: tuple[list[PgType], pa.RecordBatch], data: st.DataObject
) -> None:
    types, batch = table
    stream = HEADER + encode(batch, types) + TRAILER
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    decoder = RowDecoder(batch.schema, types)
    found = [decoder.feed(Payloads.joined([piece])) for piece in pieces]
    decoder.finish()
    joined = pa.Table.from_batches([one.batch for one in found], batch.schema).combine_chunks()
    again = joined.to_batches()[0] if joined.num_rows else batch.slice(0, 0)
    for column, expected in zip(again.columns, batch.columns, strict=True):
        column.validate(full=True)
        assert repr(column.to_pylist()) == repr(expected.to_pylist())  # NaN equals NaN
    assert all(one.hazards == () for one in found)
    assert decode(batch.schema, types, [stream]).equals(again) or "nan" in repr(again.to_pylist())


ROWS = batch_of([
    (pg(Wire.INT4), [1, None, -3]),
    (pg(Wire.TEXT), ["a", "bcd", None]),
    (numeric(30, 4), [Decimal("1.5"), None, Decimal("-12345678.0001")]),
    (numeric(76, 0), [Decimal("9" * 76), Decimal(1), None]),
    (array_type(pg(Wire.TEXT)), [["a", None], [], None]),
    (array_type(pg(Wire.INT2)), [[1, 2, 3], None, [4]]),
    (pg(Wire.JSONB), ["{}", None, "[1]"]),
    (pg(Wire.INTERVAL), [pa.MonthDayNano((1, 2, 3000)), None, None]),
    (pg(Wire.TIMESTAMP), [None, datetime(1, 1, 1), None]),
])  # fmt: skip
TYPES = [
    pg(Wire.INT4), pg(Wire.TEXT), numeric(30, 4), numeric(76, 0), array_type(pg(Wire.TEXT)),
    array_type(pg(Wire.INT2)), pg(Wire.JSONB), pg(Wire.INTERVAL), pg(Wire.TIMESTAMP),
]  # fmt: skip
STREAM = HEADER + encode(ROWS, TYPES) + TRAILER
# Numbers read as text take another way.
AS_TEXT = ROWS.schema.set(2, pa.field("c2", pa.string())).set(3, pa.field("c3", pa.string()))


def test_a_stream_cut_short_anywhere_is_an_error() -> None:
    assert decode(ROWS.schema, TYPES, [STREAM]).equals(ROWS)
    for size in range(len(STREAM)):
        with pytest.raises(PgCopyError):
            decode(ROWS.schema, TYPES, [STREAM[:size]])


@pytest.mark.parametrize("schema", [ROWS.schema, AS_TEXT], ids=["decimals", "numbers as text"])
def test_bytes_gone_wrong_are_an_error_or_other_valid_values(schema: pa.Schema) -> None:
    wheel = random.Random(7)
    refused = 0
    for _ in range(3_000):
        wrong = bytearray(STREAM)
        for _ in range(wheel.choice((1, 1, 2, 8))):
            wrong[wheel.randrange(len(wrong))] = wheel.choice((0, 1, 0x7F, 0x80, 0xFF, wheel.randrange(256)))
        decoder = RowDecoder(schema, TYPES)
        try:
            decoder.feed(Payloads.joined([wrong])).batch.validate(full=True)
            decoder.finish()
        except PgCopyError:
            refused += 1
    assert 500 < refused < 3_000


@pytest.mark.parametrize("order", range(20))
def test_rows_of_several_streams_shuffled_are_an_error_or_whole_rows(order: int) -> None:
    """Row starts that are not starts must not be believed."""
    rows = encode(ROWS, TYPES)
    starts = np.array([0, *sorted(random.Random(order).sample(range(1, len(rows)), 2))])
    with pytest.raises(PgCopyError):
        RowDecoder(ROWS.schema, TYPES).decode(rows, starts)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([b"\x00\x01" + HEADER], "signature"),
        ([SIGNATURE + b"\x00\x01\x00\x00" + bytes(4)], "critical flags"),
        ([HEADER, b"\x00\x02" + bytes(8), TRAILER], "2 fields instead of 1"),
        ([HEADER, b"\x00\x01\xff\xff\xff\xfe", TRAILER], "length -2"),
        ([HEADER, b"\x00\x01\x7f\xff\xff\xff"], "length 2147483647"),
        ([HEADER, TRAILER, b"\x00\x01\xff\xff\xff\xff"], "goes on behind its end"),
        ([HEADER, TRAILER, TRAILER], "goes on behind its end"),
        ([HEADER, b"\x00\x01\x00\x00\x00\x03abc", TRAILER], "'c0': a value is not 4 bytes long"),
        ([HEADER], "too early"),
        ([], "too early"),
    ],
)
def test_malformed_streams_say_why(messages: list[bytes], reason: str) -> None:
    schema = pa.schema([("c0", pa.int32())])
    with pytest.raises(PgCopyError, match=reason):
        decode(schema, [pg(Wire.INT4)], messages)


def array_cell(*elements: bytes, oid: int = 23) -> bytes:
    return struct.pack(">iiIii", 1, 0, oid, len(elements), 1) + b"".join(elements)


@pytest.mark.parametrize(
    ("type_", "cell", "reason"),
    [
        (pg(Wire.BOOL), b"\x02", "neither 0 nor 1"),
        (pg(Wire.TIME), struct.pack(">q", 86_400_000_001), "beyond 24:00:00"),
        (pg(Wire.TIME), struct.pack(">q", -1), "beyond 24:00:00"),
        (pg(Wire.TEXT), b"\xff", "UTF-8"),
        (pg(Wire.JSONB), b"\x02{}", "version"),
        (pg(Wire.JSONB), b"", "version"),
        (pg(Wire.NUMERIC), struct.pack(">hhHHh", 1, 0, 0, 0, 10_000), "digit"),
        (pg(Wire.NUMERIC), struct.pack(">hhHHh", 2, 0, 0, 0, 1), "length"),
        (pg(Wire.NUMERIC), struct.pack(">hhHHh", 1, 0, 0x4001, 0, 1), "sign"),
        (array_type(pg(Wire.INT4)), array_cell(struct.pack(">i", -2)), "negative length"),
        (array_type(pg(Wire.INT4)), array_cell(struct.pack(">ii", 4, 1), oid=1082), "header"),
        (array_type(pg(Wire.INT4)), array_cell(struct.pack(">ii", 4, 1)) + b"\0", "does not end"),
        (array_type(pg(Wire.INT4)), struct.pack(">iiIii", 1, 0, 23, 2**30, 1), "size"),
        (array_type(pg(Wire.INT4)), struct.pack(">iiI", 7, 0, 23), "header"),
    ],
)
def test_malformed_values_say_why(type_: PgType, cell: bytes, reason: str) -> None:
    row = struct.pack(">hi", 1, len(cell)) + cell
    with pytest.raises(PgCopyError, match=f"'c0': .*{reason}"):
        decode(pa.schema([("c0", type_.arrow_type())]), [type_], [HEADER, row, TRAILER])


def test_rows_must_fill_the_buffer_from_its_beginning() -> None:
    row = b"\x00\x01\x00\x00\x00\x01\x01"
    decoder = RowDecoder(pa.schema([("c0", pa.bool_())]), [pg(Wire.BOOL)])
    assert decoder.decode(row + row, np.array([0, 7])).batch["c0"].to_pylist() == [True, True]
    with pytest.raises(PgCopyError, match="before the first row"):
        decoder.decode(row + row, np.array([7]))


def test_the_header_may_have_an_extension_and_come_in_pieces() -> None:
    stream = SIGNATURE + bytes(4) + b"\x00\x00\x00\x03abc" + b"\x00\x01\x00\x00\x00\x01\x01" + TRAILER
    decoder = RowDecoder(pa.schema([("c0", pa.bool_())]), [pg(Wire.BOOL)])
    found = [decoder.feed(Payloads.joined([stream[i : i + 1]])).batch for i in range(len(stream))]
    decoder.finish()
    assert [value for batch in found for value in batch["c0"].to_pylist()] == [True]


def test_a_number_beyond_the_decimal_that_was_asked_for_is_a_hazard() -> None:
    wide = batch_of(
        [(numeric(20, 4), [*map(Decimal, ("1.2500", "123.4000", "0.1234", "1000000000.0000")), None])]
    )
    decoder = RowDecoder(pa.schema([("c0", pa.decimal128(4, 2))]), [numeric(20, 4)])
    decoded = decoder.feed(Payloads.joined([HEADER + encode(wide, [numeric(20, 4)]) + TRAILER]))
    assert decoded.batch["c0"].to_pylist() == [Decimal("1.25"), None, None, None, None]
    (found,) = decoded.hazards
    assert (found.hazard, found.rows) == (Hazard.PRECISION, (1, 2, 3))
    assert found.texts == ("123.4000", "0.1234", "1000000000.0000")


def test_every_nan_keeps_its_bits() -> None:
    bits = np.array([0x7FF8000000000001, 0xFFF0000000000123, 0x8000000000000000], np.uint64)
    batch = pa.RecordBatch.from_arrays([pa.array(bits.view(np.float64))], ["c0"])
    again = decode(batch.schema, [pg(Wire.FLOAT8)], [HEADER + encode(batch, [pg(Wire.FLOAT8)]) + TRAILER])
    assert np.frombuffer(again["c0"].buffers()[1], np.uint64).tolist() == bits.tolist()


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STAMP = datetime(2024, 2, 29, 12, 0, 0, 5000)
INT2S = array_type(pg(Wire.INT2))
CONVERSIONS: list[tuple[pa.Array, PgType, list[object]]] = [
    (pa.array([-128, None], pa.int8()), pg(Wire.INT2), [-128, None]),
    (pa.array([255], pa.uint8()), pg(Wire.INT2), [255]),
    (pa.array([65535], pa.uint16()), pg(Wire.INT4), [65535]),
    (pa.array([2**32 - 1], pa.uint32()), pg(Wire.INT8), [2**32 - 1]),
    (pa.array([2**64 - 1, 0, None], pa.uint64()), numeric(20, 0), [Decimal(2**64 - 1), Decimal(0), None]),
    (pa.array([-(2**63)], pa.int64()), numeric(20, 0), [Decimal(-(2**63))]),
    (pa.array([1.5, None], pa.float16()), pg(Wire.FLOAT4), [1.5, None]),
    (pa.array([0.1], pa.float32()), pg(Wire.FLOAT8), [float(np.float32(0.1))]),
    (pa.array([Decimal("1.50")], pa.decimal64(5, 2)), numeric(5, 1), [Decimal("1.5")]),
    (pa.array([STAMP], pa.timestamp("ms")), pg(Wire.TIMESTAMP), [STAMP]),
    (pa.array([STAMP], pa.timestamp("ns")), pg(Wire.TIMESTAMP, 3), [STAMP]),
    (pa.array([1], pa.timestamp("s", "Europe/Berlin")), pg(Wire.TIMESTAMPTZ), [EPOCH + timedelta(seconds=1)]),
    (pa.array([time(1, 2, 3)], pa.time32("s")), pg(Wire.TIME), [time(1, 2, 3)]),
    (pa.array([time(1, 2, 3, 4)], pa.time64("ns")), pg(Wire.TIME), [time(1, 2, 3, 4)]),
    (pa.array([date(2024, 2, 29)], pa.date64()), pg(Wire.DATE), [date(2024, 2, 29)]),
    (pa.array(["a", None], pa.large_string()), pg(Wire.TEXT), ["a", None]),
    (pa.array(["a", None, "a" * 40], pa.string_view()), pg(Wire.TEXT), ["a", None, "a" * 40]),
    (pa.array(["a", None, "b", "a"]).dictionary_encode(), pg(Wire.TEXT), ["a", None, "b", "a"]),
    (pa.array([b"ab"], pa.binary(2)), pg(Wire.BYTEA), [b"ab"]),
    (pa.nulls(2), pg(Wire.DATE), [None, None]),
    (pa.array(['{"a":1}', None]), pg(Wire.JSONB), ['{"a":1}', None]),
    (pa.array([[1, None], None, []], pa.large_list(pa.int8())), INT2S, [[1, None], None, []]),
    (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), INT2S, [[1, 2], None]),
    (pa.array([["a"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))), array_type(pg(Wire.TEXT)), [["a"]]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "type_", "values"), CONVERSIONS, ids=lambda case: str(getattr(case, "type", ""))
)
def test_other_arrow_types_are_converted_without_loss(
    column: pa.Array, type_: PgType, values: list[object]
) -> None:
    rows = encode(pa.RecordBatch.from_arrays([column], ["c0"]), [type_])
    again = decode(pa.schema([("c0", type_.arrow_type())]), [type_], [HEADER, rows, TRAILER])
    assert again["c0"].to_pylist() == values


LOSSES: list[tuple[pa.Array, PgType, tuple[int, ...]]] = [
    (pa.array([1, 2**15, None, -(2**15) - 1]), pg(Wire.INT2), (1, 3)),
    (pa.array([2**63], pa.uint64()), pg(Wire.INT8), (0,)),
    (pa.array([-1]), pg(Wire.OID), (0,)),
    (pa.array([Decimal("1.50"), Decimal("1.25")]), numeric(9, 1), (1,)),
    (pa.array([None, STAMP]), pg(Wire.TIMESTAMP, 2), (1,)),
    (pa.array([1000, 1001], pa.timestamp("ns")), pg(Wire.TIMESTAMP), (1,)),
    (pa.array([0, -(2**63), 2**63 - 1], pa.timestamp("us")), pg(Wire.TIMESTAMP), (1,)),
    (pa.array([2**62], pa.timestamp("s")), pg(Wire.TIMESTAMP), (0,)),
    (pa.array([-(2**31), 2**31 - 1, 0], pa.date32()), pg(Wire.DATE), (0, 1)),
    (pa.array([-2_440_588, -2_440_589, 2_145_042_906], pa.date32()), pg(Wire.DATE), (1, 2)),
    (pa.array([pa.MonthDayNano((0, 0, 1001)), None]), pg(Wire.INTERVAL), (0,)),
    (pa.array(["a", None, "b\0", "\0"]), pg(Wire.TEXT), (2, 3)),
    (pa.array(["ab", "a", "é"]), pg(Wire.CHAR), (0, 2)),
    (pa.array([["a"], None, ["b", "c\0"], ["\0"]]), array_type(pg(Wire.TEXT)), (2, 3)),
]


@pytest.mark.parametrize(("column", "type_", "rows"), LOSSES, ids=lambda case: str(getattr(case, "type", "")))
def test_what_postgresql_cannot_hold_is_refused_with_its_rows(
    column: pa.Array, type_: PgType, rows: tuple[int, ...]
) -> None:
    padded = pa.concat_arrays([column, column]).slice(len(column))
    with pytest.raises(UnrepresentableError, match="column 'c0'") as raised:
        encode(pa.RecordBatch.from_arrays([padded], ["c0"]), [type_])
    assert raised.value.rows == rows


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        (pa.string(), pg(Wire.INT4)), (pa.float64(), pg(Wire.FLOAT4)), (pa.float64(), numeric(9, 2)),
        (pa.timestamp("us"), pg(Wire.TIMESTAMPTZ)), (pa.timestamp("us", "UTC"), pg(Wire.TIMESTAMP)),
        (pa.list_(pa.int32()), pg(Wire.INT4)), (pa.int32(), array_type(pg(Wire.INT4))),
        (pa.binary(15), pg(Wire.UUID)),
    ],
)  # fmt: skip
def test_types_that_do_not_match_are_refused_before_any_row(kind: pa.DataType, type_: PgType) -> None:
    schema = pa.schema([("c0", kind)])
    for make in (RowEncoder, RowDecoder):
        with pytest.raises(PgCopyError, match="'c0'"):
            make(schema, [type_])


@pytest.mark.parametrize("rows", [1, 300])
def test_arrays_that_only_seem_to_have_elements_of_one_length(rows: int) -> None:
    type_ = array_type(pg(Wire.TEXT))
    values: list[object] = [["abc", "a", "abcde"], ["abc", "def"], ["", None, "abcd"]] * rows
    batch = batch_of([(type_, values)])
    again = decode(batch.schema, [type_], [HEADER, encode(batch, [type_]), TRAILER])
    assert again["c0"].to_pylist() == values


def test_elements_under_a_null_are_left_out() -> None:
    hidden = pa.Array.from_buffers(
        pa.list_(pa.string()), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([0, 1, 3, 4], np.int32))],
        children=[pa.array(["a", "\0", "c", "d"])],
    )  # fmt: skip
    type_ = array_type(pg(Wire.TEXT))
    rows = encode(pa.RecordBatch.from_arrays([hidden], ["c0"]), [type_])
    again = decode(pa.schema([("c0", type_.arrow_type())]), [type_], [HEADER, rows, TRAILER])
    assert again["c0"].to_pylist() == [["a"], None, ["d"]]


def test_nothing_may_be_fed_at_any_time() -> None:
    decoder = RowDecoder(ROWS.schema, TYPES)
    feeds: list[list[bytes]] = [[], [STREAM[:40], b""], [], [STREAM[40:]], [], [b""]]
    found = [decoder.feed(Payloads.joined(messages)).batch.num_rows for messages in feeds]
    decoder.finish()
    assert found == [0, 0, 0, 3, 0, 0]


def test_nothing_to_encode_is_no_bytes() -> None:
    encoder = RowEncoder(ROWS.schema, TYPES)
    assert encoder.encode(ROWS.slice(0, 0)) == b""
    with pytest.raises(PgCopyError, match="another schema"):
        encoder.encode(ROWS.select(["c0"]))
