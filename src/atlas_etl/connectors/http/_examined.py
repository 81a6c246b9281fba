"""Looking closely at an API by what a test was answered: what is left to ask, its clock, its promise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from msgspec import Struct

from atlas_etl.connectors.examined import clock, no_key
from atlas_etl.connectors.http._network.rate_limits import limit_of, limits
from atlas_etl.connectors.http._outline import caveats
from atlas_etl.connectors.http._settings.pagination import Pagination
from atlas_etl.model import Finding, Severity, Stream

_RESOLUTION = timedelta(seconds=1)  # of the header Date


class Heard(Struct, frozen=True):
    """The last answer of the API itself, between two looks at our clock."""

    headers: Mapping[str, str]
    before: datetime
    after: datetime


def of_answers(heard: Heard | None) -> Iterator[Finding]:
    """What the last answer tells of the API itself."""
    if heard is None:
        yield Finding("quota", "source", Severity.NOTE, "nothing was asked of the API itself")
        return
    yield _quota(heard)
    yield _clock(heard)


def of_stream(
    stream: Stream, key: tuple[str, ...], pagination: Pagination, *, is_asked: bool
) -> Iterator[Finding]:
    """What a definition says of one list. `is_asked`: whether the API is told the checkpoint."""
    if key:
        message = f"{', '.join(key)}: an API's own word, which a merge relies on"
        yield Finding("primary_key", stream.name, Severity.OK, message, key=key)
    else:
        yield no_key(stream)
    if stream.cursor is not None:
        subject = f"{stream.name}.{stream.cursor}"
        if is_asked:
            message = "the API is asked for what is new"
            yield Finding("cursor_index", subject, Severity.OK, message)
        else:
            yield Finding(
                "cursor_index",
                subject,
                Severity.NOTE,
                "the API is not told how far the copy is: each sync fetches all pages, and leaves out here "
                "what is old",
                "incremental: {parameter: updated_since}    # of the resource, as the API names it",
            )
    told = "; ".join(caveats(pagination, has_key=bool(key), has_many_parents=False))
    yield Finding("promise", stream.name, Severity.NOTE, told)


def _quota(heard: Heard) -> Finding:
    """What is left of the API's limit."""
    left = sorted(limits(heard.headers))
    if not left:
        return Finding("quota", "source", Severity.NOTE, "its answers do not tell how many requests are left")
    remaining, seconds = left[0]
    most = limit_of(heard.headers)
    of = f" of {most:,}" if most else ""
    told = f"{remaining:,}{of} requests are left, and the limit begins anew in {seconds:,.0f} s"
    if remaining and (most is None or remaining * 10 >= most):
        return Finding("quota", "source", Severity.OK, told)
    return Finding(
        "quota",
        "source",
        Severity.WARNING,
        f"{told}: a sync waits for it, at most `longest_wait` at once",
        "requests_per_minute: 30    # in the connection, so that others keep their share",
    )


def _clock(heard: Heard) -> Finding:
    """By the header Date, where the answer has one."""
    try:
        told = parsedate_to_datetime(heard.headers.get("date", ""))
    except (ValueError, TypeError):
        return Finding("clock", "source", Severity.NOTE, "its answers do not tell the time")
    told = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
    return clock("source", told + _RESOLUTION / 2, heard.before - _RESOLUTION, heard.after + _RESOLUTION)
