"""The slots of a schedule on their way to a run: those to come, those that wait for a job, and retries."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from datetime import datetime

from msgspec.structs import replace

from atlas_etl.config.schedule import CatchUp
from atlas_etl.model import DecidedSchedule, SlotStatus
from atlas_etl.scheduler.agenda import Agenda, Scheduled
from atlas_etl.scheduler.due import Due, Pending, decide, pending
from atlas_etl.scheduler.events import Event, RetryPlanned, SlotSkipped
from atlas_etl.scheduler.settling import settle_failed
from atlas_etl.scheduler.stores import Stores
from atlas_etl.scheduler.waiting import WaitingSlots


class SlotQueue:
    """What one daemon knows of the slots; the store has the last word. Methods may raise StateError.

    Whatever a store that failed left undone is done when the same is asked again.
    """

    def __init__(self, stores: Stores) -> None:
        self._state = stores.state
        self._store = stores.schedule
        self._rules: dict[str, Scheduled] = {}
        self._pending: dict[str, Pending] = {}
        self._waiting = WaitingSlots()
        self._skips: deque[tuple[str, datetime, str]] = deque()  # decided, and not recorded yet
        self._retries: dict[tuple[str, datetime], datetime] = {}
        self._held: Collection[str] = ()
        self._run_elsewhere: set[str] = set()  # as the last sweep found it
        self._turned_back_to: datetime | None = None  # and the store does not know it yet

    def __len__(self) -> int:
        return len(self._pending)

    def keep(self, agenda: Agenda, now: datetime) -> None:
        """Have these wait, from where they were decided; a schedule that is new begins now."""
        decided = self._store.decided()
        kept = {}
        begun: dict[str, DecidedSchedule] = {}
        for name, each in agenda.scheduled.items():
            timing, before = each.timing, self._pending.get(name)
            known = decided.get(name)
            text = (timing.expression, timing.timezone)
            if before is not None and (before.timing.expression, before.timing.timezone) == text:
                kept[name] = replace(before, timing=timing, delay=timing.delay)
            elif known is not None and (known.expression, known.timezone) == text:
                kept[name] = pending(timing, min(known.until, now))
                if known.until > now:  # the clock was set back since
                    begun[name] = DecidedSchedule(*text, now)
            else:
                begun[name] = DecidedSchedule(*text, now)
                kept[name] = pending(timing, now)
        if begun:
            self._store.decide(begun)
        gone = agenda.gone_from(decided, still=kept)
        if gone:
            self._store.forget(gone)
        self._rules, self._pending, self._held = dict(agenda.scheduled), kept, agenda.held
        self._waiting.keep(kept)
        self._retries = {slot: at for slot, at in self._retries.items() if slot[0] in kept}

    def turn_back(self, now: datetime) -> None:
        """The clock was set back: what lies between is decided again when its time comes.

        Slots that were run are known one by one, so none is run again.
        """
        self._pending = {name: pending(each.timing, now) for name, each in self._pending.items()}
        self._turned_back_to = now

    def first_due(self) -> datetime | None:
        """When the next slot is due for the first time."""
        return min((at for each in self._pending.values() if (at := each.due_at) is not None), default=None)

    def next_at(self) -> datetime | None:
        """When there is something to decide again."""
        times = (self.first_due(), *self._retries.values())
        return min((at for at in times if at is not None), default=None)

    def is_due(self, now: datetime) -> bool:
        """Whether there is something to decide."""
        at = self.next_at()
        return at is not None and at <= now

    def decide(self, now: datetime, running: Collection[str]) -> None:
        """Queue what is due; what comes while the run before it goes on is skipped."""
        if self._turned_back_to is not None:
            self._store.decide(
                {
                    name: DecidedSchedule(each.timing.expression, each.timing.timezone, self._turned_back_to)
                    for name, each in self._pending.items()
                }
            )
            self._turned_back_to = None
        due, left = decide(self._pending.values(), now)
        self._pending = {each.timing.connector: each for each in left}
        for each in due:
            self._queue(each, running)
        for (name, at), when in list(self._retries.items()):
            if when <= now:
                del self._retries[name, at]
                self._waiting.add(name, at)

    def _queue(self, due: Due, running: Collection[str]) -> None:
        name = due.connector
        if due.missed is not None:
            self._skips.append((name, due.missed, "missed: no scheduler was there to run it"))
        for slot in due.slots:
            if self._runs_all(name):
                self._waiting.add(name, slot)
            elif name in running:
                self._skips.append((name, slot, "the run before it was not over"))
            else:
                why = "its definition was wrong" if name in self._held else "no job was free"
                for older in self._waiting.replace(name, slot):
                    self._skips.append((name, older, f"{why} before the next slot came"))

    def record_skips(self) -> Iterator[Event]:
        """Tell the history of slots that are not run."""
        while self._skips:
            name, at, reason = self._skips[0]
            if self._store.skip(name, at, reason=reason):
                self._state.record_skipped(name, triggered_by="scheduled", reason=reason, scheduled_at=at)
                yield SlotSkipped(name, at, reason)
            self._skips.popleft()

    def sweep(self, now: datetime, settling: Collection[tuple[str, datetime]]) -> Iterator[Event]:
        """Find what others left behind or planned; `settling` are the slots that this daemon sees to."""
        self._store.recover(now)
        self._retries.clear()
        self._run_elsewhere.clear()
        for slot in self._store.open_slots():
            at = (slot.connector, slot.scheduled_at)
            rules = self._rules.get(slot.connector)
            if rules is None or at in settling:
                continue
            if slot.status is not SlotStatus.FAILED:
                self._run_elsewhere.add(slot.connector)
            elif slot.retry_at is not None:
                self._retries[at] = slot.retry_at
            else:
                yield from self.noted(settle_failed(self._store, slot, rules, now))

    def noted(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events; retries that were planned are looked for when their time has come."""
        for event in events:
            if isinstance(event, RetryPlanned):
                self._retries[event.slot.connector, event.slot.scheduled_at] = event.at
            yield event

    def take(self, busy: Collection[str]) -> tuple[datetime, Scheduled] | None:
        """The next slot to run, and its rules, of a connector that is neither busy nor held."""
        in_turn = {name for name in self._run_elsewhere if self._runs_all(name)}
        found = self._waiting.take({*busy, *in_turn, *self._held})
        return None if found is None else (found[1], self._rules[found[0]])

    def _runs_all(self, connector: str) -> bool:
        """Whether each of its slots is run, those that overlap one after another."""
        rules = self._rules.get(connector)
        return rules is not None and rules.timing.catch_up is CatchUp.ALL

    def put_back(self, connector: str, scheduled_at: datetime) -> None:
        """It could not be begun."""
        self._waiting.add(connector, scheduled_at)

    def clear(self) -> None:
        """Nothing is run any more."""
        self._waiting.clear()
