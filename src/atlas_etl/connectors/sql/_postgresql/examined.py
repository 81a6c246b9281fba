"""Looking into PostgreSQL: its catalog, limits, rights and replication, by statements of a few seconds.

Functions: https://www.postgresql.org/docs/current/functions-admin.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from msgspec.structs import replace

from atlas_etl.connectors.examined import clock
from atlas_etl.connectors.sql._examined_target import sessions_left
from atlas_etl.connectors.sql._late import UNSEEN_LAG
from atlas_etl.connectors.sql._look import SECONDS, Index, TableLook
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._postgresql.errors import quoted
from atlas_etl.connectors.sql._postgresql.snapshot import PostgresSnapshot, Writers, instant
from atlas_etl.connectors.sql._source import Dialect, Relation, SourceColumn
from atlas_etl.errors import ExitCode
from atlas_etl.model import Finding, Severity, Stream, TableName

Snapshots = Callable[[], AbstractContextManager[PostgresSnapshot]]

_MINUTES = UNSEEN_LAG.seconds // 60
_LAGS = 60  # seconds behind the primary that are worth a word

_INDEXES = """
SELECT i.indisunique, array_agg(a.attname::text ORDER BY k.place)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = c.relam AND m.amname = 'btree'
CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(attnum, place)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(%s) AND i.indisvalid AND i.indpred IS NULL AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisunique"""
_CLOCK = "SELECT round(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
# Whoever has replayed all that was received is not behind, however long ago the last change was.
_SERVER = """
SELECT current_user, current_database(), pg_is_in_recovery(),
  CASE WHEN pg_is_in_recovery() AND pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
    THEN round(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()))::bigint END,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0),
  (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database)::bigint,
  (SELECT rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = current_user),
  (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = current_user),
  (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = current_database()),
  (SELECT numbackends FROM pg_catalog.pg_stat_database WHERE datname = current_database())"""
_TABLE = """
SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE'),
  has_database_privilege(current_database(), 'TEMPORARY'), n.oid IS NOT NULL,
  has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE'), c.oid IS NOT NULL,
  has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
    AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'),
  pg_has_role(c.relowner, 'USAGE')
