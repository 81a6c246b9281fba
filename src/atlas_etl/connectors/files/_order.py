"""Which rows are in a tail; of text, it is the set of its spellings: its source may order text otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.order import at_or_after, before
from atlas_etl.errors import SchemaChangeError
from atlas_etl.model import Checkpoint, CursorKind, CursorValue


class Share(Enum):
    """How many of a file's rows are in a tail."""

    NONE = "none"
    SOME = "some"
    ALL = "all"


class Tail:
    """The rows that a checkpoint calls provisional, in the type that their cursor column has here."""

    def __init__(self, checkpoint: Checkpoint, kind: pa.DataType, *, with_nulls: bool) -> None:
        """Raises SchemaChangeError where the checkpoint's values are none of the column's type."""
        self._nulls = with_nulls
        self._kind = kind
        self._spellings: Sequence[str] | None = None
        self._bound: pa.Scalar | None = None
        is_text = checkpoint.tail_from.kind is CursorKind.TEXT
        if is_text != bool(pa.types.is_string(kind)):
            raise SchemaChangeError(
                f"the committed cursor is a {checkpoint.tail_from.kind}, but its column is now "
                f"{values.type_name(kind)}",
                hint="run with --full-refresh to load the stream again from its beginning",
            )
        if is_text:
            self._spellings = sorted(checkpoint.tail_values)
        else:
            self._bound = values.cursor_scalar(checkpoint.tail_from, kind)

    def mask(self, column: pa.Array) -> pa.Array:
        """True for the rows in the tail."""
        if self._spellings is not None:
            found = pc.is_in(column, pa.array(self._spellings, pa.string()))
            return pc.if_else(pc.is_null(column), self._nulls, found)
        return pc.fill_null(at_or_after(column, self._bound), self._nulls)

    def share(self, low: str | None, high: str | None, nulls: int) -> Share:
        """What a file's edges tell; SOME where only its rows can."""
        inside, outside = self._values_inside(low, high)
        inside |= nulls > 0 and self._nulls
        outside |= nulls > 0 and not self._nulls
        if inside:
            return Share.SOME if outside else Share.ALL
        return Share.NONE

    def _values_inside(self, low: str | None, high: str | None) -> tuple[bool, bool]:
        """Whether there may be values inside the tail, and outside."""
        if low is None or high is None:
            return False, False
        if self._spellings is not None:
            if not any(low <= spelling <= high for spelling in self._spellings):
                return False, True
            return True, low != high
        least, greatest = (_parsed(text, self._kind) for text in (low, high))
        return not before(greatest, self._bound), before(least, self._bound)


def cursor_text(value: pa.Scalar | None) -> str | None:
    """An edge as a manifest keeps it."""
    return None if value is None else values.cursor_value(value, stream="", column="").text


def _parsed(text: str, kind: pa.DataType) -> pa.Scalar:
    return values.cursor_scalar(CursorValue(values.cursor_kind(kind, stream="", column=""), text), kind)
