"""When a read began, by its API's own clock: from then on records may change after their page was read.

Pages are read one after another. One record changes after its page was read, another before its page is: the
greatest cursor is then later than a change that was not seen. So no tail begins later than the read did.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.http._incremental.since import NUMBERS, TICKS
from atlas_etl.connectors.http._network.rate_limits import seconds_ahead
from atlas_etl.model import CursorKind, CursorValue

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SKEW = timedelta(minutes=1)  # between an API's clock and the one that its records get their times from
_MOST_BEHIND = timedelta(days=1)  # a clock further behind is none, and would have everything read again
_WEST = timedelta(hours=12)  # no zone is further from UTC (https://www.iana.org/time-zones)


class ReadTime:
    """When one read began. May be used by several threads."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._began = now()
        self._behind: timedelta | None = None  # the API's clock, once an answer told it

    def hear(self, headers: Mapping[str, str]) -> None:
        """Take note of an answer's clock; the first one counts, as a recording has it."""
        if self._behind is None:
            ahead = timedelta(seconds=seconds_ahead(headers, self._now()))
            self._behind = min(max(ahead, timedelta()), _MOST_BEHIND)

    def may_change_from(self, high: CursorValue, *, form: str, timezone: str | None) -> CursorValue:
        """The cursor, or an earlier one from which on records may have changed after they were read.

        `form` is how the API writes the cursor, `timezone` where its times without a zone are.
        """
        began = self._began - (self._behind or timedelta()) - _SKEW
        if high.kind is CursorKind.TIMESTAMP and timezone is None:
            earliest = replace(high, text=(began - _WEST).replace(tzinfo=None).isoformat())
            took = self._now() - self._began
            return high if values.comes_before(high, earliest) else values.earlier(high, took)
        bound = _as_cursor(high.kind, began, form, timezone)
        return bound if bound is not None and values.comes_before(bound, high) else high


def _as_cursor(kind: CursorKind, at: datetime, form: str, timezone: str | None) -> CursorValue | None:
    """An instant as a cursor of this kind, rounded down; None: nothing tells how."""
    if kind in NUMBERS:
        return CursorValue(kind, str(math.floor((at - _EPOCH) / TICKS[form]))) if form in TICKS else None
    if kind is CursorKind.TIMESTAMPTZ:
        cell = pa.scalar(at, pa.timestamp("us", "UTC"))
    elif kind is CursorKind.TIMESTAMP:
        cell = pa.scalar(at.astimezone(ZoneInfo(timezone or "UTC")).replace(tzinfo=None), pa.timestamp("us"))
    elif kind is CursorKind.DATE:
        local = at.astimezone(ZoneInfo(timezone)) if timezone is not None else at - _WEST
        cell = pa.scalar(local.date(), pa.date32())
    else:
        return None
    return values.cursor_value(cell, stream="", column="")
