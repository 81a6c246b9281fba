"""One SQLite connection through ADBC: statements, streams of batches, and the driver's errors as ours.

Reading and writing both go through ADBC's own copy of SQLite, so that the process holds one copy only:
two of them drop each other's file locks (https://www.sqlite.org/howtocorrupt.html, section 2.2.1).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

import adbc_driver_manager
import adbc_driver_sqlite.dbapi
import pyarrow as pa

from atlas_etl.connectors.sql._meaning import ONLY_TABLES, TABLE_EXISTS, Failure
from atlas_etl.connectors.waits import tell_lock
from atlas_etl.errors import AtlasError, RefusedRowError

_PREFIX = re.compile(r"^(?:[A-Z_]+: )?(?:\[SQLite\] )?(?:[Ff]ailed to [a-z ]+: )?")
LOCKED = "database_locked"
_UNTOLD_SECONDS = 5.0
_MISMATCH = "Type mismatch in column"
_NO_ROWID = "datatype mismatch"  # what is no integer, for an INTEGER PRIMARY KEY


class WireMismatchError(Exception):
    """A stream met a value of another storage class than its column's."""


def file_uri(path: Path, mode: str) -> str:
    """The URI of a database file; `mode` is `ro` or `rw` (https://www.sqlite.org/uri.html)."""
    return f"file:{quote(str(path.absolute()))}?mode={mode}"


class Driver:
    """A connection. `raises` says on whose side its failures are."""

    def __init__(self, uri: str, *, raises: Failure, timeout: float) -> None:
        self.raises = raises
        with translated(raises):
            self._connection = adbc_driver_sqlite.dbapi.connect(uri, autocommit=True)
        self.wait_for_locks(timeout)
        self._file = f"the SQLite file {unquote(uri.removeprefix('file:').partition('?')[0])}"

    @property
    def version(self) -> str:
        return f"SQLite {self.execute('SELECT sqlite_version()')[0][0]}"

    def wait_for_locks(self, seconds: float) -> None:
        """For so long from now on, before a lock of another connection is an error."""
        self._longest_wait = seconds
        self.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """One statement; its rows where it has any."""
        with translated(self.raises), closing(self._connection.cursor()) as cursor:
            cursor.execute(sql, tuple(parameters) or None)
            return list(cursor.fetchall())

    def wait_for_turn(self, sql: str) -> None:
        """A statement that locks the file and may be tried again; a lock that is long waited for is told."""
        longest = self._longest_wait
        if longest > _UNTOLD_SECONDS:
            try:
                self.wait_for_locks(_UNTOLD_SECONDS)
                self.execute(sql)
                return
            except AtlasError as failure:
                if failure.code != LOCKED:
                    raise
            finally:
                self.wait_for_locks(longest)
            tell_lock(self._file, "another process")
        self.execute(sql)

    def change(self, sql: str, rows: pa.RecordBatch | Sequence[Sequence[object]] | None = None) -> int:
        """Run a statement, once for each row where there are some: how many rows of its table it changed.

        A row has its parameters. What its triggers change does not count.
        """
        with translated(self.raises), closing(self._connection.cursor()) as cursor:
            cursor.executemany(sql, rows)
            return cursor.rowcount

    def stream(
        self, sql: str, parameters: Sequence[object], batch_rows: int, wire: pa.Schema
    ) -> Generator[pa.RecordBatch, None, None]:
        """The rows in batches of `batch_rows`. Raises WireMismatchError where they are not `wire`."""
        with translated(self.raises):
            cursor = self._connection.cursor()
        try:
            with translated(self.raises):
                cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": str(batch_rows)})
                cursor.execute(sql, tuple(parameters) or None)
                reader = cursor.fetch_record_batch()
            if reader.schema.types != wire.types:
                raise WireMismatchError
            while True:
                with translated(self.raises):
                    try:
                        batch = reader.read_next_batch()
                    except StopIteration:
                        return
                yield batch
        finally:
            cursor.close()

    def interrupt(self) -> None:
        """Have a statement of another thread fail soon."""
        with suppress(adbc_driver_manager.Error):
            self._connection.adbc_cancel()

    def close(self) -> None:
        """Give the connection back; a transaction that was not committed is undone. May be called twice."""
        self._connection.close()


