"""The edges of the cursors that were read, where Arrow orders values as every source does."""

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
    """Sees every batch of a read and remembers the greatest value of one column, and the least."""

    def __init__(self, field: pa.Field, *, stream: str) -> None:
        self._field = field
        self._stream = stream
        self.is_comparable = values.cursor_kind(field.type, stream=stream, column=field.name) in _KINDS
        self._found: pa.Scalar | None = None
        self._least: pa.Scalar | None = None
        self._lost = False

    def see(self, batch: pa.RecordBatch, cells: Sequence[HazardCells]) -> None:
        """Take note of a batch and of its cells that became NULL."""
        if not self.is_comparable:
            return
        self._lost |= any(cell.column == self._field.name for cell in cells)
        edges = pc.min_max(values.storage(batch.column(self._field.name)))
        least, greatest = edges["min"], edges["max"]
        if greatest.is_valid:
            self._found = pc.max(pa.array([greatest, self._found], greatest.type))
            self._least = pc.min(pa.array([least, self._least], least.type))

    def value(self) -> CursorValue | None:
        """The greatest; None without rows, or where a cursor was lost to a hazard: no bound finds its row."""
        return None if self._found is None or self._lost else self._value(self._found)

    def least(self) -> CursorValue | None:
        """The least; None without rows."""
        return None if self._least is None else self._value(self._least)

    def _value(self, found: pa.Scalar) -> CursorValue:
        kind = self._field.type
        column = pa.array([found], found.type)
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.ExtensionArray.from_storage(kind, column)
        return values.cursor_value(column[0], stream=self._stream, column=self._field.name)
