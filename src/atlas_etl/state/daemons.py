"""Schedulers in the state store: each holds a lease of its own, of a name that no connector can have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

from sqlalchemy import delete, select

from atlas_etl.contracts import Lease
from atlas_etl.model import Daemon
from atlas_etl.state.database import Database
from atlas_etl.state.lease import LeaseTimes
from atlas_etl.state.leases import end_dead_runs, hold, release
from atlas_etl.state.schema import leases

_DAEMON = "daemon "  # no connector's name has a space


@contextmanager
def enlisted(database: Database, times: LeaseTimes) -> Iterator[Lease]:
    """Be a daemon until the block is left."""
    _forget_gone(database)
    held = hold(database, times, f"{_DAEMON}{uuid4()}")
    held.start()
    try:
        yield held
    finally:
        if held.held_here():
            held.stop()
            release(database, held, None)
            _forget_gone(database)


def alive(database: Database) -> Sequence[Daemon]:
    """Those whose heartbeat lasts, the oldest first."""
    end_dead_runs(database)
    query = select(leases).where(leases.c.connector.startswith(_DAEMON), leases.c.run_id.is_not(None))
    with database.reading() as connection:
        return [
            Daemon(row.run_id, row.host, row.pid, row.acquired_at, row.heartbeat_at)
            for row in connection.execute(query.order_by(leases.c.acquired_at))
        ]


def _forget_gone(database: Database) -> None:
    gone = (leases.c.connector.startswith(_DAEMON), leases.c.run_id.is_(None))
    with database.writing() as connection:
        connection.execute(delete(leases).where(*gone))
