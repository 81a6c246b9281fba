"""Telling what a PostgreSQL session waits for: who holds the lock that keeps a statement from going on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import Self
from weakref import WeakSet

import psycopg
from psycopg.abc import Params, Query
from psycopg.copy import Writer

from atlas_etl.connectors.waits import tell_lock

LOOK_SECONDS = 5.0
"""How often it is looked whether a statement goes on that was going on before."""

# Others than the role itself, or pg_read_all_stats, see no more of a session than whose it is.
_HOLDERS = """
SELECT pid, usename, application_name, pg_catalog.host(client_addr), state, xact_start
FROM pg_catalog.pg_stat_activity WHERE pid = ANY (pg_catalog.pg_blocking_pids(%s))
ORDER BY xact_start NULLS LAST, pid LIMIT 1"""

_Row = tuple[object, ...]


class WaitingSession(psycopg.Connection[_Row]):
    """A session that tells in the log what its statements wait for.

    `held_by` is who held the lock that the latest statement was last seen to wait for, and `holder` its pid.
    """

    held_by: str | None = None
    holder: int | None = None
    _statement: object | None = None  # that goes on now
    _seen: object | None = None
    _looks = 0

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell what keeps the statement of this block, where it takes long."""
        self.held_by = self.holder = None
        self._statement = object()
        try:
            yield
        finally:
            self._statement = None

    def look(self) -> None:
        """Ask for what the statement waits, if it went on at the last look already; ever more rarely."""
        statement = self._statement
        if statement is None or statement is not self._seen:
            self._seen, self._looks = statement, 0
            return
        self._looks += 1
        if self._looks & (self._looks - 1):  # no power of two
            return
        with suppress(psycopg.Error):  # a server that is full, or that does not know the function
            found = self._first_holder()
            if found is not None and self._statement is statement:
                self._tell(found)

    def _first_holder(self) -> _Row | None:
        """Asked in a session of its own, because this one waits."""
        password = self.info.password or None
        with psycopg.connect(self.info.dsn, password=password, autocommit=True) as other:
            return other.execute(_HOLDERS, (self.info.backend_pid,)).fetchone()

    def _tell(self, found: _Row) -> None:
        pid, role, application, address, state, since = found
        known = (
            application and f"application {application!r}",
            address and f"from {address}",
            state,
            isinstance(since, datetime) and f"its transaction begun at {since.astimezone(UTC):%FT%TZ}",
        )
        more = ", ".join(str(each) for each in known if each)
        told = f"session {pid} of role {str(role)!r}" + (f" ({more})" if more else "")
        if pid != self.holder:
            tell_lock(f"the database {self.info.dbname}", told)
        self.held_by, self.holder = told, int(str(pid))


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


class _Watcher:
    """One thread that looks after all sessions of the process; it ends after the last of them."""

    def __init__(self) -> None:
        self._sessions: WeakSet[WaitingSession] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, session: WaitingSession) -> None:
        with self._lock:
            self._sessions.add(session)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="atlas-lock-waits", daemon=True)
                with suppress(RuntimeError):  # no more threads: it waits untold
                    self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            with self._lock:
                open_now = [session for session in self._sessions if not session.closed]
                if not open_now:
                    self._thread = None
                    return
            while open_now:
                open_now.pop().look()


_WATCHER = _Watcher()


def watched(session: WaitingSession) -> WaitingSession:
    """The session, looked after from now on."""
    _WATCHER.watch(session)
    return session


@contextmanager
def told_of_waits(session: psycopg.Connection[_Row]) -> Iterator[None]:
    """Have the block's statement tell what it waits for, where the session can."""
    if not isinstance(session, WaitingSession):
        yield
        return
    with session.told():
        yield
