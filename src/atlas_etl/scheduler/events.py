"""What a scheduler does, told as frozen values: for its log, and for whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from atlas_etl.model import Breaker, RunError, Slot


@dataclass(frozen=True, slots=True)
class Started:
    """The definitions are read and the store is open; or they were read again (`reloaded`)."""

    connectors: int
    next_due: datetime | None
    problems: tuple[str, ...] = ()
    reloaded: bool = False


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run's process was started."""

    slot: Slot
    late_seconds: float


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run's process ended; the slot says how, `completed`, `failed` or `skipped`."""

    slot: Slot
    seconds: float


@dataclass(frozen=True, slots=True)
class SlotSkipped:
    """A slot will not be run."""

    connector: str
    scheduled_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class RetryPlanned:
    """A run failed and is tried again."""

    slot: Slot
    at: datetime


@dataclass(frozen=True, slots=True)
class SlotDied:
    """A run failed for good; `atlas schedule dead` lists it."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class BreakerOpened:
    """A connector failed too often in a row; it rests until `breaker.probe_at`."""

    breaker: Breaker


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The state store, or a process, could not be had; the same is tried again in a moment."""

    error: RunError


@dataclass(frozen=True, slots=True)
class ClockChanged:
    """The wall clock was set back by so much; slots that ran before are not run again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """No run is begun any more; those that run have this long to end."""

    running: int
    grace_seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """The scheduler ends; so many runs were ended before they were done, and are tried again."""

    ended: int


Event = (
    Started
    | RunStarted
    | RunEnded
    | SlotSkipped
    | RetryPlanned
    | SlotDied
    | BreakerOpened
    | StoreFailed
    | ClockChanged
    | Stopping
    | Stopped
)
