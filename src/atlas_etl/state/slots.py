"""What a run does to its slot, inside the transaction that begins, ends or refuses the run.

Rows are locked in one order everywhere: the connector's lease, its run, the slot, the breaker.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, and_, delete, exists, select, update

from atlas_etl.errors import SlotSettledError
from atlas_etl.model import (
    AuditAction,
    Run,
    RunError,
    RunStatus,
    Slot,
    SlotStatus,
)
from atlas_etl.state.audit import SqlAuditLog
from atlas_etl.state.breakers import close_breaker
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.records import error_document, slot_of
from atlas_etl.state.schema import breakers, scheduled_runs, schedules, slots

SETTLED = (SlotStatus.COMPLETED.value, SlotStatus.DEAD.value, SlotStatus.SKIPPED.value)
_WAITING = (SlotStatus.CLAIMED.value, SlotStatus.FAILED.value)
_KEPT = timedelta(days=7)


def is_slot(connector: str, scheduled_at: datetime) -> ColumnElement[bool]:
    return and_(slots.c.connector == connector, slots.c.scheduled_at == scheduled_at)


def locked(database: Database, connection: Connection, connector: str, scheduled_at: datetime) -> Slot:
    """The slot, made `failed` without an attempt where it is new, and locked until the transaction ends."""
    connection.execute(
        database.insert_if_absent(
            slots,
            {
                "connector": connector,
                "scheduled_at": scheduled_at,
                "status": SlotStatus.FAILED.value,
                "attempts": 0,
                "changed_at": datetime.now(UTC),
            },
        )
    )
    found = connection.execute(select(slots).where(is_slot(connector, scheduled_at)).with_for_update()).one()
    with reading_content(database.name):
        return slot_of(found)


def begin(
    database: Database, connection: Connection, connector: str, scheduled_at: datetime, run_id: str
) -> None:
    """Give the slot to this run, whose lease is taken. Raises SlotSettledError where it ran already.

    A slot that is `running` is so in name only: its run had this lease.
    """
    slot = locked(database, connection, connector, scheduled_at)
    if slot.status.value in SETTLED:
        at = scheduled_at.isoformat().replace("+00:00", "Z")
        because = f", run {slot.run_id}" if slot.run_id else f": {slot.reason}" if slot.reason else ""
        raise SlotSettledError(
            f"the slot {at} of connector {connector!r} is settled ({slot.status}{because})",
            hint="a slot is run once; sync without it to run the connector now",
            connector=connector,
        )
    connection.execute(
        update(slots)
        .where(is_slot(connector, scheduled_at))
        .values(
            status=SlotStatus.RUNNING.value,
            attempts=slot.attempts + 1,
            run_id=run_id,
            retry_at=None,
            error=None,
            changed_at=datetime.now(UTC),
        )
    )


def finish(connection: Connection, audit: SqlAuditLog, run: Run) -> None:
    """The slot ends as its run did; a run that completed closes its connector's breaker."""
    if run.status is RunStatus.COMPLETED:
        connection.execute(
            update(slots)
            .where(slots.c.run_id == run.run_id, slots.c.status == SlotStatus.RUNNING.value)
            .values(status=SlotStatus.COMPLETED.value, changed_at=datetime.now(UTC))
        )
        close_breaker(connection, audit, run.connector, AuditAction.CLOSED, run.run_id)
    elif run.status is not RunStatus.RUNNING:
        error = None if run.error is None else replace(run.error, retryable=run.retryable)
        end_failed(connection, run.run_id, error)


def end_failed(connection: Connection, run_id: str, error: RunError | None) -> None:
    """The run that had a slot failed; whether it is tried again is decided later."""
    connection.execute(
        update(slots)
        .where(slots.c.run_id == run_id, slots.c.status == SlotStatus.RUNNING.value)
        .values(
            status=SlotStatus.FAILED.value,
            retry_at=None,
            error=error_document(error),
            changed_at=datetime.now(UTC),
        )
    )


def skip(
    database: Database, connection: Connection, connector: str, scheduled_at: datetime, reason: str
) -> bool:
    """Give the slot up, unless it runs or ended already; whether this did."""
    given_up = {"status": SlotStatus.SKIPPED.value, "reason": reason, "retry_at": None}
    return _change_waiting(database, connection, connector, scheduled_at, given_up)


def put_off(
    database: Database, connection: Connection, connector: str, scheduled_at: datetime, until: datetime
) -> bool:
    """Leave the slot for later, unless it runs or ended already; whether this did. It was not an attempt."""
    later = {"status": SlotStatus.FAILED.value, "claimed_by": None, "retry_at": until}
    return _change_waiting(database, connection, connector, scheduled_at, later)


def _change_waiting(
    database: Database,
    connection: Connection,
    connector: str,
    scheduled_at: datetime,
    values: Mapping[str, object],
) -> bool:
    if locked(database, connection, connector, scheduled_at).status.value not in _WAITING:
        return False
    changed = {**values, "changed_at": datetime.now(UTC)}
    connection.execute(update(slots).where(is_slot(connector, scheduled_at)).values(**changed))
    return True


def forget(connection: Connection, connector: str) -> None:
    """The definition is gone, and with it what was still to be run."""
    connection.execute(delete(schedules).where(schedules.c.connector == connector))
    connection.execute(delete(breakers).where(breakers.c.connector == connector))
    waiting = (slots.c.connector == connector, slots.c.status.in_((*_WAITING, SlotStatus.DEAD.value)))
    connection.execute(delete(slots).where(*waiting))


def prune(connection: Connection) -> None:
    """Delete settled slots whose run is in the history no more. Young ones stay: clocks are set back."""
    has_run = exists().where(scheduled_runs.c.run_id == slots.c.run_id)
    old = slots.c.scheduled_at < datetime.now(UTC) - _KEPT
    connection.execute(delete(slots).where(slots.c.status.in_(SETTLED), old, ~has_run))
