"""The tests of connections: whose turn it is, beginning them, and telling what they found."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta

from msgspec.structs import replace

from atlas_etl.contracts import HealthStore
from atlas_etl.errors import StateError
from atlas_etl.model import RunError
from atlas_etl.scheduler.agenda import Agenda, Tested
from atlas_etl.scheduler.due import Pending, decide, pending
from atlas_etl.scheduler.events import ConnectionTested, Event, StoreFailed
from atlas_etl.scheduler.findings import finding
from atlas_etl.scheduler.ongoing import KILL_AFTER, Ending, Ongoing, OngoingByConnector
from atlas_etl.scheduler.processes import AnsweringExecution, Tester
from atlas_etl.scheduler.waiting import WaitingSlots

_TO_RECORD = timedelta(seconds=30)  # from the end of a test until its turn is given back


class RunningTest(Ongoing, kw_only=True):
    """A test that was begun here."""

    execution: AnsweringExecution
    slot: datetime
    tested_at: datetime
    timeout: timedelta


class ConnectionTests:
    """What one daemon tests; the store has the last word. Methods may raise StateError.

    Nothing is told of a slot that somebody else tests, or whose connector runs: its next one comes.
    """

    def __init__(self, store: HealthStore, tester: Tester) -> None:
        self._store = store
        self._tester = tester
        self._rules: Mapping[str, Tested] = {}
        self._pending: dict[str, Pending] = {}
        self._waiting = WaitingSlots()
        self._over: deque[RunningTest] = deque()  # ended, and not recorded yet
        self.ongoing: OngoingByConnector[RunningTest] = OngoingByConnector()

    def __len__(self) -> int:
        return len(self._pending)

    def is_idle(self) -> bool:
        return not (self.ongoing or self._over)

    def keep(self, agenda: Agenda, now: datetime) -> None:
        """Have these wait, from where they were tested; one that never was is due at once."""
        known = self._store.tested_slots()
        kept = {}
        for name, each in agenda.tested.items():
            before = self._pending.get(name)
            if before is not None and before.timing == each.timing:
                kept[name] = before
            else:
                kept[name] = pending(each.timing, min(known.get(name, now - each.timing.window), now))
        gone = agenda.gone_from(known, still=agenda.known)
        if gone:
            self._store.forget(gone)
        self._rules, self._pending = agenda.tested, kept
        self._waiting.keep(kept)

    def turn_back(self, now: datetime) -> None:
        """The clock was set back."""
        self._pending = {name: pending(each.timing, now) for name, each in self._pending.items()}

    def next_at(self) -> datetime | None:
        """When the next one is due."""
        return min((at for each in self._pending.values() if (at := each.due_at) is not None), default=None)

    def decide(self, now: datetime) -> None:
        """Queue what is due; a slot that still waits gives way to the next one."""
        due, left = decide(self._pending.values(), now)
        self._pending = {each.timing.connector: each for each in left}
        for each in due:
            for slot in each.slots:
                self._waiting.replace(each.connector, slot)

    def begin(self, *, most: int, running: Collection[str], now: datetime, ticks: float) -> Iterator[Event]:
        """Begin what waits, up to so many; of connectors that run later."""
        while len(self.ongoing) < most:
            found = self._waiting.take({*self.ongoing.names(), *running})
            if found is None:
                return
            try:
                yield from self._begin(*found, now, ticks)
            except StateError:
                self._waiting.add(*found)
                raise

    def _begin(self, name: str, slot: datetime, now: datetime, ticks: float) -> Iterator[Event]:
        timeout = self._rules[name].timeout
        longest = timeout + timedelta(seconds=KILL_AFTER)
        if not self._store.begin(name, slot, now=now, limit=longest + _TO_RECORD):
            return
        try:
            execution = self._tester.start_test(name, longest.total_seconds())
        except OSError as failure:
            self._store.give_back(name, slot)
            yield StoreFailed(RunError("process", f"no test can be begun: {failure.strerror}"))
            return
        self.ongoing.add(
            RunningTest(
                connector=name,
                execution=execution,
                began=ticks,
                deadline=ticks + timeout.total_seconds(),
                slot=slot,
                tested_at=now,
                timeout=timeout,
            )
        )

    def enforce(self, ticks: float) -> None:
        """End what took too long, and take out what is over."""
        self.ongoing.enforce(ticks)
        self._over.extend(self.ongoing.ended())

    def settle(self, ticks: float) -> Iterator[Event]:
        """Record what was found. A test that the end of the daemon cut short found nothing."""
        while self._over:
            over = self._over[0]
            if over.ending is Ending.SHUTDOWN:
                self._store.give_back(over.connector, over.slot)
            else:
                yield self._recorded(over, ticks)
            self._over.popleft()

    def _recorded(self, over: RunningTest, ticks: float) -> Event:
        timed_out = over.timeout if over.ending is Ending.TIMEOUT else None
        test = finding(over.connector, over.code, over.execution.answer(), timed_out=timed_out)
        test = replace(test, tested_at=over.tested_at, seconds=ticks - over.began)
        return ConnectionTested(test, self._store.finish(over.slot, test))

    def clear(self) -> None:
        """Nothing is tested any more."""
        self._waiting.clear()
