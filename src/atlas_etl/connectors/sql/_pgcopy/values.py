"""Arrow columns as the values that PostgreSQL's `*_recv` functions read, without their lengths.

PostgreSQL rounds what does not fit a column's declared scale or precision, so such values are refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._pgcopy.numeric import encode_decimal
from atlas_etl.connectors.sql._pgcopy.types import (
    CHAR_TEXTS,
    EPOCH_DAYS,
    EPOCH_MICROSECONDS,
    PG_FIRST_DAY,
    PG_FIRST_MICROSECOND,
    PG_LAST_DAY,
    PG_LAST_MICROSECOND,
    Mask,
    PgType,
    UnrepresentableError,
    Wire,
    storage_type,
)
from atlas_etl.values import UNLIMITED_DECIMAL

Values = npt.NDArray[Any]


def accepts(type_: PgType, kind: pa.DataType) -> bool:
    """Whether columns of this Arrow type are encoded as the type, value by value if not all of them."""
    if kind == UNLIMITED_DECIMAL:
        return type_.wire is Wire.NUMERIC
    kind = storage_type(kind)
    if pa.types.is_dictionary(kind):
        kind = storage_type(kind.value_type)
    if pa.types.is_null(kind):
        return True
    if type_.element is not None:
        return _is_list(kind) and accepts(type_.element, kind.value_type)
    return bool(_ACCEPTED[type_.wire](kind))


def refuse(wrong: Mask, reason: str) -> None:
    """Raises UnrepresentableError if there are such rows."""
    if wrong.any():
        raise UnrepresentableError(reason, np.flatnonzero(wrong).tolist())


def _convert(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column in another type, if every value is the same there."""
    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as failure:
        wrong = [row for row in range(len(column)) if not _converts(column.slice(row, 1), kind)]
        raise UnrepresentableError(f"{column.type} is not exact as {kind}", wrong or [0]) from failure


def _converts(cell: pa.Array, kind: pa.DataType) -> bool:
    try:
        cell.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _numbers(column: pa.Array, kind: pa.DataType, dtype: npt.DTypeLike) -> Values:
    """The column's values, 0 where NULL."""
    column = _convert(column, kind)
    values = np.frombuffer(column.buffers()[1], dtype, column.offset + len(column))[column.offset :]
    return values if not column.null_count else np.where(column.is_valid(), values, values.dtype.type(0))


def _plain(kind: pa.DataType, dtype: str) -> Callable[[pa.Array, PgType], tuple[npt.DTypeLike, Values]]:
    def encode(column: pa.Array, _type: PgType) -> tuple[npt.DTypeLike, Values]:
        return dtype, _numbers(column, kind, np.dtype(dtype).newbyteorder("="))

    return encode


def _bools(column: pa.Array, _type: PgType) -> tuple[npt.DTypeLike, Values]:
    return "u1", _numbers(column.cast(pa.uint8()), pa.uint8(), "u1")


def _chars(column: pa.Array, _type: PgType) -> tuple[npt.DTypeLike, Values]:
    codes = pc.index_in(column.cast(pa.string()), CHAR_TEXTS)
    refuse(np.asarray(column.is_valid()) & np.asarray(codes.is_null()), 'not a single-byte "char"')
    return "u1", _numbers(codes, pa.int32(), "=i4")


def _numerics(column: pa.Array, type_: PgType) -> tuple[npt.DTypeLike, Values]:
    kind = column.type
    if pa.types.is_integer(kind):
        column = column.cast(pa.decimal128(20, 0))
    elif kind.bit_width < 128:
        column = column.cast(pa.decimal128(kind.precision, kind.scale))
    declared = type_.numeric_scale()
    kind = column.type
    if declared is not None and declared[1] < kind.scale:
        wide = pa.decimal128 if kind.bit_width == 128 else pa.decimal256
        column = _convert(column, wide(kind.precision, declared[1]))
    return encode_decimal(column)


def _dates(column: pa.Array, _type: PgType) -> tuple[npt.DTypeLike, Values]:
    days = _numbers(column, pa.date32(), "=i4").astype(np.int64) - EPOCH_DAYS
    refuse((days < PG_FIRST_DAY) | (days > PG_LAST_DAY), "a date outside of PostgreSQL's range")
    return ">i4", days


def _times(column: pa.Array, type_: PgType) -> tuple[npt.DTypeLike, Values]:
    return ">i8", _rounded(_numbers(column, pa.time64("us"), "=i8"), type_)


def _timestamps(column: pa.Array, type_: PgType) -> tuple[npt.DTypeLike, Values]:
    values = _numbers(column, pa.timestamp("us", column.type.tz), "=i8")
    outside = values < PG_FIRST_MICROSECOND + EPOCH_MICROSECONDS
    outside |= values > min(PG_LAST_MICROSECOND + EPOCH_MICROSECONDS, 2**63 - 1)
    refuse(outside, "a timestamp outside of PostgreSQL's range")
    return ">i8", _rounded(values - EPOCH_MICROSECONDS, type_)


