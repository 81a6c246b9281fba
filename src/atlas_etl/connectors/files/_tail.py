"""A buffer that keeps back the rows with the greatest cursors, to cut out a tail before it is written.

Where the tail begins is known only at the end of a load. Rows pass through here: those that are surely
older than the newest ones go on to their files at once, the newest stay in memory. A tail that fits the
buffer is then a file of its own without anything being written twice. It is a matter of speed alone: which
files the rows of a tail really are in is found out, and put right, from the files' edges.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.files._order import at_or_after, edges


class TailBuffer:
    """Keeps the newest rows of a stream of batches, up to a number of bytes."""

    def __init__(self, cursor: str, passed: Callable[[pa.RecordBatch], None], *, size: int) -> None:
        self._cursor = cursor
        self._pass = passed
        self._limit = size
        self._floor: pa.Scalar | None = None  # rows before it are passed on at once
        self._kept: list[pa.RecordBatch] = []
        self._size = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows; older ones come out at once, perhaps together with some that were kept."""
        if self._floor is not None:
            batch = self._divide(batch, self._floor)
        if batch.num_rows == 0:
            return
        self._kept.append(batch)
        self._size += batch.nbytes
        if self._size > self._limit:
            self._shrink()

    def drain(self) -> list[pa.RecordBatch]:
        """The rows that are still here; the buffer is empty afterwards."""
        kept, self._kept, self._size = self._kept, [], 0
        return kept

    def _shrink(self) -> None:
        kept = pa.Table.from_batches(self.drain()).combine_chunks().to_batches()
        for batch in kept:
            column = batch.column(self._cursor)
            middle = column[pc.sort_indices(values.storage(column))[len(column) // 2].as_py()]
            self._floor = middle if middle.is_valid else edges(column).high  # NULLs sort last
            newer = batch if self._floor is None else self._divide(batch, self._floor)
            if newer.nbytes > self._limit // 2:  # ties: they all stay together, in their files
                self._pass(newer)
                continue
            self._kept.append(newer)
            self._size += newer.nbytes

    def _divide(self, batch: pa.RecordBatch, floor: pa.Scalar) -> pa.RecordBatch:
        """Pass the rows before the floor on, and give back the others; rows without a cursor stay."""
        newer = pc.fill_null(at_or_after(batch.column(self._cursor), floor), True)
        older = batch.filter(pc.invert(newer))
        if older.num_rows:
            self._pass(older)
        return batch.filter(newer)
