"""One repeatable-read transaction on PostgreSQL: its relations, its rows by binary COPY, and who writes.

Its first message to the server does all that must come before the first rows: it looks for transactions
that are still writing, begins, and reads the catalog. The order matters: who was looked for before the
snapshot cannot have slipped through between the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import psycopg
from msgspec import Struct
from msgspec.structs import replace
from psycopg import pq

from atlas_etl.connectors.sql._fetching import Batches, OneFetchAtATime, hang_up
from atlas_etl.connectors.sql._late import UNSEEN_LAG, OpenWriters
from atlas_etl.connectors.sql._pgcopy.types import builtin_type
from atlas_etl.connectors.sql._postgresql.catalog import (
    CatalogTable,
    described_types,
    every_table,
    find_table,
)
from atlas_etl.connectors.sql._postgresql.connection import SNAPSHOT_MARK
from atlas_etl.connectors.sql._postgresql.copy import REWRITTEN, CopyReader
from atlas_etl.connectors.sql._postgresql.errors import quoted
from atlas_etl.connectors.sql._postgresql.ranges import RangesRead, conditions, export
from atlas_etl.connectors.sql._postgresql.session import Session, SessionPool, rendered
from atlas_etl.connectors.sql._postgresql.types import ServerType, source_column
from atlas_etl.connectors.sql._source import (
    READ_IN_ORDER,
    SORTED,
    Forecast,
    Relation,
    Select,
    SourceColumn,
    subquery,
    table_not_found,
)
from atlas_etl.errors import AtlasError
from atlas_etl.model import BatchLimits, Stream

_EVER = datetime(1, 1, 2, tzinfo=UTC)  # before any transaction; a day's room for time zones

# Rows carry the instant at which their transaction began, or up to half a second less where the column rounds
# (timestamptz(0)); and a backend shows that instant a moment after it took it.
_ROUNDING = timedelta(seconds=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Any other transaction may be writing, or begin to. Sessions of our own snapshots only read. Instants come as
# microseconds, because the session is not pinned yet.
_WRITERS = f"""
SELECT replica, visible, prepared, round(extract(epoch FROM now) * 1000000)::bigint,
  round(extract(epoch FROM oldest) * 1000000)::bigint
