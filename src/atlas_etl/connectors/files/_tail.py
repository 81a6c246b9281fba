"""A buffer that keeps back the rows with the greatest cursors, to cut out a tail before it is written.

Where the tail begins is known only at the end of a load, but before it roughly (NextTail): at a bound, or
so much before the greatest cursor. Rows pass through here: those that are surely older go on to their files
at once, the others stay in memory. A tail that fits the buffer is then a file of its own without anything
being written twice. It is a matter of speed alone: which files the rows of a tail really are in is found
out, and put right, from the files' edges.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.order import Edges, at_or_after, before, edges
from atlas_etl.model import NextTail

_MANY_PIECES = 256
_FEW_RUNS = 8  # of rows, that cost less as slices than to be copied


class _Kept(Struct, frozen=True):
    rows: pa.RecordBatch
    edges: Edges


class TailBuffer:
    """Keeps the newest rows of a stream of batches, up to a number of bytes."""

    def __init__(
        self,
        cursor: str,
        passed: Callable[[pa.RecordBatch], None],
        *,
        size: int,
        next_tail: NextTail | None = None,
    ) -> None:
        self._cursor = cursor
        self._pass = passed
        self._limit = size
        self._next_tail = next_tail
        self._high: pa.Scalar | None = None
        self._floor: pa.Scalar | None = None  # rows before it are passed on at once
        self._kept: list[_Kept] = []
        self._size = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows; older ones come out at once, perhaps together with some that were kept."""
        if batch.num_rows:
            found = edges(batch.column(self._cursor))
            if self._reaches(found.high):
                self._sift()
            self._keep(_Kept(batch, found))
        if self._size > self._limit:
            self._make_room()

    def drain(self) -> list[pa.RecordBatch]:
        """The rows that are still here; the buffer is empty afterwards."""
        kept, self._kept, self._size = self._kept, [], 0
        return [piece.rows for piece in kept]

    def _reaches(self, high: pa.Scalar | None) -> bool:
        """Take note of a greatest cursor; gives back whether the floor is higher than before."""
        if self._next_tail is None or high is None:
            return False
        if self._high is not None and not before(self._high, high):
            return False
        self._high = high
        floor = _beginning(self._next_tail, high)
        if self._floor is not None and not before(self._floor, floor):
            return False
        self._floor = floor
        return True

    def _sift(self) -> None:
        """Pass on what is before the floor by now."""
        kept, self._kept, self._size = self._kept, [], 0
        for piece in kept:
            self._keep(piece)

    def _keep(self, piece: _Kept) -> None:
        """Keep what is not before the floor, and pass the rest on; rows without a cursor stay."""
        low, high, floor = piece.edges.low, piece.edges.high, self._floor
        if floor is None or low is None or high is None or not before(low, floor):
            self._kept.append(piece)
            self._size += piece.rows.nbytes
            return
        if before(high, floor) and not piece.edges.nulls:
            self._pass(piece.rows)
            return
        newer = pc.fill_null(at_or_after(piece.rows.column(self._cursor), floor), True)
        for rows in _without(piece.rows, newer):
            self._pass(rows)
        rows = piece.rows.filter(newer)
        if rows.num_rows:
            self._kept.append(_Kept(rows, edges(rows.column(self._cursor))))
            self._size += rows.nbytes

    def _make_room(self) -> None:
        """Raise the floor to keep the newer half."""
        rows = self.drain()
        cursors = pa.chunked_array([batch.column(self._cursor) for batch in rows]).combine_chunks()
        found = values.storage(cursors).drop_null()
        if len(found):
            half = len(found) // 2
            middle = pc.partition_nth_indices(found, pivot=half)[half].as_py()
            self._floor = cursors.drop_null()[middle]
        if len(rows) > _MANY_PIECES:
            rows = pa.Table.from_batches(rows).combine_chunks().to_batches()
        for batch in rows:
            self._keep(_Kept(batch, edges(batch.column(self._cursor))))
        if self._size > self._limit * 3 // 4:  # ties: they all stay together, in their files
            for batch in self.drain():
                self._pass(batch)


def _without(rows: pa.RecordBatch, left_out: pa.BooleanArray) -> list[pa.RecordBatch]:
    """The other rows: where they are few runs, as they lie, without a copy."""
    out = left_out.to_numpy(zero_copy_only=False)
    turns = np.flatnonzero(out[1:] != out[:-1]) + 1
    if len(turns) > 2 * _FEW_RUNS:
        return [rows.filter(pc.invert(left_out))]
    starts = [0, *turns.tolist(), len(out)]
    runs = pairwise(starts)
    return [rows.slice(start, end - start) for start, end in runs if not out[start]]


def _beginning(tail: NextTail, high: pa.Scalar) -> pa.Scalar:
    """Where the tail begins if this is the greatest cursor."""
    floor = high
    if tail.lag:
        shifted = values.earlier(values.cursor_value(high, stream="", column=""), tail.lag)
        floor = values.cursor_scalar(shifted, high.type)
    bound = values.cursor_scalar(tail.bound, high.type) if tail.bound is not None else floor
    return bound if before(bound, floor) else floor
