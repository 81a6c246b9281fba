"""Runs as tasks of Celery's workers; how they end is asked of the state store, which all of them share."""

from __future__ import annotations

import errno
import signal
from contextlib import suppress
from pathlib import Path

from kombu.exceptions import OperationalError

from atlas_etl.contracts import ScheduleStore
from atlas_etl.errors import ExitCode, StateError
from atlas_etl.model import Slot, SlotStatus
from atlas_etl.scheduler.celery_app import app, run_slot
from atlas_etl.scheduler.processes import Execution


class CeleryExecutor:
    """Sends each run to whichever worker is free; the project's folder is at the same path there."""

    poll_seconds: float | None = 1.0

    def __init__(self, project: Path, store: ScheduleStore) -> None:
        self._project = str(project.absolute())
        self._store = store

    def start(self, slot: Slot) -> Execution:
        """Send the task. Raises OSError where the broker cannot be reached."""
        at = slot.scheduled_at.isoformat().replace("+00:00", "Z")
        cause = "retry" if slot.attempts else "scheduled"
        try:
            sent = run_slot.apply_async((slot.connector, self._project, at, cause))
        except OperationalError as failure:
            raise OSError(errno.ECONNREFUSED, "Celery's broker cannot be reached") from failure
        except Exception as failure:  # what breaks its protocol raises whatever its client does not expect
            raise OSError(errno.EPROTO, "Celery's broker answers otherwise than brokers do") from failure
        return _SentRun(self._store, slot, sent.id)


class _SentRun:
    def __init__(self, store: ScheduleStore, slot: Slot, task: str) -> None:
        self._store = store
        self._slot = slot
        self._task = task
        self._is_left = False

    def poll(self) -> int | None:
        try:
            slot = self._store.slot(self._slot.connector, self._slot.scheduled_at)
        except StateError:
            return None  # the daemon has its own way of telling that
        if slot is None or slot.claimed_by != self._slot.claimed_by:
            return ExitCode.LOCKED
        match slot.status:
            case SlotStatus.CLAIMED:
                return -signal.SIGTERM if self._is_left else None
            case SlotStatus.RUNNING:
                return ExitCode.LOCKED if self._is_left else None
            case SlotStatus.COMPLETED:
                return ExitCode.DONE
            case SlotStatus.SKIPPED:
                return ExitCode.LOCKED
            case SlotStatus.FAILED | SlotStatus.DEAD:
                return (slot.error.exit_code if slot.error else 0) or ExitCode.UNEXPECTED

    def interrupt(self) -> None:
        """A task that no worker began is taken back; one that runs is left: it records its end itself."""
        self._is_left = True
        with suppress(Exception):  # a broker that is gone has no say: a slot that was given back is run once
            app.control.revoke(self._task)

    def kill(self) -> None:
        """Nothing here could be: workers end their runs, also those that run too long."""
