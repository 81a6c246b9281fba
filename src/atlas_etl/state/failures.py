"""What a database's error means for a person: StateError with a code, a reason and what to do next."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from atlas_etl.errors import StateError


class _Meaning(Struct, frozen=True):
    code: str
    what: str
    hint: str
    retryable: bool = False


_CORRUPT = _Meaning(
    "state_corrupt",
    "is damaged, or is not a state file",
    "move it and its -wal and -shm files aside and run again: only the history of runs is lost, because "
    "checkpoints live in the destination",
)
UNWRITABLE = "state_unwritable"
_UNWRITABLE = _Meaning(
    UNWRITABLE,
    "cannot be opened for writing",
    "make the file and its folder writable for this user, on a disk that is not read-only, or name another "
    "place for the state",
)
_UNREADABLE = _Meaning(
    "state_unreadable",
    "cannot be read",
    "let this user enter its folder and read the file, which are their owner's alone at first, or run as "
    "their owner",
)
_DISK = _Meaning(
    "state_unwritable",
    "could not be read or written",
    "check the disk, its free space and file size limits; what was committed before is safe",
)
_FULL = _Meaning("state_full", "has no room left to write", "free some space on its disk, then run again")
_BUSY = _Meaning(
    "state_busy",
    "is locked by another process for too long",
    "run again; if it stays so, look for a process that keeps it open",
    retryable=True,
)
_UNREACHABLE = _Meaning(
    "state_unreachable",
    "cannot be reached",
    "check host and port, and that the server runs and lets this machine in",
    retryable=True,
)
_LOGIN = _Meaning(
    "state_login", "refused the login", "check the user name and the password of the state store"
)
_TLS = _Meaning(
    "state_tls",
    "cannot be trusted",
    "servers elsewhere have to prove who they are: name the file of the authority that signed their "
    "certificate, `sslrootcert=ca.pem` in the URL or among the `options` of `state`; or opt out, with "
    "`sslmode=require` (encrypted, but to whoever answers) or `sslmode=disable`",
)
_DATABASE = _Meaning("state_database", "has no such database", "create the database, or name another one")
_PERMISSION = _Meaning(
    "state_permission",
    "does not allow this",
    "let the role create the schema once (GRANT CREATE ON DATABASE, or CREATE SCHEMA pipeline AUTHORIZATION "
    "the role) and use it (USAGE on schema pipeline; SELECT, INSERT, UPDATE, DELETE on its tables)",
)
_READ_ONLY = _Meaning(
    "state_unwritable", "is read-only", "connect to the primary server, or lift default_transaction_read_only"
)
_OTHER = _Meaning("state", "failed", "see the reason; if it makes no sense to you, please report it")

# https://www.sqlite.org/rescode.html, primary result codes
_SQLITE: Mapping[int, _Meaning] = {
    sqlite3.SQLITE_PERM: _UNWRITABLE,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_READONLY: _UNWRITABLE,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_CORRUPT: _CORRUPT,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CANTOPEN: _UNWRITABLE,
    sqlite3.SQLITE_NOTADB: _CORRUPT,
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLSTATES: Mapping[str, _Meaning] = {
    "25006": _READ_ONLY,
    "28000": _LOGIN,
    "28P01": _LOGIN,
    "3D000": _DATABASE,
    "42501": _PERMISSION,
    "53100": _FULL,
    "55P03": _BUSY,
}

_CLASSES: Mapping[str, _Meaning] = {
    "08": _UNREACHABLE,  # connection exception
    "53": _UNREACHABLE,  # insufficient resources
    "57": _UNREACHABLE,  # operator intervention: a shutdown, a cancelled statement
}

# libpq gives no SQLSTATE for a refused connection, only the server's words.
_REFUSALS: Mapping[str, _Meaning] = {
    "password authentication failed": _LOGIN,
    "no password supplied": _LOGIN,
    "no pg_hba.conf entry": _LOGIN,
    '" is not permitted to log in': _LOGIN,
    "permission denied for database": _PERMISSION,
    "SSL": _TLS,
    "certificate": _TLS,
    '" does not exist': _DATABASE,
}


def state_error(error: SQLAlchemyError, name: str) -> StateError:
    """The StateError for a database's error; `name` says which store, without its password."""
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, sqlite3.Error):
        return file_error(cause, name)
    return _told(_server_meaning(error, cause), cause, name)


def file_error(cause: sqlite3.Error, name: str) -> StateError:
    """The StateError for what SQLite says of a file."""
    return _told(_sqlite_meaning(cause), cause, name)


def _told(meaning: _Meaning, cause: BaseException, name: str) -> StateError:
    reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    return StateError(
        f"{name} {meaning.what}: {reason}",
        hint=meaning.hint,
        code=meaning.code,
        retryable=meaning.retryable,
    )


@contextmanager
def reading_content(name: str) -> Iterator[None]:
    """Rows that this package cannot have written become StateError (`state_corrupt`)."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise corrupt(name, "a row of it cannot be read") from error


def corrupt(name: str, why: str) -> StateError:
    """The error for content that this package cannot have written."""
    return StateError(f"{name} {_CORRUPT.what}: {why}", hint=_CORRUPT.hint, code=_CORRUPT.code)


def unwritable(name: str, reason: OSError) -> StateError:
    """The error for a folder that cannot be made or entered."""
    meaning = _FULL if reason.errno in (errno.ENOSPC, errno.EDQUOT) else _UNWRITABLE
    why = reason.strerror or type(reason).__name__
    return StateError(f"{name} {meaning.what}: {why}", hint=meaning.hint, code=meaning.code)


def unreadable(name: str, why: str) -> StateError:
    """The error for a file that this user may not read."""
    return StateError(f"{name} {_UNREADABLE.what}: {why}", hint=_UNREADABLE.hint, code=_UNREADABLE.code)


def _sqlite_meaning(cause: sqlite3.Error) -> _Meaning:
    result_code: int | None = getattr(cause, "sqlite_errorcode", None)  # absent where Python itself raised
    return _OTHER if result_code is None else _SQLITE.get(result_code & 0xFF, _OTHER)


def _server_meaning(error: SQLAlchemyError, cause: BaseException) -> _Meaning:
    sqlstate: str | None = getattr(cause, "sqlstate", None)
    if sqlstate is not None:
        return _SQLSTATES.get(sqlstate) or _CLASSES.get(sqlstate[:2], _OTHER)
    if not isinstance(error, OperationalError):
        return _OTHER
    words = str(cause)
    return next((meaning for text, meaning in _REFUSALS.items() if text in words), _UNREACHABLE)
