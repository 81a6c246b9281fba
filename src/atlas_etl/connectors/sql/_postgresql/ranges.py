"""One table read by several sessions at once, each a range of its pages, all of them in one snapshot.

A transaction exports its snapshot and stays open; others begin with it:
https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION (on replicas
since PostgreSQL 10). Each version of a row has one ctid, its page and place, for as long as a snapshot holds
it; an update writes a version elsewhere, which the snapshot does not see. Ranges of ctid are read without
looking at other pages since PostgreSQL 14 (https://www.postgresql.org/docs/14/release-14.html).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise

import psycopg
from msgspec import Struct

from atlas_etl.connectors.sql._fetching import Batches, hang_up
from atlas_etl.connectors.sql._meaning import Failure
from atlas_etl.connectors.sql._postgresql.copy import CopyReader
from atlas_etl.connectors.sql._postgresql.session import Session, SessionPool
from atlas_etl.connectors.sql._side_by_side import AsTheyCome, SideBySide, share
from atlas_etl.connectors.sql._source import Select
from atlas_etl.errors import AtlasError
from atlas_etl.model import BatchLimits

Run = Callable[[str, Sequence[object]], list[tuple[object, ...]]]

_FIRST_VERSION = 14_00_00
_LEAST_PAGES = 1024  # of a range: reading fewer takes no longer than opening a session
# The session that exports has locked the table. Who waits to change it keeps others from locking it, too, and
# would itself wait for us: `pg_dump --jobs` does not wait either.
_LOCK_TIMEOUT = "1s"

# Ordinary tables, and partitioned ones of nothing else: a foreign table has snapshots of its own, and the
# ctid of another access method may be no place. Children of an inherited table may be anything.
_PAGES = """
SELECT coalesce(bool_and(l.relkind IN ('r', 'm') AND NOT l.relhassubclass AND a.amname = 'heap'), false),
  coalesce(max(pg_relation_size(l.oid)), 0) / current_setting('block_size')::int
FROM (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = to_regclass(%s) AND c.relkind <> 'p'
      UNION ALL SELECT p.relid FROM pg_partition_tree(to_regclass(%s)) p WHERE p.isleaf) found
JOIN pg_catalog.pg_class l ON l.oid = found.oid LEFT JOIN pg_catalog.pg_am a ON a.oid = l.relam"""

# What tells one snapshot of one server from all others.
_IDENTITY = "pg_postmaster_start_time()::text, pg_current_snapshot()::text"
_NOT_THERE = ("22023", "42704", "55000", "0A000")  # what ImportSnapshot raises, over the versions


class Exported(Struct, frozen=True):
    """A snapshot that other sessions can begin with while its transaction is open."""

    name: str
    identity: tuple[object, ...]


def conditions(run: Run, version: int, table: str, count: int) -> tuple[tuple[str, ...], str | None]:
    """WHERE conditions that each row of a table meets exactly one of, or why there are none.

    `version` is libpq's server version and `table` a quoted name. A small table has none for no reason.
    """
    if version < _FIRST_VERSION:
        return (), "the server is older than PostgreSQL 14"
    ((is_heap, pages),) = run(_PAGES, (table, table))
    if not is_heap:
        return (), "it is not an ordinary table, or not made of ordinary ones"
    pages = int(str(pages))
    count = min(count, pages // _LEAST_PAGES)
    if count < 2:
        return (), None
    bounds = [f"'({pages * place // count},0)'" for place in range(1, count)]
    first, last = f"ctid < {bounds[0]}", f"ctid >= {bounds[-1]}"  # the table may have grown since
    inner = [f"ctid >= {low} AND ctid < {high}" for low, high in pairwise(bounds)]
    return (first, *inner, last), None


def export(run: Run, table: str) -> Exported:
    """The snapshot of the transaction that `run` runs in, and the table of this quoted name locked in it."""
    run(f"SELECT FROM {table.replace('%', '%%')} LIMIT 0", ())
    ((name, *identity),) = run(f"SELECT pg_export_snapshot(), {_IDENTITY}", ())
    return Exported(str(name), tuple(identity))


class RangeReader:
    """Reads in an exported snapshot, in a session that is of no use after that (_side_by_side.Reader)."""

    def __init__(
        self, pool: SessionPool, session: Session, about: str, select: Select, limits: BatchLimits
    ) -> None:
        self._pool = pool
        self._session = session
        self._rows = CopyReader(session, pool.kind, about, given_up_by=(BaseException,))
        self._select = select
        self._limits = limits
        # A handle of our own: the session is closed by its thread, and its number may be another's then.
        self._line = socket.socket(fileno=os.dup(session.fileno()))

    def begin(self, exported: Exported) -> None:
        """Begin with the snapshot. Raises `snapshot_not_shared` where it is not this server's."""
        mode = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
        opening = self._pool.config.opening(mode, snapshot=True, imported=exported.name)
        checked = f"SELECT set_config('lock_timeout', '{_LOCK_TIMEOUT}', true); SELECT {_IDENTITY}"
        with self._rows.translated():
            try:
                cursor = self._session.execute(f"{opening}; {checked}".encode())
            except psycopg.Error as failure:
                if failure.sqlstate not in _NOT_THERE:
                    raise
                raise _not_shared(self._pool.kind) from failure
            *_, identity = cursor.results()
            if identity.fetchone() != exported.identity:
                raise _not_shared(self._pool.kind)

    def parts(self) -> Iterator[Batches]:
        yield self._rows.batches(self._select, self._limits)

    def interrupt(self) -> None:
        hang_up(self._line.fileno())

    def close(self) -> None:
        """Give the handle back; the session is not ours to close."""
        self._line.close()


class RangesRead:
    """The rows of several SELECTs, each in a session of its own; together as much memory as one takes."""

    def __init__(
        self,
        pool: SessionPool,
        exported: Exported,
        about: str,
        selects: Sequence[Select],
        limits: BatchLimits,
    ) -> None:
        self._pool = pool
        self._exported = exported
        self._about = about
        self._selects = selects
        self._limits = share(limits, len(selects))
        self._readers: list[RangeReader] = []
        self._together = SideBySide(limits.bytes, AsTheyCome())

    def batches(self) -> Batches:
        """As `Snapshot.fetch` gives them; called once."""
        with ExitStack() as stack:
            for select in self._selects:
                session = stack.enter_context(self._pool.session())
                reader = RangeReader(self._pool, session, self._about, select, self._limits)
                stack.callback(reader.close)
                self._readers.append(reader)
                reader.begin(self._exported)
            yield from self._together.batches(self._readers)

    def interrupt(self) -> None:
        """As a Snapshot's."""
        self._together.fail(self._pool.kind("the read was interrupted", code="interrupted"))
        for reader in tuple(self._readers):
            reader.interrupt()


def _not_shared(kind: Failure) -> AtlasError:
    return kind(
        "a second connection cannot see the snapshot of the first, so it leads to another server",
        hint="connect to one server, past the load balancer or pooler, or leave out `partitions`",
        code="snapshot_not_shared",
    )
