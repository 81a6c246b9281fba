"""Rows of PostgreSQL's binary COPY format as Arrow record batches, decoded column by column.

Format: PostgreSQL documentation, COPY, "Binary Format": an 11-byte signature, int32 flags, an int32 extension
length and the extension; then per row an int16 field count and per field an int32 length (-1: NULL)
and its bytes; at the end an int16 -1. Values: the `*_send` functions of src/backend/utils/adt.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.sql._pgcopy.cells import Cells, numbers_at
from atlas_etl.connectors.sql._pgcopy.columns import decode_cells, fits
from atlas_etl.connectors.sql._pgcopy.text import text_form
from atlas_etl.connectors.sql._pgcopy.types import (
    HEADER,
    MAX_FIELD_BYTES,
    SIGNATURE,
    TRAILER,
    Buffer,
    Ints,
    PgCopyError,
    PgType,
)
from atlas_etl.model import HazardCells


class Decoded(Struct, frozen=True):
    """Rows, and the cells among them that have no exact Arrow form: NULL in the batch."""

    batch: pa.RecordBatch
    hazards: tuple[HazardCells, ...]


class Payloads(Struct, frozen=True):
    """What CopyData messages hold, in one buffer and in order: `buffer[starts[i]:ends[i]]`."""

    buffer: Buffer
    starts: Ints
    ends: Ints

    @classmethod
    def joined(cls, messages: Sequence[Buffer]) -> Payloads:
        """Those of messages that lie apart."""
        lengths = np.fromiter(map(len, messages), np.int64, len(messages))
        ends = np.cumsum(lengths)
        return cls(b"".join(messages), ends - lengths, ends)


class RowDecoder:
    """Decodes one COPY stream of these columns; `types[i]` says how the schema's field i is sent.

    A field has the type that `PgType.arrow_type` names; json may also be a plain string, and a numeric a
    string (its exact text) or any decimal (values that do not fit are hazards). Raises PgCopyError otherwise.
    """

    def __init__(self, schema: pa.Schema, types: Sequence[PgType]) -> None:
        if len(schema) != len(types):
            raise PgCopyError(f"{len(schema)} fields, but {len(types)} column types")
        for field, type_ in zip(schema, types, strict=True):
            if not fits(type_, field.type):
                raise PgCopyError(f"column {field.name!r}: {type_.wire} is not decoded as {field.type}")
        self._schema = schema
        self._types = tuple(types)
        self._rest = b""  # the beginning of a row, or of the header, that is not complete yet
        self._header_read = False
        self._ended = False

    def feed(self, payloads: Payloads) -> Decoded:
        """The rows that these messages complete; the messages may be cut anywhere.

        Fast where a message holds one row, as PostgreSQL sends them. Nothing of the buffer is kept. Raises
        PgCopyError on malformed bytes.
        """
        buffer, starts, ends = payloads.buffer, payloads.starts, payloads.ends
        if not self._header_read:
            starts, ends = self._without_header(buffer, starts, ends)
            if not self._header_read:
                return self._decode([], 0)
        if self._ended:
            if (ends > starts).any():
                raise PgCopyError("the stream goes on behind its end")
            return self._decode([], 0)
        if not self._rest:
            ended = len(ends) > 0 and bytes(buffer[starts[-1] : ends[-1]]) == TRAILER
            rows = slice(0, len(ends) - ended)
            try:
                columns = self._columns(buffer, starts[rows], ends[rows])
            except PgCopyError:  # messages are not rows here: find the rows one by one
                pass
            else:
                self._ended = ended
                return self._decode(columns, len(ends) - ended)
        parts = (buffer[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True))
        joined = b"".join((self._rest, *parts))
        begins, stop = self._scan(joined)
        self._rest = b"" if self._ended else joined[stop:]
        return self.decode(memoryview(joined)[:stop], begins)

    def decode(self, buffer: Buffer, row_starts: Ints) -> Decoded:
        """Rows that fill the buffer, without header and trailer. Raises PgCopyError on malformed bytes."""
        starts = row_starts.astype(np.int64, copy=False)
        if len(starts) and starts[0] != 0:
            raise PgCopyError("there are bytes before the first row")
        columns = self._columns(buffer, starts, np.append(starts[1:], len(buffer)))
        return self._decode(columns, len(starts))

    def finish(self) -> None:
        """Raises PgCopyError unless the stream came to its end."""
        if not self._ended or self._rest:
            raise PgCopyError("the stream ended too early")

    def _without_header(self, buffer: Buffer, starts: Ints, ends: Ints) -> tuple[Ints, Ints]:
        """Where the messages lie behind the header; while that is incomplete, it is kept as the rest."""
        for used in (1, len(starts)):  # the header usually comes with the first row
            parts = (buffer[starts[place] : ends[place]] for place in range(min(used, len(starts))))
            first = b"".join((self._rest, *parts))
            size = _header_size(first)
            if size <= len(first):
                self._header_read = True
                left = size - len(self._rest)
                self._rest = b""
                return _skipped(starts, ends, left)
        self._rest = first
        return starts[:0], ends[:0]

    def _scan(self, buffer: bytes) -> tuple[Ints, int]:
        """Where the complete rows begin, and where the last one ends; sets `_ended` at the trailer."""
        starts: list[int] = []
        at = 0
        while len(buffer) - at >= 2:
            (count,) = struct.unpack_from(">h", buffer, at)
            if count == -1:
                if at + 2 < len(buffer):
                    raise PgCopyError("the stream goes on behind its end")
                self._ended = True
                break
            if count != len(self._types):
                raise PgCopyError(f"a row has {count} fields instead of {len(self._types)}")
            end = at + 2
            for _ in range(count):
                if end + 4 > len(buffer):
                    return np.array(starts, np.int64), at
                (length,) = struct.unpack_from(">i", buffer, end)
                if not -1 <= length <= MAX_FIELD_BYTES:
                    raise PgCopyError(f"a field has the length {length}")
                end += 4 + max(length, 0)
            if end > len(buffer):
                break
            starts.append(at)
            at = end
        return np.array(starts, np.int64), at

    def _columns(self, buffer: Buffer, starts: Ints, ends: Ints) -> list[Cells]:
        """Every column's cells, once it is certain that each row ends where the next one begins."""
        if not len(starts):
            return []
        data = np.frombuffer(buffer, np.uint8)
        lengths_at = numbers_at(data, ">i4")
        columns: list[Cells] = []
        try:
            if (numbers_at(data, ">i2")[starts] != len(self._types)).any():
                raise PgCopyError("a row has another number of fields than the table")
            at = starts + 2
            for _ in self._types:
                length = lengths_at[at].astype(np.int64)
                least = int(length.min())
                if least < -1:
                    raise PgCopyError(f"a field has the length {least}")
                start = at + 4
                columns.append(Cells(data, start, length, length >= 0 if least == -1 else None))
                at = start + (length if least >= 0 else np.maximum(length, 0))
        except IndexError:
            raise PgCopyError("a row ends beyond the data") from None
        if (at != ends).any():
            raise PgCopyError("a row does not end where the next one begins")
        return columns

    def _decode(self, columns: list[Cells], count: int) -> Decoded:
        if count == 0:
            empty = [pa.nulls(0, field.type) for field in self._schema]
            return Decoded(pa.RecordBatch.from_arrays(empty, schema=self._schema), ())
        if not self._types:
            rows = pa.Array.from_buffers(pa.struct([]), count, [None])
            return Decoded(pa.RecordBatch.from_struct_array(rows), ())
        arrays: list[pa.Array] = []
        hazards: list[HazardCells] = []
        for field, type_, cells in zip(self._schema, self._types, columns, strict=True):
            try:
                array, found = decode_cells(cells, type_, field.type)
                for hazard, mask in found:
                    rows = tuple(np.flatnonzero(mask).tolist())
                    if rows:
                        texts = tuple(text_form(type_, cells.payload(row)) for row in rows)
                        hazards.append(HazardCells(field.name, hazard, rows, texts))
            except IndexError:
                raise PgCopyError(f"column {field.name!r}: a value ends beyond the data") from None
            except PgCopyError as failure:
                raise PgCopyError(f"column {field.name!r}: {failure}") from failure
            arrays.append(array)
        return Decoded(pa.RecordBatch.from_arrays(arrays, schema=self._schema), tuple(hazards))


def _skipped(starts: Ints, ends: Ints, count: int) -> tuple[Ints, Ints]:
    """The messages without their first bytes, and without those of which nothing is left."""
    before = np.concatenate(([0], np.cumsum(ends - starts)[:-1]))
    begins = np.minimum(starts + np.maximum(count - before, 0), ends)
    left = begins < ends
    return begins[left], ends[left]


def _header_size(first: bytes) -> int:
    """The header's bytes, as far as these first ones tell. Raises PgCopyError where they are not a header."""
    if not first.startswith(SIGNATURE[: len(first)]):
        raise PgCopyError("the stream does not begin with the signature of binary COPY")
    if len(first) < len(HEADER):
        return len(HEADER)
    flags, extension = struct.unpack_from(">II", first, len(SIGNATURE))
    if flags >> 16:
        raise PgCopyError(f"the header has critical flags that are not known: {flags:#x}")
    return len(HEADER) + int(extension)
