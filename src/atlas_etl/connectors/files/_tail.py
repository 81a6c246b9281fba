"""A buffer that keeps back the rows with the greatest cursors, to cut out a tail before it is written.

Where the tail begins is known only at the end of a load. Rows pass through here: those that are surely
older than the newest ones go on to their files at once, the newest stay in memory. A tail that fits the
buffer is then a file of its own without anything being written twice. It is a matter of speed alone: which
files the rows of a tail really are in is found out, and put right, from the files' edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.order import Edges, at_or_after, before, edges

_MANY_PIECES = 256


@dataclass(frozen=True, slots=True)
class _Kept:
    rows: pa.RecordBatch
    edges: Edges


class TailBuffer:
    """Keeps the newest rows of a stream of batches, up to a number of bytes."""

    def __init__(self, cursor: str, passed: Callable[[pa.RecordBatch], None], *, size: int) -> None:
        self._cursor = cursor
        self._pass = passed
        self._limit = size
        self._floor: pa.Scalar | None = None  # rows before it are passed on at once
        self._kept: list[_Kept] = []
        self._size = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows; older ones come out at once, perhaps together with some that were kept."""
        if batch.num_rows:
            self._keep(_Kept(batch, edges(batch.column(self._cursor))))
        if self._size > self._limit:
            self._raise_floor()

    def drain(self) -> list[pa.RecordBatch]:
        """The rows that are still here; the buffer is empty afterwards."""
        kept, self._kept, self._size = self._kept, [], 0
        return [piece.rows for piece in kept]

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
        self._pass(piece.rows.filter(pc.invert(newer)))
        rows = piece.rows.filter(newer)
        if rows.num_rows:
            self._kept.append(_Kept(rows, edges(rows.column(self._cursor))))
            self._size += rows.nbytes

    def _raise_floor(self) -> None:
        """Make room: keep the newer half."""
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
