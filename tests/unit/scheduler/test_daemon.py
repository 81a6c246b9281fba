"""The daemon in a world where time passes when it sleeps; the store is a real one."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from atlas_etl.errors import ConfigError, StateError
from atlas_etl.model import (
    Breaker,
    BreakerState,
    DecidedSchedule,
    RunStatus,
    Slot,
    SlotStatus,
)
from atlas_etl.scheduler.agenda import read_agenda
from atlas_etl.scheduler.clock import Wish
from atlas_etl.scheduler.daemon import Daemon
from atlas_etl.scheduler.events import (
    BreakerOpened,
    ClockChanged,
    RetryPlanned,
    RunEnded,
    SlotDied,
    SlotSkipped,
    Started,
    StateMoved,
    Stopped,
    Stopping,
    StoreBack,
    StoreFailed,
)
from tests.unit.scheduler.world import LASTING, NO_TESTS, NOON, PASSING, World, of_kind

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def slot(world: World, at: datetime, name: str = "shop") -> Slot:
    found = world.store.schedule.slot(name, at)
    assert found is not None
    return found


def hours(*numbers: float) -> list[tuple[str, datetime]]:
    return [("shop", NOON + number * HOUR) for number in numbers]


class TestSlots:
    def test_hour_after_hour(self, world: World) -> None:
        world.define("shop")
        events = world.run(8.1)
        assert world.slots() == hours(*range(1, 9))
        assert all(began - at <= timedelta(seconds=1) for _, at, began in world.begun)
        assert Counter(run.status for run in world.store.history(limit=100)) == {RunStatus.COMPLETED: 8}
        assert len(list(of_kind(events, RunEnded))) == 8
        assert events[-1] == Stopped(0)
        assert world.sleeps < 8.1 * 3600 / 8  # it waits for what comes, and looks at files now and then

    def test_what_is_not_scheduled(self, world: World) -> None:
        world.define("shop")
        world.define("off", enabled="false")
        world.run(1.1)
        assert world.slots() == hours(1)

    def test_three_hours_down_give_one_run(self, world: World) -> None:
        world.define("shop")
        world.run(1.1)
        world.wall += 3.2 * HOUR
        world.run(0.1)
        assert world.slots() == hours(1, 4)
        world.run(1)
        assert world.slots() == hours(1, 4, 5)

    @pytest.mark.parametrize(("catch_up", "runs"), [("skip", (1, 5)), ("all", (1, 2, 3, 4, 5))])
    def test_missed_slots_as_the_definition_says(
        self, world: World, catch_up: str, runs: tuple[int, ...]
    ) -> None:
        world.define("shop", scheduling=f"{{catch_up: {catch_up}}}")
        world.run(1.1)
        world.wall += 3.2 * HOUR
        world.run(0.8)
        assert world.slots() == hours(*runs)
        if catch_up == "skip":
            missed = slot(world, NOON + 4 * HOUR)
            assert (missed.status, missed.reason) == (
                SlotStatus.SKIPPED,
                "missed: no scheduler was there to run it",
            )
            assert world.store.history(status=RunStatus.SKIPPED)[0].scheduled_at == NOON + 4 * HOUR

    def test_an_overlap_is_skipped_and_recorded(self, world: World) -> None:
        world.define("shop")
        world.takes = 1.5 * 3600
        events = world.run(4.9)
        assert world.slots() == hours(1, 3)
        skipped = [event for event in events if isinstance(event, SlotSkipped)]
        assert [(event.scheduled_at, event.reason) for event in skipped] == [
            (NOON + 2 * HOUR, "the run before it was not over"),
            (NOON + 4 * HOUR, "the run before it was not over"),
        ]
        recorded = world.store.history(status=RunStatus.SKIPPED)
        assert [run.scheduled_at for run in recorded] == [NOON + 4 * HOUR, NOON + 2 * HOUR]

    def test_a_manual_run_wins_and_the_slot_is_skipped_with_the_reason(self, world: World) -> None:
        world.define("shop")
        with world.store.lease("shop", triggered_by="manual", destination=None):
            events = world.run(1.1)
        assert slot(world, NOON + HOUR).status is SlotStatus.SKIPPED
        (skipped,) = of_kind(events, SlotSkipped)
        assert isinstance(skipped, SlotSkipped)
        assert "is being run by another process" in skipped.reason

    def test_where_every_slot_is_run_one_that_finds_a_manual_run_waits_for_it(self, world: World) -> None:
        world.define("shop", scheduling="{catch_up: all}")
        world.puts_off = True
        with ExitStack() as manual:
            manual.enter_context(world.store.lease("shop", triggered_by="manual", destination=None))
            world.at(1.1, manual.close)
            events = world.run(1.2)
        assert slot(world, NOON + HOUR).status is SlotStatus.COMPLETED
        assert list(of_kind(events, SlotSkipped)) == []

    def test_where_every_slot_is_run_none_begins_beside_another_daemon(self, world: World) -> None:
        world.define("shop", scheduling="{catch_up: all}")
        store = world.store
        with ExitStack() as elsewhere:
            lease = elsewhere.enter_context(
                store.lease("shop", triggered_by="scheduled", destination=None, scheduled_at=NOON)
            )

            def end() -> None:
                store.finish(replace(lease.run, status=RunStatus.COMPLETED))
                elsewhere.close()

            world.at(1.5, end)
            world.run(1.6)
        (begun,) = world.begun
        assert begun[:2] == ("shop", NOON + HOUR)
        assert begun[2] >= NOON + 1.5 * HOUR

    def test_at_most_so_many_runs_and_every_connector_gets_its_turn(self, world: World) -> None:
        world.settings("jobs: 3")
        for number in range(10):
            world.define(f"often{number}", "*/10 * * * *")
        world.define("shop", "30 12 * * *")
        world.takes = 100
        world.run(1.05)
        assert world.most_at_once == 3
        began = next(began for name, _, began in world.begun if name == "shop")
        assert began <= NOON + 40 * MINUTE
        world.run(1.05, jobs=1)

    def test_who_waited_too_long_makes_room_for_the_next_slot(self, world: World) -> None:
        world.settings("jobs: 1")
        world.define("long", "0 13 * * *")
        world.define("often", "*/10 * * * *")
        world.takes = 1800
        events = world.run(2)
        reasons = {event.reason for event in events if isinstance(event, SlotSkipped)}
        assert "no job was free before the next slot came" in reasons
        counts = Counter(world.slots())
        assert set(counts.values()) == {1}


class TestClocks:
    def test_set_back_two_hours_no_slot_is_doubled(self, world: World) -> None:
        world.define("shop")

        def back() -> None:
            world.wall -= 2 * HOUR

        world.at(3.5, back)
        events = world.run(7.6)
        assert world.slots() == hours(1, 2, 3, 4, 5)
        assert [event for event in events if isinstance(event, ClockChanged)] == [ClockChanged(7200.0)]

    def test_set_forward_a_day_there_is_no_storm(self, world: World) -> None:
        for number in range(5):
            world.define(f"c{number}", "*/5 * * * *")

        def forward() -> None:
            world.wall += timedelta(days=1)

        world.at(0.02, forward)
        world.run(0.07)
        assert len(world.begun) <= 10
        assert set(Counter(world.slots()).values()) == {1}

    def test_forward_and_back_again_runs_what_was_not_run(self, world: World) -> None:
        world.define("shop")

        def shift(hours: float) -> None:
            world.wall += hours * HOUR

        world.at(1.5, lambda: shift(24))
        world.at(1.9, lambda: shift(-24))
        world.run(4.1)
        assert world.slots() == hours(1, 25, 2, 3, 4)

    @pytest.mark.parametrize("is_there", [True, False])
    def test_what_is_missed_after_forward_and_back_is_caught_up(self, world: World, is_there: bool) -> None:
        world.define("shop")
        world.run(1.2)
        world.wall += 24 * HOUR
        world.run(0.2)
        if is_there:
            world.at(1.5, lambda: setattr(world, "wall", world.wall - 24 * HOUR))
            world.run(0.2)
        else:
            world.wall -= 24 * HOUR
            world.run(0.2)
        world.wall += 3 * HOUR
        world.run(0.1)
        assert world.slots() == hours(1, 25, 4)


class TestFailures:
    def test_what_may_pass_is_tried_again_later_and_later(self, world: World) -> None:
        world.define("shop")
        world.outcome = lambda slot: PASSING if slot.attempts < 3 else None
        events = world.run(1.9)
        assert world.slots() == hours(1, 1, 1, 1)
        began = [began for *_, began in world.begun]
        waits = [(later - earlier).total_seconds() for earlier, later in pairwise(began)]
        for wait, least in zip(waits, (60, 120, 240), strict=True):
            assert least <= wait <= least * 1.25 + 20
        assert slot(world, NOON + HOUR).status is SlotStatus.COMPLETED
        assert len(list(of_kind(events, RetryPlanned))) == 3
        assert world.store.schedule.breakers() == {}

    def test_what_was_tried_often_enough_is_a_dead_letter(self, world: World) -> None:
        world.define("shop", scheduling="{retries: 1}")
        world.outcome = lambda _slot: PASSING
        events = world.run(1.9)
        assert world.slots() == hours(1, 1)
        assert len(list(of_kind(events, SlotDied))) == 1
        (dead,) = world.store.schedule.dead()
        assert (dead.scheduled_at, dead.attempts) == (NOON + HOUR, 2)

    def test_what_will_not_pass_is_not_tried_again(self, world: World) -> None:
        world.define("shop")
        world.outcome = lambda _slot: LASTING
        world.run(1.9)
        assert world.slots() == hours(1)
        (dead,) = world.store.schedule.dead()
        assert dead.error is not None
        assert dead.error.message == "no such table"
        world.outcome = lambda _slot: None
        assert world.store.schedule.revive("shop", None, world.wall) == 1
        world.run(0.05)
        assert world.slots() == hours(1, 1)
        assert world.store.schedule.dead() == []

    def test_a_breaker_opens_probes_and_closes(self, world: World) -> None:
        world.settings("breaker: {failures: 3, cooldown: 2h}")
        world.define("shop")
        world.outcome = lambda _slot: LASTING
        events = world.run(4.5)
        assert world.slots() == hours(1, 2, 3)
        assert len(list(of_kind(events, BreakerOpened))) == 1
        assert slot(world, NOON + 4 * HOUR).status is SlotStatus.SKIPPED
        assert "breaker is open" in (slot(world, NOON + 4 * HOUR).reason or "")
        world.run(1)
        assert world.slots() == hours(1, 2, 3)
        world.run(1)  # the probe, at six, fails too
        assert world.slots() == hours(1, 2, 3, 6)
        assert world.store.schedule.breakers()["shop"].state is BreakerState.OPEN
        world.outcome = lambda _slot: None
        world.run(3)
        assert world.slots() == hours(1, 2, 3, 6, 9)
        assert world.store.schedule.breakers() == {}
        world.run(1)
        assert world.slots()[-1] == hours(10)[0]

    def test_a_newer_slot_takes_the_place_of_a_retry(self, world: World) -> None:
        world.settings("retry_wait: 2h, longest_retry_wait: 2h")
        world.define("shop")
        world.outcome = lambda slot: PASSING if slot.scheduled_at == NOON + HOUR else None
        world.run(4.5)
        assert world.slots() == hours(1, 2, 3, 4)
        assert slot(world, NOON + HOUR).status is SlotStatus.SKIPPED

    def test_a_run_is_ended_at_its_timeout_and_tried_again(self, world: World) -> None:
        world.define("shop", scheduling="{timeout: 10m, retries: 1}")
        world.takes = 3600
        world.run(1.5)
        assert world.slots() == hours(1, 1)
        (dead,) = world.store.schedule.dead()
        assert dead.error is not None
        assert (dead.error.code, dead.error.message) == (
            "timeout",
            "the run was ended after 600 s: its timeout",
        )

    def test_a_run_that_does_not_listen_is_killed(self, world: World) -> None:
        world.define("shop", scheduling="{timeout: 10m, retries: 0}")
        world.takes, world.stubborn = 36000, True
        events = world.run(1.5)
        (ended,) = of_kind(events, RunEnded)
        assert isinstance(ended, RunEnded)
        assert 609 <= ended.seconds <= 612

    def test_a_store_that_fails_for_a_while(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.define("shop")
        failing = [False]
        claim = world.store.schedule.claim

        def unsteady(*given: Any, **named: Any) -> Slot | None:
            if failing[0]:
                raise StateError("it is gone", code="state_unreachable")
            return claim(*given, **named)

        monkeypatch.setattr(world.store.schedule, "claim", unsteady)
        world.at(0.9, lambda: failing.__setitem__(0, True))
        world.at(1.5, lambda: failing.__setitem__(0, False))
        events = world.run(2.1)
        assert world.slots() == hours(1, 2)
        told = list(of_kind(events, StoreFailed))
        assert 25 < len(told) < 35  # half an hour, each minute
        assert told[0].seconds == 0  # type: ignore[attr-defined]
        (back,) = of_kind(events, StoreBack)
        assert told[-1].seconds < back.seconds < 1900  # type: ignore[attr-defined]

    @pytest.mark.parametrize("step", ["claim", "supersede"])
    def test_a_store_that_is_lost_when_it_has_claimed_a_slot(
        self, world: World, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        world.define("shop", scheduling="{catch_up: once}")
        schedule, failures = world.store.schedule, iter([True])
        does = getattr(schedule, step)

        def done_and_lost(*given: Any, **named: Any) -> Any:
            found = does(*given, **named)
            if next(failures, False):
                raise StateError("the answer is lost", code="state_unreachable")
            return found

        monkeypatch.setattr(schedule, step, done_and_lost)
        world.run(1.1)
        assert world.slots() == hours(1)
        assert slot(world, NOON + HOUR).status is SlotStatus.COMPLETED

    @pytest.mark.parametrize("code", [0, 1, 4])
    def test_a_run_that_could_not_say_how_it_ended_is_tried_again(self, world: World, code: int) -> None:
        world.define("shop")
        world.unsaid = [code]
        events = world.run(1.9)
        assert world.slots() == hours(1, 1)
        (planned,) = of_kind(events, RetryPlanned)
        assert isinstance(planned, RetryPlanned)
        assert planned.slot.error is not None
        assert planned.slot.error.code == "end_unknown"
        assert slot(world, NOON + HOUR).status is SlotStatus.COMPLETED

    def test_a_process_that_cannot_be_started(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.define("shop")

        def refuse(_slot: Slot) -> Any:
            raise OSError(12, "Cannot allocate memory")

        with monkeypatch.context() as patched:
            patched.setattr(world, "start", refuse)
            events = world.run(1.01)
        assert any("Cannot allocate memory" in event.error.message for event in of_kind(events, StoreFailed))  # type: ignore[attr-defined]
        world.run(0.1)
        assert world.slots() == hours(1)


class TestStop:
    def begin(self, world: World, *after: float) -> list[Any]:
        world.settings("shutdown_grace: 40s")
        world.define("shop")
        world.signals += [(1000.0 + 3600 + seconds, Wish.STOP) for seconds in after]
        return list(world.daemon().run())

    def test_a_run_may_end_within_the_grace(self, world: World) -> None:
        world.takes = 25
        events = self.begin(world, 1)
        assert events[-1] == Stopped(0)
        assert slot(world, NOON + HOUR).status is SlotStatus.COMPLETED
        assert world.ticks < 1000 + 3600 + 30

    def test_after_it_the_run_is_ended_and_the_next_daemon_runs_it_at_once(self, world: World) -> None:
        world.takes = 600
        events = self.begin(world, 1)
        assert events[-1] == Stopped(1)
        assert world.ticks <= 1000 + 3600 + 1 + 40
        waiting = slot(world, NOON + HOUR)
        assert (waiting.status, waiting.attempts) == (SlotStatus.FAILED, 0)
        world.takes = 5
        world.run(0.01)
        assert world.slots() == hours(1, 1)
        assert slot(world, NOON + HOUR).status is SlotStatus.COMPLETED

    def test_one_that_does_not_listen_is_killed_within_the_grace(self, world: World) -> None:
        world.takes, world.stubborn = 600, True
        assert self.begin(world, 1)[-1] == Stopped(1)
        assert world.ticks <= 1000 + 3600 + 1 + 40 + 1

    def test_a_second_signal_ends_at_once(self, world: World) -> None:
        world.takes, world.stubborn = 600, True
        assert self.begin(world, 1, 3)[-1] == Stopped(1)
        assert world.ticks <= 1000 + 3600 + 5

    def test_nothing_new_begins(self, world: World) -> None:
        world.settings("shutdown_grace: 10m")
        world.define("shop")
        world.define("later", "5 13 * * *")
        world.takes = 480
        world.signals.append((1000.0 + 3600 + 60, Wish.STOP))
        list(world.daemon().run())
        assert world.slots() == hours(1)


class TestReload:
    def test_files_that_change_are_read(self, world: World) -> None:
        world.define("shop")
        world.at(1.1, lambda: world.define("other", "45 * * * *"))
        world.at(1.6, lambda: world.define("shop", "20 * * * *"))
        world.at(3.5, (world.folder / "connectors.d" / "other.yaml").unlink)
        events = world.run(4.9)
        expected = [("shop", 1), ("other", 1.75), ("shop", 2 + 1 / 3), ("other", 2.75), ("shop", 3 + 1 / 3),
                    ("shop", 4 + 1 / 3)]  # fmt: skip
        assert world.slots() == [(name, NOON + number * HOUR) for name, number in expected]
        started = [event for event in events if isinstance(event, Started)]
        assert [event.reloaded for event in started] == [False, True, True, True]
        assert set(world.store.schedule.decided()) == {"shop"}

    def test_a_new_schedule_has_missed_nothing(self, world: World) -> None:
        world.define("shop", "@daily")
        world.run(1)
        world.wall += 5 * HOUR
        world.define("shop", "@hourly")
        world.run(0.5)
        assert world.slots() == []

    def test_a_wrong_one_is_told_and_its_newest_run_waits_until_it_is_mended(self, world: World) -> None:
        world.define("shop")
        world.define("other", "30 * * * *")
        world.at(0.1, lambda: world.define("shop", "0 0 31 2 *"))
        world.at(2.2, lambda: world.define("shop"))
        events = world.run(2.3)
        assert world.slots() == [("other", NOON + HOUR / 2), ("other", NOON + 1.5 * HOUR), *hours(2)]
        told = [event.problems for event in events if isinstance(event, Started)]
        assert [len(problems) for problems in told] == [0, 1, 0]
        assert "no such month has a day 31" in told[1][0]
        (skipped,) = of_kind(events, SlotSkipped)
        assert skipped == SlotSkipped(
            "shop", NOON + HOUR, "its definition was wrong before the next slot came"
        )
        assert world.store.schedule.dead() == []

    def test_one_that_is_wrong_when_a_daemon_begins_catches_up_when_it_is_mended(self, world: World) -> None:
        world.define("shop")
        world.run(0.1)
        world.define("shop", "0 0 31 2 *")
        world.at(1.2, lambda: world.define("shop"))
        world.run(1.3)
        assert world.slots() == hours(1)

    def test_a_file_that_was_broken_a_moment_before_a_slot(self, world: World) -> None:
        world.define("shop")
        for second in range(1, 11):  # whatever the moment at which files are looked at
            world.at(1 - second / 3600, lambda: world.define("shop"))
        world.at(1 - 0.5 / 3600, lambda: world.define("shop", "0 0 31 2 *"))
        world.run(1.1)
        assert world.slots() == []

    def test_retries_wait_for_a_wrong_one_too(self, world: World) -> None:
        world.define("shop")
        outcomes = iter([PASSING])
        world.outcome = lambda _slot: next(outcomes, None)
        world.at(1 + 10 / 3600, lambda: world.define("shop", "0 0 31 2 *"))
        world.at(1.8, lambda: world.define("shop"))
        world.run(1.9)
        assert world.slots() == hours(1, 1)
        assert world.begun[1][2] >= NOON + 1.8 * HOUR
        assert slot(world, NOON + HOUR).status is SlotStatus.COMPLETED

    def test_while_the_project_is_wrong_all_runs_wait(self, world: World) -> None:
        world.define("shop")
        world.at(0.1, lambda: world.settings("jobs: many"))
        events = world.run(1.1)
        assert world.slots() == []
        assert any(event.problems for event in events if isinstance(event, Started))
        with pytest.raises(ConfigError):
            read_agenda(world.folder, {})
        world.settings("jobs: 2")
        world.run(0.1)
        assert world.slots() == hours(1)

    def test_where_the_state_store_is_another_one_it_stops_for_the_next_daemon(self, world: World) -> None:
        world.define("shop")
        world.at(1.5, lambda: world.project("state: other.db"))
        daemon = world.daemon()
        events = list(daemon.run())
        assert world.slots() == hours(1)
        assert [type(event) for event in events[-3:]] == [StateMoved, Stopping, Stopped]
        assert daemon.has_moved
        assert NOON + 1.5 * HOUR <= world.wall <= NOON + 1.5 * HOUR + timedelta(seconds=11)

    def test_a_signal_while_it_stops_for_the_next_one_ends_both(self, world: World) -> None:
        world.define("shop")
        world.takes = 60
        world.at(1 + 5 / 3600, lambda: world.project("state: other.db"))
        world.signals.append((1000.0 + 3600 + 20, Wish.STOP))
        daemon = world.daemon()
        events = list(daemon.run())
        assert any(isinstance(event, StateMoved) for event in events)
        assert not daemon.has_moved
        assert slot(world, NOON + HOUR).attempts == 0, "the first signal took nothing from the grace"
        assert NOON + HOUR + timedelta(seconds=22) < world.wall

    def test_a_password_of_the_store_that_changed_is_found_when_the_store_refuses(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        word = world.folder / "password"
        word.write_text("old")
        server = "protocol: postgresql, host: localhost, username: etl"
        world.project(f"state: {{{server}, password: '${{file:{word}}}'}}")
        world.define("shop")

        def refuse(*_given: Any, **_named: Any) -> Any:
            word.write_text("new")
            raise StateError("the password is wrong", code="state_refused")

        monkeypatch.setattr(world.store.schedule, "claim", refuse)
        daemon = world.daemon()
        events = list(daemon.run())
        assert [type(event) for event in events[-4:]] == [StoreFailed, StateMoved, Stopping, Stopped]
        assert daemon.has_moved

    def test_a_signal_has_everything_looked_at_now(self, world: World) -> None:
        world.define("shop")
        world.outcome = lambda _slot: LASTING
        world.run(1.1)
        world.outcome = lambda _slot: None
        world.at(0, lambda: None)
        begin = world.ticks
        world.signals.append((begin + 2, Wish.RELOAD))

        def revive() -> None:
            world.store.schedule.revive("shop", None, world.wall)

        world.happenings.append((begin + 1, revive))
        world.run(0.002)  # less than the time between two sweeps
        assert world.slots() == hours(1, 1)


class TestSeveral:
    def test_what_a_dead_daemon_claimed_is_run_by_another(self, world: World) -> None:
        world.define("shop")
        decided = {"shop": DecidedSchedule("@hourly", "UTC", NOON)}
        world.store.schedule.decide(decided)
        policy = world.daemon()._agenda.scheduled["shop"].breaker
        claimed = world.store.schedule.claim("shop", NOON, daemon="gone", now=NOON, policy=policy)
        assert claimed is not None
        world.run(0.05)
        assert world.slots() == hours(0)

    def test_two_take_turns_and_double_nothing(self, world: World) -> None:
        for number in range(20):
            world.define(f"c{number}", "*/15 * * * *")
        other = World(world.folder, world.store)
        world.signals.append((1000.0 + 7260, Wish.STOP))
        other.signals.append((1000.0 + 7260, Wish.STOP))
        running = [world.daemon().run(), other.daemon().run()]
        while running:
            for each in list(running):
                if next(each, None) is None:
                    running.remove(each)
        both = Counter([*world.slots(), *other.slots()])
        assert len(both) == 20 * 8
        assert set(both.values()) == {1}
        assert world.begun
        assert other.begun


class NullStore:
    """Keeps nothing: what grows is the daemon's."""

    def __init__(self, world: World) -> None:
        self._real = world.store.schedule
        self.claimed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def claim(
        self, connector: str, scheduled_at: datetime, *, daemon: str, now: datetime, policy: Any
    ) -> Slot:
        self.claimed += 1
        return Slot(connector, scheduled_at, SlotStatus.CLAIMED, 0, now, daemon)

    def supersede(self, *_given: object) -> int:
        return 0

    def slot(self, connector: str, scheduled_at: datetime) -> Slot:
        return Slot(connector, scheduled_at, SlotStatus.COMPLETED, 1, scheduled_at, "")

    def breakers(self) -> dict[str, Breaker]:
        return {}


class Finished:
    def poll(self) -> int | None:
        return 0

    def interrupt(self) -> None: ...

    def kill(self) -> None: ...


def test_memory_stays_flat_over_100000_slots(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas_etl.scheduler.daemon.LOOK_AT_FILES", 1e9)
    monkeypatch.setattr("atlas_etl.scheduler.daemon.SWEEP", 1e9)
    world.settings("jobs: 500")
    for number in range(500):
        world.define(f"c{number}", "* * * * *")
    store = NullStore(world)
    stores = replace(world.stores, schedule=store)  # type: ignore[arg-type]
    monkeypatch.setattr(world, "start", lambda _slot: Finished())
    world.poll_seconds = None
    world.signals.append((1000.0 + 200.5 * 60, Wish.STOP))
    sizes: list[int] = []
    daemon = Daemon(read_agenda(world.folder, NO_TESTS), NO_TESTS, stores, world, world, tester=world)
    for number, _ in enumerate(daemon.run()):
        if number == 40_000:
            tracemalloc.start()
            sizes.append(tracemalloc.get_traced_memory()[0])
    sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert store.claimed == 100_000
    assert sizes[1] - sizes[0] < 1_000_000
