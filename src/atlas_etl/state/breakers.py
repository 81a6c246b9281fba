"""Circuit breakers in the state store: failures in a row, and how long a connector rests after them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace
from sqlalchemy import Connection, delete, select, update

from atlas_etl.model import AuditAction, AuditKind, Breaker, BreakerPolicy, BreakerState, Change
from atlas_etl.state.audit import SqlAuditLog
from atlas_etl.state.database import Database
from atlas_etl.state.failures import reading_content
from atlas_etl.state.records import breaker_of
from atlas_etl.state.schema import breakers


def read(database: Database) -> Mapping[str, Breaker]:
    """By connector, those that count failures."""
    with database.reading() as connection, reading_content(database.name):
        found = [breaker_of(row) for row in connection.execute(select(breakers))]
    return {breaker.connector: breaker for breaker in found}


def rests_until(
    database: Database, connection: Connection, connector: str, now: datetime, policy: BreakerPolicy
) -> datetime | None:
    """Until when no run may begin; None where one may. The first one past that is the breaker's probe."""
    breaker = locked(database, connection, connector)
    if breaker.state is BreakerState.CLOSED or breaker.probe_at is None:
        return None
    if now < breaker.probe_at:
        return breaker.probe_at
    probe = {"state": BreakerState.HALF_OPEN.value, "probe_at": now + policy.cooldown}
    connection.execute(update(breakers).where(breakers.c.connector == connector).values(**probe))
    return None


def count_failure(
    database: Database,
    connection: Connection,
    audit: SqlAuditLog,
    connector: str,
    *,
    policy: BreakerPolicy,
    now: datetime,
) -> Breaker:
    """The breaker after one more failure, which may have opened it."""
    before = locked(database, connection, connector)
    breaker = replace(before, failures=before.failures + 1)
    if breaker.failures >= policy.failures or breaker.state is BreakerState.HALF_OPEN:
        breaker = replace(
            breaker,
            state=BreakerState.OPEN,
            opened_at=breaker.opened_at or now,
            probe_at=now + policy.cooldown,
        )
    values = {
        "connector": connector,
        "failures": breaker.failures,
        "state": breaker.state.value,
        "opened_at": breaker.opened_at,
        "probe_at": breaker.probe_at,
    }
    connection.execute(database.upsert(breakers, values, ["connector"]))
    if before.state is BreakerState.CLOSED and breaker.state is BreakerState.OPEN:
        found = {"state": breaker.state.value, "failures": breaker.failures}
        opened = Change(AuditKind.BREAKER, AuditAction.OPENED, connector, None, None, found)
        audit.add(connection, [opened])
    return breaker


def close_breaker(
    connection: Connection, audit: SqlAuditLog, connector: str, action: AuditAction, run_id: str | None
) -> None:
    """Forget the connector's failures; where they had opened its breaker, the audit tells of it."""
    one = breakers.c.connector == connector
    row = connection.execute(select(breakers).where(one).with_for_update()).one_or_none()
    if row is None:
        return
    connection.execute(delete(breakers).where(one))
    if row.state != BreakerState.CLOSED.value:
        before = {"state": row.state, "failures": row.failures}
        after = {"state": BreakerState.CLOSED.value}
        audit.add(connection, [Change(AuditKind.BREAKER, action, connector, None, before, after, run_id)])


def locked(database: Database, connection: Connection, connector: str) -> Breaker:
    """The breaker, which nobody else changes until the transaction ends."""
    query = select(breakers).where(breakers.c.connector == connector).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        return Breaker(connector, 0)
    with reading_content(database.name):
        return breaker_of(row)
