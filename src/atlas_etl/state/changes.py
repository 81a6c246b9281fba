"""The mirrored checkpoints and every change of them: what was committed, set and reset, by whom and why.

Every transaction here locks the connector's row in `leases` first, as those of `leases.py` do: changes of
one connector happen one after another.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace
from sqlalchemy import Connection, delete, exists, func, insert, select

from atlas_etl.model import (
    AuditAction,
    AuditKind,
    Change,
    Checkpoint,
    CheckpointAction,
    CommittedCheckpoint,
)
from atlas_etl.state.audit import SqlAuditLog
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.holder import this_user
from atlas_etl.state.records import checkpoint_document, checkpoint_of, checkpoint_values
from atlas_etl.state.schema import checkpoint_changes, connector_state, leases, scheduled_runs


def mirror(
    database: Database,
    connection: Connection,
    audit: SqlAuditLog,
    connector: str,
    committed: CommittedCheckpoint,
    *,
    by: str | None,
) -> None:
    """Copy what the destination committed; it is a change unless it reaches as far as the copy did.

    One that no run made was made by a person elsewhere, whose state store is another one.
    """
    _lock(connection, connector)
    before = _mirrored(database, connection, connector, committed.stream)
    _overwrite(database, connection, connector, committed)
    if committed.checkpoint.reaches_as_far_as(before):
        return
    action = CheckpointAction.LOAD if committed.run_id else CheckpointAction.SET
    connection.execute(
        insert(checkpoint_changes).values(
            connector=connector,
            stream=committed.stream,
            action=action.value,
            before=checkpoint_document(before),
            after=checkpoint_document(committed.checkpoint),
            run_id=committed.run_id or None,
            changed_at=committed.committed_at,
            changed_by=by,
        )
    )
    if action is CheckpointAction.SET:
        told = _told(action, connector, committed.stream, before, committed.checkpoint)
        audit.add(connection, [told], outside=True)


def change(
    database: Database,
    connection: Connection,
    audit: SqlAuditLog,
    connector: str,
    stream: str,
    *,
    action: CheckpointAction,
    checkpoint: Checkpoint | None,
    run_id: str,
    reason: str | None,
) -> None:
    """Copy what this process's user did to a checkpoint at the destination, and record it in any case."""
    _lock(connection, connector)
    before = _mirrored(database, connection, connector, stream)
    now = datetime.now(UTC)
    if checkpoint is None:
        forget(connection, connector, stream)
    else:
        _overwrite(database, connection, connector, CommittedCheckpoint(stream, checkpoint, now, ""))
    connection.execute(
        insert(checkpoint_changes).values(
            connector=connector,
            stream=stream,
            action=action.value,
            before=checkpoint_document(before),
            after=checkpoint_document(checkpoint),
            run_id=run_id,
            changed_at=now,
            changed_by=this_user(),
            reason=reason,
        )
    )
    told = _told(action, connector, stream, before, checkpoint)
    audit.add(connection, [replace(told, run_id=run_id, reason=reason)])


def forget(connection: Connection, connector: str, stream: str) -> None:
    """Remove the copy."""
    this = (connector_state.c.connector == connector, connector_state.c.stream == stream)
    connection.execute(delete(connector_state).where(*this))


def prune(connection: Connection) -> None:
    """Delete the changes whose run is in the history no more, but for the newest of each stream."""
    changes = checkpoint_changes.c
    newest = select(func.max(changes.change_id)).group_by(changes.connector, changes.stream)
    has_run = exists().where(scheduled_runs.c.run_id == changes.run_id)
    connection.execute(delete(checkpoint_changes).where(~has_run, changes.change_id.not_in(newest)))


def _told(
    action: CheckpointAction,
    connector: str,
    stream: str,
    before: Checkpoint | None,
    after: Checkpoint | None,
) -> Change:
    told = AuditAction(action.value)
    return Change(AuditKind.CHECKPOINT, told, connector, stream, _place(before), _place(after))


def _place(checkpoint: Checkpoint | None) -> dict[str, object] | None:
    """Where it is, as `state history` shows it."""
    if checkpoint is None:
        return None
    return {"high": checkpoint.high.text, "tail_from": checkpoint.tail_from.text}


def _lock(connection: Connection, connector: str) -> None:
    connection.execute(select(leases.c.token).where(leases.c.connector == connector).with_for_update())


def _mirrored(database: Database, connection: Connection, connector: str, stream: str) -> Checkpoint | None:
    found = select(connector_state.c.checkpoint).where(
        connector_state.c.connector == connector, connector_state.c.stream == stream
    )
    with reading_content(database.name):
        return checkpoint_of(connection.scalar(found))


def _overwrite(
    database: Database, connection: Connection, connector: str, committed: CommittedCheckpoint
) -> None:
    values = checkpoint_values(connector, committed)
    connection.execute(database.upsert(connector_state, values, ["connector", "stream"]))
