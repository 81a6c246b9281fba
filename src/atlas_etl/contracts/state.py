"""What remembers: the store of runs, leases and mirrored checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from atlas_etl.contracts.audit import AuditLog
from atlas_etl.model import (
    Checkpoint,
    CheckpointAction,
    CheckpointChange,
    CommittedCheckpoint,
    LiveRun,
    Run,
    RunProgress,
    RunStatus,
)


class Lease(Protocol):
    """The right to run one connector, kept alive by a heartbeat until the block is left."""

    @property
    def run(self) -> Run:
        """The run that this lease was taken for, as it began."""

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every lease of this connector before it."""

    def lost(self) -> bool:
        """Whether another process took the lease because the heartbeat was late."""


class StateStore(Protocol):
    """Runs, leases and a mirror of the checkpoints. Raises StateError where it fails."""

    @property
    def audit(self) -> AuditLog:
        """Who changed what; what is changed here is recorded there."""

    def lease(
        self,
        connector: str,
        *,
        triggered_by: str,
        destination: str | None,
        scheduled_at: datetime | None = None,
        progress: Callable[[], RunProgress] | None = None,
    ) -> AbstractContextManager[Lease]:
        """Begin a run of this connector, alone. Raises LockedError while another one is alive.

        A run of a slot begins the slot in the same transaction, and ends with it; raises SlotSettledError
        where that slot ran already, or was given up.

        `progress` is asked by the heartbeat's thread, at most every second, and what it gives is published
        for `live` where it changed.

        A run whose heartbeat stopped is marked `interrupted` and its lease freed within a minute.
        Leaving the block frees the lease; a run that was not finished by then is marked `interrupted`.
        """

    def hold(self, connector: str) -> AbstractContextManager[Lease]:
        """The same right for looking only: no run begins, and the history does not tell of it."""

    def finish(self, run: Run) -> None:
        """Record how a run ended. The checkpoints of its streams are mirrored, and recorded as changes.

        A checkpoint that reaches as far as the mirrored one is no change.
        """

    def record_skipped(
        self,
        connector: str,
        *,
        triggered_by: str,
        reason: str,
        scheduled_at: datetime | None = None,
        put_off_until: datetime | None = None,
    ) -> Run:
        """Record a run that was refused, without a lease.

        Its slot is skipped, or left for another try at `put_off_until`, unless another run has it.
        """

    def history(
        self, connector: str | None = None, *, limit: int = 20, status: RunStatus | None = None
    ) -> Sequence[Run]:
        """Runs, the latest first, with their streams."""

    def run(self, run_id: str) -> Run | None:
        """One run, with its streams; None where there is none, or no more."""

    def live(self, connector: str | None = None) -> Sequence[LiveRun]:
        """The runs that go on, the oldest first; one whose process died is none of them."""

    def last_completed(self) -> Mapping[str, datetime]:
        """By connector, when its last completed run ended; of those that had one."""

    def count_runs(self, connector: str | None = None, *, status: RunStatus | None = None) -> int:
        """How many runs `history` would give without a limit."""

    def mirror_checkpoint(self, connector: str, committed: CommittedCheckpoint) -> None:
        """Keep a copy of what the destination committed; one that was not mirrored yet is a change."""

    def forget_checkpoint(self, connector: str, stream: str) -> None:
        """Remove the copy."""

    def change_checkpoint(
        self,
        connector: str,
        stream: str,
        action: CheckpointAction,
        checkpoint: Checkpoint | None,
        *,
        run_id: str,
        reason: str | None = None,
    ) -> None:
        """Mirror and record what this process's user did to a checkpoint (None: forgot it)."""

    def checkpoint_changes(
        self, connector: str, *, stream: str | None = None, limit: int = 20
    ) -> Sequence[CheckpointChange]:
        """Changes of one connector's checkpoints, the latest first."""

    def checkpoint_change(self, change_id: int) -> CheckpointChange | None:
        """One change, of whichever connector; None where there is none, or no more."""

    def checkpoints(self, connector: str) -> Sequence[CommittedCheckpoint]:
        """The mirrored checkpoints of one connector."""

    def register(self, connector: str, protocol: str, *, enabled: bool, schedule: str | None) -> None:
        """Make the connector known to the views `v_active_connectors` and `v_recent_runs`."""

    def unregister(self, connector: str) -> None:
        """The definition is gone; its history stays."""

    def prune(self, before: datetime) -> int:
        """Delete runs completed before this instant; gives back how many.

        The changes that they made go with them, but for the newest change of each stream; so do tests and
        verifications.
        """

    def keep_newest(self, runs: int) -> int:
        """Delete all but the newest runs of each connector, like `prune`. Running ones stay."""

    def close(self) -> None:
        """Give back every connection; may be called twice."""
