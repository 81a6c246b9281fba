"""What a scheduler does, told as frozen values: for its log, and for whoever watches it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from atlas_etl.model import Breaker, ConnectionTest, ConnectorHealth, RunError, Slot


class Started(Struct, frozen=True):
    """The definitions are read and the store is open; or they were read again (`reloaded`).

    `connectors` are scheduled, `tested` have their connections tested.
    """

    connectors: int
    tested: int
    next_due: datetime | None
    problems: tuple[str, ...] = ()
    reloaded: bool = False


class RunStarted(Struct, frozen=True):
    """A run's process was started."""

    slot: Slot
    late_seconds: float


class RunEnded(Struct, frozen=True):
    """A run's process ended; the slot says how, `completed`, `failed` or `skipped`."""

    slot: Slot
    seconds: float


class SlotSkipped(Struct, frozen=True):
    """A slot will not be run."""

    connector: str
    scheduled_at: datetime
    reason: str


class RetryPlanned(Struct, frozen=True):
    """A run failed and is tried again."""

    slot: Slot
    at: datetime


class SlotDied(Struct, frozen=True):
    """A run failed for good; `atlas schedule dead` lists it."""

    slot: Slot


class BreakerOpened(Struct, frozen=True):
    """A connector failed too often in a row; it rests until `breaker.probe_at`."""

    breaker: Breaker


class ConnectionTested(Struct, frozen=True):
    """A connector's connection was tested; `before` says how it was until then, None where nobody knew."""

    test: ConnectionTest
    before: ConnectorHealth | None

    @property
    def begins_to_fail(self) -> bool:
        return self.test.error is not None and (self.before is None or self.before.is_healthy)

    @property
    def ends_failing(self) -> bool:
        return self.test.error is None and self.before is not None and not self.before.is_healthy


class StoreFailed(Struct, frozen=True):
    """The state store, or a process, could not be had; the same is tried again in a moment.

    While the store is away, that is told once a minute.
    """

    error: RunError
    seconds: float = 0.0  # how long the store has been away


class StoreBack(Struct, frozen=True):
    """The state store answers again, after so many seconds."""

    seconds: float


class ClockChanged(Struct, frozen=True):
    """The wall clock was set back by so much; slots that ran before are not run again."""

    seconds: float


class StateMoved(Struct, frozen=True):
    """The project names another state store, or another way to it; this daemon stops for the next."""


class Stopping(Struct, frozen=True):
    """No run is begun any more; those that run have this long to end."""

    running: int
    grace_seconds: float


class Stopped(Struct, frozen=True):
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
    | StoreBack
    | ClockChanged
    | StateMoved
    | Stopping
    | Stopped
)
