"""What is new, a window of time after another: each asked for by itself, and no row of two of them.

Windows share their ends and are half-open: a row at an end is of the later one. Whatever an API makes of the
bounds that it is sent, each request asks for at least its window, and what is outside of it is left out here.
Where nothing tells the zone of what is sent, a day more is asked for on both sides. The last window is sent
with its end now, and has whatever the API gives after that.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import pairwise
from typing import TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from atlas_etl.connectors.clocks_back import earliest
from atlas_etl.connectors.http._documents.records import Document, Scalar
from atlas_etl.connectors.http._incremental.since import (
    NUMBERS,
    TICKS,
    UNCERTAIN,
    has_zone,
    instant_of,
    moment,
    sent,
    unit_of,
    written,
)
from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._settings.incremental import Incremental, Span
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import CursorKind, CursorValue

Keep: TypeAlias = Callable[[list[msgspec.Raw]], list[msgspec.Raw]]

_NAIVE = frozenset({CursorKind.DATE, CursorKind.TIMESTAMP})


class _Clock(Struct, frozen=True):
    """How the instants of one stream are written, and those of its records read."""

    kind: CursorKind  # that is sent
    zone: tzinfo | None  # of records without one; None: they are a contradiction
    is_certain: bool  # whether the API understands what it is sent as it is meant


class Windows:
    """The windows of one stream, from its checkpoint, or from `start`, until now."""

    def __init__(
        self, how: Incremental, cursor: str, bound: CursorValue | None, timezone: str | None, now: datetime
    ) -> None:
        """Raises ConfigError (`cursor_format`) for a cursor that is no time."""
        self._how = how
        self._cursor = cursor
        self._begin, self._clock = _beginning(how, bound, timezone)
        # A clock without a zone may be anywhere, and is then ahead of this one.
        self._end = now if self._clock.kind is CursorKind.TIMESTAMPTZ else now + UNCERTAIN

    def requests(self, first: Request) -> Iterator[tuple[Request, Keep]]:
        """For each window its request, and what of its records belongs to it."""
        edges = list(_edges(self._begin, self._end, self._how.window))
        for begin, end in pairwise(edges):
            yield self._asking(first, begin, end), self._kept(begin, end if end is not edges[-1] else None)

    def _asking(self, request: Request, begin: datetime, end: datetime) -> Request:
        how, pad = self._how, timedelta() if self._clock.is_certain else UNCERTAIN
        if how.parameter is not None:
            request = sent(request, how, how.parameter, written(how, self._value(begin - pad), None))
        if how.end_parameter is not None:
            up = how.model_copy(update={"boundary": "inclusive"})  # nothing is taken back from an end
            request = sent(
                request, how, how.end_parameter, written(up, self._value(_up(how, end + pad)), None)
            )
        return request

    def _value(self, instant: datetime) -> CursorValue:
        text = instant.replace(tzinfo=None).isoformat(timespec="microseconds")
        kind = self._clock.kind
        if kind is CursorKind.DATE:
            return CursorValue(kind, text[:10])
        return CursorValue(kind, f"{text}Z" if kind is CursorKind.TIMESTAMPTZ else text)

    def _kept(self, begin: datetime, end: datetime | None) -> Keep:
        is_first = begin is self._begin

        def kept(records: list[msgspec.Raw]) -> list[msgspec.Raw]:
            found: list[msgspec.Raw] = []
            for record in records:
                at = self._instant(Document(bytes(record), "a record").column(self._cursor))
                if is_first if at is None else begin <= at and (end is None or at < end):
                    found.append(record)
            return found

        return kept

    def _instant(self, cell: Scalar) -> datetime | None:
        """When a record is, down to the microsecond. Raises SourceError (`window_cursor`)."""
        ticks = TICKS.get(self._how.format)
        try:
            if cell is None:
                return None
            if isinstance(cell, int | float) and not isinstance(cell, bool) and ticks is not None:
                return instant_of(cell, ticks)
            found = datetime.fromisoformat(str(cell)) if isinstance(cell, str) else None
        except (ValueError, OverflowError):
            found = None
        if found is None:
            raise self._unfit("is no time, so that nothing tells its window", "ask without `window`")
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        if self._clock.zone is None:
            raise self._unfit("has no zone, and `start` has one", "write `start` without a zone")
        return found.replace(tzinfo=self._clock.zone).astimezone(UTC)

    def _unfit(self, why: str, hint: str) -> SourceError:
        return SourceError(f"a record's {self._cursor!r} {why}", hint=hint, code="window_cursor")


def _beginning(how: Incremental, bound: CursorValue | None, timezone: str | None) -> tuple[datetime, _Clock]:
    zone = ZoneInfo(timezone) if timezone is not None else None
    is_zoned = has_zone(how.format)
    if bound is None:
        start = how.start
        if start is None:
            raise AssertionError("windows have a start")  # pragma: no cover
        is_aware = start.tzinfo is not None
        begin = start if is_aware else start.replace(tzinfo=zone or UTC)
        reads = zone if is_aware else zone or UTC
        return begin.astimezone(UTC), _Clock(
            CursorKind.TIMESTAMPTZ, reads, is_aware and not zone and is_zoned
        )
    if bound.kind in NUMBERS and how.format in TICKS:
        begin = instant_of(Decimal(bound.text), TICKS[how.format])
        return begin, _Clock(CursorKind.TIMESTAMPTZ, UTC, True)
    if bound.kind is CursorKind.TIMESTAMPTZ:
        return moment(bound).replace(tzinfo=UTC), _Clock(bound.kind, zone or UTC, is_zoned)
    if bound.kind not in _NAIVE:
        raise ConfigError(
            f"the cursor is a {bound.kind}, and windows are of time",
            hint="leave `window` and `end_parameter` out, or choose another cursor",
            code="cursor_format",
        )
    if zone is not None and bound.kind is CursorKind.TIMESTAMP:
        begin = earliest(moment(bound), zone).astimezone(UTC)
        return begin, _Clock(CursorKind.TIMESTAMPTZ, zone, False)
    is_written_so = how.format not in TICKS
    kind = bound.kind if is_written_so else CursorKind.TIMESTAMPTZ
    return moment(bound).replace(tzinfo=UTC), _Clock(kind, UTC, is_written_so)


def _edges(begin: datetime, end: datetime, window: Span | None) -> Iterator[datetime]:
    """Where windows begin, and where the last of them ends; there is at least one."""
    yield begin
    number, last = 1, max(end, begin)
    while window is not None and (edge := _later(begin, window, number)) < last:
        yield edge
        number += 1
    yield last + timedelta(0)  # another object than `begin`


def _later(begin: datetime, window: Span, times: int) -> datetime:
    """So many windows later; a month after the 31st of January is the last day of February."""
    months = begin.month - 1 + times * window.months
    year, month = begin.year + months // 12, months % 12 + 1
    day = min(begin.day, monthrange(year, month)[1])
    return begin.replace(year=year, month=month, day=day) + times * window.length


def _up(how: Incremental, instant: datetime) -> datetime:
    """The instant, or the next one that the format can tell."""
    unit = unit_of(how.format)
    left = (instant - datetime.min.replace(tzinfo=UTC)) % unit
    return instant + (unit - left) if left else instant
