"""The cells of one column inside a COPY buffer, and gathering them without a Python object per cell.

Two primitives carry the speed. Numbers: a view of the buffer with a stride of one byte holds the number
that begins at *every* byte, so one fancy index gathers a column. Texts: the starts and ends of a column's
cells, interleaved, are the offsets of a binary array over the whole buffer in which every second
entry is a cell, and Arrow's `filter` copies those.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.connectors.sql._pgcopy.types import Bytes, Ints, Mask, PgCopyError

_INT32_MAX = 2**31 - 1


def numbers_at(data: Bytes, dtype: str) -> npt.NDArray[Any]:
    """The number of this type that begins at each byte; indexing past the last raises IndexError."""
    kind = np.dtype(dtype)
    return np.ndarray((max(data.size - kind.itemsize + 1, 0),), kind, data, 0, (1,))


def bitmap(valid: Mask | None) -> pa.Buffer | None:
    """Arrow's validity bitmap (least significant bit first)."""
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))


def gather_bytes(data: Bytes, start: Ints, length: Ints) -> pa.Array:
    """The byte strings at these places, which must not overlap and must ascend. No entry is NULL."""
    count = start.size
    if count == 0:
        return pa.array([], pa.binary())
    small = data.size <= _INT32_MAX
    offsets = np.empty(2 * count, np.int32 if small else np.int64)
    offsets[0::2] = start
    offsets[1::2] = start + length
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    every = pa.Array.from_buffers(pa.binary() if small else pa.large_binary(), 2 * count - 1, buffers)
    odd = pa.py_buffer(np.full(count // 4 + 1, 0b01010101, np.uint8))
    return every.filter(pa.Array.from_buffers(pa.bool_(), 2 * count - 1, [None, odd])).cast(pa.binary())


class Cells(Struct, frozen=True):
    """Where one column's values lie. `length` is -1 and `valid` False where NULL; no `valid`, no NULL."""

    data: Bytes
    start: Ints
    length: Ints
    valid: Mask | None

    @property
    def count(self) -> int:
        return self.start.size

    def gather(self, dtype: str, at: int | Ints = 0, where: Mask | None = None) -> npt.NDArray[Any]:
        """The number `at` bytes into each cell, in native order; 0 for NULL and outside `where`."""
        view = numbers_at(self.data, dtype)
        native = view.dtype.newbyteorder("=")
        mask = self.valid if where is None else where
        if mask is None:
            plain: npt.NDArray[Any] = view[self.start + at].astype(native, copy=False)
            return plain
        found = np.zeros(self.count, native)
        found[mask] = view[(self.start + at)[mask]]
        return found

    def require_width(self, width: int) -> None:
        """Raises PgCopyError unless every value has `width` bytes."""
        wrong = self.length != width
        if self.valid is not None:
            wrong &= self.valid
        self.refuse(wrong, f"a value is not {width} bytes long")

    def refuse(self, wrong: Mask, reason: str) -> None:
        """Raises PgCopyError, naming the first row, if any is wrong."""
        if wrong.any():
            raise PgCopyError(f"{reason} (row {int(wrong.argmax())} of the batch)")

    def without(self, rows: Mask) -> Cells:
        """The same cells with these rows NULL."""
        kept = ~rows if self.valid is None else self.valid & ~rows
        return replace(self, valid=kept, length=np.where(kept, self.length, -1))

    def payload(self, row: int) -> bytes:
        start = int(self.start[row])
        return self.data[start : start + int(self.length[row])].tobytes()

    def byte_strings(self, skip: int = 0) -> pa.Array:
        """Each value's bytes after the first `skip`, as a binary array with this column's NULLs."""
        start, length = self.start, np.maximum(self.length - skip, 0)
        if skip:
            start = np.where(self.length >= skip, start + skip, start)
        packed = gather_bytes(self.data, start, length)
        if self.valid is None:
            return packed
        return pa.Array.from_buffers(pa.binary(), self.count, [bitmap(self.valid), *packed.buffers()[1:]])

    def array(self, kind: pa.DataType, values: npt.NDArray[Any], hidden: Mask | None = None) -> pa.Array:
        """Fixed-width values as Arrow, NULL where this column is, and where `hidden`."""
        valid = self.valid
        if hidden is not None:
            valid = ~hidden if valid is None else valid & ~hidden
        if kind == pa.bool_():
            values = np.packbits(values.astype(np.bool_), bitorder="little")
        return pa.Array.from_buffers(kind, self.count, [bitmap(valid), pa.py_buffer(values)])
