"""A schedule with a slot that is due, and no further one while a test lasts: a test may outlast any hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def just_due() -> tuple[str, datetime]:
    """A cron expression in UTC and its last slot, of this minute; there are slots 1, 2 and 3 hours before."""
    slot = datetime.now(UTC).replace(second=0, microsecond=0)
    hours = sorted((slot - timedelta(hours=number)).hour for number in range(4))
    return f"{slot.minute} {','.join(map(str, hours))} * * *", slot
