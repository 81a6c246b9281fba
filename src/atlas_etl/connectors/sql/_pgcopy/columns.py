"""One column's cells as Arrow: what each of PostgreSQL's binary values means.

Sources: the `*_send` functions of src/backend/utils/adt, named where a layout is not plain.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from atlas_etl.connectors.sql._pgcopy.cells import Cells, bitmap, numbers_at
from atlas_etl.connectors.sql._pgcopy.numeric import decode_decimal, decode_text
from atlas_etl.connectors.sql._pgcopy.types import (
    CHAR_TEXTS,
    DAY_MICROSECONDS,
    EPOCH_DAYS,
    EPOCH_MICROSECONDS,
    FIRST_DAY,
    FIRST_MICROSECOND,
    LAST_DAY,
    LAST_MICROSECOND,
    Bytes,
    Ints,
    Mask,
    PgCopyError,
    PgType,
    Wire,
    storage_type,
    with_type,
)
from atlas_etl.model import Hazard

Found = list[tuple[Hazard, Mask]]

_MAX_INTERVAL = (2**63 - 1) // 1000  # microseconds whose nanoseconds fit
_read_length = struct.Struct(">i").unpack_from
_FEW = 128  # below this many arrays at once, stepping through elements in Python is faster


def fits(type_: PgType, kind: pa.DataType) -> bool:
    """Whether `decode_cells` makes this Arrow type of it."""
    if type_.element is not None:
        return bool(pa.types.is_list(kind)) and fits(type_.element, kind.value_type)
    if type_.wire is Wire.NUMERIC:
        return bool(
            storage_type(kind) == pa.string() or pa.types.is_decimal128(kind) or pa.types.is_decimal256(kind)
        )
    expected = type_.arrow_type()
    return bool(kind == expected or kind == storage_type(expected))


def decode_cells(cells: Cells, type_: PgType, kind: pa.DataType) -> tuple[pa.Array, Found]:
    """The column, and where it is NULL because a value has no exact form there.

    Raises PgCopyError, or IndexError beyond the buffer, on malformed values.
    """
    if cells.count == 0:
        return pa.nulls(0, kind), []
    if type_.element is not None:
        return _decode_arrays(cells, type_.element, kind)
    array, found = _DECODERS[type_.wire](cells, storage_type(kind))
    return with_type(array, kind), found


def _plain(dtype: str) -> Callable[[Cells, pa.DataType], tuple[pa.Array, Found]]:
    """Numbers that are the same in Arrow, bit for bit."""

    def decode(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
        cells.require_width(np.dtype(dtype).itemsize)
        return cells.array(kind, cells.gather(dtype)), []

    return decode


def _bools(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
    cells.require_width(1)
    values = cells.gather("u1")
    cells.refuse(values > 1, "a boolean is neither 0 nor 1")
    return cells.array(kind, values), []


def _chars(cells: Cells, _kind: pa.DataType) -> tuple[pa.Array, Found]:
    cells.require_width(1)
    return CHAR_TEXTS.take(cells.array(pa.uint8(), cells.gather("u1"))), []


def _bytes(cells: Cells, _kind: pa.DataType) -> tuple[pa.Array, Found]:
    return cells.byte_strings(), []


def _texts(cells: Cells, _kind: pa.DataType) -> tuple[pa.Array, Found]:
    return _utf8(cells.byte_strings()), []


def _jsonbs(cells: Cells, _kind: pa.DataType) -> tuple[pa.Array, Found]:
    """jsonb_send: a version byte, always 1, before the text."""
    unknown = (cells.gather("u1") != 1) | (cells.length == 0)
    cells.refuse(unknown if cells.valid is None else unknown & cells.valid, "a jsonb has an unknown version")
    return _utf8(cells.byte_strings(skip=1)), []


def _utf8(column: pa.Array) -> pa.Array:
    _, offsets, data = column.buffers()
    used = int(np.frombuffer(offsets, np.int32)[len(column)])
    if used == 0 or np.frombuffer(data, np.int8, used).min() >= 0:
        return pa.Array.from_buffers(pa.string(), len(column), column.buffers(), column.null_count)
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        raise PgCopyError("a text is not valid UTF-8; is client_encoding UTF8?") from None


def _numerics(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
    if pa.types.is_string(kind):
        return decode_text(cells), []
    array, special, misfit = decode_decimal(cells, kind)
    return array, [(Hazard.DECIMAL_SPECIAL, special), (Hazard.PRECISION, misfit)]


def _dates(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
    return _instants(cells, kind, dtype=">i4", first=FIRST_DAY, last=LAST_DAY, epoch=EPOCH_DAYS)


def _timestamps(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
    return _instants(
        cells, kind, dtype=">i8", first=FIRST_MICROSECOND, last=LAST_MICROSECOND, epoch=EPOCH_MICROSECONDS
    )


def _instants(
    cells: Cells, kind: pa.DataType, *, dtype: str, first: int, last: int, epoch: int
) -> tuple[pa.Array, Found]:
    """Counts from 2000-01-01; the largest and the smallest one are infinity (timestamp.h, date.h)."""
    cells.require_width(np.dtype(dtype).itemsize)
    values = cells.gather(dtype)
    outside = (values < first) | (values > last)
    if not outside.any():
        return cells.array(kind, values + epoch), []
    limits = np.iinfo(values.dtype)
    infinite = (values == limits.min) | (values == limits.max)
    found = [(Hazard.INFINITY, infinite), (Hazard.OUT_OF_RANGE, outside & ~infinite)]
    return cells.array(kind, np.where(outside, 0, values) + epoch, outside), found


def _times(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
    cells.require_width(8)
    values = cells.gather(">i8")
    cells.refuse((values < 0) | (values > DAY_MICROSECONDS), "a time of day is beyond 24:00:00")
    midnight = values == DAY_MICROSECONDS
    return cells.array(kind, values, midnight if midnight.any() else None), [(Hazard.TIME_RANGE, midnight)]


def _intervals(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
    """interval_send: microseconds, days, months; Arrow counts nanoseconds."""
    cells.require_width(16)
    microseconds = cells.gather(">i8")
    long = (microseconds > _MAX_INTERVAL) | (microseconds < -_MAX_INTERVAL)
    values = np.empty(cells.count, [("months", "i4"), ("days", "i4"), ("nanoseconds", "i8")])
    values["months"] = cells.gather(">i4", 12)
    values["days"] = cells.gather(">i4", 8)
    values["nanoseconds"] = np.where(long, 0, microseconds) * 1000
    return cells.array(kind, values, long if long.any() else None), [(Hazard.INTERVAL, long)]


def _uuids(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Found]:
    cells.require_width(16)
    return cells.array(kind, np.stack((cells.gather("=u8"), cells.gather("=u8", 8)), axis=1)), []


_DECODERS: dict[Wire, Callable[[Cells, pa.DataType], tuple[pa.Array, Found]]] = {
    Wire.BOOL: _bools,
    Wire.INT2: _plain(">i2"),
    Wire.INT4: _plain(">i4"),
    Wire.INT8: _plain(">i8"),
    Wire.OID: _plain(">u4"),
    Wire.FLOAT4: _plain(">u4"),  # bits, so that every NaN stays the NaN it was
    Wire.FLOAT8: _plain(">u8"),
    Wire.NUMERIC: _numerics,
    Wire.TEXT: _texts,
    Wire.CHAR: _chars,
    Wire.BYTEA: _bytes,
    Wire.DATE: _dates,
    Wire.TIME: _times,
    Wire.TIMESTAMP: _timestamps,
    Wire.TIMESTAMPTZ: _timestamps,
    Wire.INTERVAL: _intervals,
    Wire.UUID: _uuids,
    Wire.JSON: _texts,
    Wire.JSONB: _jsonbs,
}


def _decode_arrays(cells: Cells, element: PgType, kind: pa.DataType) -> tuple[pa.Array, Found]:
    """array_send: int32 dimensions, int32 flags, element oid; a size and lower bound each; the elements."""
    dimensions = cells.gather(">i4")
    flat = dimensions == 1
    wrong = (cells.length < np.where(dimensions == 0, 12, 20)) | (dimensions < 0) | (dimensions > 6)
    wrong |= (cells.gather(">u4", 8) != element.oid) & (element.oid != 0)
    cells.refuse(wrong if cells.valid is None else wrong & cells.valid, "an array's header is malformed")
    size = cells.gather(">i4", 12, flat).astype(np.int64)
    shaped = (dimensions > 1) | (flat & (cells.gather(">i4", 16, flat) != 1))
    cells.refuse((size < 0) | (4 * size > np.maximum(cells.length, 0)), "an array's size is malformed")
    if shaped.any():
        array, found = _decode_arrays(cells.without(shaped), element, kind)
        return array, [(Hazard.ARRAY_SHAPE, shaped), *found]
    offsets = np.concatenate(([0], np.cumsum(size)))
    start, length = _elements(cells, size, offsets)
    null = length < 0
    inner = Cells(cells.data, start, length, ~null if null.any() else None)
    values, found = decode_cells(inner, element, kind.value_type)
    lost = np.zeros(cells.count, np.bool_)
    outer: Found = []
    for hazard, mask in found:
        rows = np.zeros(cells.count, np.bool_)
        rows[np.searchsorted(offsets, np.flatnonzero(mask), side="right") - 1] = True
        outer.append((hazard, rows & ~lost))
        lost |= rows
    if lost.any():  # again without them, so that no element stays behind under a NULL
        return _decode_arrays(cells.without(lost), element, kind)[0], outer
    buffers = [bitmap(cells.valid), pa.py_buffer(offsets.astype(np.int32))]
    return pa.Array.from_buffers(kind, cells.count, buffers, children=[values]), []


def _elements(cells: Cells, size: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    """Where every element's value begins, and its length."""
    starts = np.empty(offsets[-1], np.int64)
    lengths = np.empty(offsets[-1], np.int64)
    even = _even_elements(cells, size, offsets, starts, lengths)
    lengths_at = numbers_at(cells.data, ">i4")
    at = cells.start + 20
    going = np.flatnonzero((size > 0) & ~even)
    uneven = going
    step = 0
    while going.size > _FEW:  # the next element of all arrays that have one
        length = lengths_at[at[going]].astype(np.int64)
        slots = offsets[going] + step
        starts[slots], lengths[slots] = at[going] + 4, length
        at[going] += 4 + np.maximum(length, 0)
        step += 1
        going = going[size[going] > step]
    for row in going.tolist():
        rest = slice(int(offsets[row]) + step, int(offsets[row + 1]))
        starts[rest], lengths[rest], at[row] = _step(cells.data, int(at[row]), rest.stop - rest.start)
    if (at[uneven] != (cells.start + cells.length)[uneven]).any():
        raise PgCopyError("an array does not end where its elements do")
    if lengths.size and lengths.min() < -1:
        raise PgCopyError("an array's element has a negative length")
    return starts, lengths


