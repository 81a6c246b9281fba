"""One table read by several connections at once, by turns a range of its rowids, all of them in one snapshot.

SQLite's connections share no snapshot. But each can tell whether another one has committed since it last
looked, in whatever process and journal mode (https://www.sqlite.org/pragma.html#pragma_data_version). So the
last connection looks before the first one's transaction begins, and again in its own transaction, which
begins after all others'. Where it saw no commit, all snapshots that were taken between its looks are the
same. They are taken by a transaction's first read, and hold until its end: in WAL mode that is the end of the
log as it was then (https://www.sqlite.org/wal.html#concurrency), otherwise a lock that keeps writers from
committing (https://www.sqlite.org/lockingv3.html#locking).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise

from msgspec import Struct

from atlas_etl.connectors.sql._fetching import Batches
from atlas_etl.connectors.sql._source import Select
from atlas_etl.connectors.sql._sqlite.catalog import CatalogColumn, Entry, estimated_rows, quote, rowid
from atlas_etl.connectors.sql._sqlite.connection import SqliteConnection, open_to_read
from atlas_etl.connectors.sql._sqlite.driver import LOCKED, Driver
from atlas_etl.connectors.sql._sqlite.rows import Rows
from atlas_etl.errors import AtlasError
from atlas_etl.model import BatchLimits

_LEAST_ROWS = 50_000  # of a connection: reading fewer takes no longer than beginning a thread
_RANGE_BYTES = 8 * 1024 * 1024  # of the file: what was read ahead of its turn fits beside a batch
_MOST_RANGES = 4096
_ATTEMPTS = 20
# With a rollback journal, whoever waits to commit lets nobody in, and waits for those that read already.
_WAIT_SECONDS = 0.1


class NotAlikeError(Exception):
    """No more connections see what the first one sees. It says why."""


def begin(driver: Driver) -> None:
    """A transaction, and its snapshot."""
    driver.execute("BEGIN")
    driver.wait_for_turn("SELECT count(*) FROM main.sqlite_schema")


class Ranges(Struct, frozen=True):
    """WHERE conditions that each row of a table meets exactly one of, in the order of their rowids."""

    conditions: tuple[str, ...] = ()
    readers: int = 1  # connections that they are worth
    unsplit: str | None = None  # why there are none; a small table has none for no reason


def ranges(driver: Driver, entry: Entry, columns: Sequence[CatalogColumn], readers: int) -> Ranges:
    """Those of a table for at most so many connections.

    Rowids that are not spread evenly make ranges of different sizes.
    """
    name = rowid(entry, columns)
    if name is None:
        return Ranges(unsplit="it is a view" if entry.is_view else "its rows have no rowid")
    ((size,),) = driver.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
    count = min(int(str(size)) // _RANGE_BYTES, _MOST_RANGES)
    if count < 2:
        return Ranges()
    rows = estimated_rows(driver, entry, columns) or 0
    readers = min(readers, rows // _LEAST_ROWS, count)
    if readers < 2:
        return Ranges()
    table = f"main.{quote(entry.name)}"
    ((least, most),) = driver.execute(
        f"SELECT (SELECT min({name}) FROM {table}), (SELECT max({name}) FROM {table})"
    )
    first, width = int(str(least)), int(str(most)) - int(str(least)) + 1
    bounds = [first + width * place // count for place in range(1, count)]
    inner = [f"{name} >= {low} AND {name} < {high}" for low, high in pairwise(bounds)]
    return Ranges((f"{name} < {bounds[0]}", *inner, f"{name} >= {bounds[-1]}"), readers)


class Siblings:
    """More connections to the file that a first connection is about to open."""

    def __init__(self, config: SqliteConnection) -> None:
        self._config = config
        self._file = self._found()

    @contextmanager
    def alike(self, first: Driver, count: int) -> Iterator[list[Driver]]:
        """So many, in transactions that see what that of `first` sees, which begins a new one, too.

        Raises NotAlikeError, and then `first` is in a transaction as well.
        """
        with ExitStack() as stack:
            drivers = [self._opened(stack, first) for _ in range(count)]
            # The path may lead to another file by now, and each of them looks at no file but its own.
            if self._file is None or self._found() != self._file:
                raise NotAlikeError("another file has taken the place of the one that was opened first")
            if not any(_begun_alike(first, drivers) for _ in range(_ATTEMPTS)):
                raise NotAlikeError("others commit to the file again and again")
            yield drivers

    def _opened(self, stack: ExitStack, first: Driver) -> Driver:
        if self._config.path is None:
            raise NotAlikeError("a database in memory has one connection")
        try:
            driver = open_to_read(self._config, first.raises)
        except AtlasError as failure:
            raise NotAlikeError(f"no second connection can be opened ({failure.message})") from failure
        stack.callback(driver.close)
        driver.wait_for_locks(_WAIT_SECONDS)
        return driver

    def _found(self) -> tuple[int, int] | None:
        if self._config.path is not None:
            with suppress(OSError):  # whoever opens it says more
                found = os.stat(self._config.path)
                return found.st_dev, found.st_ino
        return None


def _begun_alike(first: Driver, others: Sequence[Driver]) -> bool:
    """Begin on each connection; where they do not see the same, only `first` is in a transaction."""
    last = others[-1]
    begun: list[Driver] = []
    first.execute("ROLLBACK")
    try:
        before = _commits_seen(last)
        for driver in (first, *others):
            begun.append(driver)
            begin(driver)
        if _commits_seen(last) == before:
            return True
    except AtlasError as failure:
        if failure.code != LOCKED:
            raise
    for driver in begun:
        driver.execute("ROLLBACK")
    begin(first)  # waits for whoever has kept the others out
    return False


def _commits_seen(driver: Driver) -> object:
    """What is another value as soon as the connection sees a commit that is not its own."""
    return driver.execute("PRAGMA data_version")[0][0]


class RangesReader(Struct, frozen=True):
    """Reads some of the ranges (_side_by_side.Reader)."""

    rows: Rows
    selects: Sequence[Select]
    limits: BatchLimits

    def parts(self) -> Iterator[Batches]:
        return (self.rows.batches(select, self.limits) for select in self.selects)

    def interrupt(self) -> None:
        self.rows.driver.interrupt()
