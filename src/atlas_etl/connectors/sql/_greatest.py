"""The greatest of the cursors that were read, where Arrow orders values as every source does."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.model import CursorKind, CursorValue, HazardCells

# Not text, which has a collation, and not doubles, whose NaN has a place in some orders and none in others.
_KINDS = frozenset({
    CursorKind.INTEGER, CursorKind.DECIMAL, CursorKind.DATE, CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ,
    CursorKind.UUID,
})  # fmt: skip


class Greatest:
    """Sees every batch of a read and remembers the greatest value of one column."""

    def __init__(self, field: pa.Field, *, stream: str) -> None:
        self._field = field
        self._stream = stream
        self.is_comparable = values.cursor_kind(field.type, stream=stream, column=field.name) in _KINDS
        self._found: pa.Scalar | None = None
        self._lost = False

    def see(self, batch: pa.RecordBatch, cells: Sequence[HazardCells]) -> None:
        """Take note of a batch and of its cells that became NULL."""
        if not self.is_comparable:
            return
        self._lost |= any(cell.column == self._field.name for cell in cells)
        greatest = pc.max(values.storage(batch.column(self._field.name)))
        if greatest.is_valid:
            self._found = pc.max(pa.array([greatest, self._found], greatest.type))

    def value(self) -> CursorValue | None:
        """The greatest; None without rows, or where a cursor was lost to a hazard: no bound finds its row."""
        found, kind = self._found, self._field.type
        if found is None or self._lost:
            return None
        column = pa.array([found], found.type)
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.ExtensionArray.from_storage(kind, column)
        return values.cursor_value(column[0], stream=self._stream, column=self._field.name)
