"""The contract of VerificationStore, in memory, in a SQLite file and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from atlas_etl.model import Verification, VerifyMode
from atlas_etl.state import SqlStateStore
from tests.contract.state_places import SHORT, store

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
FOUND = Verification(
    "shop", "orders", NOON, 1.5, VerifyMode.COMPARE, 2**40, 7, 6, 5, 4, pending=3, quarantined=2
)
EQUAL = replace(FOUND, missing=0, extra=0, changed=0, mode=VerifyMode.REPAIR)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    with closing(store(request.param, request, tmp_path, SHORT)) as opened:
        yield opened


def later(verification: Verification, hours: int) -> Verification:
    return replace(verification, verified_at=NOON + timedelta(hours=hours))


def test_what_was_compared_comes_back_the_latest_first(state: SqlStateStore) -> None:
    kept = state.verifications
    assert (list(kept.verifications()), list(kept.latest()), kept.count()) == ([], [], 0)
    other = replace(EQUAL, connector="other", stream="odd \x00 name")
    for each in (FOUND, later(EQUAL, 1), later(other, 2)):
        kept.record(each)
    assert [each.is_equal for each in kept.verifications("shop")] == [True, False]
    assert list(kept.verifications("shop", limit=1)) == [later(EQUAL, 1)]
    assert kept.verifications("shop")[1] == FOUND
    assert list(kept.verifications("shop", since=NOON + timedelta(minutes=1))) == [later(EQUAL, 1)]
    assert (kept.count(), kept.count("shop"), kept.count("nothing")) == (3, 2, 0)
    assert [each.stream for each in kept.verifications()] == ["odd \ufffd name", "orders", "orders"]


def test_the_latest_of_each_stream(state: SqlStateStore) -> None:
    items = replace(FOUND, stream="items")
    for each in (items, FOUND, later(EQUAL, -5)):  # as they were told, whatever a clock did
        state.verifications.record(each)
    assert list(state.verifications.latest()) == [items, later(EQUAL, -5)]


def test_the_newest_thousand_are_kept_and_older_ones_go_with_the_history(
    state: SqlStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atlas_etl.state.verifications._MOST_KEPT", 3)
    for name in ("shop", "other"):
        for hours in range(5):
            state.verifications.record(replace(later(FOUND, hours), connector=name))
    for name in ("shop", "other"):
        kept = [each.verified_at for each in state.verifications.verifications(name)]
        assert kept == [NOON + timedelta(hours=hours) for hours in (4, 3, 2)]
    state.prune(NOON + timedelta(hours=3))
    assert state.verifications.count("shop") == state.verifications.count("other") == 2
