"""Runs and checkpoints as the columns and JSON documents of the state store, and back, without loss."""

from __future__ import annotations

import os
import time
import uuid
from datetime import datetime

from msgspec import convert, to_builtins
from msgspec.structs import asdict, replace
from sqlalchemy import Row

from atlas_etl.errors import AtlasError, InterruptedRunError
from atlas_etl.model import (
    Actor,
    AuditAction,
    AuditEntry,
    AuditKind,
    Breaker,
    BreakerState,
    Change,
    Checkpoint,
    CheckpointAction,
    CheckpointChange,
    CommittedCheckpoint,
    ConnectionTest,
    ConnectorHealth,
    LiveRun,
    Run,
    RunError,
    RunProgress,
    RunStatus,
    Slot,
    SlotStatus,
    StreamRun,
    Verification,
    VerifyMode,
)
from atlas_etl.state.holder import Holder
from atlas_etl.state.lease import LeaseRecord

AnyRow = Row[tuple[object, ...]]


def told(moment: datetime) -> str:
    """An instant of UTC in a message, to the second."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def new_run_id() -> str:
    """A UUID version 7 (RFC 9562, section 5.7): ids sort by the millisecond in which they were made."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10))
    number = milliseconds << 80 | random
    number = number & ~(0xF << 76) | 0x7 << 76  # version
    number = number & ~(0x3 << 62) | 0x2 << 62  # variant
    return str(uuid.UUID(int=number))


def ending_of(error: BaseException | None) -> tuple[RunStatus, RunError]:
    """How a run ended that this exception left, or nothing at all, before it was finished.

    Of a foreign exception only the type is kept: its text may hold a secret or a row's values.
    """
    if isinstance(error, AtlasError):
        status = RunStatus.INTERRUPTED if isinstance(error, InterruptedRunError) else RunStatus.FAILED
        retryable = error.retryable or status is RunStatus.INTERRUPTED
        return status, RunError(error.code, error.message, error.hint, int(error.exit_code), retryable)
    if isinstance(error, Exception):
        message = f"unexpected {type(error).__name__}"
        return RunStatus.FAILED, RunError(AtlasError.default_code, message)
    return RunStatus.INTERRUPTED, _interruption("the run was stopped before its end")


def process_died(holder: Holder) -> RunError:
    return _interruption(f"the run's process ended without a word: host {holder.host}, pid {holder.pid}")


def _interruption(message: str) -> RunError:
    return RunError(
        InterruptedRunError.default_code,
        message,
        "run it again: whatever was committed stays, the rest is as before",
        int(InterruptedRunError.exit_code),
        retryable=True,
    )


def run_values(run: Run) -> dict[str, object]:
    """The columns of `scheduled_runs` that a Run fills."""
    return {
        "run_id": run.run_id,
        "connector": run.connector,
        "status": run.status.value,
        "triggered_by": run.triggered_by,
        "scheduled_at": run.scheduled_at,
        "started_at": run.started_at,
        "completed_at": run.completed_at,
        "destination": run.destination,
        "rows_processed": run.rows_processed,
        "bytes_processed": run.bytes_processed,
        "error": error_document(run.error),
        "streams": [
            {
                **to_builtins(replace(stream, checkpoint=None)),
                "checkpoint": checkpoint_document(stream.checkpoint),
            }
            for stream in run.streams
        ],
    }


def run_of(row: AnyRow) -> Run:
    """Raises ValueError where the row is not one that `run_values` made."""
    return Run(
        run_id=row.run_id,
        connector=row.connector,
        status=RunStatus(row.status),
        triggered_by=row.triggered_by,
        started_at=row.started_at,
        completed_at=row.completed_at,
        destination=row.destination,
        streams=convert(row.streams, tuple[StreamRun, ...]),
        rows_processed=row.rows_processed,
        bytes_processed=row.bytes_processed,
        error=convert(row.error, RunError | None),
        scheduled_at=row.scheduled_at,
    )


def progress_document(progress: RunProgress | None) -> object:
    return to_builtins(progress)


def live_of(row: AnyRow) -> LiveRun:
    """A run with its lease, and the judging clock as `now`. Raises ValueError where it cannot be one."""
    silent = max((row.now - row.heartbeat_at).total_seconds(), 0.0)
    return LiveRun(run_of(row), row.host, row.pid, silent, convert(row.progress, RunProgress | None))


def slot_of(row: AnyRow) -> Slot:
    """A row of `slots`. Raises ValueError where it cannot be one."""
    return Slot(
        connector=row.connector,
        scheduled_at=row.scheduled_at,
        status=SlotStatus(row.status),
        attempts=row.attempts,
        changed_at=row.changed_at,
        claimed_by=row.claimed_by,
        run_id=row.run_id,
        retry_at=row.retry_at,
        reason=row.reason,
        error=convert(row.error, RunError | None),
    )


