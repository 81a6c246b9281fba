"""Local times that come twice: where rows may still appear once clocks are put back in autumn."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from atlas_etl import values
from atlas_etl.model import CursorKind, CursorValue

# By which clocks are put back at once: two hours in Antarctica/Troll, one hour at most in other zones that do
# so every year (https://www.iana.org/time-zones).
MOST = timedelta(hours=2)


def before_repeats(high: CursorValue, timezone: str | None, most: timedelta) -> CursorValue:
    """The cursor, or an earlier one: no row that appears later than one at `high` has a time before it.

    A time without a zone that clocks have twice may be the first of the two, and what comes an hour later has
    earlier ones. Where `timezone` is not known, every time may be such a one, by `most`.
    """
    if high.kind is not CursorKind.TIMESTAMP:
        return high
    if timezone is None:
        return values.earlier(high, most)
    at, zone = datetime.fromisoformat(high.text[:26]), ZoneInfo(timezone)
    back = _offset(at, zone, fold=0) - _offset(at, zone, fold=1)
    return values.earlier(high, back) if back > timedelta() else high


def earliest(at: datetime, zone: ZoneInfo) -> datetime:
    """The first instant that a local time may mean, of a time that clocks have twice, or skip."""
    folds = (at.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    return min(folds, key=lambda moment: moment.timestamp())


def _offset(at: datetime, zone: ZoneInfo, *, fold: int) -> timedelta:
    return at.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()
