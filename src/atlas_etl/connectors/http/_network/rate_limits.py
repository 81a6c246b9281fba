"""What an answer's headers say of time: how long to wait for the API's limits, and how its clock goes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LEFT = ("x-ratelimit-remaining", "x-rate-limit-remaining", "ratelimit-remaining")
_MOST = ("x-ratelimit-limit", "x-rate-limit-limit", "ratelimit-limit")
_RESET = ("x-ratelimit-reset", "x-rate-limit-reset", "ratelimit-reset")
_COUNT = re.compile(r"\d{1,18}")
_MEMBER = re.compile(r"\b(\w+)\s*=\s*(\d{1,18})\b")


def seconds(text: str) -> float | None:
    """A time to wait: seconds, an instant since the epoch, or a date (RFC 9110, section 10.2.3; ISO 8601)."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        at = _instant(text)
        return max(0.0, at.timestamp() - time.time()) if at is not None else None
    if number > 1_000_000_000_000:
        number /= 1000
    return max(0.0, number - time.time() if number > 1_000_000_000 else number)


def _instant(text: str) -> datetime | None:
    """A date in UTC, unless it says another zone."""
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            found = parse(text)
        except (ValueError, TypeError, OverflowError):
            continue
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return None


def seconds_ahead(headers: Mapping[str, str], now: datetime) -> float:
    """By how much our clock is ahead of the server's, as its header Date tells; 0: it does not tell."""
    told = _instant(headers.get("date", ""))
    return (now - told).total_seconds() if told is not None else 0.0


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds that a failure's answer asks to wait; None where it says nothing of it."""
    wait = seconds(headers.get("retry-after", ""))
    return wait if wait is not None else wait_for_more(headers)


def wait_for_more(headers: Mapping[str, str]) -> float | None:
    """The seconds until a limit of which nothing is left begins anew; None where something is left."""
    return max((wait for left, wait in limits(headers) if left == 0), default=None)


def limit_of(headers: Mapping[str, str]) -> int | None:
    """How many requests the limit allows in all, where one header says it."""
    most = next((headers[name].strip() for name in _MOST if name in headers), "")
    return int(most) if _COUNT.fullmatch(most) else None


def limits(headers: Mapping[str, str]) -> Iterator[tuple[int, float]]:
    """What is left of each limit, and the seconds until it begins anew.

    `RateLimit` is a list of limits, `"hour";r=0;t=30`, and was one in several members before, `remaining=0,
    reset=30`: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/.
    """
    left = next((headers[name].strip() for name in _LEFT if name in headers), "")
    begins_anew = (seconds(headers[name]) for name in _RESET if name in headers)
    reset = next((wait for wait in begins_anew if wait is not None), None)
    if _COUNT.fullmatch(left) and reset is not None:
        yield int(left), reset
    given = headers.get("ratelimit", "")
    for limit in [given] if "remaining" in given else given.split(","):
        found = dict(_MEMBER.findall(limit))
        remaining, begins = found.get("r", found.get("remaining")), found.get("t", found.get("reset"))
        if remaining is not None and begins is not None:
            yield int(remaining), float(begins)
