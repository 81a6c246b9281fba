"""The daemon: a loop that decides what is due, begins runs and tests, settles what ended, and sleeps.

Nothing that has to be true depends on it: a slot is run once because a run takes its lease and its slot in
one transaction. So any number of daemons may share a state store, and each may be killed at any moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta

from atlas_etl.api.audit import notice_changes
from atlas_etl.api.state_location import state_location
from atlas_etl.config.project import Project
from atlas_etl.contracts import Lease
from atlas_etl.errors import ConfigError, StateError
from atlas_etl.model import RunError
from atlas_etl.scheduler.agenda import Agenda, changed_names, fingerprint, read_agenda
from atlas_etl.scheduler.clock import Clock, Wish
from atlas_etl.scheduler.connection_tests import ConnectionTests
from atlas_etl.scheduler.events import (
    ClockChanged,
    Event,
    Started,
    StateMoved,
    Stopped,
    Stopping,
    StoreBack,
    StoreFailed,
)
from atlas_etl.scheduler.notify import ServiceManager
from atlas_etl.scheduler.processes import Executor, Tester
from atlas_etl.scheduler.runs import Runs
from atlas_etl.scheduler.shutdown import Shutdown
from atlas_etl.scheduler.slot_queue import SlotQueue
from atlas_etl.scheduler.stores import Stores
from atlas_etl.scheduler.vitals import Vitals
from atlas_etl.state.outage import Outage

LOOK_AT_FILES = 10.0
"""Seconds between two looks at the files that say what is scheduled; no sleep is longer."""

SWEEP = 20.0
"""Seconds between two looks for what other daemons left behind, and for retries that others planned."""

AFTER_FAILURE = 5.0
"""Seconds until a store that failed is asked again."""

_SET_BACK = timedelta(minutes=1)  # less is a correction, which no schedule notices


class Daemon:
    """Runs and tests what a project's definitions say until it is asked to stop; `run` tells what it does."""

    def __init__(
        self,
        agenda: Agenda,
        environ: Mapping[str, str],
        stores: Stores,
        executor: Executor,
        clock: Clock,
        *,
        tester: Tester,
        jobs: int | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self._folder = agenda.project.folder
        self._environ = environ
        self._store = stores.schedule
        self._audit = stores.state.audit
        self._clock = clock
        self._jobs = jobs
        self._manager = manager or ServiceManager({})
        self._agenda = agenda
        self._queue = SlotQueue(stores)
        self._runs = Runs(stores, executor)
        self._tests = ConnectionTests(stores.health, tester)
        self._shutdown: Shutdown | None = None
        self._location = state_location(agenda.project)
        self.has_moved = False
        """Whether it ended because the project names another state store: a new daemon is to go on there."""
        self._outage = Outage()
        self._reload = False
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
            notice_changes(self._agenda.project, self._audit)
            self._keep(self._agenda)
            yield self._started(reloaded=False)
            self._manager.tell("READY=1", f"STATUS={len(self._queue)} connectors scheduled")
            while not self._done:
                yield from self._step(stack)
                self._manager.tell("WATCHDOG=1")
                if not self._done:
                    yield from self._wished(self._clock.sleep(self._pause()))
            yield Stopped(self._runs.ended_early)

    def _step(self, stack: ExitStack) -> Iterator[Event]:
        yield from self._look_at_clock()
        self._runs.enforce(self._ticks)
        self._tests.enforce(self._ticks)
        try:
            if self._ticks >= self._rested_until:
                yield from self._queue.noted(self._runs.settle(self._now, self._ticks))
                yield from self._tests.settle(self._ticks)
                if self._shutdown is None:
                    yield from self._go_on(stack)
                if (seconds := self._outage.over(self._ticks)) is not None:
                    yield StoreBack(seconds)
            self._is_ready = self._shutdown is None and self._ticks >= self._rested_until
        except StateError as failure:
            self._is_ready = False
            self._rested_until = self._ticks + AFTER_FAILURE
            if (seconds := self._outage.failed(self._ticks)) is not None:
                error = RunError(failure.code, failure.message, failure.hint, int(failure.exit_code))
                yield StoreFailed(error, seconds)
                yield from self._moved(self._agenda.project)
        if self._shutdown is not None:
            self._shutdown.enforce(self._ticks, (*self._runs.ongoing, *self._tests.ongoing))
            is_idle = self._runs.is_idle() and self._tests.is_idle()
            self._done = is_idle or self._shutdown.gives_up(self._ticks, AFTER_FAILURE)

    def _look_at_clock(self) -> Iterator[Event]:
        self._ticks, before = self._clock.monotonic(), self._ticks
        self._now, earlier = self._clock.now(), self._now
        back = timedelta(seconds=self._ticks - before) - (self._now - earlier)
        if back > _SET_BACK:
            self._queue.turn_back(self._now)
            self._tests.turn_back(self._now)
            yield ClockChanged(back.total_seconds())

    def _go_on(self, stack: ExitStack) -> Iterator[Event]:
        """Everything that is done while nobody asked to stop."""
        if self._lease.lost():
            self._lease = stack.enter_context(self._store.enlisted())
        yield from self._reloaded()
        if self._shutdown is not None:
            return
        self._queue.decide(self._now, self._runs.ongoing.names())
        yield from self._queue.record_skips()
        if self._ticks >= self._sweep_at:
            yield from self._queue.sweep(self._now, self._runs.slots())
            self._sweep_at = self._ticks + SWEEP
        settings = self._agenda.settings
        yield from self._runs.begin(
            self._queue,
            self._lease.run.run_id,
            most=self._jobs or settings.jobs,
            busy=self._tests.ongoing.names(),
            now=self._now,
            ticks=self._ticks,
        )
        self._tests.decide(self._now)
        yield from self._tests.begin(
            most=settings.test_jobs,
            running=self._runs.ongoing.names(),
            now=self._now,
            ticks=self._ticks,
        )

    # What there is to run and to test

    def _reloaded(self) -> Iterator[Event]:
        changed = False
        if self._ticks >= self._files_at or self._queue.is_due(self._now):
            self._files_at = self._ticks + LOOK_AT_FILES
            changed = fingerprint(self._folder) != self._agenda.files
        if not (changed or self._reload):
            return
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={int(self._ticks * 1e6)}")
        agenda = read_agenda(self._folder, self._environ, self._agenda, all_again=self._reload)
        yield from self._moved(agenda.project)
        if self._shutdown is not None:
            return
        with suppress(ConfigError):
            notice_changes(agenda.project, self._audit, changed_names(self._agenda, agenda))
        self._keep(agenda)
        self._agenda, self._reload = agenda, False
        yield self._started(reloaded=True)
        self._manager.tell("READY=1", f"STATUS={len(self._queue)} connectors scheduled")

    def _keep(self, agenda: Agenda) -> None:
        self._queue.keep(agenda, self._now)
        self._tests.keep(agenda, self._now)

    def _started(self, *, reloaded: bool) -> Event:
        problems = tuple(_sentence(problem) for problem in self._agenda.problems)
        return Started(len(self._queue), len(self._tests), self._queue.first_due(), problems, reloaded)

    def _moved(self, project: Project) -> Iterator[Event]:
        """Stop where the state store is elsewhere now, or its password another: runs use what they read."""
        with suppress(ConfigError):
            if self._shutdown is None and state_location(project) != self._location:
                self.has_moved = True
                yield StateMoved()
                yield self._stop()

    # The end, and the time until something happens

    def _wished(self, wishes: Sequence[Wish]) -> Iterator[Event]:
        for wish in wishes:
            if wish is Wish.RELOAD:
                self._reload, self._sweep_at = True, 0.0
            elif self._shutdown is None:
                self._manager.tell("STOPPING=1")
                yield self._stop()
            elif self.has_moved:
                self.has_moved = False  # nothing is to go on
                self._manager.tell("STOPPING=1")
            else:
                self._shutdown.stop_at = self._clock.monotonic()

    def _stop(self) -> Event:
        grace = self._agenda.settings.shutdown_grace.total_seconds()
        self._queue.clear()
        self._tests.clear()
        self._shutdown = Shutdown(grace, self._clock.monotonic() + grace)
        return Stopping(len(self._runs.ongoing), grace)

    def _pause(self) -> float:
        """Seconds until something is to be done that no signal tells of."""
        ticks = self._clock.monotonic()
        times = [self._runs.ongoing.next_at(), self._tests.ongoing.next_at()]
        if self._shutdown is not None:
            times += [self._shutdown.next_at(ticks)]
        elif self._rested_until > ticks:
            times += [self._rested_until]
        else:
            due = [at for at in (self._queue.next_at(), self._tests.next_at()) if at is not None]
            until_due = [(at - self._clock.now()).total_seconds() for at in due]
            times += [self._sweep_at, self._files_at, *(ticks + seconds for seconds in until_due)]
        if self._runs.poll_seconds is not None:
            times += [ticks + self._runs.poll_seconds]
        if self._manager.watchdog_seconds is not None:
            times += [ticks + self._manager.watchdog_seconds / 2]
        return max(min(at for at in times if at is not None) - ticks, 0.0)


def _sentence(problem: ConfigError) -> str:
    where = f"{problem.connector}: " if problem.connector else ""
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{where}{problem.message}{hint}"
