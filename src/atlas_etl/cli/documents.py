"""The JSON shapes that scripts rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from atlas_etl import values
from atlas_etl.api.atlas import TestOutcome
from atlas_etl.cli.output import run_error_document
from atlas_etl.cli.stream_warnings import stream_warnings
from atlas_etl.connectors.registry import ProtocolInfo
from atlas_etl.model import (
    AuditEntry,
    Checkpoint,
    CheckpointChange,
    CommittedCheckpoint,
    Finding,
    QuarantinedRow,
    Run,
    StreamInfo,
    StreamRun,
    Verification,
)
from atlas_etl.pipeline.replay import Replayed

if TYPE_CHECKING:
    from atlas_etl.pipeline.forecast import StreamForecast
    from atlas_etl.pipeline.verify import Comparison


def rows(answer: pa.Table) -> list[list[object]]:
    """The rows of a query's answer, as JSON and terminals can hold them."""
    return [row for batch in answer.to_batches() for row in values.json_rows(batch)]


def run_document(run: Run, *, with_streams: bool = True) -> dict[str, object]:
    """RUN, as `connector sync` and `connector history` show it."""
    document: dict[str, object] = {
        "run_id": run.run_id,
        "connector": run.connector,
        "status": run.status,
        "triggered_by": run.triggered_by,
        "scheduled_at": run.scheduled_at,
        "started_at": run.started_at,
        "completed_at": run.completed_at,
        "duration_seconds": run.duration_seconds,
        "rows_processed": run.rows_processed,
        "bytes_processed": run.bytes_processed,
        "destination": run.destination,
        "error": run_error_document(run.error),
    }
    if with_streams:
        document["streams"] = [_stream(stream) for stream in run.streams]
    return document


def _stream(stream: StreamRun) -> dict[str, object]:
    return {
        "name": stream.name,
        "status": stream.status,
        "disposition": stream.disposition,
        "table": stream.table,
        "rows_read": stream.rows_read,
        "rows_loaded": stream.rows_loaded,
        "rows_quarantined": stream.rows_quarantined,
        "rows_left_out": stream.rows_left_out,
        "rows_deleted": stream.rows_deleted,
        "loads": stream.loads,
        "slower_side": stream.slower,
        "checkpoint": _checkpoint(stream.checkpoint),
        "nulled": dict(stream.nulled),
        "warnings": stream_warnings(stream),
        "schema_changes": list(stream.schema_changes),
        "error": run_error_document(stream.error),
    }


def _checkpoint(checkpoint: Checkpoint | None) -> dict[str, str] | None:
    if checkpoint is None:
        return None
    return {"high": checkpoint.high.text, "tail_from": checkpoint.tail_from.text}


def committed_document(committed: CommittedCheckpoint) -> dict[str, object]:
    """One line of `state show`."""
    return {
        "name": committed.stream,
        "high": committed.checkpoint.high.text,
        "tail_from": committed.checkpoint.tail_from.text,
        "committed_at": committed.committed_at,
        "run_id": committed.run_id or None,
    }


def change_document(change: CheckpointChange) -> dict[str, object]:
    """One line of `state history`."""
    return {
        "change_id": change.change_id,
        "stream": change.stream,
        "action": change.action,
        "before": _checkpoint(change.before),
        "after": _checkpoint(change.after),
        "changed_at": change.changed_at,
        "changed_by": change.changed_by,
        "run_id": change.run_id,
        "reason": change.reason,
    }


def audit_document(entry: AuditEntry) -> dict[str, object]:
    """One line of `audit`."""
    change, actor = entry.change, entry.actor
    return {
        "entry_id": entry.entry_id,
        "at": entry.at,
        "kind": change.kind,
        "action": change.action,
        "connector": change.connector,
        "subject": change.subject,
        "before": change.before,
        "after": change.after,
        "outside": entry.outside,
        "user": actor.user,
        "on_behalf_of": actor.on_behalf_of,
        "host": actor.host,
        "address": actor.address,
        "pid": actor.pid,
        "command": actor.command,
        "run_id": change.run_id,
        "reason": change.reason,
    }


