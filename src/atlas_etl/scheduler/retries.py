"""When a run that failed is run again, pure: exponential, capped, jittered, and only where it may help."""

from __future__ import annotations

from datetime import datetime, timedelta
from hashlib import sha256

from msgspec import Struct

from atlas_etl.model import Slot

_JITTER = 0.25  # of the wait, so that what failed together does not come again together


class RetryRule(Struct, frozen=True):
    """How often a slot is tried again, and how long is waited in between."""

    retries: int
    first_wait: timedelta
    longest_wait: timedelta


def retry_at(slot: Slot, rule: RetryRule, now: datetime) -> datetime | None:
    """When a failed slot is tried again; None: its error will not pass, or it was tried often enough."""
    if slot.error is None or not slot.error.retryable or slot.attempts > rule.retries:
        return None
    doublings = min(max(slot.attempts, 1) - 1, 32)
    wait: timedelta = min(rule.first_wait * 2**doublings, rule.longest_wait)
    return now + wait + wait * (_JITTER * _share(slot))


def _share(slot: Slot) -> float:
    told = f"{slot.connector} {slot.scheduled_at.isoformat()} {slot.attempts}"
    return int.from_bytes(sha256(told.encode()).digest()[:8]) / 2**64
