"""Where the state can be: a SQLite file, a PostgreSQL database, or memory."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from sqlalchemy import URL, Engine, Pool, QueuePool, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from atlas_etl.errors import ConfigError
from atlas_etl.model import Actor
from atlas_etl.state.database import PostgresDatabase, SqliteDatabase
from atlas_etl.state.failures import corrupt, file_error, unwritable
from atlas_etl.state.lease import LeaseTimes
from atlas_etl.state.look import StateLook
from atlas_etl.state.store import SqlStateStore

_BUSY_SECONDS = 30.0

# libpq parameters; the URL's own win. A dead network must not hold a heartbeat longer than a lease lives.
_POSTGRES_DEFAULTS = {
    "application_name": "atlas",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}


class LocalStateStore(SqlStateStore):
    """The state in a SQLite file: one host, any number of processes.

    A folder that is missing is made for its owner only (0700), and so is the file (0600). A killed run's
    lease is free at once: its process is looked for.
    """

    def __init__(
        self, path: str | Path, *, times: LeaseTimes | None = None, actor: Actor | None = None
    ) -> None:
        file = Path(path).expanduser().absolute()
        name = _file_called(file)
        _refuse_folder(file, name)
        try:
            _make_private(file)
        except OSError as error:
            raise unwritable(name, error) from error
        except sqlite3.Error as error:
            if not file.exists():
                raise file_error(error, name) from error
        super().__init__(_in_file(file, name), times or LeaseTimes(), actor)


class PostgresStateStore(SqlStateStore):
    """The state in the schema `pipeline` of a PostgreSQL database, shared by any number of hosts.

    `url` is `postgresql://user:password@host:port/database?option=value` with libpq's options. Raises
    ConfigError (`state_url`) where it is not.
    """

    def __init__(self, url: str, *, times: LeaseTimes | None = None, actor: Actor | None = None) -> None:
        super().__init__(_on_server(url), times or LeaseTimes(), actor)


class MemoryStateStore(SqlStateStore):
    """The state in this process's memory, gone with it: the same tables, for tests and scripts.

    `content` is a connection to a database in memory that has them already, or an earlier version's.
    """

    def __init__(
        self,
        content: sqlite3.Connection | None = None,
        *,
        times: LeaseTimes | None = None,
        actor: Actor | None = None,
    ) -> None:
        engine = create_engine(
            "sqlite://",
            creator=lambda: content or sqlite3.connect(":memory:", check_same_thread=False),
            poolclass=QueuePool,
            pool_size=1,  # one connection is the database, so threads take turns
            max_overflow=0,
            pool_timeout=_BUSY_SECONDS,
            hide_parameters=True,
        )
        super().__init__(SqliteDatabase(engine, "the state in memory"), times or LeaseTimes(), actor)


def open_state_store(
    location: str | Path, *, times: LeaseTimes | None = None, actor: Actor | None = None
) -> SqlStateStore:
    """The store at a `postgresql://` URL, `:memory:`, or the path of a file.

    Raises ConfigError (`state_url`) for a URL of another kind, StateError where it cannot be opened.
    """
    if isinstance(location, str):
        if location == ":memory:":
            return MemoryStateStore(times=times, actor=actor)
        if "://" in location:
            return PostgresStateStore(location, times=times, actor=actor)
    return LocalStateStore(location, times=times, actor=actor)


def look_at_state(location: str | Path) -> StateLook:
    """The store that is at a `postgresql://` URL or in a file, which must be there, as it is.

    Raises as `open_state_store` does.
    """
    if isinstance(location, str) and "://" in location:
        return StateLook(_on_server(location))
    file = Path(location).expanduser().absolute()
    name = _file_called(file)
    _refuse_folder(file, name)
    return StateLook(_in_file(file, name))


def _file_called(file: Path) -> str:
    return f"the state file {file}"


def _refuse_folder(file: Path, name: str) -> None:
    """SQLite says only that it cannot open it."""
    if os.path.isdir(file):  # False, too, where it may not be looked at
        raise unwritable(name, IsADirectoryError(errno.EISDIR, "it is a folder; a state is a file"))


def _in_file(file: Path, name: str) -> SqliteDatabase:
    engine = create_engine(
        # A file removed meanwhile is an error, not a new and empty state.
        URL.create("sqlite", database=file.as_uri(), query={"mode": "rw", "uri": "true"}),
        poolclass=QueuePool,
        pool_size=1,  # kept open: who closes the file as the last one writes its whole log back
        max_overflow=-1,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        hide_parameters=True,
    )
    _leave_to_parent(engine)
    _notice_removal(engine, file)
    return SqliteDatabase(engine, name)


def _on_server(url: str) -> PostgresDatabase:
    parsed = _postgres_url(url)
    defaults = {key: value for key, value in _POSTGRES_DEFAULTS.items() if key not in parsed.query}
    engine = create_engine(
        parsed,
        pool_size=1,
        max_overflow=-1,
        pool_pre_ping=True,  # a lost connection is made anew
        connect_args={**defaults, "prepare_threshold": None},  # for PgBouncer
        hide_parameters=True,
        isolation_level="READ COMMITTED",
        use_native_hstore=False,  # saves a query in every connection
    )
    _leave_to_parent(engine)
    return PostgresDatabase(
        engine.execution_options(schema_translate_map={None: PostgresDatabase.schema}),
        f"the state store at postgresql {parsed.host or 'localhost'}:{parsed.port or 5432}"
        f"/{parsed.database or ''}",
    )


def _leave_to_parent(engine: Engine) -> None:
    """A forked child makes connections of its own: two processes cannot share a socket, or a SQLite file."""
    reference = weakref.ref(engine)
    left: list[Pool] = []  # never closed: https://www.sqlite.org/howtocorrupt.html, section 2.6

    def forget() -> None:
        inherited = reference()
        if inherited is not None:
            left.append(inherited.pool)
            inherited.dispose(close=False)

    os.register_at_fork(after_in_child=forget)


def _notice_removal(engine: Engine, file: Path) -> None:
    """What another process sees at the path is what every transaction writes to, or it fails."""

    def remember(_: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["identity"] = _identity(file)

    def compare(_: DBAPIConnection, record: ConnectionPoolEntry, __: PoolProxiedConnection) -> None:
        if record.info["identity"] != _identity(file):
            raise DisconnectionError

    event.listen(engine, "connect", remember)
    event.listen(engine, "checkout", compare)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_private(file: Path) -> None:
    folder = file.parent
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
    if not file.exists():
        with _alone_in(folder):
            if not file.exists():
                _remove_log(file)
                _make(file)
    elif file.stat().st_size == 0:
        raise corrupt(f"the state file {file}", "it is empty")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Makers of a file take turns, where the filesystem has locks."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _remove_log(file: Path) -> None:
    """What a process that was killed had not written back, of a file that somebody removed since.

    SQLite would take it for the new file's (https://www.sqlite.org/howtocorrupt.html, section 1.4).
    """
    for end in ("-wal", "-shm"):
        file.with_name(f"{file.name}{end}").unlink(missing_ok=True)


def _make(file: Path) -> None:
    """With SQLite's header from the first moment: an empty file is never one that is being made."""
    aside = file.with_name(f".{file.name}.{uuid4().hex}")
    try:
        with closing(sqlite3.connect(aside)) as made:
            made.execute("PRAGMA journal_mode = WAL")
        aside.chmod(0o600)
        os.link(aside, file)
    except FileExistsError:
        pass  # another process was faster
    except OSError:
        aside.rename(file)  # a filesystem without hard links, such as FAT
    finally:
        aside.unlink(missing_ok=True)


def _postgres_url(url: str) -> URL:
    scheme = url.partition("://")[0].partition("+")[0]
    try:
        if scheme not in {"postgresql", "postgres"}:
            raise ValueError
        parsed = make_url(url)
        if "@" in (parsed.host or ""):  # the end of a password that was not encoded
            raise ValueError
        return parsed.set(drivername="postgresql+psycopg")
    except (ValueError, SQLAlchemyError):
        # Not chained: the cause may quote the URL, and with it the password.
        raise ConfigError(
            f"the state store's location is a URL of the scheme {scheme!r} that cannot be used",
            hint="name a file, or postgresql://user:password@host:port/database, the password's special "
            "characters percent-encoded",
            code="state_url",
        ) from None
