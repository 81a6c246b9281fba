"""What remembers of the schedule: which slot ran where, what is tried again, which connector rests."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from atlas_etl.contracts.state import Lease
from atlas_etl.model import Breaker, BreakerPolicy, Daemon, DecidedSchedule, RunError, Slot


class ScheduleStore(Protocol):
    """Slots, breakers and daemons; any number of processes and hosts may share them. Raises StateError.

    A slot is run once: daemons claim it, the run begins it with its lease in one transaction
    (`StateStore.lease`), and `finish` ends both. `now` is always the caller's clock, for a test has its own.
    """

    def enlisted(self) -> AbstractContextManager[Lease]:
        """Be a daemon until the block is left, its id the lease's run id. Claims of a dead one are free."""

    def daemons(self) -> Sequence[Daemon]:
        """Those that are alive, the oldest first."""

    def decided(self) -> Mapping[str, DecidedSchedule]:
        """By connector: how far each schedule is decided."""

    def decide(self, decided: Mapping[str, DecidedSchedule]) -> None:
        """New schedules, or such whose text changed, by connector: what came before is not missed."""

    def forget(self, connectors: Collection[str]) -> None:
        """These have no schedule any more; one that they get again begins anew."""

    def claim(
        self, connector: str, scheduled_at: datetime, *, daemon: str, now: datetime, policy: BreakerPolicy
    ) -> Slot | None:
        """Take a slot to run it: a new one, or one that failed and whose `retry_at` has come.

        None where another daemon was faster, or it is not to be run now. Who claimed it already gets it once
        more: a connection may be lost after the commit and before the answer. A new slot of a connector whose
        breaker is open comes back as `skipped`; a retry waits until the breaker lets it probe.
        """

    def skip(self, connector: str, scheduled_at: datetime, *, reason: str) -> bool:
        """Give up a slot that nobody runs and that did not end; whether this call did."""

    def supersede(self, connector: str, scheduled_at: datetime) -> int:
        """Give up the retries of older slots: this one brings what they would."""

    def fail_claim(self, slot: Slot, error: RunError) -> None:
        """The process of a claimed slot ended before its run began; it counts as an attempt."""

    def give_back(self, slot: Slot, now: datetime) -> None:
        """A claimed slot that will not be run here: free for any daemon, at once."""

    def put_back(self, slot: Slot, now: datetime) -> None:
        """A failed slot whose run was ended because its daemon stops: run again at once, and no attempt."""

    def end_run(self, run_id: str, error: RunError) -> None:
        """This run's process certainly ended: free its lease; the run, unless it ended, is interrupted."""

    def recover(self, now: datetime) -> None:
        """Mark runs whose process died, and give back what daemons that died had claimed."""

    def open_slots(self) -> Sequence[Slot]:
        """Those that are claimed, running or failed: what is not settled. The oldest first."""

    def slot(self, connector: str, scheduled_at: datetime) -> Slot | None:
        """One slot, settled or not."""

    def retry(self, slot: Slot, at: datetime, *, policy: BreakerPolicy, now: datetime) -> Breaker | None:
        """Have a failed slot tried again, with the slot's error as what is kept.

        The failure counts in the connector's breaker, which is given back; None: another daemon decided.
        """

    def bury(self, slot: Slot, *, policy: BreakerPolicy, now: datetime) -> Breaker | None:
        """Likewise for a slot that failed for good: it is a dead letter."""

    def breakers(self) -> Mapping[str, Breaker]:
        """By connector, where failures were counted since its last completed run."""

    def resume(self, connector: str, now: datetime) -> Breaker:
        """Close a breaker and have waiting retries come now; gives back what it was."""

    def dead(self, connector: str | None = None) -> Sequence[Slot]:
        """The dead letters, the oldest first."""

    def revive(self, connector: str, scheduled_at: datetime | None, now: datetime) -> int:
        """Have a dead letter, or all of a connector, run again by a daemon; gives back how many."""

    def drop(self, connector: str, scheduled_at: datetime | None) -> int:
        """Give up a dead letter, or all of a connector; gives back how many."""
