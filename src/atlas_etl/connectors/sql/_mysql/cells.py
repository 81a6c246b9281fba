"""Rows of a MySQL or MariaDB binary result, read in step: where a column's cells begin, and which are NULL.

Layouts: MySQL source documentation, "Binary Protocol Resultset"
(https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_binary_resultset.html), and MariaDB
documentation, "Result Set Packets". numpy reads all cells of a column at once from a vector of positions,
one per row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pymysql import err
from pymysql.constants import CR

SLACK = 16
"""Bytes that must exist in the buffer behind its last row: cells that are NULL are read, then masked."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Nulls = Bools | None
"""Which cells of a column are NULL; None where none is."""


class Rows:
    """Many rows read in step: `position` is where the next cell of every row begins.

    Row i is the packet payload `buffer[starts[i]:ends[i]]`. Raises InternalError where it is too short.
    """

    def __init__(self, buffer: bytearray, starts: Ints, ends: Ints, columns: int) -> None:
        self.buffer = buffer
        self.octets = np.frombuffer(buffer, np.uint8)
        self.count = len(starts)
        self._ends = ends
        size = (columns + 9) // 8
        self.position: Ints = starts + 1 + size
        self._stay_within(self.position)
        self._bitmap = starts + 1
        self._flags = self.octets[self._bitmap]
        self._column = 2  # the first two bits of the bitmap are reserved

    def nulls(self) -> Nulls:
        """Which cells of the next column are NULL; they take no bytes. To be called once per column."""
        octet, bit = divmod(self._column, 8)
        self._column += 1
        if bit == 0:
            self._flags = self.octets[self._bitmap + octet]
        nulls: Bools = (self._flags & (1 << bit)) != 0
        return nulls if nulls.any() else None

    def read(self, dtype: np.dtype[Any], offset: int = 0) -> npt.NDArray[Any]:
        """One unaligned value of this type at the position of every row."""
        plain = dtype if dtype.names is None else np.dtype(f"V{dtype.itemsize}")  # six times as fast
        size = len(self.buffer) - dtype.itemsize + 1 - offset
        windows: npt.NDArray[Any] = np.ndarray((size,), plain, self.buffer, offset, (1,))
        return windows[self.position].view(dtype)

    def skip(self, lengths: Ints | int, nulls: Nulls) -> None:
        self.position = self.position + (lengths if nulls is None else np.where(nulls, 0, lengths))

    def spans(self, nulls: Nulls) -> tuple[Ints, Ints]:
        """Where the length-encoded strings of the next column begin and how long they are; skips them."""
        length = self.octets[self.position].astype(np.int64)
        begin = self.position + 1
        if nulls is not None:
            length[nulls] = 0
            begin -= nulls
        if (length > 250).any():
            begin, length = self._long_spans(begin, length)
        self.position = begin + length
        self._stay_within(self.position)
        return begin, length

    def finish(self) -> None:
        """Every row must have been read to its last byte."""
        if (self.position != self._ends).any():
            raise malformed("rows and columns differ in length")

    def _long_spans(self, begin: Ints, first: Ints) -> tuple[Ints, Ints]:
        """As `spans`, where some lengths take more than one byte, which says how many follow it."""
        if np.isin(first, (0xFB, 0xFF)).any():
            raise malformed("a length-encoded string has an impossible length")
        raw = self.read(np.dtype("<i8"), offset=1)
        forms = [first == 0xFC, first == 0xFD, first == 0xFE]
        length = np.select(forms, [raw & 0xFFFF, raw & 0xFFFFFF, raw], first)
        if ((length < 0) | (length > len(self.buffer))).any():
            raise malformed("a length-encoded string is longer than its row")
        return begin + np.select(forms, [2, 3, 8], 0), length

    def _stay_within(self, position: Ints) -> None:
        if (position > self._ends).any():
            raise malformed("rows are shorter than their columns")


def validity(nulls: Nulls) -> pa.Buffer | None:
    """The bitmap of an Arrow array."""
    return None if nulls is None else pa.py_buffer(np.packbits(~nulls, bitorder="little"))


def primitive(kind: pa.DataType, values: npt.NDArray[Any], nulls: Nulls) -> pa.Array:
    """An Arrow array of these values, which it takes over; 0 where they are NULL."""
    if nulls is not None:
        values[nulls] = 0
    return pa.Array.from_buffers(kind, len(values), [validity(nulls), pa.py_buffer(values)])


def malformed(why: str) -> err.InternalError:
    """Bytes and columns disagree."""
    return err.InternalError(CR.CR_MALFORMED_PACKET, why)
