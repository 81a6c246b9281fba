"""Arrow record batches as rows of PostgreSQL's binary COPY format, encoded column by column.

Format: PostgreSQL documentation, COPY, "Binary Format". A stream is HEADER, any number of encoded batches,
TRAILER.

Parts of rows that are equally long for the whole batch become one numpy record; Arrow joins those with
the texts between them, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._pgcopy.cells import gather_bytes
from atlas_etl.connectors.sql._pgcopy.digits import encode_digits
from atlas_etl.connectors.sql._pgcopy.types import (
    MAX_FIELD_BYTES,
    Ints,
    Mask,
    PgCopyError,
    PgType,
    UnrepresentableError,
    Wire,
)
from atlas_etl.connectors.sql._pgcopy.values import BYTES, FIXED, Values, accepts, refuse


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


def _large_binary(offsets: Ints, data: Values | pa.Buffer) -> pa.Array:
    held = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, [None, pa.py_buffer(offsets), held])


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
    if pa.types.is_string(column.type) and type_.wire is Wire.NUMERIC:
        _, scale = type_.numeric_scale() or (None, None)
        return _put_bytes(rows, encode_digits(column, scale), valid)
    if type_.wire in BYTES:
        return _put_bytes(rows, BYTES[type_.wire](column), valid)
    dtype, values = FIXED[type_.wire](column, type_)
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
    refuse(length > MAX_FIELD_BYTES, "a value has more than a GiB")
    rows.fixed(">i4", length if valid is None else np.where(valid, length, -1))
    rows.bytes(column)


def _put_arrays(rows: _Rows, column: pa.Array, element: PgType) -> None:
    """array_recv: dimensions, flags, element oid, size, lower bound, elements; an empty array has none."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        column = column.cast(pa.large_list(column.type.value_type))
    if column.null_count:
        column = column.take(pa.arange(0, len(column)))  # leaves out elements under a NULL
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
    refuse(length > MAX_FIELD_BYTES, "an array has more than a GiB")
    rows.fixed(">i4", np.where(valid, length, -1))
    rows.bytes(heads)
    rows.bytes(elements)
