"""The heartbeat of a held lease, with a renewal that the test decides."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from tests.waiting import until

from atlas_etl.errors import StateError
from atlas_etl.model import Run, RunProgress, RunStatus
from atlas_etl.state import lease as lease_module
from atlas_etl.state.lease import HeldLease, LeaseTimes
from atlas_etl.state.outage import STILL_SECONDS

RUN = Run("r", "shop", RunStatus.RUNNING, "t", datetime(2026, 1, 1, tzinfo=UTC))


class Renewals:
    """Answers in order, the last one again and again; counts the calls."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.called = threading.Condition()

    def __call__(self, _progress: RunProgress | None = None) -> bool:
        with self.called:
            answer = self.answers[min(self.calls, len(self.answers) - 1)]
            self.calls += 1
            self.called.notify_all()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait_for(self, calls: int) -> None:
        with self.called:
            assert self.called.wait_for(lambda: self.calls >= calls, timeout=30)


def held(
    renew: Callable[[RunProgress | None], bool], clock: Callable[[], float], expiry: float = 60.0
) -> HeldLease:
    times = LeaseTimes(0.01, expiry)
    return HeldLease(RUN, 7, times=times, renew=renew, clock=clock, taken_at=clock())


def test_a_lease_taken_by_another_is_lost_and_no_longer_renewed() -> None:
    renewals = Renewals(True, True, False)
    lease = held(renewals, time.monotonic)
    assert not lease.lost()
    lease.start()
    lease._thread.join(30)
    assert lease.lost()
    assert renewals.calls == 3
    lease.stop()


def test_failed_renewals_are_tried_again_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    renewals = Renewals(StateError("the store is gone"))
    lease = held(renewals, lambda: now[0])
    with caplog.at_level(logging.WARNING):
        lease.start()
        renewals.wait_for(5)
        now[0] += STILL_SECONDS
        renewals.wait_for(renewals.calls + 5)
        now[0] += 1
        renewals.answers = [True]
        renewals.wait_for(renewals.calls + 5)
    assert not lease.lost()
    lease.stop()
    assert not lease._thread.is_alive()
    assert [record.getMessage() for record in caplog.records] == [
        "the lease of shop could not be renewed: the store is gone",
        "the lease of shop could not be renewed for 60 s: the store is gone",
        "the lease of shop is renewed again, after 61 s",
    ]


def test_a_lease_that_cannot_be_renewed_in_time_is_lost_until_it_can() -> None:
    now = [100.0]
    renewals = Renewals(StateError("gone"))
    lease = held(renewals, lambda: now[0], expiry=5.0)
    lease.start()
    renewals.wait_for(3)
    now[0] += 5.0
    assert not lease.lost()
    now[0] += 0.1
    assert lease.lost()
    renewals.answers = [True]
    renewals.wait_for(renewals.calls + 2)
    assert not lease.lost()
    lease.stop()


def test_progress_is_published_where_it_changed_and_otherwise_with_the_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lease_module, "PROGRESS_SECONDS", 0.01)
    published: list[RunProgress | None] = []
    looks: list[RunProgress] = []
    latest = [RunProgress(3, 0)]

    def renew(progress: RunProgress | None) -> bool:
        published.append(progress)
        return True

    def progress() -> RunProgress:
        looks.append(latest[0])
        return looks[-1]

    lease = HeldLease(
        RUN,
        7,
        times=LeaseTimes(600, 6000),
        renew=renew,
        clock=time.monotonic,
        taken_at=0.0,
        progress=progress,
    )
    lease.start()
    for number in range(3):
        latest[0] = RunProgress(3, number)
        until(lambda: latest[0] in published, "it is published")
        until(lambda: looks.count(latest[0]) > 4, "it is looked at again and again")
    lease.stop()
    assert published == [RunProgress(3, number) for number in range(3)]


def test_a_run_shorter_than_a_second_publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lease_module.PROGRESS_SECONDS == 1.0
    monkeypatch.setattr(lease_module, "PROGRESS_SECONDS", 100.0)  # a machine may take that second for itself
    renewals = Renewals(True)
    lease = HeldLease(
        RUN, 7, times=LeaseTimes(), renew=renewals, clock=time.monotonic, taken_at=0.0,
        progress=lambda: RunProgress(1, 0),
    )  # fmt: skip
    lease.start()
    lease.stop()
    assert renewals.calls == 0


def test_the_thread_keeps_no_process_alive() -> None:
    assert held(lambda _: True, time.monotonic)._thread.daemon


@pytest.mark.parametrize(("heartbeat", "expiry"), [(0, 1), (-1, 1), (1, 1), (2, 1)])
def test_times_that_cannot_work_are_refused(heartbeat: float, expiry: float) -> None:
    with pytest.raises(ValueError, match="renewed more often"):
        LeaseTimes(heartbeat, expiry)


def test_the_defaults_free_a_dead_run_within_a_minute() -> None:
    assert LeaseTimes().expiry < 60
    assert LeaseTimes().heartbeat * 3 < LeaseTimes().expiry
