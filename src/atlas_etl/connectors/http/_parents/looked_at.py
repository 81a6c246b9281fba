"""How far the parents of a stream were looked at, where only those that changed are asked for their records.

Records may be rare, and parents many: by the records' own cursor alone, each sync would ask all parents again
that changed since the last record came.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.http._documents.records import Document
from atlas_etl.model import CursorKind, CursorValue

_INSTANT = pa.timestamp("us", "UTC")


class LookedAt:
    """Sees the parents of one read. Called by one thread, and asked by another once it is done."""

    def __init__(self, cursor: str) -> None:
        """`cursor` is the parents'."""
        self._cursor = cursor
        self._high: pa.Scalar | None = None
        self._is_told = True
        self.is_complete = False  # whether all parents were seen, and asked for their records

    def see(self, parents: list[msgspec.Raw]) -> None:
        """Take note of a page of parents, whose records were asked for."""
        cells = [Document(bytes(parent), "a record").column(self._cursor) for parent in parents]
        try:
            instants = pa.array(cells, pa.string()).cast(_INSTANT)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            self._is_told = False
            return
        self._is_told &= instants.null_count == 0
        self._high = pc.max(pa.chunked_array([instants, pa.array([self._high], _INSTANT)]))

    def until(self, kind: CursorKind) -> CursorValue | None:
        """The greatest of the parents' cursors, as one of this kind; None: nothing tells."""
        if not (self.is_complete and self._is_told) or kind is not CursorKind.TIMESTAMPTZ:
            return None
        high = self._high
        return values.cursor_value(high, stream="", column="") if high is not None and high.is_valid else None