FROM (SELECT pg_is_in_recovery() AS replica,
  pg_has_role('pg_read_all_stats', 'USAGE') OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND NOT pg_has_role(usesysid, 'USAGE')) AS visible,
  EXISTS (SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()) AS prepared,
  least(statement_timestamp(),
    CASE WHEN pg_is_in_recovery() THEN pg_last_xact_replay_timestamp() END) AS now,
  (SELECT min(xact_start) FROM pg_catalog.pg_stat_activity
   WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
   AND right(application_name, {len(SNAPSHOT_MARK)}) <> '{SNAPSHOT_MARK}') AS oldest) AS writers"""

# When the snapshot had been taken, by the statement before this one.
_CLOCK = "SELECT round(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"


class Writers(Struct, frozen=True):
    """Who may still commit rows that a snapshot taken now cannot see."""

    replica: bool  # then nobody that writes is here
    visible: bool  # whether the role sees when the transactions of others began
    prepared: bool  # whether there are prepared transactions, whose beginning nothing tells
    now: datetime
    oldest: datetime | None

    @property
    def unproven(self) -> str | None:
        """Why `began` is a bound and no proof; None where it is one."""
        if self.replica:
            return "the source is a replica"
        return None if self.visible or self.prepared else "its role does not see when other sessions began"

    def began(self) -> datetime:
        """An instant that none of them began before; a bound and no proof where they cannot be seen."""
        if self.prepared:
            return _EVER
        if self.replica or not self.visible:
            return min(self.now - UNSEEN_LAG, self.oldest or self.now)
        return min(self.now, self.oldest or self.now)


def _writers(row: tuple[object, ...]) -> Writers:
    replica, visible, prepared, now, oldest = row
    began = None if oldest is None else instant(oldest)
    return Writers(bool(replica), bool(visible), bool(prepared), instant(now), began)


def instant(microseconds: object) -> datetime:
    """Of microseconds since 1970 in UTC."""
    return _EPOCH + timedelta(microseconds=int(str(microseconds)))


class PostgresSnapshot(OneFetchAtATime):
    """A snapshot of one session, which whoever gave it rolls back (_source.Snapshot)."""

    def __init__(self, session: Session, pool: SessionPool) -> None:
        self._session = session
        self._pool = pool
        self._kind = pool.kind
        self._rows = CopyReader(session, pool.kind)
        self._ranges: RangesRead | None = None
        begin = pool.config.opening("ISOLATION LEVEL REPEATABLE READ READ ONLY", snapshot=True)
        self._opening: str | None = f"BEGIN READ ONLY; {_WRITERS}; COMMIT; {begin}; {_CLOCK}; "
        self._writers: Writers | None = None
        self._taken: datetime | None = None

    @property
    def writers(self) -> Writers:
        """Who was writing just before the snapshot."""
        if self._writers is None:
            self.run("SELECT 1")
        return cast(Writers, self._writers)

    def open_writers(self) -> OpenWriters:
        began = self.writers.began()
        wrote = began - _ROUNDING if began > _EVER else began
        return OpenWriters(began, wrote, cast(datetime, self._taken), self.writers.unproven)

    def place(self) -> str:
        """A replica has its primary's identifier, and its tables; some services keep it to themselves."""
        allowed = "has_function_privilege(to_regprocedure('pg_control_system()'), 'EXECUTE')"
        is_told = bool(self.run(f"SELECT 1 WHERE {allowed}"))
        server = "(pg_control_system()).system_identifier" if is_told else "pg_postmaster_start_time()"
        ((found,),) = self.run(f"SELECT concat_ws(' ', 'postgresql', {server}, current_database())")
        return str(found)

    def tables(self) -> list[CatalogTable]:
        return every_table(self.run)

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None:
            relation = subquery(stream)
            return Relation(relation.replace("%", "%%"), self._described(f"SELECT * FROM {relation} LIMIT 0"))
        table = find_table(self.run, stream.table)
        if table is None:
            known = dict.fromkeys(known.stream_info().name for known in self.tables())
            raise table_not_found(stream.table, list(known), stream.name)
        self._rows.about = table.sql
        if not table.readable or not table.usable:
            raise self._denied(table, stream)
        if stream.connections == 1:
            return table.relation()
        version = self._session.info.server_version
        ranges, unsplit = conditions(self.run, version, table.sql, stream.connections)
        return replace(table.relation(), ranges=ranges, unsplit=unsplit)

    def fetched(self, select: Select, limits: BatchLimits) -> Batches:
        if not select.ranges:
            return self._rows.batches(select, limits)
        table = cast(str, self._rows.about)
        self._ranges = RangesRead(self._pool, export(self.run, table), table, select.ranges, limits)
        return self._ranges.batches()

    def interrupt(self) -> None:
        if self._ranges is not None:
            self._ranges.interrupt()
        with suppress(psycopg.OperationalError):  # it is closed
            hang_up(self._session.fileno())

    def forecast(self, select: Select) -> Forecast:
        """As the planner has it. It locks the tables, so that none of them can be rewritten from now on."""
        cursor = self._execute(f"EXPLAIN (FORMAT JSON) {select.sql}; {REWRITTEN}", select.parameters)
        ((found,),) = cursor.fetchall()
        cursor.nextset()
        self._rows.refuse(cursor.fetchone())
        (plan,) = cast(list[dict[str, Any]], found)
        sorts = "Sort" in _steps(plan["Plan"])
        return Forecast(plan["Plan"]["Plan Rows"], SORTED if sorts else READ_IN_ORDER)

    def run(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """A statement and its rows."""
        return self._execute(statement, parameters).fetchall()

    def _execute(
        self, statement: str, parameters: Sequence[object] = ()
    ) -> psycopg.Cursor[tuple[object, ...]]:
        opening, self._opening = self._opening, None
        with self._rows.translated():
            text = rendered(self._session, statement, tuple(parameters))
            cursor = self._session.execute(f"{opening or ''}{text}".encode())
            if opening is not None:
                answers: list[list[tuple[object, ...]]] = []
                for _ in range(6):
                    answers.append(cursor.fetchall() if cursor.description else [])
                    cursor.nextset()
                _, (writers,), _, _, _, ((now,),) = answers
                self._writers, self._taken = _writers(writers), instant(now)
        return cursor

    def _described(self, statement: str) -> tuple[SourceColumn, ...]:
        """The columns of a query's result, as the server describes it.

        By the extended protocol, which takes one statement: a query could else end ours, and the transaction.
        """
        if self._opening is not None:
            self.run("SELECT 1")
        with self._rows.translated():
            cursor = psycopg.Cursor(self._session).execute(statement.encode(), binary=True)
        result, described = cast(pq.abc.PGresult, cursor.pgresult), cursor.description or []
        kinds = [(column.type_code, result.fmod(place)) for place, column in enumerate(described)]
        known = [self._builtin(oid, typmod) for oid, typmod in kinds]
        if None in known:
            known = list(described_types(self.run, kinds))
        return tuple(
            source_column(column.name, True, found)
            for column, found in zip(described, known, strict=True)
            if found is not None
        )

    def _builtin(self, oid: int, typmod: int) -> ServerType | None:
        """A type that needs no look into the catalog."""
        wire = builtin_type(oid, typmod)
        info = self._session.adapters.types.get(oid)
        if wire is None or info is None:
            return None
        scale = (wire.element or wire).numeric_scale()
        native = info.regtype + (f"({scale[0]},{scale[1]})" if scale else "")
        if wire.element is None:
            return ServerType(oid, typmod, native)
        return ServerType(oid, typmod, f"{native}[]", element=wire.element.oid, element_native=info.regtype)

    def _denied(self, table: CatalogTable, stream: Stream) -> AtlasError:
        role = quoted(self._session.info.user)
        grants = [] if table.usable else [f"GRANT USAGE ON SCHEMA {quoted(table.schema)} TO {role}"]
        if not table.readable:
            grants.append(f"GRANT SELECT ON {table.sql} TO {role}")
        return self._kind(
            f"role {self._session.info.user!r} may not read {table.schema}.{table.name}",
            hint="; ".join(grants),
            code="permission_denied",
            stream=stream.name,
        )


def _steps(plan: Mapping[str, Any]) -> set[str]:
    """The kinds of nodes in a plan."""
    return {str(plan["Node Type"])}.union(*map(_steps, plan.get("Plans", ())))
