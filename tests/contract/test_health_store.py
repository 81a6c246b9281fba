"""The contract of HealthStore, in memory, in a SQLite file and in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from atlas_etl.model import ConnectionTest, RunError
from atlas_etl.state import SqlStateStore
from tests.contract.state_places import SHORT, Place, place, store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
LIMIT = timedelta(minutes=2)
REFUSED = RunError("source", "connection refused\x00", "is it up?", 3, retryable=True)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    with closing(store(request.param, request, tmp_path, SHORT)) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request.param, request, tmp_path)


def begin(
    state: SqlStateStore, slot: datetime = NOON, now: datetime | None = None, name: str = "shop"
) -> bool:
    return state.health.begin(name, slot, now=now or slot, limit=LIMIT)


def found(at: datetime = NOON, error: RunError | None = None, name: str = "shop") -> ConnectionTest:
    return ConnectionTest(name, at, 0.25, "there", "PostgreSQL 15", ("a warning",), error)


def test_one_at_a_time_and_each_slot_once(state: SqlStateStore) -> None:
    assert begin(state)
    assert not begin(state, NOON + QUARTER, NOON + timedelta(minutes=1))
    assert begin(state, name="other")
    assert state.health.finish(NOON, found()) is None
    assert not begin(state)
    assert not begin(state, NOON - QUARTER, NOON)
    assert begin(state, NOON + QUARTER)
    assert state.health.tested_slots() == {"shop": NOON + QUARTER, "other": NOON}


def test_one_of_many_at_the_same_moment(shared: Place) -> None:
    barrier = threading.Barrier(6)

    def one(_number: int) -> list[bool]:
        with closing(shared.open(SHORT)) as opened:
            barrier.wait(20)
            return [begin(opened, name=f"c{each}") for each in range(8)]

    with ThreadPoolExecutor(6) as pool:
        tries = list(pool.map(one, range(6)))
    assert [sum(got) for got in zip(*tries, strict=True)] == [1] * 8


def test_whoever_tests_and_dies_holds_nobody_up_for_longer_than_a_test_may_last(state: SqlStateStore) -> None:
    assert begin(state)
    assert not begin(state, NOON + timedelta(minutes=1))
    assert begin(state, NOON + LIMIT)


def test_a_turn_of_before_the_clock_was_set_back_is_free(state: SqlStateStore) -> None:
    assert begin(state)
    assert begin(state, NOON - timedelta(days=1))
    state.health.finish(NOON - timedelta(days=1), found(NOON - timedelta(days=1)))
    assert begin(state, NOON - timedelta(days=1) + QUARTER)


def test_a_connector_that_runs_is_not_tested(state: SqlStateStore) -> None:
    with state.lease("shop", triggered_by="manual", destination=None):
        assert not begin(state)
        assert begin(state, name="other")
    assert begin(state)


def test_a_run_that_is_just_beginning_is_waited_for(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server = place("postgres", request, tmp_path)
    with closing(server.open(SHORT)) as state, ThreadPoolExecutor(1) as pool:
        with state.lease("shop", triggered_by="manual", destination=None):
            pass
        with psycopg.connect(server.location) as run, psycopg.connect(server.location) as looking:
            run.execute("UPDATE pipeline.leases SET run_id = 'new' WHERE connector = 'shop'")
            begun = pool.submit(begin, state)
            looking.autocommit = True
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            waiting += " AND wait_event_type = 'Lock'"
            while not begun.done() and looking.execute(waiting).fetchone() == (0,):
                pass
            run.commit()
        assert not begun.result(20)


def test_a_test_that_was_cut_short_is_as_if_it_had_not_begun(state: SqlStateStore) -> None:
    assert begin(state)
    state.health.give_back("shop", NOON)
    assert state.health.tested_slots() == {}
    assert state.health.health() == {}
    assert begin(state)


def test_what_was_found_is_kept_and_since_when(state: SqlStateStore) -> None:
    at = [NOON + number * QUARTER for number in range(5)]
    before = []
    for slot, error in zip(at, (None, None, REFUSED, REFUSED, None), strict=True):
        assert begin(state, slot)
        before.append(state.health.finish(slot, found(slot, error)))
    told = [None if each is None else (each.is_healthy, each.since) for each in before]
    assert told == [None, (True, at[0]), (True, at[0]), (False, at[2]), (False, at[2])]
    health = state.health.health()["shop"]
    assert (health.is_healthy, health.since, health.last) == (True, at[4], found(at[4]))
    tests = state.health.tests("shop", limit=3)
    assert [test.tested_at for test in tests] == [at[4], at[3], at[2]]
    assert tests[0] == found(at[4])
    assert tests[1].error is not None
    assert (tests[1].error.code, tests[1].error.hint, tests[1].error.retryable) == (
        "source",
        "is it up?",
        True,
    )
    assert state.health.count_tests() == state.health.count_tests("shop") == 5
    assert state.health.count_tests("other") == 0


def test_the_newest_thousand_are_kept_and_older_ones_go_with_the_history(
    state: SqlStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas_etl.state.health._MOST_KEPT", 3)
    for name in ("shop", "other"):
        for number in range(5):
            slot = NOON + number * QUARTER
            assert begin(state, slot, name=name)
            state.health.finish(slot, found(slot, name=name))
    kept = [NOON + number * QUARTER for number in (4, 3, 2)]
    for name in ("shop", "other"):
        assert [test.tested_at for test in state.health.tests(name)] == kept
    state.prune(kept[1])
    assert [test.tested_at for test in state.health.tests("shop")] == kept[:2]
    assert state.health.health()["shop"].since == NOON


def test_a_connector_that_is_removed_begins_anew_and_its_tests_stay(state: SqlStateStore) -> None:
    assert begin(state)
    state.health.finish(NOON, found())
    state.unregister("shop")
    assert state.health.health() == {}
    assert state.health.count_tests("shop") == 1
    assert state.health.finish(NOON, found()) is None
    assert state.health.health() == {}
    assert begin(state)