FROM (SELECT %s AS schema, %s AS name) AS wanted
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name"""


def bounded(config: PostgresConnection) -> PostgresConnection:
    """The same, with statements that end after SECONDS."""
    wanted = config.statement_timeout
    return config.model_copy(update={"statement_timeout": min(wanted or SECONDS, SECONDS)})


def open_transactions(writers: Writers, role: str) -> Finding:
    """Whether the role sees which rows may still appear."""
    late = f"rows that are committed more than {_MINUTES} minutes after their cursor's time can be missed"
    doubtful = Finding("open_transactions", "source", Severity.WARNING, "")
    if writers.replica:
        return replace(
            doubtful,
            message="this is a replica: it cannot tell which transactions are still open on the primary, "
            f"so {late}",
        )
    if not writers.visible:
        return replace(
            doubtful,
            message=f"the role does not see when other transactions began, so {late}",
            fix=f"GRANT pg_read_all_stats TO {quoted(role)}",
        )
    return replace(
        doubtful, severity=Severity.OK, message="the role sees when the transactions of others began"
    )


def prepared_transactions(writers: Writers) -> Iterator[Finding]:
    """Prepared transactions, which hold the tail back; nothing tells since when they are open."""
    if writers.prepared:
        yield Finding(
            "prepared_transactions", "source", Severity.WARNING,
            "there are prepared transactions (see pg_prepared_xacts): until they end, every sync reads from "
            "where the one before it began",
        )  # fmt: skip


class _System:
    """One server and the findings about it, whichever end it is."""

    needs_index = True

    def __init__(self, snapshots: Snapshots, dialect: Dialect, subject: str) -> None:
        self.dialect = dialect
        self._snapshots = snapshots
        self._subject = subject

    def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        return self._run(sql)

    def indexes(self, table: TableName) -> Sequence[Index] | None:
        name = f"{quoted(str(table.schema))}.{quoted(table.name)}"
        kinds = self._run(
            "SELECT relkind::text FROM pg_catalog.pg_class WHERE oid = to_regclass(%s)", (name,)
        )
        if not kinds or kinds[0][0] not in ("r", "p", "m"):
            return None
        found = self._run(_INDEXES, (name,))
        return [
            Index(tuple(map(str, columns)), bool(unique))
            for unique, columns in found
            if isinstance(columns, list)
        ]

    def create_index(self, relation: Relation, columns: Sequence[str], *, unique: bool) -> str:
        kind, names = "UNIQUE INDEX" if unique else "INDEX", ", ".join(map(quoted, columns))
        return f"CREATE {kind} CONCURRENTLY ON {_as_written(relation.sql)} ({names})"

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._snapshots() as snapshot:
            return snapshot.run(sql, parameters)

    def _clock(self) -> Finding:
        with self._snapshots() as snapshot:
            snapshot.run("SELECT 1")  # the session is made by now
            before = datetime.now(UTC)
            ((told,),) = snapshot.run(_CLOCK)
            return clock(self._subject, instant(told), before, datetime.now(UTC))

    def _server(self, sessions: int) -> Iterator[Finding]:
        ((role, database, replica, behind, *limits),) = self._run(_SERVER)
        yield self._connections(sessions, str(role), str(database), [int(str(each or 0)) for each in limits])
        yield self._replication(is_replica=bool(replica), behind=None if behind is None else int(str(behind)))

    def _connections(self, wanted: int, role: str, database: str, told: Sequence[int]) -> Finding:
        """By the limit that leaves least; one of the sessions is ours, and a limit of -1 is none."""
        most, all_used, of_role, by_role, of_database, in_database = told
        for_role = f"ALTER ROLE {quoted(role)} CONNECTION LIMIT {wanted + by_role}"
        for_database = f"ALTER DATABASE {quoted(database)} CONNECTION LIMIT {wanted + in_database}"
        limits = [
            (most, all_used, "the server", f"ALTER SYSTEM SET max_connections = {2 * most}; -- and restart"),
            (of_role, by_role, f"role {role!r}", for_role),
            (of_database, in_database, f"database {database!r}", for_database),
        ]
        limit, used, whose, raising = min(
            (each for each in limits if each[0] >= 0), key=lambda each: each[0] - each[1]
        )
        return sessions_left(self._subject, wanted, limit, max(0, used - 1), whose=whose, raising=raising)

    def _replication(self, *, is_replica: bool, behind: int | None) -> Finding:
        if not is_replica:
            return Finding("replica_lag", self._subject, Severity.OK, "this is no replica")
        if behind is None:
            message = "this is a replica, and has replayed all that it received"
            return Finding("replica_lag", self._subject, Severity.OK, message)
        severity = Severity.WARNING if behind > _LAGS else Severity.NOTE
        return Finding(
            "replica_lag", self._subject, severity,
            f"this replica is {behind:,} s behind its primary: syncs bring what it had then",
            "SELECT * FROM pg_stat_replication    -- on the primary",
        )  # fmt: skip


class PostgresLook(_System):
    """A database that is read (_look.Look)."""

    def __init__(self, snapshots: Snapshots, dialect: Dialect) -> None:
        super().__init__(snapshots, dialect, "source")

    def relation(self, stream: Stream) -> Relation:
        with self._snapshots() as snapshot:
            return snapshot.relation(replace(stream, partitions=1))

    def zone(self) -> str | None:
        ((zone,),) = self._run("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'")
        return str(zone)

    def system(self, sessions: int) -> Iterator[Finding]:
        with self._snapshots() as snapshot:
            ((role,),) = snapshot.run("SELECT current_user")
            writers = snapshot.writers
        yield open_transactions(writers, str(role))
        yield from prepared_transactions(writers)
        yield from self._server(sessions)
        yield self._clock()

    def require(self, relation: Relation, column: SourceColumn) -> str:
        return f"ALTER TABLE {_as_written(relation.sql)} ALTER COLUMN {quoted(column.name)} SET NOT NULL"


class PostgresTargetLook(_System):
    """A database that is written (_examined_target.TargetLook)."""

    def __init__(self, snapshots: Snapshots, dialect: Dialect) -> None:
        super().__init__(snapshots, dialect, "destination")

    def tables(self) -> AbstractContextManager[TableLook]:
        return nullcontext(self)

    def system(self, sessions: int) -> Iterator[Finding]:
        for found in self._server(sessions):
            yield replace(found, exit_code=ExitCode.DESTINATION)
        yield self._clock()
        ((is_replica,),) = self._run("SELECT pg_is_in_recovery()")
        if is_replica:
            yield Finding(
                "write_permission", self._subject, Severity.PROBLEM,
                "this server is a replica, which cannot be written to", "connect to the primary server",
                ExitCode.DESTINATION,
            )  # fmt: skip
        yield Finding(
            "disk_space", self._subject, Severity.NOTE,
            "a PostgreSQL server does not tell how much room there is", "df -h    # on the server",
        )  # fmt: skip

    def table(self, table: TableName) -> Iterator[Finding]:
        schema, name = str(table.schema), f"{quoted(str(table.schema))}.{quoted(table.name)}"
        (found,) = self._run(_TABLE, (schema, table.name))
        role, database = quoted(str(found[0])), quoted(str(found[1]))
        creates, temporary, there, uses, makes, is_table, writes, owns = map(bool, found[2:])
        missing: list[str] = []
        if not temporary:
            missing.append(f"GRANT TEMPORARY ON DATABASE {database} TO {role}")
        if not there and not creates:
            missing.append(f"GRANT CREATE ON DATABASE {database} TO {role}")
        if there and not (uses and makes):
            missing.append(f"GRANT USAGE, CREATE ON SCHEMA {quoted(schema)} TO {role}")
        if is_table and not writes:
            missing.append(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO {role}")
        subject = f"destination {table}"
        if missing:
            yield Finding(
                "write_permission", subject, Severity.PROBLEM,
                f"the role may not {'write' if is_table else 'make'} it", "; ".join(missing),
                ExitCode.DESTINATION,
            )  # fmt: skip
        elif is_table and not owns:
            yield Finding(
                "write_permission", subject, Severity.NOTE,
                "the role may write it, and not change it: a new column of the source would stop the sync",
                f"ALTER TABLE {name} OWNER TO {role}",
            )  # fmt: skip
        else:
            yield Finding(
                "write_permission", subject, Severity.OK, f"the role may {'write' if is_table else 'make'} it"
            )


def _as_written(relation: str) -> str:
    return relation.replace("%%", "%")
