"""Slots of a schedule, pure: a cron expression and a zone in, instants out."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterBadCronError, CroniterBadDateError, croniter

from atlas_etl.errors import ConfigError


def next_slot(schedule: str, timezone: str, after: datetime) -> datetime:
    """The first slot after this instant, in UTC. Raises ConfigError (`schedule`) where there is none."""
    try:
        slots = croniter(schedule, after.astimezone(ZoneInfo(timezone)))
        found: datetime = slots.get_next(datetime)
    except (CroniterBadCronError, CroniterBadDateError, ValueError) as wrong:
        raise ConfigError(
            f"the schedule {schedule!r} is no cron expression with a next date",
            hint='minute hour day month weekday, e.g. "0 * * * *" for every hour',
            code="schedule",
        ) from wrong
    return found.astimezone(UTC)
