"""The runs that one daemon began: beginning what waits, and settling what ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from atlas_etl.config.schedule import CatchUp
from atlas_etl.errors import StateError
from atlas_etl.model import RunError, SlotStatus
from atlas_etl.scheduler.agenda import Scheduled
from atlas_etl.scheduler.events import Event, RunStarted, SlotSkipped, StoreFailed
from atlas_etl.scheduler.ongoing import Ending, OngoingByConnector
from atlas_etl.scheduler.processes import Executor
from atlas_etl.scheduler.running import Running
from atlas_etl.scheduler.settling import settle
from atlas_etl.scheduler.slot_queue import SlotQueue
from atlas_etl.scheduler.stores import Stores

AGAIN_AFTER = timedelta(seconds=5)
"""How long a slot waits whose run could not be begun."""


class Runs:
    """Methods may raise StateError; the same is asked again then."""

    def __init__(self, stores: Stores, executor: Executor) -> None:
        self._store = stores.schedule
        self._executor = executor
        self._over: deque[Running] = deque()  # ended, and not settled yet
        self.ongoing: OngoingByConnector[Running] = OngoingByConnector()
        self.ended_early = 0

    @property
    def poll_seconds(self) -> float | None:
        """How often runs have to be asked whether they ended; None: there is none, or a signal tells."""
        return self._executor.poll_seconds if self.ongoing else None

    def is_idle(self) -> bool:
        return not (self.ongoing or self._over)

    def slots(self) -> Collection[tuple[str, datetime]]:
        """Of the runs that go on, and of those that are not settled."""
        return {(run.slot.connector, run.slot.scheduled_at) for run in (*self.ongoing, *self._over)}

    def enforce(self, ticks: float) -> None:
        """End what took too long, and take out what is over."""
        self.ongoing.enforce(ticks)
        self._over.extend(self.ongoing.ended())

    def begin(
        self, queue: SlotQueue, daemon: str, *, most: int, busy: Collection[str], now: datetime, ticks: float
    ) -> Iterator[Event]:
        """Begin what waits, up to so many; of connectors that are busy later."""
        while len(self.ongoing) < most:
            found = queue.take({*self.ongoing.names(), *busy})
            if found is None:
                return
            at, rules = found
            try:
                yield from self._begin(at, rules, daemon, now, ticks)
            except StateError:
                queue.put_back(rules.timing.connector, at)
                raise

    def _begin(
        self, at: datetime, rules: Scheduled, daemon: str, now: datetime, ticks: float
    ) -> Iterator[Event]:
        name = rules.timing.connector
        slot = self._store.claim(name, at, daemon=daemon, now=now, policy=rules.breaker)
        if slot is None:
            return
        if slot.status is SlotStatus.SKIPPED:
            yield SlotSkipped(name, at, slot.reason or "")
            return
        if rules.timing.catch_up is not CatchUp.ALL:
            self._store.supersede(name, at)
        try:
            execution = self._executor.start(slot)
        except OSError as failure:
            self._store.give_back(slot, now + AGAIN_AFTER)
            yield StoreFailed(RunError("process", f"no run can be begun: {failure.strerror}"))
            return
        deadline = None if rules.timeout is None else ticks + rules.timeout.total_seconds()
        self.ongoing.add(
            Running(
                connector=name, execution=execution, began=ticks, deadline=deadline, slot=slot, rules=rules
            )
        )
        yield RunStarted(slot, (now - at).total_seconds())

    def settle(self, now: datetime, ticks: float) -> Iterator[Event]:
        """Say what becomes of the slots whose run is over."""
        while self._over:
            run = self._over[0]
            yield from settle(self._store, run, now=now, seconds=ticks - run.began)
            self._over.popleft()
            self.ended_early += run.ending is Ending.SHUTDOWN
