"""Rows of a MySQL or MariaDB binary-protocol result, decoded column by column into Arrow.

Layouts: MySQL source documentation, "Binary Protocol Resultset"
(https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html), and MariaDB
documentation, "Result Set Packets". numpy reads all cells of a column at once from a vector of positions,
one per row; no Python object is made per value, except for values that are hazards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pymysql import err
from pymysql.constants import CR, FIELD_TYPE

from atlas_etl.connectors.sql._mysql_types import DECIMALS, MOMENTS, Column
from atlas_etl.model import Hazard, HazardCells

SLACK = 16
"""Bytes that must exist in the buffer behind its last row: cells that are NULL are read, then masked."""

_NUMBERS: dict[pa.DataType, np.dtype[Any]] = {
    pa.int8(): np.dtype("<i1"),
    pa.int16(): np.dtype("<i2"),
    pa.int64(): np.dtype("<i8"),
    pa.int32(): np.dtype("<i4"),
    pa.uint8(): np.dtype("<u1"),
    pa.uint16(): np.dtype("<u2"),
    pa.uint32(): np.dtype("<u4"),
    pa.uint64(): np.dtype("<u8"),
    pa.float32(): np.dtype("<f4"),
    pa.float64(): np.dtype("<f8"),
}
# Trailing parts of zero are left out on the wire; `size` says how many bytes follow.
_MOMENT = np.dtype([
    ("size", "u1"), ("year", "<u2"), ("month", "u1"), ("day", "u1"),
    ("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("micros", "<u4"),
])  # fmt: skip
_TIME = np.dtype([
    ("size", "u1"), ("negative", "u1"), ("days", "<u4"),
    ("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("micros", "<u4"),
])  # fmt: skip
_MICROSECONDS_PER_DAY = 86_400_000_000
_FIRST_DAYS = np.arange("0000-01", "10000-02", dtype="M8[M]").astype("M8[D]").astype(np.int64)
"""Of every month since year 0, the day on which it begins, counted from 1970-01-01."""
_MONTH_LENGTHS = np.diff(_FIRST_DAYS)

Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]
_Decoded = tuple[pa.Array, tuple[HazardCells, ...]]


def decode_rows(
    buffer: bytearray, starts: Ints, ends: Ints, schema: pa.Schema, columns: Sequence[Column]
) -> tuple[pa.RecordBatch, tuple[HazardCells, ...]]:
    """Rows of a binary result as one record batch, and its cells that have no exact form (NULL there).

    Row i is the packet payload `buffer[starts[i]:ends[i]]`; there is at least one, they ascend, and SLACK
    more bytes exist behind the last. `schema` is `arrow_schema(columns)`. Nothing of the buffer is kept.
    Raises InternalError where bytes and columns disagree, DataError for a decimal that does not fit what
    its column declares, NotSupportedError for rows beyond 2 GiB.
    """
    if ends[-1] >= 2**31:
        raise err.NotSupportedError(CR.CR_NET_PACKET_TOO_LARGE, "a row is larger than 1 GiB")
    rows = _Rows(buffer, starts, ends, len(columns))
    arrays: list[pa.Array] = []
    hazards: list[HazardCells] = []
    for column, kind in zip(columns, schema.types, strict=True):
        array, cells = _column(rows, column, kind)
        arrays.append(array)
        hazards.extend(cells)
    rows.finish()
    return pa.RecordBatch.from_arrays(arrays, schema=schema), tuple(hazards)


class _Rows:
    """Many rows read in step: `position` is where the next cell of every row begins."""

    def __init__(self, buffer: bytearray, starts: Ints, ends: Ints, columns: int) -> None:
        self.buffer = buffer
        self.octets = np.frombuffer(buffer, np.uint8)
        self.count = len(starts)
        self.position: Ints = starts + 1 + (columns + 9) // 8
        self._bitmap = starts + 1
        self._bit = 2  # the first two bits of the bitmap are reserved
        self._ends = ends
        self._stay_within(self.position)

    def nulls(self) -> _Bools:
        """Which cells of the next column are NULL; they take no bytes. To be called once per column."""
        octet, bit = divmod(self._bit, 8)
        self._bit += 1
        flags: _Bools = (self.octets[self._bitmap + octet] & (1 << bit)) != 0
        return flags

    def read(self, dtype: np.dtype[Any], offset: int = 0) -> npt.NDArray[Any]:
        """One unaligned value of this type at the position of every row."""
        plain = dtype if dtype.names is None else np.dtype(f"V{dtype.itemsize}")  # six times as fast
        size = len(self.buffer) - dtype.itemsize + 1
        windows: npt.NDArray[Any] = np.ndarray((size,), plain, self.buffer, 0, (1,))
        return windows[self.position + offset].view(dtype)

    def skip(self, lengths: Ints | int, nulls: _Bools) -> None:
        self.position = self.position + np.where(nulls, 0, lengths)

    def spans(self, nulls: _Bools) -> tuple[Ints, Ints]:
        """Where the length-encoded strings of the next column begin and how long they are; skips them."""
        first = np.where(nulls, 0, self.octets[self.position]).astype(np.int64)
        begin, length = self.position + ~nulls, first
        if (first > 250).any():
            if np.isin(first, (0xFB, 0xFF)).any():
                raise _malformed("a length-encoded string has an impossible length")
            raw = self.read(np.dtype("<i8"), offset=1)
            forms = [first == 0xFC, first == 0xFD, first == 0xFE]
            length = np.select(forms, [raw & 0xFFFF, raw & 0xFFFFFF, raw], first)
            begin = begin + np.select(forms, [2, 3, 8], 0)
        self.position = begin + length
        self._stay_within(self.position)
        if (self.position < begin).any():
            raise _malformed("a length-encoded string has a negative length")
        return begin, length

    def finish(self) -> None:
        """Every row must have been read to its last byte."""
        if (self.position != self._ends).any():
            raise _malformed("rows and columns differ in length")

    def _stay_within(self, position: Ints) -> None:
        if (position > self._ends).any():
            raise _malformed("rows are shorter than their columns")


def _column(rows: _Rows, column: Column, kind: pa.DataType) -> _Decoded:
    nulls = rows.nulls()
    if kind in _NUMBERS:
        dtype = _NUMBERS[kind]
        values = rows.read(dtype)
        rows.skip(dtype.itemsize, nulls)
        return _primitive(kind, values, nulls), ()
    if column.type_code in MOMENTS:
        return _moments(rows, column, kind, nulls)
    if column.type_code == FIELD_TYPE.TIME:
        return _times(rows, column, kind, nulls)
    if column.type_code == FIELD_TYPE.NULL:
        return pa.nulls(rows.count), ()
    begin, length = rows.spans(nulls)
    if column.type_code == FIELD_TYPE.BIT:
        return _bits(rows, begin, length, nulls, column.length), ()
    raw = _gather(rows, begin, length, nulls)
    if pa.types.is_binary(kind):
        return raw, ()
    if column.type_code in DECIMALS:
        return _decimals(raw, column, kind), ()
    text, cells = _text(raw, column)
    return (text if kind == pa.string() else pa.ExtensionArray.from_storage(kind, text)), cells


def _validity(nulls: _Bools) -> pa.Buffer | None:
    return pa.py_buffer(np.packbits(~nulls, bitorder="little")) if nulls.any() else None


def _primitive(kind: pa.DataType, values: npt.NDArray[Any], nulls: _Bools) -> pa.Array:
    values[nulls] = 0
    return pa.Array.from_buffers(kind, len(values), [_validity(nulls), pa.py_buffer(values)])


def _gather(rows: _Rows, begin: Ints, length: Ints, nulls: _Bools) -> pa.BinaryArray:
    """The spans side by side. Arrow copies them: it sees the buffer as spans with the gaps between them."""
    edges = np.empty(2 * rows.count + 1, np.int32)
    edges[0:-1:2] = begin
    edges[1::2] = begin + length
    edges[-1] = edges[-2]
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(rows.buffer)]
    spans = pa.Array.from_buffers(pa.binary(), 2 * rows.count, buffers)
    return spans.take(pa.array(np.arange(0, 2 * rows.count, 2), mask=nulls))


def _decimals(raw: pa.BinaryArray, column: Column, kind: pa.DataType) -> pa.Array:
    try:
        return raw.cast(pa.string()).cast(kind)
    except pa.ArrowInvalid:
        message = f"column {column.name!r} holds a number that does not fit {kind}, which it declares"
        raise err.DataError(CR.CR_DATA_TRUNCATED, message) from None  # the cause would tell the value


def _text(raw: pa.BinaryArray, column: Column) -> _Decoded:
    """The cells as UTF-8. Servers take surrogates into their utf8 columns; those cells are hazards."""
    try:
        return raw.cast(pa.string()), ()
    except pa.ArrowInvalid:
        spelled = [
            None if cell is None else cell.decode("utf-8", "backslashreplace") for cell in raw.to_pylist()
        ]
    bad = pc.invert(pc.fill_null(pc.equal(pa.array(spelled, pa.string()).cast(pa.binary()), raw), True))
    text = pc.if_else(bad, None, raw).cast(pa.string())
    texts = [
        cell for cell, is_bad in zip(spelled, bad.to_pylist(), strict=True) if is_bad and cell is not None
    ]
    return text, _hazards(column, Hazard.INVALID_TEXT, bad.to_numpy(zero_copy_only=False), texts)


def _bits(rows: _Rows, begin: Ints, length: Ints, nulls: _Bools, width: int) -> pa.StringArray:
    """BIT(width), big-endian on the wire, as text of `width` digits."""
    size = (width + 7) // 8
    if (length > size).any():
        raise _malformed("a BIT value is longer than its column")
    from_end = np.arange(size, 0, -1)
    octets = rows.octets[(begin + length)[:, None] - from_end]
    octets[from_end > length[:, None]] = 0
    digits = np.ascontiguousarray(np.unpackbits(octets, axis=1)[:, -width:] + np.uint8(ord("0")))
    offsets = np.arange(0, (rows.count + 1) * width, width, dtype=np.int32)
    buffers = [_validity(nulls), pa.py_buffer(offsets), pa.py_buffer(digits)]
    return pa.Array.from_buffers(pa.string(), rows.count, buffers)


def _moments(rows: _Rows, column: Column, kind: pa.DataType, nulls: _Bools) -> _Decoded:
    """DATE, DATETIME and TIMESTAMP; a day that no calendar has is a hazard."""
    cells = rows.read(_MOMENT)
    size = _sizes(cells, nulls, (0, 4, 7, 11))
    rows.skip(size + 1, nulls)
    year, month, day = (_part(cells, name, size >= 4) for name in ("year", "month", "day"))
    known = (year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12)
    index = np.where(known, year * 12 + month - 1, 0)
    bad = ~nulls & ~(known & (day >= 1) & (day <= _MONTH_LENGTHS[index]))
    days = _FIRST_DAYS[index] + day - 1
    if pa.types.is_date(kind):
        array = _primitive(kind, days.astype(np.int32), nulls | bad)
    else:
        clock = _clock(cells, _part(cells, "hour", size >= 7), size >= 7, size >= 11)
        array = _primitive(kind, days * _MICROSECONDS_PER_DAY + clock, nulls | bad)
    if not bad.any():
        return array, ()
    dates = [f"{y:04d}-{m:02d}-{d:02d}" for y, m, d in _tuples(bad, year, month, day)]
    if pa.types.is_date(kind):
        return array, _hazards(column, Hazard.ZERO_DATE, bad, dates)
    clocks = _clock_texts(column, bad, clock)
    texts = [f"{date} {clock}" for date, clock in zip(dates, clocks, strict=True)]
    return array, _hazards(column, Hazard.ZERO_DATE, bad, texts)


def _times(rows: _Rows, column: Column, kind: pa.DataType, nulls: _Bools) -> _Decoded:
    """TIME, which goes from -838:59:59 to 838:59:59; what is no time of day is a hazard."""
    cells = rows.read(_TIME)
    size = _sizes(cells, nulls, (0, 8, 12))
    rows.skip(size + 1, nulls)
    hours = _part(cells, "days", size >= 8) * 24 + _part(cells, "hour", size >= 8)
    clock = _clock(cells, hours, size >= 8, size >= 12)
    negative = _part(cells, "negative", size >= 8)
    bad = (negative != 0) | (hours >= 24)
    array = _primitive(kind, clock.copy(), nulls | bad)
    if not bad.any():
        return array, ()
    signs = ["-" if sign else "" for (sign,) in _tuples(bad, negative)]
    texts = [sign + text for sign, text in zip(signs, _clock_texts(column, bad, clock), strict=True)]
    return array, _hazards(column, Hazard.TIME_RANGE, bad, texts)


def _sizes(cells: npt.NDArray[Any], nulls: _Bools, allowed: tuple[int, ...]) -> Ints:
    """How many bytes a date or time has after its first; 0 where it is NULL."""
    sizes = np.where(nulls, 0, cells["size"]).astype(np.int64)
    possible = np.zeros(256, np.bool_)
    possible[list(allowed)] = True
    if not possible[sizes].all():
        raise _malformed("a date or time has an impossible length")
    return sizes


def _part(cells: npt.NDArray[Any], name: str, there: _Bools) -> Ints:
    return np.where(there, cells[name], 0).astype(np.int64)


def _clock(cells: npt.NDArray[Any], hours: Ints, has_seconds: _Bools, has_micros: _Bools) -> Ints:
    """Microseconds since midnight."""
    minutes = hours * 60 + _part(cells, "minute", has_seconds)
    seconds = minutes * 60 + _part(cells, "second", has_seconds)
    return seconds * 1_000_000 + _part(cells, "micros", has_micros)


def _tuples(chosen: _Bools, *parts: Ints) -> zip[tuple[int, ...]]:
    return zip(*(part[chosen].tolist() for part in parts), strict=True)


def _clock_texts(column: Column, chosen: _Bools, clock: Ints) -> list[str]:
    """As the server writes them: hours past 99 in as many digits, and the column's own number of decimals."""
    texts = []
    for (total,) in _tuples(chosen, clock):
        seconds, micros = divmod(total, 1_000_000)
        fraction = f".{micros:06d}"[: 1 + column.decimals] if column.decimals else ""
        texts.append(f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}")
    return texts


def _hazards(column: Column, hazard: Hazard, bad: _Bools, texts: Sequence[str]) -> tuple[HazardCells, ...]:
    return (HazardCells(column.name, hazard, tuple(np.flatnonzero(bad).tolist()), tuple(texts)),)


def _malformed(why: str) -> err.InternalError:
    return err.InternalError(CR.CR_MALFORMED_PACKET, why)
