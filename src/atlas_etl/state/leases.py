"""Taking, renewing and freeing leases, and marking the runs whose process died.

Every transaction here locks the connector's row in `leases` before it touches a run, so two of them never
wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, case, insert, literal, select, update

from atlas_etl.errors import LockedError
from atlas_etl.model import LiveRun, Run, RunError, RunProgress, RunStatus
from atlas_etl.state import slots
from atlas_etl.state.column_types import UtcDateTime
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.holder import this_process
from atlas_etl.state.lease import HeldLease, LeaseRecord, LeaseTimes
from atlas_etl.state.records import (
    AnyRow,
    ending_of,
    error_document,
    lease_of,
    live_of,
    new_run_id,
    process_died,
    progress_document,
    run_values,
    told,
)
from atlas_etl.state.schema import leases, scheduled_runs


def acquire(
    database: Database,
    times: LeaseTimes,
    connector: str,
    triggered_by: str,
    *,
    destination: str | None,
    scheduled_at: datetime | None,
    progress: Callable[[], RunProgress] | None,
) -> HeldLease:
    """Begin a run of this connector, in one transaction. Raises LockedError while another one is alive."""

    def begin(connection: Connection, token: int) -> Run:
        run = replace(_new_run(connector, triggered_by, destination), scheduled_at=scheduled_at)
        if scheduled_at is not None:
            slots.begin(database, connection, connector, scheduled_at, run.run_id)
        connection.execute(insert(scheduled_runs).values(**run_values(run), fencing_token=token))
        return run

    return _take(database, times, connector, begin, progress)


def hold(database: Database, times: LeaseTimes, connector: str) -> HeldLease:
    """Take the lease without a run that history would know. Raises LockedError while another one is alive."""
    return _take(database, times, connector, lambda _connection, _token: _new_run(connector, "", None))


def _new_run(connector: str, triggered_by: str, destination: str | None) -> Run:
    return Run(
        run_id=new_run_id(),
        connector=connector,
        status=RunStatus.RUNNING,
        triggered_by=triggered_by,
        started_at=datetime.now(UTC),
        destination=destination,
    )


def _take(
    database: Database,
    times: LeaseTimes,
    connector: str,
    begin: Callable[[Connection, int], Run],
    progress: Callable[[], RunProgress] | None = None,
) -> HeldLease:
    taken_at = database.clock()
    with database.writing() as connection:
        connection.execute(database.insert_if_absent(leases, {"connector": connector, "token": 0}))
        query = select(leases, database.now().label("now")).where(leases.c.connector == connector)
        row = connection.execute(query.with_for_update()).one()
        if row.run_id is not None:
            record, dead = _judge(database, row)
            if not dead:
                raise _locked(record)
            _free(connection, record.run_id)
            _end_dead(connection, record)
        token = row.token + 1
        run = begin(connection, token)
        holder = this_process()
        connection.execute(
            update(leases)
            .where(leases.c.connector == connector)
            .values(
                token=token,
                run_id=run.run_id,
                host=holder.host,
                pid=holder.pid,
                place=holder.place,
                process_started=holder.started,
                acquired_at=database.now(),
                heartbeat_at=database.now(),
                heartbeat_tick=time.monotonic(),
                expiry_seconds=times.expiry,
                progress=None,
            )
        )
    return HeldLease(
        run,
        token,
        times=times,
        renew=lambda latest: _renew(database, run.run_id, latest),
        clock=database.clock,
        taken_at=taken_at,
        progress=progress,
    )


def release(database: Database, held: HeldLease, error: BaseException | None) -> None:
    """Give the lease back; a run that nobody finished ends as this exception, or its absence, says."""
    status, recorded = ending_of(error)
    with database.writing() as connection:
        _free(connection, held.run.run_id)
        _end(connection, held.run.run_id, status, literal(datetime.now(UTC), UtcDateTime()), recorded)


def end_run(database: Database, run_id: str, error: RunError) -> None:
    """Free the lease of a run whose process certainly ended, and mark the run `interrupted`."""
    with database.writing() as connection:
        query = select(leases.c.run_id).where(leases.c.run_id == run_id)
        connection.execute(query.with_for_update())
        _free(connection, run_id)
        now = literal(datetime.now(UTC), UtcDateTime())
        _end(connection, run_id, RunStatus.INTERRUPTED, now, error)


def end_dead_runs(database: Database) -> None:
    """Mark every run whose process died, and free its lease."""
    query = select(leases, database.now().label("now")).where(leases.c.run_id.is_not(None))
    with database.reading() as connection:
        suspects = [row for row in connection.execute(query) if _judge(database, row)[1]]
    for suspect in suspects:
        with database.writing() as connection:
            again = select(leases, database.now().label("now")).where(
                leases.c.connector == suspect.connector, leases.c.run_id == suspect.run_id
            )
            row = connection.execute(again.with_for_update()).one_or_none()
            if row is None:
                continue
            record, dead = _judge(database, row)
            if dead:
                _free(connection, record.run_id)
                _end_dead(connection, record)


def live_runs(database: Database, connector: str | None) -> list[LiveRun]:
    """The runs whose leases are held, the oldest first, as they last published themselves."""
    query = (
        select(
            scheduled_runs,
            leases.c.host,
            leases.c.pid,
            leases.c.heartbeat_at,
            leases.c.progress,
            database.now().label("now"),
        )
        .join(leases, leases.c.run_id == scheduled_runs.c.run_id)
        .where(scheduled_runs.c.status == RunStatus.RUNNING.value)
        .order_by(scheduled_runs.c.started_at)
    )
    if connector is not None:
        query = query.where(scheduled_runs.c.connector == connector)
    with database.reading() as connection, reading_content(database.name):
        return [live_of(row) for row in connection.execute(query)]


def _renew(database: Database, run_id: str, progress: RunProgress | None) -> bool:
    """Whether the lease was still this run's."""
    with database.writing() as connection:
        renewed = connection.execute(
            update(leases)
            .where(leases.c.run_id == run_id)
            .values(
                heartbeat_at=database.now(),
                heartbeat_tick=time.monotonic(),
                progress=progress_document(progress),
            )
        )
    return renewed.rowcount == 1


