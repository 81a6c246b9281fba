"""The state for commands that only read: where this user may not write it, a copy in memory."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

from atlas_etl.errors import StateError
from atlas_etl.model import Actor
from atlas_etl.state.failures import UNWRITABLE, file_error, unreadable
from atlas_etl.state.open import MemoryStateStore, open_state_store
from atlas_etl.state.store import SqlStateStore

_TRIES = 10
_NO_LOG = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)  # nor can one be made here


def open_to_read(location: str | Path, *, actor: Actor | None = None) -> SqlStateStore:
    """The store at this location; an empty one where there is no file yet, and none can be made.

    What is written to a copy is gone with it. Raises as `open_state_store` does, and StateError
    (`state_unreadable`).
    """
    if isinstance(location, str):
        return open_state_store(location, actor=actor)
    file = location.expanduser().absolute()
    if not is_there(file):
        try:
            return open_state_store(file, actor=actor)
        except StateError as failure:
            if failure.code != UNWRITABLE:
                raise
            return MemoryStateStore(actor=actor)
    if file.is_dir() or (_may_write(file) and _may_write(file.parent)):
        return open_state_store(file, actor=actor)
    return MemoryStateStore(_copy(file), actor=actor)


class StateLooks:
    """The store for what looks at it again and again: a copy is made anew for each look."""

    def __init__(self, location: str | Path, *, actor: Actor | None = None) -> None:
        self._open = partial(open_to_read, location, actor=actor)
        self._store: SqlStateStore | None = None

    def now(self) -> SqlStateStore:
        """The store as it is now, until the next look. Raises as `open_to_read` does."""
        if self._store is None or isinstance(self._store, MemoryStateStore):
            self.close()
            self._store = self._open()
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def is_there(file: Path) -> bool:
    """Whether there is a state file. Raises StateError (`state_unreadable`) where this user may not know."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(f"the state file {file}", error.strerror or type(error).__name__) from error
    return True


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=True)


def _copy(file: Path) -> sqlite3.Connection:
    """What was committed last, in the log beside the file, too, that a writer has or a killed one left."""
    name = f"the state file {file}"
    if not os.access(file, os.R_OK, effective_ids=True):
        raise unreadable(name, os.strerror(errno.EACCES))
    log = file.with_name(f"{file.name}-wal")
    try:
        for _ in range(_TRIES):
            before = file.stat()
            try:
                return _read(file, "mode=ro")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _NO_LOG or log.exists():
                    raise
            # Nobody has the file open, or there would be a log, and so it is all there is.
            copy = _read(file, "mode=ro&immutable=1")
            after = file.stat()
            if not log.exists() and (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns):
                return copy
            copy.close()  # somebody began meanwhile
        raise unreadable(name, "it changes again and again")
    except sqlite3.Error as error:
        raise file_error(error, name) from error


def _read(file: Path, how: str) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?{how}", uri=True)) as there:
            there.backup(copy)
    except sqlite3.Error:
        copy.close()
        raise
    return copy
