"""A world for daemons in which time passes when they sleep, and runs end as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from atlas_etl.api.sync import PUT_OFF
from atlas_etl.contracts import StateStore
from atlas_etl.errors import LockedError, SourceError
from atlas_etl.model import RunStatus, Slot
from atlas_etl.scheduler.agenda import read_agenda
from atlas_etl.scheduler.clock import Wish
from atlas_etl.scheduler.daemon import Daemon
from atlas_etl.scheduler.events import Event
from atlas_etl.scheduler.stores import Stores
from atlas_etl.state import MemoryStateStore, SqlStateStore

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
NO_TESTS = {"ATLAS_SCHEDULE__TEST": "never"}
PASSING = SourceError("connection lost", retryable=True)
LASTING = SourceError("no such table")

Outcome = Callable[[Slot], Exception | None]
Finding = Callable[[str], tuple[int, bytes]]  # of a connector: its test's exit code and answer

SUCCESS = (
    0,
    b'{"results": [{"connection_status": "success", "code": null, "message": "there", "hint": null, '
    b'"server_version": "7", "warnings": []}]}',
)
FAILURE = (
    3,
    b'{"results": [{"connection_status": "failed", "code": "source", "message": "gone", "hint": "look", '
    b'"server_version": null, "warnings": []}]}',
)


@dataclass
class World:
    """The clock, the signals and the executor of one daemon; `at` has something happen in between."""

    folder: Path
    store: SqlStateStore = field(default_factory=MemoryStateStore)
    wall: datetime = NOON
    ticks: float = 1000.0
    takes: float = 5.0
    outcome: Outcome = lambda _slot: None
    poll_seconds: float | None = 1.0
    begun: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    most_at_once: int = 0
    going: int = 0
    signals: list[tuple[float, Wish]] = field(default_factory=list)
    happenings: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    sleeps: int = 0
    stubborn: bool = False
    puts_off: bool = False
    unsaid: list[int] = field(default_factory=list)  # exit codes of the first runs, which record no end
    kept: list[object] = field(default_factory=list)
    is_tested: bool = False
    finds: Finding = lambda _connector: SUCCESS
    test_takes: float = 1.0
    tested: list[tuple[str, datetime]] = field(default_factory=list)
    tests: list[FakeTest] = field(default_factory=list)
    most_tests: int = 0

    def define(self, name: str, schedule: str | None = "@hourly", **more: str) -> None:
        folder = self.folder / "connectors.d"
        folder.mkdir(exist_ok=True)
        lines = [f"{key}: {value}" for key, value in more.items()]
        when = f"schedule: '{schedule}'" if schedule else ""
        text = "\n".join(["protocol: sqlite", "streams: [t]", when, *lines])
        (folder / f"{name}.yaml").write_text(text)

    def settings(self, text: str) -> None:
        (self.folder / "atlas.yaml").write_text(f"schedule: {{{text}}}\n")

    def project(self, text: str) -> None:
        (self.folder / "atlas.yaml").write_text(f"{text}\n")

    def at(self, hours: float, happening: Callable[[], None]) -> None:
        self.happenings.append((1000.0 + hours * 3600, happening))

    def daemon(self, **more: object) -> Daemon:
        environ = {} if self.is_tested else NO_TESTS
        return Daemon(
            read_agenda(self.folder, environ),
            environ,
            self.stores,
            self,
            self,
            tester=self,
            **more,  # type: ignore[arg-type]
        )

    @property
    def stores(self) -> Stores:
        return Stores(self.store, self.store.schedule, self.store.health)

    def run(self, hours: float, **more: object) -> list[Event]:
        """What a daemon does in so many hours, and until it stopped."""
        self.signals.append((self.ticks + hours * 3600, Wish.STOP))
        return list(self.daemon(**more).run())

    # The clock

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.ticks

    def sleep(self, seconds: float) -> Sequence[Wish]:
        self.sleeps += 1
        assert self.sleeps < 500_000, "the daemon does not sleep"
        until = self.ticks + max(seconds, 1e-3)
        ends = [(test.ends, test) for test in self.tests if test.code is None]
        coming = [at for at, _ in (*self.signals, *self.happenings, *ends) if at > self.ticks]
        until = min([until, *coming])
        self.wall += timedelta(seconds=until - self.ticks)
        self.ticks = until
        for happening in [each for each in self.happenings if each[0] <= until]:
            self.happenings.remove(happening)
            happening[1]()
        due = [signal for signal in self.signals if signal[0] <= until]
        self.signals = [signal for signal in self.signals if signal not in due]
        return [wish for _, wish in due]

    # The executor

    def start(self, slot: Slot) -> FakeRun:
        self.begun.append((slot.connector, slot.scheduled_at, self.wall))
        self.going += 1
        self.most_at_once = max(self.most_at_once, self.going)
        return FakeRun(self, slot, self.ticks + self.takes)

    def start_test(self, connector: str, limit: float) -> FakeTest:
        assert limit > 10
        assert connector not in [test.connector for test in self.tests if test.code is None]
        self.tested.append((connector, self.wall))
        self.tests.append(FakeTest(self, connector, self.ticks + self.test_takes))
        self.most_tests = max(self.most_tests, sum(test.code is None for test in self.tests))
        return self.tests[-1]

    def slots(self) -> list[tuple[str, datetime]]:
        return [(name, at) for name, at, _ in self.begun]


@dataclass
class FakeRun:
    """Takes its lease and slot at the end only, which is when a fake has something to record."""

    world: World
    slot: Slot
    ends: float
    signal: int = 0
    code: int | None = None

    def poll(self) -> int | None:
        if self.code is None and (self.signal or self.world.ticks >= self.ends):
            self.code = -self.signal if self.signal == 9 else self._record()
            self.world.going -= 1
        return self.code

    def _record(self) -> int:
        state: StateStore = self.world.store
        name, at = self.slot.connector, self.slot.scheduled_at
        error = self.world.outcome(self.slot)
        if self.world.unsaid:
            lease = state.lease(name, triggered_by="scheduled", destination=None, scheduled_at=at)
            lease.__enter__()
            self.world.kept.append(lease)
            return self.world.unsaid.pop(0)
        try:
            with state.lease(name, triggered_by="scheduled", destination=None, scheduled_at=at) as lease:
                if self.signal:
                    return 130
                if error is not None:
                    raise error
                state.finish(replace(lease.run, status=RunStatus.COMPLETED, completed_at=datetime.now(UTC)))
        except LockedError as locked:
            until = self.world.wall + PUT_OFF if self.world.puts_off else None
            state.record_skipped(
                name,
                triggered_by="scheduled",
                reason=locked.message,
                scheduled_at=at,
                put_off_until=until,
            )
            return 6
        except SourceError:
            return 3
        return 0

    def interrupt(self) -> None:
        if not self.world.stubborn:
            self.signal = self.signal or 15

    def kill(self) -> None:
        self.signal = self.signal or 9


@dataclass
class FakeTest:
    world: World
    connector: str
    ends: float
    signal: int = 0
    code: int | None = None

    def poll(self) -> int | None:
        if self.signal or self.world.ticks >= self.ends:
            self.code = -self.signal if self.signal else self.world.finds(self.connector)[0]
        return self.code

    def answer(self) -> bytes:
        return b"" if self.signal else self.world.finds(self.connector)[1]

    def interrupt(self) -> None:
        if not self.world.stubborn:
            self.signal, self.ends = self.signal or 15, self.world.ticks + 0.1

    def kill(self) -> None:
        self.signal = self.signal or 9


def of_kind(events: Sequence[Event], kind: type) -> Iterator[Event]:
    return (event for event in events if isinstance(event, kind))
