"""One table read by several sessions at once, each a range of its primary key, all of them alike.

MySQL and MariaDB have no snapshot that sessions share. So all take theirs while one more session has the
table locked against changes. It gets that lock when every transaction that changed the table has ended: it
is a metadata lock (https://dev.mysql.com/doc/refman/8.4/en/metadata-locking.html) and, as the session does
not autocommit, InnoDB's own one, too (https://dev.mysql.com/doc/refman/8.4/en/innodb-locks-set.html, on LOCK
TABLES). So what one snapshot sees of this table is what all of them see. The lock is held for that moment
and waited for a second at most, as whoever wants to change the table waits behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise

from msgspec import Struct

from atlas_etl.connectors.sql._fetching import Batches
from atlas_etl.connectors.sql._mysql.catalog import INTEGERS, CatalogTable
from atlas_etl.connectors.sql._mysql.connection import Server
from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.connectors.sql._mysql.session import READING, Session
from atlas_etl.connectors.sql._side_by_side import AsTheyCome, SideBySide, share
from atlas_etl.connectors.sql._source import Select
from atlas_etl.errors import AtlasError
from atlas_etl.model import BatchLimits

SNAPSHOT = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"

Run = Callable[[str], list[tuple[object, ...]]]
Rows = Callable[[Session, Select, BatchLimits], Batches]

_LEAST_ROWS = 50_000  # of a range: reading fewer takes no longer than opening a session
_LOCK_SECONDS = 1


def conditions(run: Run, table: CatalogTable, count: int) -> tuple[tuple[str, ...], str | None]:
    """WHERE conditions that each row of a table meets exactly one of, or why there are none.

    A small table has none for no reason. Keys that are not spread evenly make ranges of different sizes.
    """
    if table.engine != "InnoDB":
        return (), f"it is no table of InnoDB's, but of {table.engine or 'a view'}"
    kinds = {column.name: column.data_type for column in table.columns}
    key = table.primary_key[0] if table.primary_key else None
    if key is None or kinds.get(key) not in INTEGERS:
        return (), "its primary key does not begin with a whole number"
    count = min(count, (table.estimated_rows or 0) // _LEAST_ROWS)
    name = quoted(key)
    ((least, most),) = run(f"SELECT MIN({name}), MAX({name}) FROM {table.sql}")
    if count < 2 or least is None:
        return (), None
    first, width = int(str(least)), int(str(most)) - int(str(least)) + 1
    bounds = [first + width * place // count for place in range(1, count)]
    inner = [f"{name} >= {low} AND {name} < {high}" for low, high in pairwise(bounds)]
    return (f"{name} < {bounds[0]}", *inner, f"{name} >= {bounds[-1]}"), None


@contextmanager
def alike(server: Server, first: Session, table: CatalogTable, count: int) -> Iterator[list[Session]]:
    """So many sessions whose snapshots see of a table what `first` sees, which takes a new one, too.

    Raises the server's `kind` (`lock_timeout`, `permission_denied`) where the table cannot be locked for
    that moment.
    """
    with ExitStack() as stack:
        sessions = [_session(stack, server) for _ in range(count)]
        with ExitStack() as locked:
            locker = _session(locked, server)
            locker.run(
                f"SET SESSION autocommit = 0, lock_wait_timeout = {_LOCK_SECONDS}, "
                f"innodb_lock_wait_timeout = {_LOCK_SECONDS}, innodb_table_locks = 1"
            )
            locker.run(f"LOCK TABLES {table.sql} READ")
            for session in (first, *sessions):
                session.run(SNAPSHOT)
        yield sessions


def _session(stack: ExitStack, server: Server) -> Session:
    session = Session(server, sql_mode=READING)
    stack.callback(session.close)
    return session


class RangeReader(Struct, frozen=True):
    """One of the ranges, being read (_side_by_side.Reader)."""

    session: Session
    select: Select
    limits: BatchLimits
    rows: Rows

    def parts(self) -> Iterator[Batches]:
        yield self.rows(self.session, self.select, self.limits)

    def interrupt(self) -> None:
        self.session.hang_up()


class RangesRead:
    """The rows of several SELECTs, each in a session of its own; together as much memory as one takes."""

    def __init__(self, sessions: Sequence[Session], select: Select, limits: BatchLimits, rows: Rows) -> None:
        each = share(limits, len(sessions))
        pairs = zip(sessions, select.ranges, strict=True)
        self._readers = [RangeReader(session, part, each, rows) for session, part in pairs]
        self._together = SideBySide(limits.bytes, AsTheyCome())

    def batches(self) -> Batches:
        """As `Snapshot.fetch` gives them; called once."""
        return self._together.batches(self._readers)

    def interrupt(self, failure: AtlasError) -> None:
        """As a Snapshot's."""
        self._together.fail(failure)
        for reader in self._readers:
            reader.interrupt()