def _rounded(microseconds: Values, type_: PgType) -> Values:
    """The same, once it is certain that the column's precision (timestamp(3)) rounds nothing."""
    if 0 <= type_.typmod < 6:
        inexact = microseconds % 10 ** (6 - type_.typmod) != 0
        refuse(inexact, f"more than {type_.typmod} digits of a second")
    return microseconds


def _intervals(column: pa.Array, _type: PgType) -> tuple[npt.DTypeLike, Values]:
    """interval_recv: microseconds, days, months."""
    parts = np.dtype([("months", "i4"), ("days", "i4"), ("nanoseconds", "i8")])
    found = np.frombuffer(column.buffers()[1], parts, column.offset + len(column))[column.offset :]
    microseconds = found["nanoseconds"] // 1000
    inexact = microseconds * 1000 != found["nanoseconds"]
    refuse(inexact & np.asarray(column.is_valid()), "an interval counts nanoseconds")
    values = np.empty(len(column), [("microseconds", ">i8"), ("days", ">i4"), ("months", ">i4")])
    values["microseconds"], values["days"], values["months"] = microseconds, found["days"], found["months"]
    return values.dtype, values


def _uuids(column: pa.Array, _type: PgType) -> tuple[npt.DTypeLike, Values]:
    values = np.frombuffer(column.buffers()[1], "V16", column.offset + len(column))
    return "V16", values[column.offset :]


def _texts(column: pa.Array) -> pa.Array:
    texts = column.cast(pa.large_string())
    data = texts.buffers()[2]
    ends = np.frombuffer(texts.buffers()[1], np.int64, texts.offset + len(texts) + 1)[[texts.offset, -1]]
    if ends[1] > ends[0] and np.frombuffer(data, np.uint8)[ends[0] : ends[1]].min() == 0:
        nul = pc.fill_null(pc.match_substring(texts, "\0"), False)
        refuse(np.asarray(nul), "a text holds the character NUL, which PostgreSQL's cannot")
    return texts.cast(pa.large_binary())


def _bytes(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_binary())


def _jsonbs(column: pa.Array) -> pa.Array:
    """jsonb_recv: the version, 1, before the text."""
    version, nothing = (pa.scalar(value, pa.large_binary()) for value in (b"\1", b""))
    return pc.binary_join_element_wise(version, _texts(column), nothing)


BYTES: dict[Wire, Callable[[pa.Array], pa.Array]] = {
    Wire.TEXT: _texts,
    Wire.JSON: _texts,
    Wire.JSONB: _jsonbs,
    Wire.BYTEA: _bytes,
}

FIXED: dict[Wire, Callable[[pa.Array, PgType], tuple[npt.DTypeLike, Values]]] = {
    Wire.BOOL: _bools,
    Wire.INT2: _plain(pa.int16(), ">i2"),
    Wire.INT4: _plain(pa.int32(), ">i4"),
    Wire.INT8: _plain(pa.int64(), ">i8"),
    Wire.OID: _plain(pa.uint32(), ">u4"),
    Wire.FLOAT4: _plain(pa.float32(), ">u4"),  # bits, so that every NaN stays the NaN it was
    Wire.FLOAT8: _plain(pa.float64(), ">u8"),
    Wire.NUMERIC: _numerics,
    Wire.CHAR: _chars,
    Wire.DATE: _dates,
    Wire.TIME: _times,
    Wire.TIMESTAMP: _timestamps,
    Wire.TIMESTAMPTZ: _timestamps,
    Wire.INTERVAL: _intervals,
    Wire.UUID: _uuids,
}


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


_ACCEPTED: dict[Wire, Callable[[pa.DataType], bool]] = {
    Wire.BOOL: pa.types.is_boolean,
    Wire.INT2: pa.types.is_integer,
    Wire.INT4: pa.types.is_integer,
    Wire.INT8: pa.types.is_integer,
    Wire.OID: pa.types.is_integer,
    Wire.FLOAT4: lambda kind: bool(pa.types.is_float16(kind) or pa.types.is_float32(kind)),
    Wire.FLOAT8: pa.types.is_floating,
    Wire.NUMERIC: lambda kind: bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind)),
    Wire.TEXT: _is_text,
    Wire.CHAR: _is_text,
    Wire.BYTEA: _is_bytes,
    Wire.DATE: pa.types.is_date,
    Wire.TIME: pa.types.is_time,
    Wire.TIMESTAMP: lambda kind: bool(pa.types.is_timestamp(kind) and kind.tz is None),
    Wire.TIMESTAMPTZ: lambda kind: bool(pa.types.is_timestamp(kind) and kind.tz is not None),
    Wire.INTERVAL: pa.types.is_interval,
    Wire.UUID: lambda kind: bool(kind == pa.binary(16)),
    Wire.JSON: _is_text,
    Wire.JSONB: _is_text,
}
