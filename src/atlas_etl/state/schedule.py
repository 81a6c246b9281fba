"""The ScheduleStore (see contracts) in a database: claims, retries, breakers and dead letters."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, case, delete, select, update

from atlas_etl.contracts import Lease
from atlas_etl.model import (
    AuditAction,
    AuditKind,
    Breaker,
    BreakerPolicy,
    Change,
    Daemon,
    DecidedSchedule,
    RunError,
    Slot,
    SlotStatus,
)
from atlas_etl.state import breakers, daemons
from atlas_etl.state import slots as of_runs
from atlas_etl.state.audit import SqlAuditLog
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.lease import LeaseTimes
from atlas_etl.state.leases import end_dead_runs, end_run
from atlas_etl.state.records import error_document, slot_of, told
from atlas_etl.state.schema import leases, schedules, slots
from atlas_etl.state.slots import is_slot

_OPEN = (SlotStatus.CLAIMED.value, SlotStatus.RUNNING.value, SlotStatus.FAILED.value)


class SqlSchedule:
    """The schedule's side of a state store; `SqlStateStore.schedule` gives it."""

    def __init__(self, database: Database, times: LeaseTimes, audit: SqlAuditLog) -> None:
        self._database = database
        self._times = times
        self._audit = audit

    def enlisted(self) -> AbstractContextManager[Lease]:
        return daemons.enlisted(self._database, self._times)

    def daemons(self) -> Sequence[Daemon]:
        return daemons.alive(self._database)

    def decided(self) -> Mapping[str, DecidedSchedule]:
        with self._database.reading() as connection:
            return {
                row.connector: DecidedSchedule(row.expression, row.timezone, row.decided_until)
                for row in connection.execute(select(schedules))
            }

    def decide(self, decided: Mapping[str, DecidedSchedule]) -> None:
        with self._database.writing() as connection:
            for connector, schedule in sorted(decided.items()):
                values = {
                    "connector": connector,
                    "expression": schedule.expression,
                    "timezone": schedule.timezone,
                    "decided_until": schedule.until,
                }
                connection.execute(self._database.upsert(schedules, values, ["connector"]))

    def forget(self, connectors: Collection[str]) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(schedules).where(schedules.c.connector.in_(connectors)))

    def claim(
        self, connector: str, scheduled_at: datetime, *, daemon: str, now: datetime, policy: BreakerPolicy
    ) -> Slot | None:
        with self._database.writing() as connection:
            self._decided_until(connection, connector, scheduled_at)
            slot = of_runs.locked(self._database, connection, connector, scheduled_at)
            if slot.status is SlotStatus.CLAIMED and slot.claimed_by == daemon:
                return slot  # it does not know, or could not go on
            if slot.status is not SlotStatus.FAILED or (slot.attempts and slot.retry_at is None):
                return None
            if slot.retry_at is not None and slot.retry_at > now:
                return None
            held_until = breakers.rests_until(self._database, connection, connector, now, policy)
            if held_until is None:
                return self._set(
                    connection, slot, status=SlotStatus.CLAIMED, claimed_by=daemon, retry_at=None
                )
            if slot.attempts:
                self._set(connection, slot, retry_at=held_until)
                return None
            until = told(held_until)
            reason = f"the connector's breaker is open until {until}"
            return self._set(connection, slot, status=SlotStatus.SKIPPED, reason=reason)

    def skip(self, connector: str, scheduled_at: datetime, *, reason: str) -> bool:
        with self._database.writing() as connection:
            self._decided_until(connection, connector, scheduled_at)
            return of_runs.skip(self._database, connection, connector, scheduled_at, reason)

    def supersede(self, connector: str, scheduled_at: datetime) -> int:
        older = (slots.c.connector == connector, slots.c.scheduled_at < scheduled_at)
        at = told(scheduled_at)
        with self._database.writing() as connection:
            return connection.execute(
                update(slots)
                .where(*older, slots.c.status == SlotStatus.FAILED.value, slots.c.retry_at.is_not(None))
                .values(
                    status=SlotStatus.SKIPPED.value,
                    reason=f"the slot {at} followed before it was tried again",
                    retry_at=None,
                    changed_at=datetime.now(UTC),
                )
            ).rowcount

    def fail_claim(self, slot: Slot, error: RunError) -> None:
        claimed = (is_slot(slot.connector, slot.scheduled_at), slots.c.claimed_by == slot.claimed_by)
        with self._database.writing() as connection:
            connection.execute(
                update(slots)
                .where(*claimed, slots.c.status == SlotStatus.CLAIMED.value)
                .values(
                    status=SlotStatus.FAILED.value,
                    attempts=slots.c.attempts + 1,
                    retry_at=None,
                    error=error_document(error),
                    changed_at=datetime.now(UTC),
                )
            )

    def give_back(self, slot: Slot, now: datetime) -> None:
        claimed = (is_slot(slot.connector, slot.scheduled_at), slots.c.claimed_by == slot.claimed_by)
        self._give_back(now, *claimed)

    def put_back(self, slot: Slot, now: datetime) -> None:
        undecided = (slots.c.status == SlotStatus.FAILED.value, slots.c.retry_at.is_(None))
        attempts = case((slots.c.attempts > 0, slots.c.attempts - 1), else_=0)
        with self._database.writing() as connection:
            connection.execute(
                update(slots)
                .where(is_slot(slot.connector, slot.scheduled_at), *undecided)
                .values(attempts=attempts, retry_at=now, changed_at=datetime.now(UTC))
            )

    def end_run(self, run_id: str, error: RunError) -> None:
        end_run(self._database, run_id, error)

    def recover(self, now: datetime) -> None:
        end_dead_runs(self._database)
        alive = select(leases.c.run_id).where(leases.c.run_id.is_not(None))
        lost = slots.c.claimed_by.not_in(alive)
        if self._slots(slots.c.status == SlotStatus.CLAIMED.value, lost):
            self._give_back(now, lost)

    def _give_back(self, now: datetime, *which: ColumnElement[bool]) -> None:
        with self._database.writing() as connection:
            connection.execute(
                update(slots)
                .where(slots.c.status == SlotStatus.CLAIMED.value, *which)
                .values(
                    status=SlotStatus.FAILED.value,
                    claimed_by=None,
                    retry_at=now,
                    changed_at=datetime.now(UTC),
                )
            )

    def open_slots(self) -> Sequence[Slot]:
        return self._slots(slots.c.status.in_(_OPEN))

    def slot(self, connector: str, scheduled_at: datetime) -> Slot | None:
        return next(iter(self._slots(is_slot(connector, scheduled_at))), None)

    def retry(self, slot: Slot, at: datetime, *, policy: BreakerPolicy, now: datetime) -> Breaker | None:
        return self._failed(slot, policy, now, retry_at=at)

    def bury(self, slot: Slot, *, policy: BreakerPolicy, now: datetime) -> Breaker | None:
        return self._failed(slot, policy, now, status=SlotStatus.DEAD)

    def _failed(self, slot: Slot, policy: BreakerPolicy, now: datetime, **what: Any) -> Breaker | None:
        with self._database.writing() as connection:
            found = of_runs.locked(self._database, connection, slot.connector, slot.scheduled_at)
            undecided = found.status is SlotStatus.FAILED and found.retry_at is None
            if not undecided or found.attempts != slot.attempts:
                return None
            self._set(connection, found, error=slot.error, **what)
            return breakers.count_failure(
                self._database, connection, self._audit, slot.connector, policy=policy, now=now
            )

    def breakers(self) -> Mapping[str, Breaker]:
        return breakers.read(self._database)

    def resume(self, connector: str, now: datetime) -> Breaker:
        with self._database.writing() as connection:
            before = breakers.locked(self._database, connection, connector)
            breakers.close_breaker(connection, self._audit, connector, AuditAction.RESUMED, None)
            waiting = (slots.c.connector == connector, slots.c.status == SlotStatus.FAILED.value)
            connection.execute(update(slots).where(*waiting, slots.c.retry_at > now).values(retry_at=now))
        return before

    def dead(self, connector: str | None = None) -> Sequence[Slot]:
        of_connector = [] if connector is None else [slots.c.connector == connector]
        return self._slots(slots.c.status == SlotStatus.DEAD.value, *of_connector)

    def revive(self, connector: str, scheduled_at: datetime | None, now: datetime) -> int:
        again = {"status": SlotStatus.FAILED.value, "attempts": 0, "retry_at": now}
        return self._of_dead(connector, scheduled_at, AuditAction.RETRIED, **again)

    def drop(self, connector: str, scheduled_at: datetime | None) -> int:
        dropped = {"status": SlotStatus.SKIPPED.value, "reason": "dropped from the dead letters"}
        return self._of_dead(connector, scheduled_at, AuditAction.DROPPED, **dropped)

    def _of_dead(
        self, connector: str, scheduled_at: datetime | None, action: AuditAction, **values: object
    ) -> int:
        which = [slots.c.connector == connector, slots.c.status == SlotStatus.DEAD.value]
        if scheduled_at is not None:
            which.append(slots.c.scheduled_at == scheduled_at)
        with self._database.writing() as connection:
            query = select(slots.c.scheduled_at).where(*which).order_by(slots.c.scheduled_at)
            found = connection.scalars(query.with_for_update()).all()
            changed = {**values, "changed_at": datetime.now(UTC)}
            connection.execute(update(slots).where(*which).values(**changed))
            self._audit.add(
                connection,
                [
                    Change(AuditKind.SCHEDULE, action, connector, told(at), {"status": SlotStatus.DEAD.value})
                    for at in found
                ],
            )
        return len(found)

    def _slots(self, *which: ColumnElement[bool]) -> Sequence[Slot]:
        query = select(slots).where(*which).order_by(slots.c.scheduled_at, slots.c.connector)
        with self._database.reading() as connection, reading_content(self._database.name):
            return [slot_of(row) for row in connection.execute(query)]

    def _set(self, connection: Connection, slot: Slot, **values: Any) -> Slot:
        changed = replace(slot, changed_at=datetime.now(UTC), **values)
        row = {
            **values,
            "status": changed.status.value,
            "error": error_document(changed.error),
            "changed_at": changed.changed_at,
        }
        connection.execute(update(slots).where(is_slot(slot.connector, slot.scheduled_at)).values(**row))
        return changed

    def _decided_until(self, connection: Connection, connector: str, scheduled_at: datetime) -> None:
        connection.execute(
            update(schedules)
            .where(schedules.c.connector == connector, schedules.c.decided_until < scheduled_at)
            .values(decided_until=scheduled_at)
        )
