"""The contract of StateStore and Lease, in memory, in a SQLite file and in PostgreSQL."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace
from sqlalchemy import text

from atlas_etl.contracts import StateStore
from atlas_etl.errors import InterruptedRunError, LockedError, SourceError, StateError
from atlas_etl.model import (
    Checkpoint,
    CheckpointAction,
    CheckpointChange,
    CommittedCheckpoint,
    CursorKind,
    CursorValue,
    Run,
    RunError,
    RunProgress,
    RunStatus,
    Side,
    StreamProgress,
    StreamRun,
    StreamState,
)
from atlas_etl.state import LeaseTimes, SqlStateStore, schema
from tests.contract.state_places import SHORT, Place, place, store
from tests.waiting import until

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    opened = store(request.param, request, tmp_path, SHORT)
    yield opened
    opened.close()
    opened.close()


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request.param, request, tmp_path)


def checkpoint(high: int) -> Checkpoint:
    value = CursorValue(CursorKind.INTEGER, str(high))
    return Checkpoint("id", value, value)


def completed(run: Run, high: int = 7) -> Run:
    stream = StreamRun("orders", RunStatus.COMPLETED, rows_read=3, rows_loaded=3, checkpoint=checkpoint(high))
    return replace(
        run,
        status=RunStatus.COMPLETED,
        completed_at=run.started_at + timedelta(seconds=2),
        streams=(stream,),
        rows_processed=3,
        bytes_processed=2**40,
    )


def past_run(number: int, connector: str = "shop", status: RunStatus = RunStatus.COMPLETED) -> Run:
    started = NOON + timedelta(minutes=number)
    return Run(f"run-{number:04}", connector, status, "schedule", started, started + timedelta(seconds=5))


def can_take(state: StateStore) -> bool:
    try:
        with state.lease("shop", triggered_by="test", destination=None):
            return True
    except LockedError:
        return False


class TestRuns:
    def test_a_run_is_in_the_history_from_its_begin_to_its_end(self, state: StateStore) -> None:
        before = datetime.now(UTC)
        with state.lease("shop", triggered_by="manual", destination="warehouse") as lease:
            assert before <= lease.run.started_at <= datetime.now(UTC)
            assert lease.run.started_at.tzinfo is UTC
            assert list(state.history()) == [lease.run]
            assert lease.run == Run(
                lease.run.run_id, "shop", RunStatus.RUNNING, "manual", lease.run.started_at, None, "warehouse"
            )
            finished = completed(lease.run)
            state.finish(finished)
            assert list(state.history("shop")) == [finished]
        assert list(state.history("shop")) == [finished]
        assert state.history("shop")[0].duration_seconds == 2

    def test_run_ids_sort_by_time(self, state: StateStore) -> None:
        ids = [state.record_skipped("shop", triggered_by="test", reason="because").run_id for _ in range(3)]
        started = [run.started_at for run in state.history("shop")]
        assert started == sorted(started, reverse=True)
        assert [run.run_id for run in state.history("shop")] == ids[::-1]

    @pytest.mark.parametrize(
        ("error", "status", "code"),
        [
            (SourceError("it is gone", hint="bring it back", code="source_gone"), "failed", "source_gone"),
            (RuntimeError("password=hunter2"), "failed", "unexpected"),
            (InterruptedRunError("asked to stop"), "interrupted", "interrupted"),
            (KeyboardInterrupt(), "interrupted", "interrupted"),
            (SystemExit(3), "interrupted", "interrupted"),
        ],
    )
    def test_an_exception_ends_the_run(
        self, state: StateStore, error: BaseException, status: str, code: str
    ) -> None:
        with pytest.raises(type(error)) as raised, state.lease("shop", triggered_by="t", destination=None):
            raise error
        assert raised.value is error
        (run,) = state.history()
        assert run.status == status
        assert run.error is not None
        assert run.error.code == code
        assert "hunter2" not in str(run)
        assert run.completed_at is not None
        assert run.completed_at >= run.started_at

    def test_an_exception_does_not_undo_a_finish(self, state: StateStore) -> None:
        with (
            pytest.raises(SourceError),
            state.lease("shop", triggered_by="t", destination=None) as lease,
        ):
            failed = replace(completed(lease.run), status=RunStatus.PARTIAL)
            state.finish(failed)
            raise SourceError("some streams failed")
        assert list(state.history()) == [failed]

    def test_a_run_left_without_a_finish_is_interrupted(self, state: StateStore) -> None:
        with state.lease("shop", triggered_by="t", destination=None):
            pass
        assert [run.status for run in state.history()] == [RunStatus.INTERRUPTED]

    def test_a_refused_run_is_recorded(self, state: StateStore) -> None:
        run = state.record_skipped("shop", triggered_by="schedule", reason="another run is in progress")
        assert run.status is RunStatus.SKIPPED
        assert run.error is not None
        assert run.error.message == "another run is in progress"
        assert list(state.history("shop", status=RunStatus.SKIPPED)) == [run]

    def test_a_finished_run_that_was_never_begun_is_kept(self, state: StateStore) -> None:
        state.finish(past_run(1))
        assert list(state.history()) == [past_run(1)]


class TestHistory:
    def test_a_thousand_runs(self, state: StateStore) -> None:
        for number in range(1_000):
            status = RunStatus.FAILED if number % 10 == 0 else RunStatus.COMPLETED
            state.finish(past_run(number, "shop" if number % 2 == 0 else "other", status))
        assert state.count_runs() == 1_000
        assert state.count_runs("shop") == 500
        assert state.count_runs("shop", status=RunStatus.FAILED) == 100
        assert state.count_runs("nobody") == 0
        latest = state.history("shop", limit=3)
        assert [run.run_id for run in latest] == ["run-0998", "run-0996", "run-0994"]
        failed = state.history(limit=2, status=RunStatus.FAILED)
        assert [run.run_id for run in failed] == ["run-0990", "run-0980"]
        assert len(state.history()) == 20
        assert len(state.history(limit=5_000)) == 1_000
        assert state.history(limit=0) == []
        assert state.prune(NOON + timedelta(minutes=900)) == 900
        assert state.count_runs() == 100
        assert state.history(limit=5_000)[-1].run_id == "run-0900"

    def test_pruning_keeps_a_running_run_and_the_checkpoints(self, state: StateStore) -> None:
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            state.mirror_checkpoint("shop", CommittedCheckpoint("orders", checkpoint(1), NOON, "run-1"))
            assert state.prune(datetime.now(UTC) + timedelta(days=1)) == 0
            assert list(state.history()) == [lease.run]
            assert len(state.checkpoints("shop")) == 1

    def test_keeping_the_newest_of_each_connector(self, state: StateStore) -> None:
        for number in range(6):
            state.finish(past_run(number))
        state.finish(past_run(6, "other"))
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            assert state.keep_newest(3) == 4
            kept = [run.run_id for run in state.history()]
            assert kept == [lease.run.run_id, "run-0006", "run-0005", "run-0004"]
            state.record_skipped("shop", triggered_by="t", reason="in progress")
            assert state.keep_newest(1) == 2
            assert [run.run_id for run in state.history("shop")][1:] == [lease.run.run_id]

    def test_instants_come_back_as_they_were(self, state: StateStore) -> None:
        tokyo = datetime.fromisoformat("2026-03-01T21:00:00.123456+09:00")
        state.finish(Run("r", "shop", RunStatus.COMPLETED, "t", tokyo, tokyo + timedelta(microseconds=1)))
        (run,) = state.history()
        assert run.started_at == NOON
        assert run.started_at.tzinfo is UTC
        assert run.duration_seconds == 1e-6

    def test_what_no_database_holds_is_replaced_in_names(self, state: StateStore) -> None:
        state.record_skipped("shop", triggered_by="a\x00b\udcffc", reason="\x00\udcff")
        (run,) = state.history()
        assert run.triggered_by == "a\ufffdb\ufffdc"
        assert run.error is not None
        assert run.error.message == "\x00\udcff"


class TestCheckpoints:
    def test_finish_mirrors_the_checkpoints_of_its_streams(self, state: StateStore) -> None:
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            finished = completed(lease.run, high=41)
            untouched = StreamRun("refunds", RunStatus.COMPLETED)
            state.finish(replace(finished, streams=(*finished.streams, untouched)))
        assert finished.completed_at is not None
        assert list(state.checkpoints("shop")) == [
            CommittedCheckpoint("orders", checkpoint(41), finished.completed_at, lease.run.run_id)
        ]

    def test_mirrored_overwritten_forgotten(self, state: StateStore) -> None:
        value = CursorValue(CursorKind.TEXT, "Ω\x00'\"; DROP TABLE connector_state; --\n")
        odd = Checkpoint('cur"sor', value, value, ("a", "A", "\x00", ""))
        state.mirror_checkpoint("shop", CommittedCheckpoint("b", odd, NOON, "run-1"))
        state.mirror_checkpoint("shop", CommittedCheckpoint("a", checkpoint(1), NOON, "run-1"))
        state.mirror_checkpoint("shop", CommittedCheckpoint("a", checkpoint(2), NOON, "run-2"))
        state.mirror_checkpoint("other", CommittedCheckpoint("a", checkpoint(9), NOON, "run-3"))
        assert list(state.checkpoints("shop")) == [
            CommittedCheckpoint("a", checkpoint(2), NOON, "run-2"),
            CommittedCheckpoint("b", odd, NOON, "run-1"),
        ]
        state.forget_checkpoint("shop", "a")
        state.forget_checkpoint("shop", "never seen")
        assert [committed.stream for committed in state.checkpoints("shop")] == ["b"]
        assert len(state.checkpoints("other")) == 1

    def test_an_overtaken_run_mirrors_no_checkpoint(self, state: StateStore) -> None:
        with state.lease("shop", triggered_by="t", destination=None) as first:
            pass
        with state.lease("shop", triggered_by="t", destination=None) as second:
            state.finish(completed(second.run, high=20))
        state.finish(completed(first.run, high=10))
        assert [committed.checkpoint for committed in state.checkpoints("shop")] == [checkpoint(20)]
        assert state.count_runs("shop", status=RunStatus.COMPLETED) == 2


def load(state: StateStore, high: int, connector: str = "shop") -> Run:
    """A run that committed this far."""
    with state.lease(connector, triggered_by="t", destination=None) as lease:
        run = completed(lease.run, high)
        state.finish(run)
    return run


def brief(changes: Sequence[CheckpointChange]) -> list[tuple[str, int | None, int | None]]:
    return [
        (
            change.action.value,
            int(change.before.high.text) if change.before else None,
            int(change.after.high.text) if change.after else None,
        )
        for change in changes
    ]


class TestCheckpointChanges:
    def test_a_run_that_moved_a_checkpoint_is_a_change_and_one_that_found_nothing_is_none(
        self, state: StateStore
    ) -> None:
        first, _, third = load(state, 10), load(state, 10), load(state, 12)
        state.finish(third)  # told twice
        later, earlier = state.checkpoint_changes("shop")
        assert brief([later, earlier]) == [("load", 10, 12), ("load", None, 10)]
        assert later.change_id > earlier.change_id
        assert first.completed_at is not None
        assert earlier == CheckpointChange(
            earlier.change_id,
            "shop",
            "orders",
            CheckpointAction.LOAD,
            None,
            checkpoint(10),
            first.completed_at,
            f"{pwd.getpwuid(os.geteuid()).pw_name}@{os.uname().nodename}",
            first.run_id,
        )
        assert state.checkpoint_change(earlier.change_id) == earlier
        assert state.checkpoint_change(later.change_id + 1) is None

    def test_set_and_reset_are_recorded_every_time_with_their_reason(self, state: StateStore) -> None:
        load(state, 10)
        for number in (4, 4, None, None):
            action = CheckpointAction.RESET if number is None else CheckpointAction.SET
            after = None if number is None else checkpoint(number)
            state.change_checkpoint("shop", "orders", action, after, run_id="r", reason="said 'so'\x00")
            mirrored = [committed.checkpoint for committed in state.checkpoints("shop")]
            assert mirrored == ([] if after is None else [after])
        changes = state.checkpoint_changes("shop")
        assert brief(changes) == [
            ("reset", None, None),
            ("reset", 4, None),
            ("set", 4, 4),
            ("set", 10, 4),
            ("load", None, 10),
        ]
        assert {change.reason for change in changes[:-1]} == {"said 'so'\ufffd"}
        assert {change.run_id for change in changes[:-1]} == {"r"}
        assert all(change.changed_by for change in changes)
        assert changes[0].changed_at.tzinfo is UTC
        load(state, 11)
        assert brief(state.checkpoint_changes("shop", limit=1)) == [("load", None, 11)]

    def test_what_is_found_at_the_destination_is_a_change_of_nobody_known(self, state: StateStore) -> None:
        load(state, 10)
        for _ in range(2):
            state.mirror_checkpoint("shop", CommittedCheckpoint("orders", checkpoint(11), NOON, "killed"))
        state.mirror_checkpoint("shop", CommittedCheckpoint("orders", checkpoint(3), NOON, ""))
        changes = state.checkpoint_changes("shop", limit=2)
        assert brief(changes) == [("set", 11, 3), ("load", 10, 11)]
        assert [(change.run_id, change.changed_by) for change in changes] == [(None, None), ("killed", None)]
        assert {change.changed_at for change in changes} == {NOON}

    def test_they_are_of_one_connector_and_where_asked_of_one_stream(self, state: StateStore) -> None:
        load(state, 1)
        load(state, 2, "other")
        for number in range(30):
            action = CheckpointAction.REPAIR
            state.change_checkpoint("shop", "refunds", action, checkpoint(number), run_id="r")
        assert brief(state.checkpoint_changes("other")) == [("load", None, 2)]
        assert brief(state.checkpoint_changes("shop", stream="orders")) == [("load", None, 1)]
        assert len(state.checkpoint_changes("shop")) == 20
        assert len(state.checkpoint_changes("shop", limit=99)) == 31
        assert state.checkpoint_changes("shop", limit=0) == []
        assert brief(state.checkpoint_changes("shop", limit=1)) == [("repair", 28, 29)]

    def test_they_are_pruned_with_their_runs_but_for_the_newest_of_each_stream(
        self, state: StateStore
    ) -> None:
        for number in range(5):
            load(state, number)
        load(state, 7, "other")
        before = state.checkpoint_changes("shop")
        assert state.keep_newest(2) == 3
        assert list(state.checkpoint_changes("shop")) == before[:2]
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            state.change_checkpoint("shop", "refunds", CheckpointAction.RESET, None, run_id=lease.run.run_id)
        assert state.prune(datetime.now(UTC) + timedelta(days=1)) == 4
        assert brief(state.checkpoint_changes("shop")) == [("reset", None, None), ("load", 3, 4)]
        assert brief(state.checkpoint_changes("other")) == [("load", None, 7)]
        load(state, 9)
        newest = state.checkpoint_changes("shop", stream="orders")
        assert newest[0].change_id > before[0].change_id
        state.keep_newest(1)
        assert list(state.checkpoint_changes("shop", stream="orders")) == newest[:1]

    def test_an_overtaken_run_changes_nothing(self, state: StateStore) -> None:
        with state.lease("shop", triggered_by="t", destination=None) as first:
            pass
        load(state, 20)
        state.finish(completed(first.run, high=10))
        assert brief(state.checkpoint_changes("shop")) == [("load", None, 20)]

    def test_two_that_find_the_same_at_once_record_it_once(self, shared: Place) -> None:
        stores = [shared.open() for _ in range(4)]
        load(stores[0], 1)
        found = CommittedCheckpoint("orders", checkpoint(2), NOON, "killed")
        with ThreadPoolExecutor(4) as pool:
            for answer in [pool.submit(store.mirror_checkpoint, "shop", found) for store in stores]:
                answer.result()
        assert brief(stores[0].checkpoint_changes("shop")) == [("load", 1, 2), ("load", None, 1)]


class TestViews:
    def test_they_show_registered_connectors_and_recent_runs(self, state: SqlStateStore) -> None:
        state.register("shop", "postgresql", enabled=True, schedule=None)
        state.register("shop", "postgresql", enabled=True, schedule="@daily")
        state.register("off", "mysql", enabled=False, schedule=None)
        state.register("new", "csv", enabled=True, schedule=None)
        state.register("gone", "csv", enabled=True, schedule=None)
        for number in range(120):
            state.finish(past_run(number))
        state.finish(past_run(0, "gone"))
        state.unregister("gone")
        state.unregister("never there")
        # Names as a person would write them, for the views are for people.
        prefix = "pipeline." if "postgresql" in state._database.name else ""
        with state._database.reading() as connection:
            active = connection.execute(
                text(
                    "SELECT name, protocol, schedule, last_run_id, last_status "
                    f"FROM {prefix}v_active_connectors ORDER BY name"
                )
            ).all()
            recent = connection.execute(text(f"SELECT run_id FROM {prefix}v_recent_runs")).scalars().all()
        assert active == [
            ("new", "csv", None, None, None),
            ("shop", "postgresql", "@daily", "run-0119", "completed"),
        ]
        assert len(recent) == 100
        assert recent[:2] == ["run-0119", "run-0118"]
        assert state.count_runs("gone") == 1


class TestLive:
    def test_a_run_is_seen_with_the_progress_that_it_last_published(self, state: SqlStateStore) -> None:
        orders = StreamProgress("orders", StreamState.LOADING, "shop.orders", 5, 80, 10, slower=Side.SOURCE)
        done = StreamProgress("ref\x00unds", StreamState.COMPLETED, None, 2**40, 2**62, seconds=1.5)
        latest = [RunProgress(4, 1, (done, orders), ("items",), ("crm",))]
        assert list(state.live()) == []
        with (
            state.lease("shop", triggered_by="t", destination="w", progress=lambda: latest[0]) as lease,
            state.lease("crm", triggered_by="t", destination=None) as other,
            state.hold("looked-at"),
        ):
            until(lambda: state.live("shop")[0].progress == latest[0], "what was reached is told")
            (live,) = state.live("shop")
            assert (live.run, live.host, live.pid) == (lease.run, os.uname().nodename, os.getpid())
            assert live.progress is not None
            assert live.progress.streams[0].seconds == 1.5
            assert 0 <= live.silent_seconds < 30
            latest[0] = RunProgress(4, 4)
            until(lambda: state.live("shop")[0].progress == latest[0], "what was reached is told")
            assert [live.run.run_id for live in state.live()] == [lease.run.run_id, other.run.run_id]
            assert state.live("crm")[0].progress is None
            state.finish(completed(lease.run))
            assert [live.run.connector for live in state.live()] == ["crm"]
        assert list(state.live()) == []
        with state.lease("shop", triggered_by="t", destination=None):
            assert state.live()[0].progress is None

    def test_a_run_whose_process_died_is_not_live(self, shared: Place) -> None:
        with shared.player() as player, closing(shared.open(SHORT)) as state:
            assert player.tell("take").startswith("held")
            assert len(state.live("shop")) == 1
            player.process.kill()
            player.process.wait()
            until(lambda: not state.live("shop"), "the dead run is not shown")
            assert state.history("shop")[0].status is RunStatus.INTERRUPTED


class TestLease:
    def test_who_only_looks_keeps_runs_away_and_leaves_no_history(self, state: SqlStateStore) -> None:
        with state.hold("shop") as held:
            assert not held.lost()
            with pytest.raises(LockedError), state.lease("shop", triggered_by="t", destination=None):
                pass
            with pytest.raises(LockedError), state.hold("shop"):
                pass
        with pytest.raises(KeyError), state.hold("shop"):
            raise KeyError
        assert list(state.history()) == []
        with state.lease("shop", triggered_by="t", destination=None):
            with pytest.raises(LockedError), state.hold("shop"):
                pass
            assert not can_take(state)

    def test_a_second_run_of_the_connector_is_refused(self, state: StateStore) -> None:
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            with (
                pytest.raises(LockedError) as refused,
                state.lease("shop", triggered_by="u", destination=None),
            ):
                pytest.fail("two runs of one connector")
            with state.lease("other", triggered_by="t", destination=None) as other:
                assert other.token == 1
        assert refused.value.connector == "shop"
        assert refused.value.hint
        for part in ("'shop'", lease.run.run_id, f"pid {os.getpid()}", os.uname().nodename, "since 2"):
            assert part in refused.value.message
        assert state.count_runs("shop") == 1
        assert can_take(state)

    def test_tokens_grow(self, state: StateStore) -> None:
        state.register("shop", "csv", enabled=True, schedule=None)
        tokens = []
        for _ in range(3):
            with state.lease("shop", triggered_by="t", destination=None) as lease:
                tokens.append(lease.token)
            state.unregister("shop")
            state.prune(datetime.now(UTC) + timedelta(days=1))
        assert tokens == [1, 2, 3]

    def test_the_heartbeat_goes_on_while_native_code_blocks_this_thread(self, state: StateStore) -> None:
        refused: list[bool] = []
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            rival = threading.Timer(SHORT.expiry + 0.5, lambda: refused.append(not can_take(state)))
            rival.start()
            ctypes.CDLL(None).usleep(int((SHORT.expiry + 1) * 1e6))
            rival.join()
            assert not lease.lost()
        assert refused == [True]

    def test_a_forked_child_uses_the_store_and_gives_nothing_back(self, shared: Place) -> None:
        state, here, could_count = shared.open(SHORT), os.getpid(), 0
        try:
            with state.lease("shop", triggered_by="t", destination=None):
                child = os.fork()
                if child == 0:
                    could_count = state.count_runs()
                    raise KeyboardInterrupt
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
                assert not can_take(state)
                assert [run.status for run in state.history()] == [RunStatus.RUNNING]
        finally:
            if os.getpid() != here:
                os._exit(could_count)


class TestProcesses:
    def test_opening_a_new_store_at_once(self, shared: Place, tmp_path: Path) -> None:
        rounds = 8 if shared.kind == "sqlite" else 1
        with shared.players(4) as players:
            for number in range(rounds):
                location = shared.location if number == 0 else str(tmp_path / f"{number}" / "state.db")
                for player in players:
                    player.order(f"open {location}")
                assert [player.answer() for player in players] == ["opened"] * 4
        with shared.open()._database.reading() as connection:
            assert connection.execute(schema.schema_version.select()).scalars().all() == [
                schema.SCHEMA_VERSION
            ]

    def test_only_one_of_many_gets_the_lease(self, shared: Place) -> None:
        tokens = []
        with shared.players(3, LeaseTimes()) as players:
            for player in players:
                player.tell("open")
            for _ in range(10):
                for player in players:
                    player.order("take")
                answers = {player: player.answer() for player in players}
                holders = [player for player, answer in answers.items() if answer.startswith("held")]
                assert len(holders) == 1
                assert list(answers.values()).count("locked") == 2
                tokens.append(int(answers[holders[0]].split()[1]))
                holders[0].tell("finish 1")
                holders[0].tell("leave")
        assert tokens == list(range(1, 11))
        assert shared.open().count_runs("shop", status=RunStatus.COMPLETED) == 10

    def test_a_killed_run_is_free_and_marked(self, shared: Place) -> None:
        state = shared.open()
        with shared.player(SHORT if shared.kind == "postgres" else LeaseTimes()) as player:
            _, token, run_id = player.tell("take").split()
            assert not can_take(state)
            player.process.kill()
            player.process.wait()
            if shared.kind == "postgres":
                assert not can_take(state)  # the server cannot see processes: only silence tells
                until(lambda: state.count_runs(status=RunStatus.RUNNING) == 0, "the run has an end")
            (run,) = state.history()
            assert (run.run_id, run.status) == (run_id, RunStatus.INTERRUPTED)
            assert run.error is not None
            assert f"pid {player.process.pid}" in run.error.message
            assert run.completed_at is not None
            assert run.started_at <= run.completed_at <= datetime.now(UTC)
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            assert lease.token == int(token) + 1

    def test_taking_the_lease_of_a_killed_run_marks_it(self, shared: Place) -> None:
        state = shared.open(SHORT)
        with shared.player() as player:
            run_id = player.tell("take").split()[2]
            player.process.kill()
            player.process.wait()
            until(lambda: can_take(state), "the lease is free")
        (run,) = (run for run in state.history() if run.run_id == run_id)
        assert run.status is RunStatus.INTERRUPTED

    def test_a_killed_run_that_had_finished_stays_finished(self, shared: Place) -> None:
        state = shared.open(SHORT)
        with shared.player() as player:
            player.tell("take")
            assert player.tell("finish 5") == "finished"
            player.process.kill()
            player.process.wait()
            until(lambda: can_take(state), "the lease is free")
        assert state.history(limit=5)[-1].status is RunStatus.COMPLETED

    def test_a_run_that_was_frozen_loses_its_lease(self, shared: Place) -> None:
        state = shared.open(SHORT)
        with shared.player() as player:
            _, token, run_id = player.tell("take").split()
            assert player.tell("lost") == "False"
            player.process.send_signal(signal.SIGSTOP)
            until(lambda: can_take(state), "the lease is free")
            with state.lease("shop", triggered_by="t", destination=None) as lease:
                assert lease.token > int(token)
                state.finish(completed(lease.run, high=100))
                player.process.send_signal(signal.SIGCONT)
                until(lambda: player.tell("lost") == "True", "the first knows that it lost")
                player.tell("finish 5")
                player.tell("leave")
                assert not lease.lost()
                assert not can_take(state)
        assert [committed.checkpoint for committed in state.checkpoints("shop")] == [checkpoint(100)]
        (run,) = (run for run in state.history() if run.run_id == run_id)
        assert run.status is RunStatus.COMPLETED  # what it says of itself is better known than our guess

    def test_the_heartbeat_keeps_no_process_alive(self, shared: Place) -> None:
        script = (
            "import sys; from atlas_etl.state import open_state_store\n"
            "context = open_state_store(sys.argv[1]).lease('shop', triggered_by='t', destination=None)\n"
            "context.__enter__(); import os; sys.stdout.write('held')"
        )
        ended = subprocess.run(
            [sys.executable, "-c", script, shared.location],
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
        )
        assert (ended.stdout, ended.stderr) == ("held", "")


class TestVersions:
    def test_a_newer_store_is_refused(self, shared: Place) -> None:
        with shared.open()._database.writing() as connection:
            connection.execute(schema.schema_version.insert().values(version=99, migrated_at=NOON))
        with pytest.raises(StateError) as refused:
            shared.open()
        assert refused.value.code == "state_newer"
        assert "99" in refused.value.message

    def test_an_older_store_is_upgraded_once(self, shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        shared.open().finish(past_run(1))
        calls = []
        now = schema.SCHEMA_VERSION
        monkeypatch.setattr(schema, "SCHEMA_VERSION", now + 2)
        upgrades = {now: lambda _: calls.append("first"), now + 1: lambda _: calls.append("second")}
        monkeypatch.setattr("atlas_etl.state.migrate.UPGRADES", upgrades)
        for _ in range(2):
            assert list(shared.open().history()) == [past_run(1)]
        assert calls == ["first", "second"]

    def test_a_failing_upgrade_changes_nothing(self, shared: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        shared.open().finish(past_run(1))

        def broken(connection: object) -> None:
            connection.execute(schema.scheduled_runs.delete())  # type: ignore[attr-defined]
            connection.execute(text("SELECT no_such_column"))  # type: ignore[attr-defined]

        with monkeypatch.context() as patched:
            now = schema.SCHEMA_VERSION
            patched.setattr(schema, "SCHEMA_VERSION", now + 1)
            patched.setattr("atlas_etl.state.migrate.UPGRADES", {now: broken})
            with pytest.raises(StateError):
                shared.open()
        assert list(shared.open().history()) == [past_run(1)]

    def test_tables_of_somebody_else_are_left_alone(self, shared: Place) -> None:
        fresh = shared.open()
        names = "pipeline.{}" if shared.kind == "postgres" else "{}"
        with fresh._database.writing() as connection:
            connection.execute(text(f"DROP TABLE {names.format('schema_version')}"))
        with pytest.raises(StateError) as refused:
            shared.open()
        assert refused.value.code == "state_foreign"


# JSON documents keep any text, columns what databases hold.
_ANYTHING = st.text(st.characters(exclude_categories=()), max_size=20)
_STORABLE = st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=20)
_INSTANTS = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
_COUNTS = st.integers(0, 2**63 - 1)


def _every(kind: type, **strategies: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Values of a Struct with all of its fields drawn, also those that have a default."""
    drawn = {field.name: st.from_type(field.type) for field in fields(kind) if field.name not in strategies}
    return st.builds(kind, **drawn | strategies)


