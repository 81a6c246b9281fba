"""Arrow record batches as rows of PostgreSQL's binary COPY format, encoded column by column.

Format: PostgreSQL documentation, COPY, "Binary Format"; values as the `*_recv` functions of
src/backend/utils/adt read them. A stream is HEADER, any number of encoded batches, TRAILER.

Parts of rows that are equally long for the whole batch become one numpy record; Arrow joins those with
the texts between them, row by row. PostgreSQL rounds what does not fit a column's declared scale, so
such values are refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._pgcopy_cells import gather_bytes
from atlas_etl.connectors.sql._pgcopy_numeric import encode_decimal
from atlas_etl.connectors.sql._pgcopy_types import (
    CHAR_TEXTS,
    EPOCH_DAYS,
    EPOCH_MICROSECONDS,
    MAX_FIELD_BYTES,
    PG_FIRST_DAY,
    PG_FIRST_MICROSECOND,
    PG_LAST_DAY,
    PG_LAST_MICROSECOND,
    Ints,
    Mask,
    PgCopyError,
    PgType,
    UnrepresentableError,
    Wire,
    storage_type,
)

Values = npt.NDArray[Any]


class RowEncoder:
    """Encodes batches of this schema for columns of these types, in this order.

    Raises PgCopyError where a field's Arrow type has no binary form as its column's type. Narrower
    integers, other units, large and dictionary-encoded columns are converted, if that loses nothing.
    """

    def __init__(self, schema: pa.Schema, types: Sequence[PgType]) -> None:
        if len(schema) != len(types):
            raise PgCopyError(f"{len(schema)} fields, but {len(types)} column types")
        for field, type_ in zip(schema, types, strict=True):
            if not accepts(type_, field.type):
                raise PgCopyError(f"column {field.name!r}: {field.type} is not encoded as {type_.wire}")
        self._schema = schema
        self._types = tuple(types)

    def encode(self, batch: pa.RecordBatch) -> bytes:
        """The batch's rows, without header and trailer.

        Raises UnrepresentableError where PostgreSQL cannot hold a value exactly, PgCopyError where the
        batch has another schema.
        """
        if not batch.schema.equals(self._schema):
            raise PgCopyError("the batch has another schema than the encoder")
        if batch.num_rows == 0:
            return b""
        rows = _Rows(batch.num_rows)
        rows.fixed(">i2", len(self._types))
        for field, type_, column in zip(self._schema, self._types, batch.columns, strict=True):
            try:
                _put(rows, column, type_)
            except UnrepresentableError as failure:
                raise UnrepresentableError(failure.reason, failure.rows, field.name) from failure
        joined = rows.join()
        used = int(np.frombuffer(joined.buffers()[1], np.int64)[len(joined)])
        return bytes(joined.buffers()[2].slice(0, used))


def accepts(type_: PgType, kind: pa.DataType) -> bool:
    """Whether columns of this Arrow type are encoded as the type, value by value if not all of them."""
    kind = storage_type(kind)
    if pa.types.is_dictionary(kind):
        kind = storage_type(kind.value_type)
    if pa.types.is_null(kind):
        return True
    if type_.element is not None:
        return _is_list(kind) and accepts(type_.element, kind.value_type)
    return bool(_ACCEPTED[type_.wire](kind))


class _Rows:
    """Byte strings under construction, one per row, part by part."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._parts: list[pa.Array] = []
        self._run: list[tuple[npt.DTypeLike, Values | int]] = []

    def fixed(self, dtype: npt.DTypeLike, values: Values | int) -> None:
        self._run.append((dtype, values))

    def bytes(self, values: pa.Array) -> None:
        """A large_binary array; NULL adds nothing."""
        self._close_run()
        self._parts.append(values)

    def join(self) -> pa.Array:
        self._close_run()
        if len(self._parts) == 1:
            return self._parts[0]
        nothing = pa.scalar(b"", pa.large_binary())
        return pc.binary_join_element_wise(
            *self._parts, nothing, null_handling="replace", null_replacement=b""
        )

    def _close_run(self) -> None:
        if self._run:
            record = np.empty(self.count, [(f"f{i}", dtype) for i, (dtype, _) in enumerate(self._run)])
            for i, (_, values) in enumerate(self._run):
                record[f"f{i}"] = values
            offsets = np.arange(self.count + 1, dtype=np.int64) * record.itemsize
            self._parts.append(_large_binary(offsets, record))
            self._run = []


def _large_binary(offsets: Ints, data: Values | pa.Buffer, valid: pa.Buffer | None = None) -> pa.Array:
    held = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, [valid, pa.py_buffer(offsets), held])