@contextmanager
def translated(raises: Failure) -> Iterator[None]:
    """Turn the driver's errors into ours, at the call that raised them."""
    try:
        yield
    except (adbc_driver_manager.Error, pa.ArrowException, OSError) as failure:
        if isinstance(failure.__cause__, KeyboardInterrupt):  # it took the signal, and cannot cancel
            raise KeyboardInterrupt from None
        text = str(failure)
        if _MISMATCH in text:
            raise WireMismatchError from None
        why = _PREFIX.sub("", text.partition("\n")[0])
        if isinstance(failure, adbc_driver_manager.IntegrityError) or why == _NO_ROWID or _is_of_a_row(text):
            raise _refused(why) from failure
        raise _ours(raises, why) from failure


def _is_of_a_row(text: str) -> bool:
    """Whether a row before the last of an insert was refused: the driver is told so at the next."""
    return "Failed to reset statement" in text and not any(pattern in text for pattern, *_ in _KNOWN)


def _refused(why: str) -> RefusedRowError:
    """A constraint, a trigger's RAISE, or a STRICT table's type (SQLITE_CONSTRAINT, SQLITE_MISMATCH)."""
    unique = "UNIQUE constraint failed" in why or "PRIMARY KEY constraint failed" in why
    hint = (
        "two rows have the same key: use the disposition merge, or another primary key; where the source has "
        "another one now, run with --full-refresh"
    )
    return RefusedRowError(
        f"a row breaks a rule of its table: {why}",
        hint=hint if unique else "correct the data, or the table's rule",
        code="constraint",
    )


def _ours(raises: Failure, why: str) -> AtlasError:
    """Statements and values stay out of the message; SQLite's own words say enough."""
    for pattern, code, message, hint, retryable in _KNOWN:
        if pattern in why:
            return raises(message, hint=hint, code=code, retryable=retryable)
    if re.search(r"no such|syntax error|incomplete input|unrecognized token|ambiguous|not allowed", why):
        return raises(why, hint="check the table, the query and its columns", code="sql")
    return raises(f"SQLite: {why}")


_KNOWN = (
    (
        "no such savepoint: _atlas_",
        "rule_ends_load",
        "a rule of the table (ON CONFLICT ROLLBACK, or a trigger's RAISE(ROLLBACK)) ended the whole load "
        "where it refused a row, so that such rows cannot be kept aside",
        "have it ABORT in the place of ROLLBACK, or load into a table without it, named with `into`",
        False,
    ),
    (
        "because it is a view",
        "sql",
        "the view has no trigger by which rows of it are deleted or added",
        ONLY_TABLES,
        False,
    ),
    (
        "already exists",
        TABLE_EXISTS.code,
        "the table is there already",
        TABLE_EXISTS.hint,
        TABLE_EXISTS.retryable,
    ),
    (
        "object name reserved",
        "reserved_name",
        "the table's name begins with `sqlite_`, which SQLite keeps for its own",
        "give the stream another table with `into`, or the connector another name",
        False,
    ),
    (
        "file is not a database",
        "not_a_database",
        "the file is not a SQLite database, or it is encrypted",
        "check the path (`database_path` in a definition)",
        False,
    ),
    (
        "malformed",
        "database_corrupt",
        "the SQLite file is corrupt",
        "`PRAGMA integrity_check` in the sqlite3 shell says where; `.recover` there saves what it can",
        False,
    ),
    (
        "is locked",
        LOCKED,
        "another process is writing to the SQLite file",
        "try again, or wait longer with `options: {timeout: SECONDS}`; "
        "in WAL mode readers and the writer do not wait for each other",
        True,
    ),
    (
        "readonly database",
        "not_writable",
        "the SQLite file or its folder cannot be written",
        "check the permissions of the file and of its folder, where SQLite keeps its journal",
        False,
    ),
    (
        "unable to open database file",
        "cannot_open",
        "the SQLite file, or the journal beside it, cannot be opened",
        "check the permissions of the file and of its folder",
        False,
    ),
    (
        "database or disk is full",
        "disk_full",
        "the disk is full",
        "make room; what was committed before is safe",
        True,
    ),
    (
        "disk I/O error",
        "io_error",
        "the disk failed to read or write the SQLite file",
        "check the disk, its free space and file size limits; what was committed before is safe",
        True,
    ),
)
