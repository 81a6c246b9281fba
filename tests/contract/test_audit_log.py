"""The contract of AuditLog, in memory, in a SQLite file and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from atlas_etl.model import (
    AuditAction,
    AuditKind,
    BreakerPolicy,
    Change,
    Checkpoint,
    CheckpointAction,
    CommittedCheckpoint,
    CursorKind,
    CursorValue,
    RunStatus,
    SealedSecret,
)
from atlas_etl.redactor import MASK, forget, learn
from atlas_etl.state import SqlStateStore
from tests.contract.state_places import SHORT, Place, place, store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ONCE = BreakerPolicy(1, timedelta(hours=1))
RENAMED = Change(AuditKind.DEFINITION, AuditAction.CHANGED, "shop", before={"a": 1}, after={"a": [None, "x"]})


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    with closing(store(request.param, request, tmp_path, SHORT)) as opened:
        yield opened


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return place(request.param, request, tmp_path)


def checkpoint(high: int) -> Checkpoint:
    value = CursorValue(CursorKind.INTEGER, str(high))
    return Checkpoint("id", value, value)


def told(state: SqlStateStore) -> list[tuple[str, str, str | None, str | None]]:
    """Kind, action, connector and subject, the latest first."""
    return [
        (entry.change.kind, entry.change.action, entry.change.connector, entry.change.subject)
        for entry in state.audit.entries()
    ]


def test_a_change_is_kept_with_who_made_it_and_from_where(state: SqlStateStore) -> None:
    state.audit.record([RENAMED])
    (entry,) = state.audit.entries()
    assert entry.change == RENAMED
    assert not entry.outside
    assert entry.actor.user
    assert entry.actor.host
    assert entry.actor.pid > 1
    assert abs(datetime.now(UTC) - entry.at) < timedelta(minutes=1)


def test_entries_are_chosen_by_connector_kind_and_time_the_latest_first(state: SqlStateStore) -> None:
    secret = Change(AuditKind.SECRET, AuditAction.ADDED, "shop", "shop/password")
    other = Change(AuditKind.SECRET, AuditAction.ADDED, "crm", "crm/password")
    state.audit.record([RENAMED, secret, other])
    assert [entry.change for entry in state.audit.entries()] == [other, secret, RENAMED]
    assert [entry.change for entry in state.audit.entries(limit=1)] == [other]
    only = {"connector": "shop", "kinds": [AuditKind.SECRET, AuditKind.BREAKER]}
    assert [entry.change for entry in state.audit.entries(**only)] == [secret]
    assert state.audit.count(**only) == 1
    assert state.audit.count() == 3
    assert state.audit.entries(since=datetime.now(UTC) + timedelta(minutes=1)) == []
    assert state.audit.count(since=datetime.now(UTC) - timedelta(minutes=1)) == 3


def test_a_change_of_a_checkpoint_is_told_with_both_ends_and_the_reason(state: SqlStateStore) -> None:
    action = CheckpointAction.SET
    with state.lease("shop", triggered_by="t", destination=None) as lease:
        run_id = lease.run.run_id
        state.change_checkpoint("shop", "orders", action, checkpoint(5), run_id=run_id)
        state.change_checkpoint(
            "shop", "orders", CheckpointAction.RESET, None, run_id=run_id, reason="prices"
        )
    reset, first = state.audit.entries(kinds=[AuditKind.CHECKPOINT])
    assert (first.change.before, first.change.after) == (None, {"high": "5", "tail_from": "5"})
    assert (reset.change.before, reset.change.after) == ({"high": "5", "tail_from": "5"}, None)
    assert (reset.change.subject, reset.change.reason, reset.change.run_id) == ("orders", "prices", run_id)


def test_what_runs_commit_is_no_news_but_what_a_person_set_elsewhere_is(state: SqlStateStore) -> None:
    state.mirror_checkpoint("shop", CommittedCheckpoint("orders", checkpoint(5), NOON, "run"))
    assert told(state) == []
    state.mirror_checkpoint("shop", CommittedCheckpoint("orders", checkpoint(3), NOON, ""))
    (entry,) = state.audit.entries()
    assert entry.outside
    assert (entry.change.action, entry.change.after) == (AuditAction.SET, {"high": "3", "tail_from": "3"})


def test_a_change_that_is_undone_is_not_told(state: SqlStateStore) -> None:
    with pytest.raises(ZeroDivisionError), state.secrets.changing() as secrets:
        secrets["shop/password"] = SealedSecret("key", b"token", NOON)
        raise ZeroDivisionError
    assert told(state) == []


def test_secrets_are_told_by_their_names(state: SqlStateStore) -> None:
    def sealed(key: str, at: datetime) -> SealedSecret:
        return SealedSecret(key, b"sealed-bytes", at)

    with state.secrets.changing() as secrets:
        secrets["shop/password"] = sealed("key-1", NOON)
        secrets["crm/token"] = sealed("key-1", NOON)
    with state.secrets.changing() as secrets:
        secrets["shop/password"] = sealed("key-1", NOON + timedelta(seconds=1))
        del secrets["crm/token"]
    with state.secrets.changing() as secrets:
        secrets["shop/password"] = sealed("key-2", NOON + timedelta(seconds=1))
    assert told(state) == [
        ("secret", "rotated", None, None),
        ("secret", "changed", "shop", "shop/password"),
        ("secret", "removed", "crm", "crm/token"),
        ("secret", "added", "shop", "shop/password"),
        ("secret", "added", "crm", "crm/token"),
    ]
    kept = repr([entry.change for entry in state.audit.entries()])
    assert "sealed-bytes" not in kept
    assert "key-" not in kept


def failed(state: SqlStateStore, at: datetime) -> None:
    """A run of this slot fails, and counts."""
    with state.lease("shop", triggered_by="scheduled", destination=None, scheduled_at=at):
        pass
    (slot,) = [slot for slot in state.schedule.open_slots() if slot.scheduled_at == at]
    state.schedule.bury(slot, policy=ONCE, now=at)


def test_breakers_and_dead_letters(state: SqlStateStore) -> None:
    failed(state, NOON)
    failed(state, NOON + timedelta(hours=1))
    state.schedule.resume("shop", NOON)
    state.schedule.resume("shop", NOON)
    assert state.schedule.revive("shop", NOON, NOON) == 1
    assert state.schedule.drop("shop", None) == 1
    assert state.schedule.drop("shop", None) == 0
    assert told(state) == [
        ("schedule", "dropped", "shop", "2026-03-01T13:00:00Z"),
        ("schedule", "retried", "shop", "2026-03-01T12:00:00Z"),
        ("breaker", "resumed", "shop", None),
        ("breaker", "opened", "shop", None),
    ]


def test_a_run_that_completes_closes_the_breaker(state: SqlStateStore) -> None:
    failed(state, NOON)
    with state.lease("shop", triggered_by="t", destination=None) as lease:
        run = lease.run
        state.finish(replace(run, status=RunStatus.COMPLETED, completed_at=datetime.now(UTC)))
    closed, _ = state.audit.entries(kinds=[AuditKind.BREAKER])
    assert (closed.change.action, closed.change.run_id) == (AuditAction.CLOSED, run.run_id)


class TestDefinitions:
    """What is known of them, and what is news."""

    def test_what_a_command_changes_is_its_own_and_what_came_before_is_not(
        self, state: SqlStateStore
    ) -> None:
        state.audit.define("shop", None, {"protocol": "sqlite"})
        by_hand = {"protocol": "sqlite", "schedule": "0 * * * *"}
        state.audit.define("shop", by_hand, {**by_hand, "enabled": False})
        state.audit.define("shop", {**by_hand, "enabled": False}, None)
        entries = state.audit.entries(connector="shop")
        assert [(entry.change.kind, entry.change.action, entry.outside) for entry in entries] == [
            ("definition", "removed", False),
            ("schedule", "disabled", False),
            ("schedule", "changed", True),
            ("definition", "added", False),
        ]
        assert entries[1].change.before == {}
        assert entries[1].change.after == {"enabled": False}

    def test_a_definition_that_could_not_be_read_is_what_it_was(self, state: SqlStateStore) -> None:
        state.audit.define("shop", None, {"protocol": "sqlite"})
        state.audit.define("shop", {}, None)
        assert [entry.outside for entry in state.audit.entries()] == [False, False]

    def test_what_is_noticed_is_told_once(self, state: SqlStateStore) -> None:
        seen = {"shop": {"protocol": "sqlite"}, "atlas.yaml": {"timezone": "UTC"}}
        for _ in range(2):
            state.audit.notice(seen)
        assert told(state) == [
            ("definition", "added", "shop", None),
            ("definition", "added", None, "atlas.yaml"),
        ]
        state.audit.notice({}, gone_without=["shop"])
        assert told(state)[0] == ("definition", "removed", None, "atlas.yaml")
        state.audit.notice({"shop": {"protocol": "sqlite", "enabled": 1}})
        state.audit.notice({"shop": {"protocol": "sqlite", "enabled": True}})
        assert [entry.change.after for entry in state.audit.entries(limit=2)] == [
            {"enabled": True},
            {"enabled": 1},
        ]
        assert all(entry.outside for entry in state.audit.entries())


def test_two_who_notice_one_change_tell_it_once(shared: Place) -> None:
    stores = [shared.open() for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            seen = {"shop": {"protocol": "sqlite"}}
            list(pool.map(lambda opened: opened.audit.notice(seen), stores))
        assert stores[0].audit.count() == 1
    finally:
        for opened in stores:
            opened.close()


def test_no_secret_is_kept_in_a_reason(state: SqlStateStore) -> None:
    learn(["caNary-of-the-audit"])
    try:
        state.change_checkpoint(
            "shop", "orders", CheckpointAction.RESET, None, run_id="r", reason="caNary-of-the-audit!"
        )
    finally:
        forget()
    (entry,) = state.audit.entries()
    assert entry.change.reason == f"{MASK}!"
