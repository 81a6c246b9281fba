"""What a scheduler does, told as frozen values: for its log, and for whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from atlas_etl.model import Breaker, ConnectionTest, ConnectorHealth, RunError, Slot


@dataclass(frozen=True, slots=True)
class Started:
    """The definitions are read and the store is open; or they were read again (`reloaded`).

    `connectors` are scheduled, `tested` have their connections tested.
    """

    connectors: int
    tested: int
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
class ConnectionTested:
    """A connector's connection was tested; `before` says how it was until then, None where nobody knew."""

    test: ConnectionTest
    before: ConnectorHealth | None

    @property
    def begins_to_fail(self) -> bool:
        return self.test.error is not None and (self.before is None or self.before.is_healthy)

    @property
    def ends_failing(self) -> bool:
        return self.test.error is None and self.before is not None and not self.before.is_healthy


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
    | ConnectionTested
    | StoreFailed
    | ClockChanged
    | Stopping
    | Stopped
)
