"""When a connector runs next by its own schedule."""

from __future__ import annotations

from datetime import datetime

from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.schedule import parse_schedule
from atlas_etl.scheduler.due import next_slot


def upcoming(definition: ConnectorDefinition, timezone: str, now: datetime) -> datetime | None:
    """The next slot, in UTC; None without a schedule, or disabled. `timezone` is the project's."""
    if not definition.schedule or not definition.enabled:
        return None
    return next_slot(parse_schedule(definition.schedule), definition.timezone or timezone, now)
