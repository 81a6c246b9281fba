"""Instants as command lines write them."""

from __future__ import annotations

from datetime import UTC, datetime

from atlas_etl.config.fields import parse_duration
from atlas_etl.errors import UsageError


def instant(text: str, option: str) -> datetime:
    """An ISO 8601 time, in UTC where it names no offset. Raises UsageError."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option}: {text!r} is no time", hint="write it as in 2026-03-01T06:00:00Z"
        ) from None


def instant_or_ago(text: str, option: str, now: datetime) -> datetime:
    """An ISO 8601 time, or so long ago as a length of time says (7d). Raises UsageError."""
    try:
        return now - parse_duration(text)
    except (ValueError, OverflowError):
        return instant(text, option)
