"""Looking after the sessions of a process: who holds the lock that keeps a statement from going on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

from msgspec import Struct

from atlas_etl.connectors.waits import tell_lock

LOOK_SECONDS = 5.0
"""How often it is looked whether a statement goes on that was going on before."""


class Holder(Struct, frozen=True):
    """Whoever holds a lock; `session` is the server's number of it, None where it is not certain."""

    session: int | None
    told: str


class LockWaits:
    """What one session's statements wait for. `held_by` held the lock when the latest was last looked at."""

    held_by: Holder | None = None
    _statement: object | None = None  # that goes on now
    _seen: object | None = None
    _looks = 0

    @property
    def waits_at(self) -> str:
        """The database, for people."""
        raise NotImplementedError

    @property
    def is_over(self) -> bool:
        """Whether the session is closed."""
        raise NotImplementedError

    def first_holder(self) -> Holder | None:
        """Who holds the lock, if one is waited for; asked in a session of its own, because this one waits."""
        raise NotImplementedError

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell what keeps the statement of this block, where it takes long."""
        self.held_by = None
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
        found = self.first_holder()
        if found is None or self._statement is not statement:
            return
        if self.held_by is None or found.session != self.held_by.session:
            tell_lock(self.waits_at, found.told)
        self.held_by = found


class Watcher:
    """One thread that looks after all sessions of the process; it ends after the last of them."""

    def __init__(self) -> None:
        self._sessions: WeakSet[LockWaits] = WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def watch(self, session: LockWaits) -> None:
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
                open_now = [session for session in self._sessions if not session.is_over]
                if not open_now:
                    self._thread = None
                    return
            while open_now:
                open_now.pop().look()


_WATCHER = Watcher()


def watch(session: LockWaits) -> None:
    """Look after the session from now on."""
    _WATCHER.watch(session)
