"""How the schedule stands, read from the store and the definitions: for people, and for whoever measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from zoneinfo import ZoneInfo

from msgspec import Struct

from atlas_etl.config.schedule import parse_schedule
from atlas_etl.model import Breaker, ConnectorHealth, Daemon, Run, RunStatus, Slot, SlotStatus
from atlas_etl.scheduler.agenda import Agenda, Scheduled
from atlas_etl.scheduler.due import ON_TIME, pending, upcoming_slots
from atlas_etl.scheduler.stores import Stores

_MOST_RUNNING = 1000


class ComingSlot(Struct, frozen=True):
    """A slot that is still to come; `local_time` shows it as the connector's zone does."""

    connector: str
    scheduled_at: datetime
    local_time: datetime


class LateSlot(Struct, frozen=True):
    """A slot that should have begun, and nobody has begun it."""

    connector: str
    scheduled_at: datetime
    seconds: float


class Overview(Struct, frozen=True):
    """What is so at one moment."""

    at: datetime
    daemons: Sequence[Daemon]
    running: Sequence[Run]
    retries: Sequence[Slot]
    late: Sequence[LateSlot]
    breakers: Sequence[Breaker]
    dead: Sequence[Slot]
    coming: Sequence[ComingSlot]
    health: Sequence[ConnectorHealth]  # of connectors that are tested, and were before


def had_failed(stores: Stores, connector: str) -> bool:
    """Whether a connector, whose run just completed, failed for good since one completed before that."""
    dead = stores.schedule.dead(connector)
    if not dead:
        return False
    completed = stores.state.history(connector, limit=2, status=RunStatus.COMPLETED)
    before = completed[1].completed_at if len(completed) > 1 else None
    return before is None or any(slot.changed_at > before for slot in dead)


def coming_slots(agenda: Agenda, after: datetime, count: int) -> list[ComingSlot]:
    """The next slots of all connectors together, the first one first."""
    each = [_coming(scheduled, after, count) for scheduled in agenda.scheduled.values()]
    return list(islice(merge(*each, key=lambda slot: (slot.scheduled_at, slot.connector)), count))


def _coming(scheduled: Scheduled, after: datetime, count: int) -> Iterator[ComingSlot]:
    timing = scheduled.timing
    zone = ZoneInfo(timing.timezone)
    for slot in upcoming_slots(parse_schedule(timing.expression), timing.timezone, after, count):
        yield ComingSlot(timing.connector, slot, slot.astimezone(zone))


def overview(agenda: Agenda, stores: Stores, now: datetime, *, coming: int = 5) -> Overview:
    """How everything stands now. Raises StateError."""
    store = stores.schedule
    daemons = store.daemons()  # this also ends the runs whose process died
    slots = store.open_slots()
    return Overview(
        now,
        daemons,
        stores.state.history(limit=_MOST_RUNNING, status=RunStatus.RUNNING),
        [slot for slot in slots if slot.status is SlotStatus.FAILED],
        _late(agenda, stores, now),
        [breaker for _, breaker in sorted(store.breakers().items())],
        store.dead(),
        coming_slots(agenda, now, coming),
        [found for name, found in sorted(stores.health.health().items()) if name in agenda.tested],
    )


def _late(agenda: Agenda, stores: Stores, now: datetime) -> list[LateSlot]:
    decided = stores.schedule.decided()
    found = []
    for name, scheduled in agenda.scheduled.items():
        known, timing = decided.get(name), scheduled.timing
        if known is None or (known.expression, known.timezone) != (timing.expression, timing.timezone):
            continue
        waiting = pending(timing, max(known.until, now - max(timing.window, timedelta())))
        if waiting.upcoming is not None and waiting.upcoming + waiting.delay < now - ON_TIME:
            seconds = (now - waiting.upcoming).total_seconds()
            found.append(LateSlot(name, waiting.upcoming, seconds))
    return sorted(found, key=lambda late: late.scheduled_at)
