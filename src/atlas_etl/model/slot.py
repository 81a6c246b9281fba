"""What the schedule keeps: slots and what became of them, circuit breakers, the daemons that are alive."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from atlas_etl.model.run import RunError


class SlotStatus(StrEnum):
    """`claimed` by a daemon that is about to run it; `failed` may be tried again, `dead` only by a person."""

    CLAIMED = "claimed"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    DEAD = "dead"
    SKIPPED = "skipped"


class Slot(Struct, frozen=True):
    """One nominal instant of one connector's schedule. `attempts` counts the runs that began for it.

    `retry_at` is set where a failed one is tried again; without it nobody has decided yet.
    """

    connector: str
    scheduled_at: datetime
    status: SlotStatus
    attempts: int
    changed_at: datetime
    claimed_by: str | None = None  # a daemon
    run_id: str | None = None
    retry_at: datetime | None = None
    reason: str | None = None  # why it was skipped
    error: RunError | None = None


class DecidedSchedule(Struct, frozen=True):
    """How far one connector's schedule is decided: every slot up to `until` is. Another text begins anew."""

    expression: str
    timezone: str
    until: datetime


class BreakerState(StrEnum):
    """`half_open`: one run was let through, to see whether the connector works again."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker(Struct, frozen=True):
    """What failures in a row did to one connector. From `probe_at` on one run is let through."""

    connector: str
    failures: int
    state: BreakerState = BreakerState.CLOSED
    opened_at: datetime | None = None
    probe_at: datetime | None = None


class BreakerPolicy(Struct, frozen=True):
    """How many failures in a row open a breaker, and how long until one run may try."""

    failures: int = 5
    cooldown: timedelta = timedelta(minutes=15)


class Daemon(Struct, frozen=True):
    """A scheduler's process that is alive, as far as its heartbeat tells."""

    daemon_id: str
    host: str
    pid: int
    since: datetime
    heartbeat_at: datetime
