"""From which cursor on rows may still appear that a snapshot cannot see: their writers are not done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from atlas_etl.model import CursorKind, CursorValue

# No zone is further from UTC (https://www.iana.org/time-zones).
_WEST, _EAST = timedelta(hours=12), timedelta(hours=14)


@dataclass(frozen=True, slots=True)
class OpenWriters:
    """Those that may still commit rows that a snapshot cannot see."""

    began: datetime  # none of them began before this instant, and so wrote no earlier time
    clock: Callable[[], datetime]  # the system's own, when the snapshot had been taken, or later


def late_from(high: CursorValue, writers: OpenWriters, timezone: str | None) -> CursorValue | None:
    """The least cursor of rows that may still appear; None where no clock bounds it.

    `high` is the greatest cursor that was read and `timezone` the zone of times that have none. Where it is
    not known, writers that began so long ago wrote times that are no longer than that before `high`: all of
    them and `high` are of one zone, whose clock `high` does not pass.
    """
    if high.kind is CursorKind.TIMESTAMPTZ:
        return CursorValue(high.kind, f"{_iso(_naive(writers.began))}Z")
    if high.kind is CursorKind.TIMESTAMP:
        return CursorValue(high.kind, _iso(_local(high, writers, timezone)))
    if high.kind is CursorKind.DATE:
        zone = ZoneInfo(timezone) if timezone else UTC
        west = timedelta() if timezone else _WEST
        return CursorValue(high.kind, (writers.began - west).astimezone(zone).date().isoformat())
    return None


def _local(high: CursorValue, writers: OpenWriters, timezone: str | None) -> datetime:
    if timezone is not None:
        return writers.began.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)
    now, furthest = writers.clock(), _naive(writers.began) - _WEST
    greatest, age = datetime.fromisoformat(high.text[:26]), now - writers.began
    if greatest > _naive(now) + _EAST or greatest - furthest < age:
        return furthest
    return greatest - age


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
