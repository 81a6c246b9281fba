"""The contract of ScheduleStore, in memory, in a SQLite file and in PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from atlas_etl.errors import LockedError, SlotSettledError, SourceError
from atlas_etl.model import (
    BreakerPolicy,
    BreakerState,
    DecidedSchedule,
    Run,
    RunError,
    RunStatus,
    Slot,
    SlotStatus,
    StreamRun,
)
from atlas_etl.state import SqlStateStore, schema
from tests.contract.state_places import SHORT, Place, place, store
from tests.waiting import until

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = BreakerPolicy(failures=2, cooldown=timedelta(minutes=15))
LOST = RunError("source", "connection lost", retryable=True)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    with closing(store(request.param, request, tmp_path, SHORT)) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request.param, request, tmp_path)


def claim(
    state: SqlStateStore, at: datetime = NOON, now: datetime | None = None, daemon: str = "d1"
) -> Slot | None:
    return state.schedule.claim("shop", at, daemon=daemon, now=now or at, policy=POLICY)


def run_slot(state: SqlStateStore, at: datetime = NOON, status: RunStatus = RunStatus.COMPLETED) -> Run:
    with state.lease("shop", triggered_by="scheduled", destination=None, scheduled_at=at) as lease:
        error = None if status is RunStatus.COMPLETED else LOST
        ended = replace(lease.run, status=status, completed_at=datetime.now(UTC), error=error)
        state.finish(ended)
    return ended


def slot(state: SqlStateStore, at: datetime = NOON) -> Slot:
    found = state.schedule.slot("shop", at)
    assert found is not None
    return found


class TestClaims:
    def test_one_daemon_gets_a_slot(self, state: SqlStateStore) -> None:
        claimed = claim(state)
        assert claimed is not None
        assert (claimed.status, claimed.claimed_by, claimed.attempts) == (SlotStatus.CLAIMED, "d1", 0)
        assert claim(state, daemon="d2") is None
        assert claim(state) == claimed, "its first answer may have been lost"
        assert state.schedule.open_slots() == [claimed]

    def test_one_of_many_at_the_same_moment(self, shared: Place) -> None:
        barrier = threading.Barrier(6)

        def one(number: int) -> list[datetime]:
            with closing(shared.open(SHORT)) as opened:
                barrier.wait()
                slots = [NOON + number * HOUR for number in range(10)]
                return [at for at in slots if claim(opened, at, daemon=f"d{number}") is not None]

        with ThreadPoolExecutor(6) as pool:
            won = [at for each in pool.map(one, range(6)) for at in each]
        assert sorted(won) == [NOON + number * HOUR for number in range(10)]

    def test_a_claim_moves_how_far_the_schedule_is_decided_and_never_back(self, state: SqlStateStore) -> None:
        begin = DecidedSchedule("@hourly", "UTC", NOON - HOUR)
        state.schedule.decide({"shop": begin})
        claim(state)
        assert state.schedule.decided() == {"shop": replace(begin, until=NOON)}
        claim(state, NOON - HOUR)
        assert state.schedule.decided()["shop"].until == NOON
        state.schedule.skip("shop", NOON + HOUR, reason="the run before it is not over")
        assert state.schedule.decided()["shop"].until == NOON + HOUR
        state.schedule.decide({"shop": DecidedSchedule("@daily", "UTC", NOON), "other": begin})
        assert state.schedule.decided()["shop"] == DecidedSchedule("@daily", "UTC", NOON)
        state.schedule.forget(["shop"])
        assert set(state.schedule.decided()) == {"other"}

    def test_what_is_given_back_is_free_at_once(self, state: SqlStateStore) -> None:
        claimed = claim(state)
        assert claimed is not None
        state.schedule.give_back(claimed, NOON)
        again = claim(state, daemon="d2")
        assert again is not None
        assert (again.claimed_by, again.attempts) == ("d2", 0)
        state.schedule.give_back(claimed, NOON)  # no longer d1's
        assert slot(state).status is SlotStatus.CLAIMED

    def test_claims_of_a_daemon_that_is_gone_are_free(self, state: SqlStateStore) -> None:
        with state.schedule.enlisted() as alive:
            claimed = claim(state, daemon=alive.run.run_id)
            lost = claim(state, NOON + HOUR, daemon="gone")
            assert claimed is not None
            assert lost is not None
            state.schedule.recover(NOON + 2 * HOUR)
            assert slot(state) == claimed
            freed = slot(state, NOON + HOUR)
            assert (freed.status, freed.retry_at) == (SlotStatus.FAILED, NOON + 2 * HOUR)
            assert claim(state, NOON + HOUR, NOON + 2 * HOUR, daemon=alive.run.run_id) is not None

    def test_daemons_that_are_alive(self, state: SqlStateStore) -> None:
        assert state.schedule.daemons() == []
        with state.schedule.enlisted() as first, state.schedule.enlisted() as second:
            found = state.schedule.daemons()
            assert [daemon.daemon_id for daemon in found] == [first.run.run_id, second.run.run_id]
            assert found[0].pid > 0
        assert state.schedule.daemons() == []
        assert state.history() == []
        with state._database.reading() as connection:
            assert connection.execute(schema.leases.select()).all() == []


class TestRuns:
    def test_a_run_begins_and_ends_with_its_slot(self, state: SqlStateStore) -> None:
        claim(state)
        with state.lease("shop", triggered_by="scheduled", destination=None, scheduled_at=NOON) as lease:
            assert lease.run.scheduled_at == NOON
            running = slot(state)
            assert (running.status, running.attempts, running.run_id) == ("running", 1, lease.run.run_id)
            state.finish(replace(lease.run, status=RunStatus.COMPLETED, completed_at=datetime.now(UTC)))
            assert slot(state).status is SlotStatus.COMPLETED
        assert slot(state).status is SlotStatus.COMPLETED
        assert state.history()[0].scheduled_at == NOON

    def test_a_slot_nobody_claimed_can_be_run_and_is_run_once(self, state: SqlStateStore) -> None:
        run_slot(state)
        with pytest.raises(SlotSettledError, match="settled \\(completed, run ") as refused:
            run_slot(state)
        assert refused.value.exit_code == 6
        assert claim(state) is None
        assert state.count_runs() == 1
        with state.lease("shop", triggered_by="t", destination=None):  # the refusal kept no lease
            pass

    @pytest.mark.parametrize("status", [RunStatus.FAILED, RunStatus.PARTIAL])
    def test_a_failed_run_leaves_its_slot_undecided(self, state: SqlStateStore, status: RunStatus) -> None:
        run_slot(state, status=status)
        failed = slot(state)
        assert (failed.status, failed.retry_at, failed.error) == (SlotStatus.FAILED, None, LOST)
        assert claim(state, now=NOON + HOUR) is None

    def test_a_run_that_an_exception_ended_and_one_left_without_an_end(self, state: SqlStateStore) -> None:
        with (
            pytest.raises(SourceError),
            state.lease("shop", triggered_by="t", destination=None, scheduled_at=NOON),
        ):
            raise SourceError("gone", retryable=True)
        error = slot(state).error
        assert error is not None
        assert (slot(state).status, error.code, error.retryable) == (SlotStatus.FAILED, "source", True)
        with state.lease("shop", triggered_by="t", destination=None, scheduled_at=NOON):
            pass
        error = slot(state).error
        assert error is not None
        assert (error.code, error.retryable, slot(state).attempts) == ("interrupted", True, 2)

    def test_the_loser_is_skipped_with_the_reason(self, state: SqlStateStore) -> None:
        claim(state)
        with (
            state.lease("shop", triggered_by="manual", destination=None),
            pytest.raises(LockedError) as locked,
        ):
            run_slot(state)
        reason = locked.value.message
        state.record_skipped("shop", triggered_by="scheduled", reason=reason, scheduled_at=NOON)
        assert (slot(state).status, slot(state).reason) == (SlotStatus.SKIPPED, reason)
        skipped = state.history(status=RunStatus.SKIPPED)[0]
        assert skipped.scheduled_at == NOON

    def test_the_loser_may_be_put_off_and_is_claimed_again_then(self, state: SqlStateStore) -> None:
        claim(state)
        with state.lease("shop", triggered_by="manual", destination=None):
            state.record_skipped(
                "shop", triggered_by="t", reason="locked", scheduled_at=NOON, put_off_until=NOON + HOUR
            )
        off = slot(state)
        assert (off.status, off.attempts, off.retry_at) == (SlotStatus.FAILED, 0, NOON + HOUR)
        assert claim(state, now=NOON) is None
        again = claim(state, now=NOON + HOUR)
        assert again is not None
        assert again.status is SlotStatus.CLAIMED

    def test_nothing_is_put_off_that_runs_or_ended(self, state: SqlStateStore) -> None:
        for status in (SlotStatus.RUNNING, SlotStatus.COMPLETED):
            with state.lease("shop", triggered_by="scheduled", destination=None, scheduled_at=NOON) as lease:
                if status is SlotStatus.COMPLETED:
                    state.finish(replace(lease.run, status=RunStatus.COMPLETED))
                state.record_skipped(
                    "shop", triggered_by="t", reason="locked", scheduled_at=NOON, put_off_until=NOON + HOUR
                )
                assert slot(state).status is status

    def test_one_that_loses_against_the_same_slot_takes_nothing_from_it(self, state: SqlStateStore) -> None:
        with state.lease("shop", triggered_by="scheduled", destination=None, scheduled_at=NOON):
            state.record_skipped("shop", triggered_by="scheduled", reason="locked", scheduled_at=NOON)
            assert slot(state).status is SlotStatus.RUNNING
        run_slot(state)
        state.record_skipped("shop", triggered_by="scheduled", reason="settled", scheduled_at=NOON)
        assert slot(state).status is SlotStatus.COMPLETED

    def test_a_run_whose_process_ended_is_marked_and_its_lease_is_free(self, state: SqlStateStore) -> None:
        held = state.lease("shop", triggered_by="scheduled", destination=None, scheduled_at=NOON)
        lease = held.__enter__()
        error = RunError("timeout", "ended after 1 h", retryable=True)
        state.schedule.end_run(lease.run.run_id, error)
        assert slot(state).status is SlotStatus.FAILED
        assert slot(state).error == error
        assert state.history()[0].status is RunStatus.INTERRUPTED
        run_slot(state)
        assert slot(state).attempts == 2
        held.__exit__(None, None, None)
        assert slot(state).status is SlotStatus.COMPLETED

    def test_a_killed_process_leaves_a_slot_that_is_tried_again(self, shared: Place) -> None:
        with closing(shared.open(SHORT)) as opened, shared.player() as player:
            assert player.tell(f"take {NOON.isoformat()}").startswith("held")
            assert slot(opened).status is SlotStatus.RUNNING
            player.process.kill()
            player.process.wait()

            def is_noticed() -> bool:
                opened.schedule.recover(NOON)
                return slot(opened).status is SlotStatus.FAILED

            until(is_noticed, "the slot has failed")
            error = slot(opened).error
            assert error is not None
            assert error.retryable
            run_slot(opened)

    def test_processes_of_one_slot_run_it_once(self, shared: Place) -> None:
        with closing(shared.open(SHORT)) as opened, shared.players(4) as players:
            for player in players:
                assert player.tell("open") == "opened"
            for player in players:
                player.order(f"take {NOON.isoformat()}")
            answers = [player.answer() for player in players]
            assert sorted(answer.split()[0] for answer in answers) == ["held", "locked", "locked", "locked"]
            winner = players[next(at for at, answer in enumerate(answers) if answer.startswith("held"))]
            winner.tell("finish 7")
            winner.tell("leave")
            assert [player.tell(f"take {NOON.isoformat()}") for player in players] == ["locked"] * 4
            assert opened.count_runs() == 1


class TestRetries:
    def failed(self, state: SqlStateStore, at: datetime = NOON) -> Slot:
        claim(state, at)
        run_slot(state, at, RunStatus.FAILED)
        return slot(state, at)

    def test_a_failed_slot_is_claimed_when_its_time_has_come(self, state: SqlStateStore) -> None:
        failed = self.failed(state)
        later = NOON + timedelta(minutes=1)
        assert state.schedule.retry(failed, later, policy=POLICY, now=NOON) is not None
        assert state.schedule.retry(failed, later, policy=POLICY, now=NOON) is None
        assert claim(state, now=later - timedelta(seconds=1)) is None
        again = claim(state, now=later)
        assert again is not None
        assert again.attempts == 1
        run_slot(state)
        assert (slot(state).status, slot(state).attempts) == (SlotStatus.COMPLETED, 2)

    def test_one_daemon_of_two_decides(self, state: SqlStateStore) -> None:
        failed = self.failed(state)
        assert state.schedule.bury(failed, policy=POLICY, now=NOON) is not None
        assert state.schedule.retry(failed, NOON, policy=POLICY, now=NOON) is None
        assert state.schedule.breakers()["shop"].failures == 1

    def test_a_process_that_never_began_its_run_counts_as_an_attempt(self, state: SqlStateStore) -> None:
        claimed = claim(state)
        assert claimed is not None
        state.schedule.fail_claim(claimed, LOST)
        state.schedule.fail_claim(claimed, LOST)
        assert (slot(state).status, slot(state).attempts) == (SlotStatus.FAILED, 1)
        assert claim(state, now=NOON + HOUR) is None
        state.schedule.retry(slot(state), NOON, policy=POLICY, now=NOON)
        assert claim(state) is not None

    def test_a_run_that_was_ended_with_its_daemon_counts_for_nothing(self, state: SqlStateStore) -> None:
        state.schedule.put_back(self.failed(state), NOON)
        waiting = slot(state)
        assert (waiting.status, waiting.attempts, waiting.retry_at) == (SlotStatus.FAILED, 0, NOON)
        assert state.schedule.breakers() == {}
        state.schedule.put_back(waiting, NOON + HOUR)
        assert slot(state) == waiting
        assert claim(state) is not None

    def test_a_newer_slot_takes_the_place_of_older_retries(self, state: SqlStateStore) -> None:
        state.schedule.retry(self.failed(state), NOON + 2 * HOUR, policy=POLICY, now=NOON)
        claim(state, NOON + HOUR)
        assert state.schedule.supersede("shop", NOON + HOUR) == 1
        assert slot(state).status is SlotStatus.SKIPPED
        assert slot(state, NOON + HOUR).status is SlotStatus.CLAIMED

    def test_dead_letters(self, state: SqlStateStore) -> None:
        lasting = replace(self.failed(state), error=RunError("timeout", "ended after 1 h"))
        state.schedule.bury(lasting, policy=POLICY, now=NOON)
        (dead,) = state.schedule.dead()
        assert (dead.status, dead.error) == (SlotStatus.DEAD, lasting.error)
        assert state.schedule.dead("other") == []
        with pytest.raises(SlotSettledError):
            run_slot(state)
        assert state.schedule.revive("shop", NOON + HOUR, NOON) == 0
        assert state.schedule.revive("shop", None, NOON) == 1
        assert claim(state) is not None
        run_slot(state)
        claim(state, NOON + HOUR)
        run_slot(state, NOON + HOUR, RunStatus.FAILED)
        state.schedule.bury(slot(state, NOON + HOUR), policy=POLICY, now=NOON)
        assert state.schedule.drop("shop", NOON + HOUR) == 1
        assert state.schedule.dead("shop") == []
        assert slot(state, NOON + HOUR).status is SlotStatus.SKIPPED


class TestBreakers:
    def opened(self, state: SqlStateStore) -> None:
        for number in range(2):
            at = NOON + timedelta(minutes=number)
            claim(state, at)
            run_slot(state, at, RunStatus.FAILED)
            state.schedule.bury(slot(state, at), policy=POLICY, now=NOON)

    def test_failures_in_a_row_open_it(self, state: SqlStateStore) -> None:
        self.opened(state)
        breaker = state.schedule.breakers()["shop"]
        assert (breaker.state, breaker.failures, breaker.opened_at) == (BreakerState.OPEN, 2, NOON)
        assert breaker.probe_at == NOON + POLICY.cooldown
        refused = claim(state, NOON + timedelta(minutes=5))
        assert refused is not None
        assert refused.status is SlotStatus.SKIPPED
        assert refused.reason == "the connector's breaker is open until 2026-03-01T12:15:00Z"

    def test_one_run_probes_and_a_completed_one_closes(self, state: SqlStateStore) -> None:
        self.opened(state)
        at = NOON + timedelta(minutes=15)
        probe = claim(state, at)
        assert probe is not None
        assert probe.status is SlotStatus.CLAIMED
        assert state.schedule.breakers()["shop"].state is BreakerState.HALF_OPEN
        second = claim(state, at + timedelta(minutes=1))
        assert second is not None
        assert second.status is SlotStatus.SKIPPED
        run_slot(state, at)
        assert state.schedule.breakers() == {}

    def test_a_probe_that_fails_opens_it_again(self, state: SqlStateStore) -> None:
        self.opened(state)
        at = NOON + timedelta(minutes=15)
        claim(state, at)
        run_slot(state, at, RunStatus.FAILED)
        breaker = state.schedule.bury(slot(state, at), policy=POLICY, now=at)
        assert breaker is not None
        assert (breaker.state, breaker.failures) == (BreakerState.OPEN, 3)
        assert (breaker.opened_at, breaker.probe_at) == (NOON, at + POLICY.cooldown)

    def test_a_retry_waits_and_is_the_probe(self, state: SqlStateStore) -> None:
        claim(state, NOON - HOUR)
        run_slot(state, NOON - HOUR, RunStatus.FAILED)
        state.schedule.retry(slot(state, NOON - HOUR), NOON, policy=POLICY, now=NOON)
        claim(state)
        run_slot(state, NOON, RunStatus.FAILED)
        state.schedule.bury(slot(state), policy=POLICY, now=NOON)
        assert claim(state, NOON - HOUR, NOON) is None
        probe_at = state.schedule.breakers()["shop"].probe_at
        assert slot(state, NOON - HOUR).retry_at == probe_at
        assert claim(state, NOON - HOUR, probe_at) is not None

    def test_a_person_closes_it(self, state: SqlStateStore) -> None:
        self.opened(state)
        assert state.schedule.resume("shop", NOON).state is BreakerState.OPEN
        assert state.schedule.resume("shop", NOON).state is BreakerState.CLOSED
        claimed = claim(state, NOON + timedelta(minutes=5))
        assert claimed is not None
        assert claimed.status is SlotStatus.CLAIMED

    def test_a_manual_run_that_completes_closes_it(self, state: SqlStateStore) -> None:
        self.opened(state)
        with state.lease("shop", triggered_by="manual", destination=None) as lease:
            done = StreamRun("t", RunStatus.COMPLETED)
            ended = replace(lease.run, status=RunStatus.COMPLETED, streams=(done,), completed_at=NOON)
            state.finish(ended)
        assert state.schedule.breakers() == {}


def test_settled_slots_go_with_their_runs_but_young_ones_stay(state: SqlStateStore) -> None:
    young = datetime.now(UTC).replace(microsecond=0) - HOUR
    for at in (NOON - timedelta(days=300), young):
        claim(state, at)
        run_slot(state, at)
    waiting = NOON - timedelta(days=400)
    claim(state, waiting)
    state.keep_newest(0)
    assert state.schedule.slot("shop", NOON - timedelta(days=300)) is None
    assert slot(state, young).status is SlotStatus.COMPLETED
    assert slot(state, waiting).status is SlotStatus.CLAIMED


def test_a_removed_connector_leaves_nothing_to_run(state: SqlStateStore) -> None:
    state.schedule.decide({"shop": DecidedSchedule("@hourly", "UTC", NOON)})
    claim(state)
    state.unregister("shop")
    assert state.schedule.open_slots() == []
    assert state.schedule.decided() == {}
