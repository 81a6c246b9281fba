"""Asking an API for what is new only: the checkpoint as a parameter, header or member of the body.

A value that is sent is never later than the checkpoint: it is rounded down to what its format holds, and goes
back by one unit where the API leaves out records that are equal to it. What comes too early is left out here.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.http._connection import Incremental, Since
from atlas_etl.connectors.http._messages import Request
from atlas_etl.connectors.http._records import Document, parse_path
from atlas_etl.errors import ConfigError
from atlas_etl.model import CursorKind, CursorValue

_TIMES = frozenset({CursorKind.TIMESTAMPTZ, CursorKind.TIMESTAMP, CursorKind.DATE})
_SECONDS, _MILLISECONDS = "epoch", "epoch_ms"
_UNITS = {_MILLISECONDS: timedelta(milliseconds=1), "date": timedelta(days=1)}
_TYPES = {
    CursorKind.INTEGER: pa.int64(),
    CursorKind.DATE: pa.date32(),
    CursorKind.TIMESTAMP: pa.timestamp("ns"),
    CursorKind.TIMESTAMPTZ: pa.timestamp("ns", "UTC"),
}


def since(request: Request, how: Incremental, bound: CursorValue, timezone: str | None) -> Request:
    """The request for records from `bound` on. Raises ConfigError (`cursor_format`)."""
    if how.parameter is None:
        return request
    value = written(how, bound, timezone)
    if how.into == "header":
        return request.with_headers({how.parameter: str(value)})
    if how.into == "body":
        return request.with_body({how.parameter: value})
    return request.with_params({how.parameter: str(value)})


def written(how: Since, bound: CursorValue, timezone: str | None) -> str | int:
    """A cursor as the API wants it, at most as late. Raises ConfigError (`cursor_format`)."""
    exclusive = how.boundary == "exclusive"
    if bound.kind is CursorKind.INTEGER and how.format in ("plain", _SECONDS, _MILLISECONDS):
        return int(bound.text) - exclusive
    if bound.kind not in _TIMES:
        if how.format == "plain" and not exclusive:
            return bound.text
        raise _unfit(how, f"the cursor is a {bound.kind}")
    moment = _moment(bound)
    if exclusive:
        moment -= _UNITS.get(how.format, timedelta(seconds=1))
    if bound.kind is CursorKind.TIMESTAMP and timezone is not None:
        moment = moment.replace(tzinfo=ZoneInfo(timezone))
    elif bound.kind is CursorKind.TIMESTAMPTZ:
        moment = moment.replace(tzinfo=UTC)
    if how.format == "plain" and not exclusive:
        return bound.text
    if how.format == "date":
        return moment.date().isoformat()
    if how.format in (_SECONDS, _MILLISECONDS):
        if bound.kind is CursorKind.TIMESTAMP and timezone is None:
            raise _unfit(how, "the cursor's times have no zone: set `timezone` on the stream")
        instant = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        ticks = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        return ticks if how.format == _MILLISECONDS else ticks // 1000
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    if how.format in ("iso8601", "plain"):
        text = moment.replace(tzinfo=None).isoformat(
            timespec="microseconds" if moment.microsecond else "seconds"
        )
        return f"{text}Z" if moment.tzinfo is not None else text
    return moment.strftime(how.format)


class Newest:
    """Tells when records that come the newest first are older than all that is wanted."""

    def __init__(self, cursor: str, bound: CursorValue) -> None:
        self._path = parse_path(f"['{cursor}']")
        self._kind = _TYPES.get(bound.kind)
        self._bound = values.cursor_scalar(bound, self._kind) if self._kind is not None else None

    def is_past(self, records: list[msgspec.Raw]) -> bool:
        """Whether the last of these, and so whatever follows it, comes before the bound."""
        if not records or self._bound is None:
            return False
        last = Document(bytes(records[-1]), "a record").find(self._path)
        if last is None or isinstance(last, bool):
            return False
        try:
            cell = pa.array([str(last)]).cast(self._kind)
        except pa.ArrowInvalid:
            return False
        return bool(pc.less(cell, self._bound)[0].as_py())


def _moment(bound: CursorValue) -> datetime:
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