def forecast_document(found: StreamForecast) -> dict[str, object]:
    """One stream of `connector plan`."""
    return {
        "name": found.stream,
        "disposition": found.disposition,
        "table": found.table,
        "primary_key": list(found.primary_key),
        "statements": list(found.statements),
        "window": {"cursor": found.cursor, "from": found.since} if found.cursor else None,
        "ddl": list(found.changes),
        "replaces": found.replaces,
        "format": found.format,
        "estimated_rows": found.estimated_rows,
        "promise": found.promise,
        "protect": dict(found.protect),
    }


def comparison_document(found: Comparison) -> dict[str, object]:
    """One stream of `connector verify`."""
    return {
        "name": found.stream,
        "status": "equal" if found.is_equal else "different",
        "high": found.high,
        "source_rows": found.source_rows,
        "destination_rows": found.destination_rows,
        "missing": found.counts.missing,
        "extra": found.counts.extra,
        "changed": found.counts.changed,
        "pending": found.counts.pending,
        "quarantined": found.quarantined,
        "differing_keys": found.differing_keys,
        "keys": [{"kind": example.kind, "key": dict(example.key)} for example in found.examples],
    }


def verification_document(found: Verification) -> dict[str, object]:
    """One line of `connector history --verifications`."""
    return {
        "connector": found.connector,
        "name": found.stream,
        "status": verify_status(found),
        "verified_at": found.verified_at,
        "duration_seconds": round(found.seconds, 3),
        "mode": found.mode,
        "source_rows": found.source_rows,
        "destination_rows": found.destination_rows,
        "missing": found.missing,
        "extra": found.extra,
        "changed": found.changed,
        "pending": found.pending,
        "quarantined": found.quarantined,
    }


def verify_status(found: Verification) -> str:
    return "equal" if found.is_equal else "different"


def quarantined_document(connector: str, row: QuarantinedRow) -> dict[str, object]:
    """One line of `quarantine list`."""
    return {
        "connector": connector,
        "stream": row.stream,
        "key": dict(row.key),
        "code": row.code,
        "reason": row.reason,
        "column": row.column,
        "row": dict(row.row),
        "run_id": row.run_id,
        "load_id": row.load_id,
        "quarantined_at": row.quarantined_at,
    }


def replayed_document(replayed: Replayed) -> dict[str, object]:
    """One stream of `quarantine replay`."""
    return {
        "name": replayed.outcome.name,
        "loaded": replayed.outcome.rows_loaded,
        "outdated": replayed.outdated,
        "remaining": replayed.remaining,
        "warnings": stream_warnings(replayed.outcome),
    }


def protocol_document(info: ProtocolInfo) -> dict[str, object]:
    """One line of `connector types`."""
    return {
        "protocol": info.protocol,
        "summary": info.summary,
        "reads": info.reads,
        "writes": info.writes,
        "extra": info.extra,
        "installed": info.installed,
    }


def test_document(outcome: TestOutcome) -> dict[str, object]:
    """One line of `connector test`."""
    status, error = outcome.status, outcome.error
    return {
        "connector": outcome.connector,
        "connection_status": "success" if status else "failed",
        "code": error.code if error else None,
        "message": status.message if status else error.message if error else "",
        "hint": error.hint if error else None,
        "latency_ms": round(outcome.latency_ms, 1),
        "server_version": status.server_version if status else None,
        "warnings": list(status.warnings) if status else [],
    }


def finding_document(found: Finding) -> dict[str, object]:
    """One line of `connector doctor`."""
    return {
        "check": found.check,
        "subject": found.subject,
        "severity": found.severity,
        "message": found.message,
        "fix": found.fix,
    }


def stream_document(stream: StreamInfo) -> dict[str, object]:
    """One stream of `connector discover`."""
    return {
        "name": stream.name,
        "columns": [
            {"name": column.name, "type": column.type, "nullable": column.nullable}
            for column in stream.columns
        ],
        "primary_key": list(stream.primary_key),
        "cursor_candidates": list(stream.cursor_candidates),
        "estimated_rows": stream.estimated_rows,
    }
