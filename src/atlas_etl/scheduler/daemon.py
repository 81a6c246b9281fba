"""The daemon: a loop that decides what is due, starts runs, settles those that ended, and sleeps in between.

Nothing that has to be true depends on it: a slot is run once because a run takes its lease and its slot in
one transaction. So any number of daemons may share a state store, and each may be killed at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta

from atlas_etl.config.schedule import CatchUp
from atlas_etl.contracts import Lease
from atlas_etl.errors import ConfigError, StateError
from atlas_etl.model import DecidedSchedule, RunError, SlotStatus
from atlas_etl.scheduler.agenda import Agenda, Scheduled, fingerprint, read_agenda
from atlas_etl.scheduler.clock import Clock, Wish
from atlas_etl.scheduler.due import Due, Pending, decide, pending
from atlas_etl.scheduler.events import (
    ClockChanged,
    Event,
    RetryPlanned,
    RunStarted,
    SlotSkipped,
    Started,
    Stopped,
    Stopping,
    StoreFailed,
)
from atlas_etl.scheduler.notify import ServiceManager
from atlas_etl.scheduler.processes import Executor
from atlas_etl.scheduler.running import Ending, Running, RunningRuns
from atlas_etl.scheduler.settling import settle, settle_failed
from atlas_etl.scheduler.stores import Stores
from atlas_etl.scheduler.vitals import Vitals
from atlas_etl.scheduler.waiting import WaitingSlots

LOOK_AT_FILES = 10.0
"""Seconds between two looks at the files that say what is scheduled; no sleep is longer."""

SWEEP = 20.0
"""Seconds between two looks for what other daemons left behind, and for retries that others planned."""

AFTER_FAILURE = 5.0
"""Seconds until a store that failed is asked again."""

_SET_BACK = timedelta(minutes=1)  # less is a correction, which no schedule notices
_LAST_WORDS = 0.25  # of the grace, for runs that were asked to end


class Daemon:
    """Runs what a project's definitions schedule until it is asked to stop; `run` tells what it does."""

    def __init__(
        self,
        agenda: Agenda,
        environ: Mapping[str, str],
        stores: Stores,
        executor: Executor,
        clock: Clock,
        *,
        jobs: int | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self._folder = agenda.project.folder
        self._environ = environ
        self._state = stores.state
        self._store = stores.schedule
        self._executor = executor
        self._clock = clock
        self._jobs = jobs
        self._manager = manager or ServiceManager({})
        self._agenda = agenda
        self._pending: dict[str, Pending] = {}
        self._waiting = WaitingSlots()
        self._running = RunningRuns()
        self._over: deque[Running] = deque()  # ended, and not settled yet
        self._skips: deque[tuple[str, datetime, str]] = deque()  # decided, and not recorded yet
        self._retries: dict[tuple[str, datetime], datetime] = {}
        self._reload = False
        self._stop_at: float | None = None
        self._grace = 0.0
        self._ended_early = 0
        self._done = False
        self._is_ready = False
        self._now = clock.now()
        self._ticks = clock.monotonic()
        self._rested_until = self._sweep_at = 0.0
        self._files_at = self._ticks + LOOK_AT_FILES

    @property
    def agenda(self) -> Agenda:
        """What is scheduled now."""
        return self._agenda

    def vitals(self) -> Vitals:
        """How the loop is; any thread may ask."""
        return Vitals(self._clock.monotonic() - self._ticks, self._is_ready)

    def run(self) -> Iterator[Event]:
        """Everything until the end, as it happens. Raises StateError where the store is not there at all."""
        with ExitStack() as stack:
            self._lease: Lease = stack.enter_context(self._store.enlisted())
            self._schedule(self._agenda, first=True)
            yield self._started(reloaded=False)
            self._manager.tell("READY=1", f"STATUS={len(self._pending)} connectors scheduled")
            while not self._done:
                yield from self._step(stack)
                self._manager.tell("WATCHDOG=1")
                if not self._done:
                    yield from self._wished(self._clock.sleep(self._pause()))
            yield Stopped(self._ended_early)

    def _step(self, stack: ExitStack) -> Iterator[Event]:
        self._ticks, before = self._clock.monotonic(), self._ticks
        self._now, earlier = self._clock.now(), self._now
        back = timedelta(seconds=self._ticks - before) - (self._now - earlier)
        if back > _SET_BACK:
            self._pending = {name: pending(each.timing, self._now) for name, each in self._pending.items()}
            yield ClockChanged(back.total_seconds())
        self._running.enforce(self._ticks)
        self._over.extend(self._running.ended())
        try:
            if self._ticks >= self._rested_until:
                yield from self._settle_ended()
            if self._stop_at is None and self._ticks >= self._rested_until:
                if self._lease.lost():
                    self._lease = stack.enter_context(self._store.enlisted())
                yield from self._reloaded()
                self._decide()
                yield from self._record_skips()
                yield from self._sweep()
                yield from self._begin_runs()
            self._is_ready = self._stop_at is None and self._ticks >= self._rested_until
        except StateError as failure:
            self._is_ready = False
            self._rested_until = self._ticks + AFTER_FAILURE
            yield StoreFailed(RunError(failure.code, failure.message, failure.hint, int(failure.exit_code)))
        if self._stop_at is not None:
            self._end_for_stop(self._stop_at)

    # What there is to schedule

    def _reloaded(self) -> Iterator[Event]:
        changed = False
        if self._ticks >= self._files_at:
            self._files_at = self._ticks + LOOK_AT_FILES
            changed = fingerprint(self._folder) != self._agenda.files
        if not (changed or self._reload):
            return
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={int(self._ticks * 1e6)}")
        agenda = read_agenda(self._folder, self._environ, self._agenda, all_again=self._reload)
        self._schedule(agenda, first=False)
        self._agenda, self._reload = agenda, False
        yield self._started(reloaded=True)
        self._manager.tell("READY=1", f"STATUS={len(self._pending)} connectors scheduled")

    def _schedule(self, agenda: Agenda, *, first: bool) -> None:
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
            elif first and known is not None and (known.expression, known.timezone) == text:
                kept[name] = pending(timing, min(known.until, self._now))
            else:
                begun[name] = DecidedSchedule(*text, self._now)
                kept[name] = pending(timing, self._now)
        if begun:
            self._store.decide(begun)
        wrong = {problem.connector for problem in agenda.problems}
        if None not in wrong:  # atlas.yaml is right
            gone = set(decided) - set(kept) - wrong
            if gone:
                self._store.forget(gone)
        self._pending = kept
        self._waiting.keep(kept)
        self._retries = {slot: at for slot, at in self._retries.items() if slot[0] in kept}

    def _started(self, *, reloaded: bool) -> Event:
        due = [each.due_at for each in self._pending.values() if each.due_at is not None]
        problems = tuple(_sentence(problem) for problem in self._agenda.problems)
        return Started(len(self._pending), min(due, default=None), problems, reloaded)

    # What is due

    def _decide(self) -> None:
        due, left = decide(self._pending.values(), self._now)
        self._pending = {each.timing.connector: each for each in left}
        for each in due:
            self._queue(each)
        for (name, at), when in list(self._retries.items()):
            if when <= self._now:
                del self._retries[name, at]
                self._waiting.add(name, at)

    def _queue(self, due: Due) -> None:
        name = due.connector
        if due.missed is not None:
            self._skips.append((name, due.missed, "missed: no scheduler was there to run it"))
        for slot in due.slots:
            if self._rules(name).timing.catch_up is CatchUp.ALL:
                self._waiting.add(name, slot)
            elif name in self._running.names():
                self._skips.append((name, slot, "the run before it was not over"))
            else:
                for older in self._waiting.replace(name, slot):
                    self._skips.append((name, older, "no job was free before the next slot came"))

    def _record_skips(self) -> Iterator[Event]:
        while self._skips:
            name, at, reason = self._skips[0]
            if self._store.skip(name, at, reason=reason):
                self._state.record_skipped(name, triggered_by="scheduled", reason=reason, scheduled_at=at)
                yield SlotSkipped(name, at, reason)
            self._skips.popleft()

    def _sweep(self) -> Iterator[Event]:
        if self._ticks < self._sweep_at:
            return
        self._store.recover(self._now)
        self._retries.clear()
        settling = {(run.slot.connector, run.slot.scheduled_at) for run in (*self._running, *self._over)}
        for slot in self._store.open_slots():
            at = (slot.connector, slot.scheduled_at)
            if slot.connector not in self._agenda.scheduled or at in settling:
                continue
            if slot.retry_at is not None:
                self._retries[at] = slot.retry_at
            else:
                rules = self._rules(slot.connector)
                yield from self._noted(settle_failed(self._store, slot, rules, self._now))
        self._sweep_at = self._ticks + SWEEP

    # Runs

    def _begin_runs(self) -> Iterator[Event]:
        jobs = self._jobs or self._agenda.settings.jobs
        while len(self._running) < jobs:
            found = self._waiting.take(self._running.names())
            if found is None:
                return
            try:
                yield from self._begin(*found)
            except StateError:
                self._waiting.add(*found)
                raise

    def _begin(self, name: str, at: datetime) -> Iterator[Event]:
        rules, daemon = self._rules(name), self._lease.run.run_id
        slot = self._store.claim(name, at, daemon=daemon, now=self._now, policy=rules.breaker)
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
            self._store.give_back(slot, self._now + timedelta(seconds=AFTER_FAILURE))
            yield StoreFailed(RunError("process", f"no run can be begun: {failure.strerror}"))
            return
        timeout = None if rules.timeout is None else self._ticks + rules.timeout.total_seconds()
        self._running.add(Running(slot, rules, execution, self._ticks, timeout))
        yield RunStarted(slot, (self._now - at).total_seconds())

    def _settle_ended(self) -> Iterator[Event]:
        while self._over:
            run = self._over[0]
            yield from self._noted(settle(self._store, run, now=self._now, seconds=self._ticks - run.began))
            self._over.popleft()
            self._ended_early += run.ending is Ending.SHUTDOWN

    def _noted(self, events: Iterator[Event]) -> Iterator[Event]:
        """The same events; retries that were planned are looked for when their time has come."""
        for event in events:
            if isinstance(event, RetryPlanned):
                self._retries[event.slot.connector, event.slot.scheduled_at] = event.at
            yield event

    # The end, and the time until something happens

    def _wished(self, wishes: Sequence[Wish]) -> Iterator[Event]:
        for wish in wishes:
            if wish is Wish.RELOAD:
                self._reload, self._sweep_at = True, 0.0
            elif self._stop_at is None:
                grace = self._agenda.settings.shutdown_grace.total_seconds()
                self._manager.tell("STOPPING=1")
                self._waiting.clear()
                self._grace, self._stop_at = grace, self._clock.monotonic() + grace
                yield Stopping(len(self._running), grace)
            else:
                self._stop_at = self._clock.monotonic()

    def _end_for_stop(self, stop_at: float) -> None:
        """Ask runs to end while there is time left for their last words; then end them."""
        if self._ticks >= stop_at - self._grace * _LAST_WORDS:
            for run in self._running:
                if run.ending is None:
                    run.end(Ending.SHUTDOWN, self._ticks, max(stop_at - self._ticks, 0.0))
        if self._ticks >= stop_at:
            for run in self._running:
                run.execution.kill()
        given_up = self._ticks >= stop_at + AFTER_FAILURE
        self._done = given_up or not (self._running or self._over)

    def _pause(self) -> float:
        """Seconds until something is to be done that no signal tells of."""
        ticks, times = self._clock.monotonic(), [self._running.next_at()]
        if self._stop_at is not None:
            last_words = self._stop_at - self._grace * _LAST_WORDS
            times += [last_words if ticks < last_words else max(self._stop_at, ticks + 0.1)]
        elif self._rested_until > ticks:
            times += [self._rested_until]
        else:
            times += [self._sweep_at, self._files_at, self._next_due(ticks)]
        if self._running and self._executor.poll_seconds is not None:
            times += [ticks + self._executor.poll_seconds]
        if self._manager.watchdog_seconds is not None:
            times += [ticks + self._manager.watchdog_seconds / 2]
        return max(min(at for at in times if at is not None) - ticks, 0.0)

    def _next_due(self, ticks: float) -> float | None:
        due = [each.due_at for each in self._pending.values()]
        first = min((at for at in (*due, *self._retries.values()) if at is not None), default=None)
        return None if first is None else ticks + (first - self._clock.now()).total_seconds()

    def _rules(self, name: str) -> Scheduled:
        return self._agenda.scheduled[name]


def _sentence(problem: ConfigError) -> str:
    where = f"{problem.connector}: " if problem.connector else ""
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{where}{problem.message}{hint}"
