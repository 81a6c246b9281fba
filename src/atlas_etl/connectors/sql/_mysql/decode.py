"""Rows of a MySQL or MariaDB binary-protocol result, decoded column by column into Arrow.

No Python object is made per value, except for values that are hazards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pymysql import err
from pymysql.constants import CR, FIELD_TYPE

from atlas_etl.connectors.sql._mysql.cells import Ints, Nulls, Rows, malformed, primitive, validity
from atlas_etl.connectors.sql._mysql.moments import moments, times
from atlas_etl.connectors.sql._mysql.types import DECIMALS, MOMENTS, Column
from atlas_etl.model import Hazard, HazardCells

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
    rows = Rows(buffer, starts, ends, len(columns))
    arrays: list[pa.Array] = []
    hazards: list[HazardCells] = []
    for column, kind in zip(columns, schema.types, strict=True):
        array, cells = _column(rows, column, kind)
        arrays.append(array)
        hazards.extend(cells)
    rows.finish()
    return pa.RecordBatch.from_arrays(arrays, schema=schema), tuple(hazards)


def _column(rows: Rows, column: Column, kind: pa.DataType) -> _Decoded:
    nulls = rows.nulls()
    if kind in _NUMBERS:
        dtype = _NUMBERS[kind]
        values = rows.read(dtype)
        rows.skip(dtype.itemsize, nulls)
        return primitive(kind, values, nulls), ()
    if column.type_code in MOMENTS:
        return moments(rows, column, kind, nulls)
    if column.type_code == FIELD_TYPE.TIME:
        return times(rows, column, kind, nulls)
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


def _gather(rows: Rows, begin: Ints, length: Ints, nulls: Nulls) -> pa.BinaryArray:
    """The spans side by side. Arrow copies them: it sees the buffer as spans with the gaps between them."""
    edges = np.empty(2 * rows.count + 1, np.int32)
    edges[0:-1:2] = begin
    edges[1::2] = begin + length
    edges[-1] = edges[-2]
    buffers = [None, pa.py_buffer(edges), pa.py_buffer(rows.buffer)]
    spans = pa.Array.from_buffers(pa.binary(), 2 * rows.count, buffers)
    return pc.take(spans, primitive(pa.int64(), np.arange(0, 2 * rows.count, 2), nulls), boundscheck=False)


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
    rows = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
    return text, (HazardCells(column.name, Hazard.INVALID_TEXT, tuple(rows.tolist()), tuple(texts)),)


def _bits(rows: Rows, begin: Ints, length: Ints, nulls: Nulls, width: int) -> pa.StringArray:
    """BIT(width), big-endian on the wire, as text of `width` digits."""
    size = (width + 7) // 8
    if (length > size).any():
        raise malformed("a BIT value is longer than its column")
    from_end = np.arange(size, 0, -1)
    octets = rows.octets[(begin + length)[:, None] - from_end]
    octets[from_end > length[:, None]] = 0
    digits = np.ascontiguousarray(np.unpackbits(octets, axis=1)[:, -width:] + np.uint8(ord("0")))
    offsets = np.arange(0, (rows.count + 1) * width, width, dtype=np.int32)
    buffers = [validity(nulls), pa.py_buffer(offsets), pa.py_buffer(digits)]
    return pa.Array.from_buffers(pa.string(), rows.count, buffers)
