"""Asking an API for what is new only: the checkpoint as a parameter, header or member of the body.

A value that is sent is never later than the checkpoint: it is rounded down to what its format holds, goes
back by one unit where the API leaves out records that are equal to it, and by a day where nothing tells whose
clock the API compares with. What comes too early is left out here.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.clocks_back import earliest
from atlas_etl.connectors.http._documents.records import Document
from atlas_etl.connectors.http._filled import filled
from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._settings.incremental import Incremental, Since
from atlas_etl.errors import ConfigError
from atlas_etl.model import CursorKind, CursorValue

_TIMES = frozenset({CursorKind.TIMESTAMPTZ, CursorKind.TIMESTAMP, CursorKind.DATE})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS, _MILLISECONDS = "epoch", "epoch_ms"
TICKS = {_SECONDS: timedelta(seconds=1), _MILLISECONDS: timedelta(milliseconds=1)}
NUMBERS = frozenset({CursorKind.INTEGER, CursorKind.DECIMAL, CursorKind.FLOAT})
UNCERTAIN = timedelta(days=1)  # no zone is further from another (https://www.iana.org/time-zones)
_DIRECTIVES = (  # of a pattern, and what it cannot tell apart without them
    ("%f", timedelta(microseconds=1)),
    ("%S", timedelta(seconds=1)),
    ("%M", timedelta(minutes=1)),
    ("%H", timedelta(hours=1)),
)
_TYPES = {
    CursorKind.INTEGER: pa.int64(),
    CursorKind.DATE: pa.date32(),
    CursorKind.TIMESTAMP: pa.timestamp("ns"),
    CursorKind.TIMESTAMPTZ: pa.timestamp("ns", "UTC"),
}


def since(request: Request, how: Incremental, bound: CursorValue | None, timezone: str | None) -> Request:
    """The request for records from `bound` on; None: the first one. Raises ConfigError (`cursor_format`)."""
    if how.parameter is None:
        return request
    if bound is None:
        return request if how.initial is None else sent(request, how, how.parameter, how.initial)
    if bound.kind is CursorKind.TIMESTAMPTZ and not has_zone(how.format):
        bound = values.earlier(bound, UNCERTAIN)
    return sent(request, how, how.parameter, written(how, bound, timezone))


def sent(request: Request, how: Incremental, name: str, value: str | int) -> Request:
    """The request with a bound where the API looks for it."""
    if how.into == "template":
        return filled(request, {name: value})
    if how.into == "header":
        return request.with_headers({name: str(value)})
    if how.into == "body":
        return request.with_body({name: value})
    return request.with_params({name: str(value)})


def written(how: Since, bound: CursorValue, timezone: str | None) -> str | int:
    """A cursor as the API wants it, at most as late. Raises ConfigError (`cursor_format`)."""
    exclusive = how.boundary == "exclusive"
    is_whole = bound.kind is CursorKind.INTEGER and how.format == "plain"
    if is_whole or (bound.kind in NUMBERS and how.format in TICKS):
        return math.floor(Decimal(bound.text)) - exclusive
    if bound.kind not in _TIMES:
        if how.format == "plain" and not exclusive:
            return bound.text
        raise _unfit(how, f"the cursor is a {bound.kind}")
    at = moment(bound)
    if exclusive:
        at -= TICKS.get(how.format) or max(unit_of(how.format), timedelta(seconds=1))
    if bound.kind is CursorKind.TIMESTAMP and timezone is not None:
        at = earliest(at, ZoneInfo(timezone))
    elif bound.kind is CursorKind.TIMESTAMPTZ:
        at = at.replace(tzinfo=UTC)
    if how.format == "plain" and not exclusive:
        return bound.text
    if not has_zone(how.format):
        clocks = (at, at.astimezone(UTC)) if at.tzinfo is not None else (at,)
        at = min(clock.replace(tzinfo=None) for clock in clocks)
        return at.date().isoformat() if how.format == "date" else at.strftime(how.format)
    tells_instants = how.format in TICKS or "%z" in how.format
    if tells_instants and bound.kind is CursorKind.TIMESTAMP and timezone is None:
        raise _unfit(how, "the cursor's times have no zone: set `timezone` on the stream")
    if how.format in (_SECONDS, _MILLISECONDS):
        instant = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        ticks = (instant - _EPOCH) // timedelta(milliseconds=1)
        return ticks if how.format == _MILLISECONDS else ticks // 1000
    if at.tzinfo is not None:
        at = at.astimezone(UTC)
    if how.format in ("iso8601", "plain"):
        text = at.replace(tzinfo=None).isoformat(timespec="microseconds" if at.microsecond else "seconds")
        return f"{text}Z" if at.tzinfo is not None else text
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).strftime(how.format)


def has_zone(form: str) -> bool:
    """Whether an API understands an instant in this format as it is meant."""
    return form in ("iso8601", "plain", *TICKS) or "%z" in form


def unit_of(form: str) -> timedelta:
    """The shortest time that a format can tell."""
    if form in TICKS:
        return TICKS[form]
    if form in ("iso8601", "plain"):
        return timedelta(microseconds=1)
    return next((unit for directive, unit in _DIRECTIVES if directive in form), timedelta(days=1))


class Newest:
    """Tells when records that come the newest first are older than all that is wanted."""

    def __init__(self, cursor: str, bound: CursorValue) -> None:
        self._cursor = cursor
        self._kind = _TYPES.get(bound.kind)
        self._bound = values.cursor_scalar(bound, self._kind) if self._kind is not None else None

    def is_past(self, records: list[msgspec.Raw]) -> bool:
        """Whether the last of these, and so whatever follows it, comes before the bound."""
        if not records or self._bound is None:
            return False
        last = Document(bytes(records[-1]), "a record").column(self._cursor)
        if last is None or isinstance(last, bool):
            return False
        try:
            cell = pa.array([str(last)]).cast(self._kind)
        except pa.ArrowInvalid:
            return False
        return bool(pc.less(cell, self._bound)[0].as_py())


def instant_of(ticks: float | Decimal, unit: timedelta) -> datetime:
    """When so many units after 1970 are, rounded down to the microsecond. Raises OverflowError."""
    microseconds = Decimal(str(ticks)) * (unit // timedelta(microseconds=1))
    return _EPOCH + timedelta(microseconds=math.floor(microseconds))


def moment(bound: CursorValue) -> datetime:
    """The bound to the microsecond, rounded down."""
    text = bound.text.removesuffix("Z")
    if bound.kind is CursorKind.DATE:
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day)
    whole, _, fraction = text.partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6]:0<6}")


def _unfit(how: Since, why: str) -> ConfigError:
    return ConfigError(
        f"the checkpoint cannot be sent as {how.format}: {why}",
        hint="choose another `format` under the resource's `incremental`",
        code="cursor_format",
    )