def _put(rows: _Rows, column: pa.Array, type_: PgType) -> None:
    """Each cell of the column: its length (-1: NULL) and its bytes."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if isinstance(column, pa.DictionaryArray):
        return _put(rows, column.dictionary_decode(), type_)
    if pa.types.is_null(column.type):
        return rows.fixed(">i4", -1)
    if type_.element is not None:
        return _put_arrays(rows, column, type_.element)
    valid = np.asarray(column.is_valid()) if column.null_count else None
    if type_.wire in _BYTES:
        return _put_bytes(rows, _BYTES[type_.wire](column), valid)
    dtype, values = _FIXED[type_.wire](column, type_)
    width = np.dtype(dtype).itemsize
    if valid is None:
        rows.fixed(">i4", width)
        return rows.fixed(dtype, values)
    rows.fixed(">i4", np.where(valid, width, -1))
    offsets = np.concatenate(([0], np.cumsum(valid * width)))
    return rows.bytes(_large_binary(offsets, values[valid].astype(dtype, copy=False)))


def _put_bytes(rows: _Rows, column: pa.Array, valid: Mask | None) -> None:
    offsets = np.frombuffer(column.buffers()[1], np.int64, column.offset + len(column) + 1)
    length = np.diff(offsets[column.offset :])
    _refuse(length > MAX_FIELD_BYTES, "a value has more than a GiB")
    rows.fixed(">i4", length if valid is None else np.where(valid, length, -1))
    rows.bytes(column)


def _put_arrays(rows: _Rows, column: pa.Array, element: PgType) -> None:
    """array_recv: dimensions, flags, element oid, size, lower bound, elements; an empty array has none."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        column = column.cast(pa.large_list(column.type.value_type))
    if column.null_count:
        column = column.take(pa.array(np.arange(len(column))))  # leaves out elements under a NULL
    offsets = np.asarray(column.offsets).astype(np.int64)
    inner = column.values.slice(offsets[0], offsets[-1] - offsets[0])
    offsets -= offsets[0]
    size = np.diff(offsets)
    cells = _Rows(len(inner))
    if len(inner):
        try:
            _put(cells, inner, element)
        except UnrepresentableError as failure:
            parents = np.unique(np.searchsorted(offsets, failure.rows, side="right") - 1)
            raise UnrepresentableError(failure.reason, parents.tolist()) from failure
        joined = cells.join()
        ends = np.frombuffer(joined.buffers()[1], np.int64, len(inner) + 1)[offsets]
        elements = _large_binary(ends, joined.buffers()[2])
    else:
        ends = offsets
        elements = _large_binary(ends, b"")
    head = np.empty(rows.count, [(name, ">i4") for name in ("dimensions", "flags", "oid", "size", "lower")])
    head["dimensions"] = size > 0
    head["flags"] = inner.null_count > 0
    head["oid"] = np.uint32(element.oid).view(np.int32)
    head["size"] = size
    head["lower"] = 1
    valid = np.asarray(column.is_valid())
    used = np.where(valid, np.where(size > 0, 20, 12), 0)
    heads = gather_bytes(head.view(np.uint8), np.arange(rows.count) * 20, used).cast(pa.large_binary())
    length = used + np.diff(ends)
    _refuse(length > MAX_FIELD_BYTES, "an array has more than a GiB")
    rows.fixed(">i4", np.where(valid, length, -1))
    rows.bytes(heads)
    rows.bytes(elements)


def _refuse(wrong: Mask, reason: str) -> None:
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
    _refuse(np.asarray(column.is_valid()) & np.asarray(codes.is_null()), 'not a single-byte "char"')
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
    _refuse((days < PG_FIRST_DAY) | (days > PG_LAST_DAY), "a date outside of PostgreSQL's range")
    return ">i4", days


def _times(column: pa.Array, type_: PgType) -> tuple[npt.DTypeLike, Values]:
    return ">i8", _rounded(_numbers(column, pa.time64("us"), "=i8"), type_)


def _timestamps(column: pa.Array, type_: PgType) -> tuple[npt.DTypeLike, Values]:
    values = _numbers(column, pa.timestamp("us", column.type.tz), "=i8")
    outside = values < PG_FIRST_MICROSECOND + EPOCH_MICROSECONDS
    outside |= values > min(PG_LAST_MICROSECOND + EPOCH_MICROSECONDS, 2**63 - 1)
    _refuse(outside, "a timestamp outside of PostgreSQL's range")
    return ">i8", _rounded(values - EPOCH_MICROSECONDS, type_)


def _rounded(microseconds: Values, type_: PgType) -> Values:
    """The same, once it is certain that the column's precision (timestamp(3)) rounds nothing."""
    if 0 <= type_.typmod < 6:
        inexact = microseconds % 10 ** (6 - type_.typmod) != 0
        _refuse(inexact, f"more than {type_.typmod} digits of a second")
    return microseconds


def _intervals(column: pa.Array, _type: PgType) -> tuple[npt.DTypeLike, Values]:
    """interval_recv: microseconds, days, months."""
    parts = np.dtype([("months", "i4"), ("days", "i4"), ("nanoseconds", "i8")])
    found = np.frombuffer(column.buffers()[1], parts, column.offset + len(column))[column.offset :]
    microseconds = found["nanoseconds"] // 1000
    inexact = microseconds * 1000 != found["nanoseconds"]
    _refuse(inexact & np.asarray(column.is_valid()), "an interval counts nanoseconds")
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
        _refuse(np.asarray(nul), "a text holds the character NUL, which PostgreSQL's cannot")
    return texts.cast(pa.large_binary())


def _bytes(column: pa.Array) -> pa.Array:
    return column.cast(pa.large_binary())


def _jsonbs(column: pa.Array) -> pa.Array:
    """jsonb_recv: the version, 1, before the text."""
    version, nothing = (pa.scalar(value, pa.large_binary()) for value in (b"\1", b""))
    return pc.binary_join_element_wise(version, _texts(column), nothing)


_BYTES: dict[Wire, Callable[[pa.Array], pa.Array]] = {
    Wire.TEXT: _texts,
    Wire.JSON: _texts,
    Wire.JSONB: _jsonbs,
    Wire.BYTEA: _bytes,
}

_FIXED: dict[Wire, Callable[[pa.Array, PgType], tuple[npt.DTypeLike, Values]]] = {
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
