"""Telling what a PostgreSQL session waits for: who holds the lock that keeps a statement from going on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Self

import psycopg
from psycopg.abc import Params, Query
from psycopg.copy import Writer

from atlas_etl.connectors.sql._lock_waits import Holder, LockWaits

# Others than the role itself, or pg_read_all_stats, see no more of a session than whose it is.
_HOLDERS = """
SELECT pid, usename, application_name, pg_catalog.host(client_addr), state, xact_start
FROM pg_catalog.pg_stat_activity WHERE pid = ANY (pg_catalog.pg_blocking_pids(%s))
ORDER BY xact_start NULLS LAST, pid LIMIT 1"""

_Row = tuple[object, ...]


class WaitingSession(psycopg.Connection[_Row], LockWaits):
    """A session that tells in the log what its statements wait for."""

    @property
    def waits_at(self) -> str:
        return f"the database {self.info.dbname}"

    @property
    def is_over(self) -> bool:
        return self.closed

    def first_holder(self) -> Holder | None:
        password = self.info.password or None
        with suppress(psycopg.Error):  # a server that is full, or that does not know the function
            with psycopg.connect(self.info.dsn, password=password, autocommit=True) as other:
                found = other.execute(_HOLDERS, (self.info.backend_pid,)).fetchone()
            return _holder(found) if found is not None else None
        return None


def _holder(found: _Row) -> Holder:
    pid, role, application, address, state, since = found
    known = (
        application and f"application {application!r}",
        address and f"from {address}",
        state,
        isinstance(since, datetime) and f"its transaction begun at {since.astimezone(UTC):%FT%TZ}",
    )
    more = ", ".join(str(each) for each in known if each)
    return Holder(int(str(pid)), f"session {pid} of role {str(role)!r}" + (f" ({more})" if more else ""))


class WaitingCursor(psycopg.ClientCursor[_Row]):
    """The cursor of such a session."""

    def execute(
        self,
        query: Query,
        params: Params | None = None,
        *,
        prepare: bool | None = None,
        binary: bool | None = None,
    ) -> Self:
        with told_of_waits(self.connection):
            return super().execute(query, params, prepare=prepare, binary=binary)  # type: ignore[arg-type,misc]

    @contextmanager
    def copy(
        self, statement: Query, params: Params | None = None, *, writer: Writer | None = None
    ) -> Iterator[psycopg.Copy]:
        with ExitStack() as stack:
            with told_of_waits(self.connection):
                copying = stack.enter_context(super().copy(statement, params, writer=writer))
            yield copying


@contextmanager
def told_of_waits(session: psycopg.Connection[_Row]) -> Iterator[None]:
    """Have the block's statement tell what it waits for, where the session can."""
    if not isinstance(session, WaitingSession):
        yield
        return
    with session.told():
        yield