def _judge(database: Database, row: AnyRow) -> tuple[LeaseRecord, bool]:
    with reading_content(database.name):
        record = lease_of(row)
        return record, database.is_dead(record)


def _free(connection: Connection, run_id: str) -> None:
    connection.execute(update(leases).where(leases.c.run_id == run_id).values(run_id=None))


def _end_dead(connection: Connection, record: LeaseRecord) -> None:
    last_seen = literal(min(record.heartbeat_at, record.now), UtcDateTime())
    error = process_died(record.holder)
    _end(connection, record.run_id, RunStatus.INTERRUPTED, last_seen, error)


def _end(
    connection: Connection, run_id: str, status: RunStatus, at: ColumnElement[datetime], error: RunError
) -> None:
    """Record this end unless the run has one. Clocks differ: a run never ends before it started."""
    started_at = scheduled_runs.c.started_at
    connection.execute(
        update(scheduled_runs)
        .where(scheduled_runs.c.run_id == run_id, scheduled_runs.c.status == RunStatus.RUNNING.value)
        .values(
            status=status.value,
            completed_at=case((started_at > at, started_at), else_=at),
            error=error_document(error),
        )
    )
    slots.end_failed(connection, run_id, error)


def _locked(record: LeaseRecord) -> LockedError:
    since = told(record.acquired_at)
    return LockedError(
        f"connector {record.connector!r} is being run by another process: host {record.holder.host}, "
        f"pid {record.holder.pid}, since {since} (run {record.run_id})",
        hint=f"wait until it ends, or stop it; the lease of a run that died is free after "
        f"{record.expiry_seconds:g} seconds",
        connector=record.connector,
    )
