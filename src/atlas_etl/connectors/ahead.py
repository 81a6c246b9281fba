"""Cursors ahead of all rows to come: in the future, or without an end.

A time of the year 2999, an infinity or a NaN would hide, as the greatest cursor, every row that follows. So
no tail begins past the greatest cursor that the source's clock has reached; what is ahead of it is in the
tail and is read again by each sync.
"""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.model import CursorKind, CursorValue

# No zone is further from UTC (https://www.iana.org/time-zones).
_WEST, _EAST = timedelta(hours=12), timedelta(hours=14)
_EARLIER = timedelta(days=2)  # what any zone, and a column that keeps only days, may write from now on
_SKEW = timedelta(minutes=1)  # between clocks that are meant to agree
_TIMES = frozenset({CursorKind.TIMESTAMPTZ, CursorKind.TIMESTAMP, CursorKind.DATE})
_UNITS = {"years": timedelta(days=365), "days": timedelta(days=1), "hours": timedelta(hours=1)}


class Ahead:
    """Sees the cursors of a read, and tells where its tail begins if the greatest of them is ahead.

    Times without a zone are those of `timezone`. Where that is not known, days that have not begun in every
    zone are ahead, because it costs little to read one of them again, but only those times that have come in
    no zone. Whole numbers, decimals, texts and uuids never are: no clock tells.
    """

    def __init__(self, field: pa.Field, *, stream: str, now: datetime, timezone: str | None) -> None:
        self._name = field.name
        self._type = field.type
        self._kind = values.cursor_kind(field.type, stream=stream, column=field.name)
        self._greatest: pa.Scalar | None = None
        self._now: datetime | None = None
        self._latest: pa.Scalar | None = None  # what is past it is ahead
        if self._kind in _TIMES:
            is_instant = self._kind is CursorKind.TIMESTAMPTZ
            zone = UTC if is_instant or timezone is None else ZoneInfo(timezone)
            self._now = now.astimezone(zone).replace(tzinfo=None)
            self._certain = is_instant or timezone is not None
            latest = self._now
            if not self._certain:
                latest += -_WEST if self._kind is CursorKind.DATE else _EAST
            self._latest = self._cell(latest)

    def anew(self) -> Ahead:
        """The same for another read at the same time."""
        other = copy(self)
        other._greatest = None
        return other

    def see(self, column: pa.Array) -> None:
        """Take note of the cursors of a batch."""
        if self._latest is None and self._kind is not CursorKind.FLOAT:
            return
        known = pa.array([self._greatest], self._type)
        here = column.filter(pc.invert(self._ahead(column)))
        greatest = pc.max(pa.concat_arrays([here, known]))
        self._greatest = greatest if greatest.is_valid else None

    def tail_from(self, high: CursorValue, since: CursorValue | None) -> CursorValue | None:
        """Where the tail of a read from `since` on begins at the latest; None where `high` is not ahead."""
        if not self._is_ahead(high):
            return None
        if self._greatest is not None:
            return self._value(self._greatest)
        if since is not None and not self._is_ahead(since):
            return since
        if self._now is None:
            return CursorValue(self._kind, "-inf")
        return self._value(self._cell(self._now - _EARLIER))

    def warning(self, high: CursorValue) -> str | None:
        """What a person should correct; None where `high` is no further ahead than clocks differ."""
        if not self._is_ahead(high):
            return None
        far = "after which no row could come"
        if self._now is not None:
            ahead = datetime.fromisoformat(high.text.removesuffix("Z")[:26]) - self._now
            if ahead <= (_SKEW if self._certain else _EAST):
                return None
            far = f"{_span(ahead)} ahead of the source's clock"
        return (
            f"the cursor column {self._name!r} holds {high.text}, {far}; until that is corrected, "
            "every sync reads again from the greatest cursor before it"
        )

    def _is_ahead(self, value: CursorValue) -> bool:
        if self._latest is None and self._kind is not CursorKind.FLOAT:
            return False
        cell = values.cursor_scalar(value, self._type)
        return bool(self._ahead(pa.array([cell], self._type))[0].as_py())

    def _ahead(self, column: pa.Array) -> pa.Array:
        if self._latest is not None:
            return pc.greater(column, self._latest)
        return pc.invert(pc.is_finite(column))

    def _cell(self, moment: datetime) -> pa.Scalar:
        if self._kind is CursorKind.DATE:
            return pa.scalar(moment.date(), self._type)
        return pa.scalar(moment, pa.timestamp("us")).cast(self._type, safe=False)

    def _value(self, cell: pa.Scalar) -> CursorValue:
        return values.cursor_value(cell, stream="", column=self._name)


def _span(length: timedelta) -> str:
    """`973 years`, `3 days`; in the greatest unit of which there are two."""
    found = (f"{length // unit:,} {name}" for name, unit in _UNITS.items() if length >= 2 * unit)
    return next(found, f"{length // timedelta(minutes=1)} minutes")
