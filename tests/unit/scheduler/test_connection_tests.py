"""Tests of connections in a world where time passes when the daemon sleeps; the store is a real one."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from atlas_etl.errors import StateError
from atlas_etl.scheduler.events import ConnectionTested, Event, Started, StoreFailed
from tests.unit.scheduler.world import FAILURE, NOON, SUCCESS, World, of_kind

MINUTE = timedelta(minutes=1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, is_tested=True)


def times(world: World, name: str = "shop") -> list[datetime]:
    return [at for tested, at in world.tested if tested == name]


def test_every_enabled_connector_is_tested_every_quarter_of_an_hour(world: World) -> None:
    world.define("shop")
    world.define("unscheduled", None)
    world.define("off", enabled="false")
    events = world.run(2.01)
    (started,) = of_kind(events, Started)
    assert isinstance(started, Started)
    assert (started.connectors, started.tested) == (1, 2)
    assert times(world, "off") == []
    for name in ("shop", "unscheduled"):
        tested = times(world, name)
        assert tested[0] < NOON + MINUTE  # it never was, so it is at once
        assert len(tested) in (8, 9, 10)
        assert {after - before for before, after in pairwise(tested[1:])} == {15 * MINUTE}
    health = world.store.health.health()["shop"]
    assert (health.is_healthy, health.since) == (True, times(world)[0])
    assert health.last.tested_at == times(world)[-1]
    assert world.store.health.count_tests("shop") == len(times(world))
    assert world.slots() == [("shop", NOON + 60 * MINUTE), ("shop", NOON + 120 * MINUTE)]


@pytest.mark.parametrize(
    ("project", "own", "seconds"),
    [
        ("every 1h", None, 3600),
        ("every 15m", "every 5m", 300),
        ("never", "every 5m", 300),
        ("every 5m", "never", None),
        ("never", None, None),
        ("*/20 * * * *", None, 1200),
    ],
)
def test_the_project_and_each_connector_say_when(
    world: World, project: str, own: str | None, seconds: int | None
) -> None:
    world.settings(f"test: '{project}'")
    world.define("shop", None, **({"scheduling": f"{{test: {own}}}"} if own else {}))
    world.run(6)
    tested = times(world)
    gaps = {after - before for before, after in pairwise(tested[1:])}
    assert gaps == ({timedelta(seconds=seconds)} if seconds else set())
    assert bool(tested) == (seconds is not None)


def test_tests_of_many_connectors_are_spread_and_have_a_pool_of_their_own(world: World) -> None:
    world.settings("test_jobs: 3, jobs: 2")
    for number in range(60):
        world.define(f"c{number}", "0 13 * * *")
    world.run(2.01)
    assert world.most_tests == 3
    assert world.most_at_once == 2
    later = [at for _, at in world.tested if at > NOON + 30 * MINUTE]
    assert max(later.count(at) for at in later) <= 3
    minutes = [int((at - NOON) / MINUTE) % 15 for at in later]
    assert len(set(minutes)) == 15  # each connector has its own minute


def test_after_downtime_each_is_tested_once(world: World) -> None:
    for number in range(20):
        world.define(f"c{number}", None)
    world.run(0.5)
    before = len(world.tested)
    world.wall += timedelta(days=3)
    world.run(0.01)
    assert 20 <= len(world.tested) - before <= 22  # one or two have a slot of now
    assert world.most_tests == 2


def test_a_test_that_hangs_is_ended_and_has_failed(world: World) -> None:
    world.settings("test_timeout: 20s, test_jobs: 1")
    world.define("hangs", None)
    world.define("runs", "*/5 * * * *", scheduling="{test: never}")
    world.test_takes = 1e9
    world.stubborn = True
    world.run(0.2)
    last = world.store.health.health()["hangs"].last
    assert last.error is not None
    assert (last.error.code, last.error.message) == ("timeout", "the test did not end within 20 s")
    assert last.seconds == 30  # it did not listen, so it was killed
    assert world.slots() == [("runs", NOON + 5 * MINUTE), ("runs", NOON + 10 * MINUTE)]


def test_a_connector_that_begins_to_fail_and_recovers(world: World) -> None:
    world.define("shop", None)
    world.finds = lambda _name: FAILURE if 1 <= (world.wall - NOON) / timedelta(hours=1) < 2 else SUCCESS
    events = [event for event in world.run(3.1) if isinstance(event, ConnectionTested)]
    begins = [event.test.tested_at for event in events if event.begins_to_fail]
    ends = [event.test.tested_at for event in events if event.ends_failing]
    assert len(begins) == len(ends) == 1
    assert timedelta(hours=1) <= begins[0] - NOON < timedelta(hours=1.25)
    assert timedelta(hours=2) <= ends[0] - NOON < timedelta(hours=2.25)
    found = world.store.health.health()["shop"]
    assert (found.is_healthy, found.since) == (True, ends[0])


def test_failing_tests_leave_the_breaker_and_the_runs_alone(world: World) -> None:
    world.settings("breaker: {failures: 1, cooldown: 1d}")
    world.define("shop")
    world.finds = lambda _name: FAILURE
    world.run(3.1)
    assert len(world.begun) == 3
    assert world.store.schedule.breakers() == {}


def test_a_connector_that_runs_is_tested_when_its_run_is_over(world: World) -> None:
    world.define("shop")
    world.takes = 40 * 60
    world.run(2.9)
    for slot in (NOON + 60 * MINUTE, NOON + 120 * MINUTE):
        during = [at for at in times(world) if slot + MINUTE < at < slot + 40 * MINUTE]
        assert during == []
        assert [at for at in times(world) if slot + 40 * MINUTE <= at < slot + 46 * MINUTE]


def test_a_run_waits_for_the_test_of_its_connector(world: World) -> None:
    world.settings("test: '0 13 * * *'")
    world.define("shop")
    world.define("other")
    world.at(0.5, lambda: setattr(world, "test_takes", 30.0))
    world.run(1.9)
    began = {name: at for name, _, at in world.begun}
    (test,) = (at for at in times(world) if at > NOON + 30 * MINUTE)
    assert abs((began["shop"] - test).total_seconds()) <= 31


def test_definitions_that_change_are_tested_as_they_are_now(world: World) -> None:
    world.define("shop", None)
    world.define("gone", None)
    world.at(1.0, lambda: world.define("shop", None, scheduling="{test: every 2m}"))
    world.at(1.0, lambda: world.define("new", None))
    world.at(1.0, (world.folder / "connectors.d" / "gone.yaml").unlink)
    world.run(2.0)
    assert sum(at > NOON + 61 * MINUTE for at in times(world)) >= 28
    assert sum(at > NOON + 61 * MINUTE for at in times(world, "gone")) == 0
    assert times(world, "new")[0] < NOON + 61 * MINUTE
    assert set(world.store.health.health()) == {"shop", "new"}


def test_disabled_connectors_keep_what_was_found(world: World) -> None:
    world.define("shop", None)
    world.at(0.5, lambda: world.define("shop", None, enabled="false"))
    world.run(1.0)
    assert max(times(world)) <= NOON + 31 * MINUTE
    assert set(world.store.health.health()) == {"shop"}


def test_a_clock_that_is_set_back_doubles_nothing_and_tests_go_on(world: World) -> None:
    world.define("shop", None)
    world.at(3.0, lambda: setattr(world, "wall", world.wall - timedelta(hours=2)))
    world.run(4.0)
    ticks = len(times(world))
    assert 15 <= ticks <= 19
    assert max(times(world)) < NOON + 180 * MINUTE
    assert world.store.health.health()["shop"].last.tested_at == times(world)[-1]


def test_a_clock_that_is_set_forward_brings_one_test(world: World) -> None:
    world.define("shop", None)
    world.at(1.0, lambda: setattr(world, "wall", world.wall + timedelta(days=1)))
    world.run(2.0)
    assert 8 <= len(times(world)) <= 11


def test_a_test_may_end_when_the_daemon_stops_and_is_ended_if_it_does_not(world: World) -> None:
    world.define("quick", None)
    world.define("slow", None)
    world.test_takes = 5.0
    world.settings("shutdown_grace: 40s")
    begun = world.start_test
    world.start_test = lambda name, limit: (  # type: ignore[method-assign]
        setattr(world, "test_takes", 10.0 if name == "quick" else 1e9) or begun(name, limit)
    )
    events = world.run(5 / 3600)
    assert world.ticks - 1005 == pytest.approx(30, abs=1)  # the last quarter of the grace is for last words
    assert [event.test.connector for event in of_tests(events)] == ["quick"]
    world.test_takes = 1.0
    world.start_test = begun  # type: ignore[method-assign]
    world.run(0.001)
    assert [name for name, _ in world.tested[2:]] == ["slow"]  # as if it had not begun


def of_tests(events: list[Event]) -> list[ConnectionTested]:
    return [event for event in events if isinstance(event, ConnectionTested)]


def test_a_store_that_fails_costs_no_test(world: World) -> None:
    world.define("shop", None)
    finish, failures = world.store.health.finish, iter((True, False))

    def finish_or_fail(*given: object) -> object:
        if next(failures, False):
            raise StateError("the store is gone")
        return finish(*given)  # type: ignore[arg-type]

    world.store.health.finish = finish_or_fail  # type: ignore[method-assign,assignment]
    events = world.run(0.01)
    assert len(list(of_kind(events, StoreFailed))) == 1
    assert len(of_tests(events)) == 1
    assert world.store.health.count_tests() == 1