_ERRORS = _every(RunError, code=_ANYTHING, message=_ANYTHING)
_STREAMS = _every(
    StreamRun,
    name=_ANYTHING,
    # Only destinations keep how far parents are.
    checkpoint=st.none() | _every(Checkpoint, high=_every(CursorValue, text=_ANYTHING), parents=st.none()),
    nulled=st.dictionaries(st.text(max_size=20), _COUNTS, max_size=3),
    error=st.none() | _ERRORS,
)
_RUNS = _every(
    Run,
    run_id=st.uuids().map(str),
    connector=_STORABLE,
    triggered_by=_STORABLE,
    destination=st.none() | _STORABLE,
    started_at=_INSTANTS,
    completed_at=st.none() | _INSTANTS,
    scheduled_at=st.none() | _INSTANTS,
    rows_processed=_COUNTS,
    bytes_processed=_COUNTS,
    error=st.none() | _ERRORS,
    streams=st.lists(_STREAMS, max_size=3).map(tuple),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(run=_RUNS)
def test_every_run_comes_back_as_it_was(state: StateStore, run: Run) -> None:
    state.finish(run)
    assert run in state.history(run.connector, limit=1_000)
    expected = {stream.name: stream.checkpoint for stream in run.streams if stream.checkpoint is not None}
    mirrored = [committed.checkpoint for committed in state.checkpoints(run.connector)]
    assert all(checkpoint in mirrored for checkpoint in expected.values())
    recorded = [change.after for change in state.checkpoint_changes(run.connector, limit=1_000)]
    assert all(any(found.reaches_as_far_as(after) for after in recorded) for found in expected.values())


def test_one_run_and_the_last_completed_ones(state: SqlStateStore) -> None:
    assert state.last_completed() == {}
    runs = [past_run(1), past_run(3), past_run(5, status=RunStatus.FAILED), past_run(2, "crm")]
    for run in runs:
        state.finish(run)
    assert state.run("run-0003") == past_run(3)
    assert state.run("run-0004") is None
    assert state.last_completed() == {"shop": past_run(3).completed_at, "crm": past_run(2).completed_at}