def breaker_of(row: AnyRow) -> Breaker:
    """A row of `breakers`. Raises ValueError where it cannot be one."""
    return Breaker(row.connector, row.failures, BreakerState(row.state), row.opened_at, row.probe_at)


def test_values(test: ConnectionTest) -> dict[str, object]:
    """The columns of `connection_tests`."""
    return {
        "connector": test.connector,
        "tested_at": test.tested_at,
        "seconds": test.seconds,
        "message": test.message,
        "server_version": test.server_version,
        "warnings": list(test.warnings),
        "error": error_document(test.error),
    }


def test_of(row: AnyRow) -> ConnectionTest:
    """A row of `connection_tests`. Raises ValueError where it cannot be one."""
    return ConnectionTest(
        connector=row.connector,
        tested_at=row.tested_at,
        seconds=row.seconds,
        message=row.message,
        server_version=row.server_version,
        warnings=tuple(row.warnings),
        error=convert(row.error, RunError | None),
    )


def health_of(row: AnyRow) -> ConnectorHealth | None:
    """A row of `connector_health`; None before its first test ended. Raises ValueError."""
    last = convert(row.last_test, ConnectionTest | None)
    return None if last is None or row.since is None else ConnectorHealth(row.connector, row.since, last)


def verification_values(verification: Verification) -> dict[str, object]:
    """The columns of `verifications`."""
    return {**asdict(verification), "mode": verification.mode.value}


def verification_of(row: AnyRow) -> Verification:
    """A row of `verifications`. Raises ValueError where it cannot be one."""
    columns = row._mapping
    values = {name: columns[name] for name in Verification.__struct_fields__}
    return Verification(**{**values, "mode": VerifyMode(row.mode)})


def test_document(test: ConnectionTest) -> object:
    """A test as JSON, with every field that it has."""
    return to_builtins(test)


def error_document(error: RunError | None) -> object:
    return to_builtins(error)


def checkpoint_document(checkpoint: Checkpoint | None) -> object:
    """A checkpoint as JSON, with every field that is mirrored."""
    document = to_builtins(checkpoint and checkpoint.without_parents())
    return document and {name: value for name, value in document.items() if name != "parents"}


def checkpoint_of(document: object) -> Checkpoint | None:
    """Raises ValueError where the document is not one that `checkpoint_document` made."""
    return convert(document, Checkpoint | None)


def checkpoint_values(connector: str, committed: CommittedCheckpoint) -> dict[str, object]:
    """The columns of `connector_state`."""
    return {
        "connector": connector,
        "stream": committed.stream,
        "checkpoint": checkpoint_document(committed.checkpoint),
        "committed_at": committed.committed_at,
        "run_id": committed.run_id,
    }


def committed_of(row: AnyRow) -> CommittedCheckpoint:
    """Raises ValueError where the row is not one that `checkpoint_values` made."""
    checkpoint = checkpoint_of(row.checkpoint)
    if checkpoint is None:
        raise ValueError("a mirrored checkpoint is null")
    return CommittedCheckpoint(row.stream, checkpoint, row.committed_at, row.run_id)


def change_of(row: AnyRow) -> CheckpointChange:
    """A row of `checkpoint_changes`. Raises ValueError where it cannot be one."""
    return CheckpointChange(
        change_id=row.change_id,
        connector=row.connector,
        stream=row.stream,
        action=CheckpointAction(row.action),
        before=checkpoint_of(row.before),
        after=checkpoint_of(row.after),
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        run_id=row.run_id,
        reason=row.reason,
    )


def entry_of(row: AnyRow) -> AuditEntry:
    """A row of `audit_log`. Raises ValueError where it cannot be one."""
    change = Change(
        AuditKind(row.kind),
        AuditAction(row.action),
        row.connector,
        row.subject,
        row.before,
        row.after,
        row.run_id,
        row.reason,
    )
    actor = Actor(row.user_name, row.host, row.pid, row.command, row.on_behalf_of, row.address)
    return AuditEntry(row.entry_id, row.at, change, actor, row.outside)


def lease_of(row: AnyRow) -> LeaseRecord:
    """A row of `leases` that is held, with the judging clock as `now`."""
    return LeaseRecord(
        connector=row.connector,
        token=row.token,
        run_id=row.run_id,
        holder=Holder(row.host, row.pid, row.place, row.process_started),
        acquired_at=row.acquired_at,
        heartbeat_at=row.heartbeat_at,
        heartbeat_tick=row.heartbeat_tick,
        expiry_seconds=row.expiry_seconds,
        now=row.now,
    )