def _even_elements(cells: Cells, size: Ints, offsets: Ints, starts: Ints, lengths: Ints) -> Mask:
    """Fills in the arrays whose elements are all equally long, and says which: by guess, then proof."""
    lengths_at = numbers_at(cells.data, ">i4")
    first = cells.start + 20
    some = size > 0
    width = np.zeros(cells.count, np.int64)
    width[some] = lengths_at[first[some]]
    even: Mask = some & (width >= 0) & (cells.length == 20 + size * (4 + width))
    rows = np.flatnonzero(even)
    owner = np.repeat(rows, size[rows])
    step = np.arange(owner.size) - np.repeat(np.cumsum(size[rows]) - size[rows], size[rows])
    place = first[owner] + step * (4 + width[owner])
    found = lengths_at[place]
    even[owner[found != width[owner]]] = False
    slots = offsets[owner] + step
    starts[slots], lengths[slots] = place + 4, found
    return even


def _step(data: Bytes, place: int, count: int) -> tuple[list[int], list[int], int]:
    """Starts and lengths of this many elements from here, one by one, and where they end."""
    starts: list[int] = []
    lengths: list[int] = []
    buffer = data.data
    try:
        for _ in range(count):
            (length,) = _read_length(buffer, place)
            place += 4
            starts.append(place)
            lengths.append(length)
            if length > 0:
                place += length
    except struct.error:
        raise PgCopyError("an array ends beyond the data") from None
    return starts, lengths, place
