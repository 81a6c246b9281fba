"""From what the driver gives to exact Arrow columns; cells without an exact form are named and NULL."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, Inexact, InvalidOperation
from itertools import product
from string import hexdigits

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.hazards import mask_temporal
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.model import Hazard, HazardCells

_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation])

Found = list[tuple[int, Hazard, str]]  # row, hazard, the cell's text
Parser = Callable[[pa.Array], pa.Array]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_ZERO_DATE = re.compile(r"0000-|\d{4}-00|\d{4}-\d\d-00")
_EPOCH = "if these are seconds since 1970, read a query with `datetime(..., 'unixepoch')`"
_TOO_FINE = re.compile(r".*:\d\d\.\d{7,}")
_CLOCK = re.compile(r"-?\d+:\d\d(:\d\d(\.\d+)?)?")
_YEAR_1, _YEAR_10000 = "0001-01-01", "9999-12-31T23:59:59.999999"


def decode_fast(
    raw: pa.RecordBatch, columns: Sequence[SourceColumn]
) -> tuple[pa.RecordBatch, list[HazardCells]]:
    """Rows of a fast statement, without its trip."""
    return _batch(columns, [decode(raw.column(n), column) for n, column in enumerate(columns)])


def decode_careful(
    raw: pa.RecordBatch, columns: Sequence[SourceColumn]
) -> tuple[pa.RecordBatch, list[HazardCells]]:
    """Rows of a careful statement: pairs of a value and what stands in its place."""
    decoded: list[tuple[pa.Array, Found]] = []
    for n, column in enumerate(columns):
        array, found = decode(raw.column(2 * n), column)
        strays = raw.column(2 * n + 1)
        for row in _where(pc.is_valid(strays)):
            text = _text(strays, row)
            if column.field.type == pa.float64() and text == "NaN":
                array = pc.if_else(_one(row, len(array)), pa.scalar(float("nan")), array)
                continue
            number = pa.types.is_floating(column.field.type) and _NUMBER.fullmatch(text)
            found.append((row, Hazard.PRECISION if number else Hazard.TYPE_MISMATCH, text))
        decoded.append((array, sorted(found)))
    return _batch(columns, decoded)


def decode(raw: pa.Array, column: SourceColumn) -> tuple[pa.Array, Found]:
    """One column of the driver's in its field's type."""
    kind = column.field.type
    if kind == raw.type and not pa.types.is_string(kind):
        return raw, []
    if kind == pa.bool_():
        odd = pc.fill_null(pc.and_(pc.not_equal(raw, 0), pc.not_equal(raw, 1)), False)
        found = [(row, Hazard.TYPE_MISMATCH, str(raw[row].as_py())) for row in _where(odd)]
        return pc.cast(pc.if_else(odd, pa.scalar(None, pa.int64()), raw) if found else raw, kind), found
    if pa.types.is_decimal(kind):
        return _decimals(raw, kind) if pa.types.is_floating(raw.type) else _decimal_texts(raw, kind)
    if kind == pa.string() and not column.hazards:
        return _escaped(raw), []
    return _parsed(raw, kind, _parser(kind))


def _parser(kind: pa.DataType) -> Parser:
    """From text, raising ArrowInvalid where a cell has another form."""
    if kind == pa.string():
        return _valid
    if kind == pa.json_():
        return lambda raw: pa.ExtensionArray.from_storage(kind, _valid(raw))
    if kind == pa.uuid():
        return _uuids
    if kind == pa.date32():
        return _dates
    if pa.types.is_time(kind):
        return lambda raw: _times(raw, kind)
    return lambda raw: pc.cast(raw, kind)


def _parsed(raw: pa.Array, kind: pa.DataType, parser: Parser) -> tuple[pa.Array, Found]:
    """Parse all at once; where that fails, halve until the cells that fail are found."""
    try:
        return parser(raw), []
    except pa.ArrowInvalid:
        if len(raw) == 1:
            text = _text(raw, 0)
            return pa.nulls(1, kind), [(0, _hazard(text, kind), text)]
        half = len(raw) // 2
        first, found = _parsed(raw.slice(0, half), kind, parser)
        second, more = _parsed(raw.slice(half), kind, parser)
        return pa.concat_arrays([first, second]), [
            *found,
            *((half + row, hazard, text) for row, hazard, text in more),
        ]


def _hazard(text: str, kind: pa.DataType) -> Hazard:
    if pa.types.is_decimal(kind):
        if _NUMBER.fullmatch(text):
            return Hazard.PRECISION
        special = text.lower().lstrip("+-") in ("nan", "inf", "infinity")
        return Hazard.DECIMAL_SPECIAL if special else Hazard.TYPE_MISMATCH
    if kind in (pa.string(), pa.json_()):
        return Hazard.INVALID_TEXT
    if pa.types.is_time(kind) and _CLOCK.fullmatch(text):
        return Hazard.PRECISION if _TOO_FINE.match(text) else Hazard.TIME_RANGE
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        if _ZERO_DATE.match(text):
            return Hazard.ZERO_DATE
        if _TOO_FINE.match(text):
            return Hazard.PRECISION
        if pa.types.is_timestamp(kind) and kind.unit == "ns" and _is_timestamp(text, kind.tz):
            return Hazard.OUT_OF_RANGE
    return Hazard.TYPE_MISMATCH


def _is_timestamp(text: str, zone: str | None) -> bool:
    try:
        pc.cast(pa.scalar(text), pa.timestamp("us", zone))
    except pa.ArrowInvalid:
        return False
    return True


def _valid(raw: pa.Array) -> pa.Array:
    raw.validate(full=True)  # SQLite takes any bytes as text; Arrow's is UTF-8
    return raw


def _escaped(raw: pa.Array) -> pa.Array:
    try:
        return _valid(raw)
    except pa.ArrowInvalid:
        texts = [_text(raw, row) if raw[row].is_valid else None for row in range(len(raw))]
        return pa.array(texts, pa.string())


def _text(raw: pa.Array, row: int) -> str:
    content: bytes = raw.slice(row, 1).view(pa.binary())[0].as_py()
    return content.decode("utf-8", "backslashreplace")


def _dates(raw: pa.Array) -> pa.Array:
    try:
        return pc.cast(raw, pa.date32())
    except pa.ArrowInvalid:  # `2024-02-29 00:00:00` is a date too, and nothing else of that form
        moments = pc.cast(raw, pa.timestamp("us"))
        dates = pc.cast(moments, pa.date32(), safe=False)
        if not pc.all(pc.equal(pc.cast(dates, moments.type), moments)).as_py():
            raise
        return dates


def _times(raw: pa.Array, kind: pa.DataType) -> pa.Array:
    moments = pc.cast(pc.binary_join_element_wise("1970-01-01 ", raw, ""), pa.timestamp(kind.unit))
    return pc.cast(moments, kind)


def _decimal_texts(raw: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Found]:
    """Arrow reads the texts whose digits surely fit; it overflows silently on longer ones and on exponents.

    (Arrow 26: 39 digits as decimal128(38, 0) give another number, and 1.3275754835941537e-307 gives 0.000.)
    """
    point = pc.find_substring(raw, ".")
    length = pc.binary_length(raw)
    whole = pc.if_else(pc.less(point, 0), length, point)
    fraction = pc.if_else(pc.less(point, 0), 0, pc.subtract(pc.subtract(length, point), 1))
    fits = pc.and_(
        pc.less_equal(whole, kind.precision - kind.scale),
        pc.and_(pc.less_equal(fraction, kind.scale), pc.invert(pc.match_substring_regex(raw, "[eE]"))),
    )
    odd = _where(pc.fill_null(pc.invert(fits), False))
    if not odd:
        return _parsed(raw, kind, lambda cells: pc.cast(cells, kind))
    array, found = _parsed(
        pc.if_else(fits, raw, pa.scalar(None, pa.string())), kind, lambda c: pc.cast(c, kind)
    )
    exact: list[Decimal | None] = []
    for row in odd:
        text = _text(raw, row)
        exact.append(_exact_decimal(text, kind))
        if exact[-1] is None:
            found.append((row, _hazard(text, kind), text))
    mask = np.zeros(len(raw), bool)
    mask[odd] = True
    return pc.replace_with_mask(array, pa.array(mask), pa.array(exact, kind)), found


def _exact_decimal(text: str, kind: pa.DataType) -> Decimal | None:
    if not _NUMBER.fullmatch(text):
        return None
    try:
        number = Decimal(text).quantize(Decimal(1).scaleb(-kind.scale), context=_EXACT)
    except (InvalidOperation, Inexact):
        return None
    return number if len(number.as_tuple().digits) <= kind.precision else None


def _decimals(raw: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Found]:
    """Doubles as the decimals of at most 15 digits that they are nearest to, where they are that exactly."""
    doubles = pc.fill_null(raw, 0.0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):
        digits = np.rint(doubles * 10.0**kind.scale)
        # Both are exact and division rounds to nearest, as reading the decimal's text would.
        odd = (digits / 10.0**kind.scale != doubles) | (np.abs(digits) >= 10.0**kind.precision)
    whole = np.where(odd, 0, digits).astype(np.int64)
    halves = np.stack([whole, whole >> 63], axis=1)
    valid = _validity(raw) & ~odd
    array = pa.Array.from_buffers(kind, len(raw), [_bitmap(valid), pa.py_buffer(halves.tobytes())])
    found: Found = []
    for row in np.flatnonzero(odd):
        text = repr(float(doubles[row]))
        finite = np.isfinite(doubles[row])
        found.append((int(row), Hazard.PRECISION if finite else Hazard.DECIMAL_SPECIAL, text))
    return array, found


def _validity(cells: pa.Array) -> npt.NDArray[np.bool_]:
    valid: npt.NDArray[np.bool_] = pc.is_valid(cells).to_numpy(zero_copy_only=False)
    return valid


def _bitmap(valid: npt.NDArray[np.bool_]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())


_DASHES = (8, 13, 18, 23)
_GROUPS = ((0, 8), (9, 13), (14, 18), (19, 23), (24, 36))
_NO_PAIR = 0xFFFF
_PAIRS = np.full(65536, _NO_PAIR, np.uint16)  # the byte that two digits give, by their two characters
for _first, _second in product(hexdigits, repeat=2):
    _PAIRS[ord(_first) | ord(_second) << 8] = int(_first + _second, 16)


def _uuids(raw: pa.Array) -> pa.Array:
    """Text of 8-4-4-4-12 hexadecimal digits."""
    cells = raw.drop_null()
    if not pc.all(pc.equal(pc.binary_length(cells), 36), min_count=0).as_py():
        raise pa.ArrowInvalid("not the form of a uuid")
    packed = np.zeros((len(raw), 16), np.uint8)
    valid = _validity(raw)
    if len(cells):
        start = int(np.frombuffer(cells.buffers()[1], np.int32)[cells.offset])
        text = np.frombuffer(cells.buffers()[2], np.uint8)[start : start + 36 * len(cells)].reshape(-1, 36)
        digits = np.concatenate([text[:, first:after] for first, after in _GROUPS], axis=1)
        pairs = _PAIRS[digits.view("<u2")]
        if (pairs == _NO_PAIR).any() or (text[:, _DASHES] != ord("-")).any():
            raise pa.ArrowInvalid("not the form of a uuid")
        packed[valid] = pairs
    storage = pa.Array.from_buffers(pa.binary(16), len(raw), [_bitmap(valid), pa.py_buffer(packed.tobytes())])
    return pa.ExtensionArray.from_storage(pa.uuid(), storage)


def _batch(
    columns: Sequence[SourceColumn], decoded: Sequence[tuple[pa.Array, Found]]
) -> tuple[pa.RecordBatch, list[HazardCells]]:
    schema = pa.schema([column.field for column in columns])
    batch = pa.RecordBatch.from_arrays([array for array, _ in decoded], schema=schema)
    cells: list[HazardCells] = []
    if any(leaves_the_calendar(array) for array, _ in decoded):
        batch, cells = mask_temporal(batch)
    for column, (_, found) in zip(columns, decoded, strict=True):
        for hazard in dict.fromkeys(hazard for _, hazard, _ in found):
            rows = tuple(row for row, kind, _ in found if kind is hazard)
            texts = tuple(text for _, kind, text in found if kind is hazard)
            epoch = pa.types.is_timestamp(column.field.type) and _NUMBER.fullmatch(texts[0])
            cells.append(HazardCells(column.name, hazard, rows, texts, _EPOCH if epoch else None))
    return batch, cells


def leaves_the_calendar(array: pa.Array) -> bool:
    """Whether a date or timestamp is outside the years 1 to 9999; nanoseconds cannot be."""
    kind = array.type
    if not (kind == pa.date32() or (pa.types.is_timestamp(kind) and kind.unit == "us")):
        return False
    edges = pc.cast(pa.array([_YEAR_1, _YEAR_10000[:10]]), pa.date32())
    if kind != pa.date32():
        edges = pc.cast(pc.cast(pa.array([_YEAR_1, _YEAR_10000]), pa.timestamp("us")), pa.int64())
        array = array.view(pa.int64())
    span = pc.min_max(array)
    if not span["min"].is_valid:
        return False
    return bool(pc.or_(pc.less(span["min"], edges[0]), pc.greater(span["max"], edges[1])).as_py())


def _where(mask: pa.Array) -> list[int]:
    if not pc.any(mask).as_py():
        return []
    return [int(row) for row in np.flatnonzero(mask.to_numpy(zero_copy_only=False))]


def _one(row: int, length: int) -> pa.Array:
    mask = np.zeros(length, bool)
    mask[row] = True
    return pa.array(mask)
