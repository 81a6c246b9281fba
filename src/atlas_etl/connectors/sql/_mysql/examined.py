"""Looking into MySQL and MariaDB: catalog, limits, rights and replication, by statements of a few seconds.

Replication: https://dev.mysql.com/doc/refman/8.4/en/show-replica-status.html; rights:
https://dev.mysql.com/doc/refman/8.4/en/information-schema-schema-privileges-table.html.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from itertools import groupby
from typing import cast

from msgspec.structs import replace

from atlas_etl.connectors.examined import clock, unmade
from atlas_etl.connectors.sql._examined_target import sessions_left
from atlas_etl.connectors.sql._late import UNSEEN_LAG
from atlas_etl.connectors.sql._look import SECONDS, Index, TableLook
from atlas_etl.connectors.sql._mysql.errors import LOAD_RIGHTS, quoted
from atlas_etl.connectors.sql._mysql.session import Session
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.connectors.sql._source import Dialect, Relation, SourceColumn
from atlas_etl.errors import AtlasError, ExitCode
from atlas_etl.model import BatchLimits, Finding, Severity, Stream, TableName

_MINUTES = UNSEEN_LAG.seconds // 60
_LAGS = 60  # seconds behind the primary that are worth a word

_LIMITS = """
SELECT @@global.max_connections, @@session.max_user_connections, CURRENT_USER(),
  (SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = SUBSTRING_INDEX(USER(), '@', 1))"""
_ONE = "TABLE_SCHEMA = ? AND TABLE_NAME = ?"
_INDEXES = f"""
SELECT INDEX_NAME, NON_UNIQUE, COALESCE(COLUMN_NAME, ''), SUB_PART IS NOT NULL
FROM information_schema.STATISTICS WHERE {_ONE} AND INDEX_TYPE = 'BTREE' ORDER BY INDEX_NAME, SEQ_IN_INDEX"""
_RIGHTS = f"""
SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = ?
UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
WHERE GRANTEE = ? AND ? LIKE TABLE_SCHEMA
UNION SELECT PRIVILEGE_TYPE FROM information_schema.TABLE_PRIVILEGES WHERE GRANTEE = ? AND {_ONE}"""


def bound(session: Session) -> None:
    """Let its SELECTs end after SECONDS."""
    limit = f"max_statement_time = {SECONDS}" if session.is_mariadb else f"max_execution_time = {SECONDS}000"
    session.run(f"SET SESSION {limit}")


def open_transactions(writers: Writers, account: str) -> Finding:
    """Whether the account sees which rows may still appear."""
    found = Finding("open_transactions", "source", Severity.WARNING, "")
    if writers.replica:
        return replace(
            found,
            message="the server is read-only, so probably a replica: it cannot tell which transactions are "
            f"still open on the primary, and rows that are committed more than {_MINUTES} minutes late can "
            "be missed: set `lag`",
        )
    if not writers.visible:
        user, _, host = account.rpartition("@")
        return replace(
            found,
            message="the account does not see when other transactions began, so rows that are committed more "
            f"than {_MINUTES} minutes after their cursor's time can be missed",
            fix=f"GRANT PROCESS ON *.* TO '{user}'@'{host}'",
        )
    message = "the account sees when the transactions of others began"
    return replace(found, severity=Severity.OK, message=message)


class _System:
    """One server and the findings about it, whichever end it is."""

    needs_index = True

    def __init__(self, session: Session, dialect: Dialect, subject: str) -> None:
        self.dialect = dialect
        self._session = session
        self._subject = subject

    def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        return self._session.rows(sql)

    def indexes(self, table: TableName) -> Sequence[Index] | None:
        name = (str(table.schema), table.name)
        kinds = self._session.rows(f"SELECT TABLE_TYPE FROM information_schema.TABLES WHERE {_ONE}", name)
        if not kinds or "VIEW" in str(kinds[0][0]):
            return None
        found = groupby(self._session.rows(_INDEXES, name), key=lambda row: row[:2])
        return [
            _index(
                [(str(column), bool(is_prefix)) for _, _, column, is_prefix in rows], is_unique=not duplicates
            )
            for (_, duplicates), rows in found
        ]

    def create_index(self, relation: Relation, columns: Sequence[str], *, unique: bool) -> str:
        kind, names = "UNIQUE INDEX" if unique else "INDEX", ", ".join(map(quoted, columns))
        return f"ALTER TABLE {relation.sql} ADD {kind} ({names})"

    def _clock(self) -> Finding:
        before = datetime.now(UTC)
        ((told,),) = self._session.rows("SELECT UTC_TIMESTAMP(6)")
        return clock(self._subject, cast(datetime, told).replace(tzinfo=UTC), before, datetime.now(UTC))

    def _connections(self, wanted: int) -> Finding:
        """By the limit that leaves least; one session is ours, and a limit of 0 for an account is none."""
        ((most, of_account, account, by_account),) = self._session.rows(_LIMITS)
        ((_, connected),) = self._session.rows("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        user, _, host = str(account).rpartition("@")
        raising = f"SET GLOBAL max_connections = {2 * int(str(most))};"
        limits = [(int(str(most)), int(str(connected)), "the server", raising)]
        if int(str(of_account)) > 0:
            more = int(str(by_account)) + wanted
            raising = f"ALTER USER '{user}'@'{host}' WITH MAX_USER_CONNECTIONS {more};"
            limits.append((int(str(of_account)), int(str(by_account)), f"account {account!r}", raising))
        limit, used, whose, raising = min(limits, key=lambda each: each[0] - each[1])
        return sessions_left(self._subject, wanted, limit, max(0, used - 1), whose=whose, raising=raising)

    def _replication(self) -> Finding:
        try:
            status = self._replica_status()
        except AtlasError as failure:
            ((account,),) = self._session.rows("SELECT CURRENT_USER()")
            user, _, host = str(account).rpartition("@")
            right = "REPLICA MONITOR" if self._session.is_mariadb else "REPLICATION CLIENT"
            grant = f"GRANT {right} ON *.* TO '{user}'@'{host}'"
            found = unmade("replica_lag", self._subject, failure)
            return replace(found, fix=grant) if failure.code == "permission_denied" else found
        if status is None:
            return Finding("replica_lag", self._subject, Severity.OK, "this is no replica")
        behind = status.get("Seconds_Behind_Source", status.get("Seconds_Behind_Master"))
        if behind is None:
            return Finding(
                "replica_lag",
                self._subject,
                Severity.WARNING,
                "this replica does not replicate: syncs bring what it had when that stopped",
                "START REPLICA    -- after SHOW REPLICA STATUS told why it stopped",
            )
        seconds = int(str(behind))
        if not seconds:
            return Finding("replica_lag", self._subject, Severity.OK, "this replica is not behind")
        return Finding(
            "replica_lag",
            self._subject,
            Severity.WARNING if seconds > _LAGS else Severity.NOTE,
            f"this replica is {seconds:,} s behind its primary: syncs bring what it had then",
            "SHOW REPLICA STATUS    -- tells what it waits for",
        )

    def _replica_status(self) -> dict[str, object] | None:
        """By the names that a server's own version has for its members; None where it is no replica."""
        try:
            batches = list(self._session.stream("SHOW REPLICA STATUS", (), BatchLimits()))
        except AtlasError as failure:
            if failure.code != "sql":
                raise
            batches = list(self._session.stream("SHOW SLAVE STATUS", (), BatchLimits()))
        found = [row for batch, _ in batches for row in batch.to_pylist()]
        return found[0] if found else None


class MySQLLook(_System):
    """A server that is read (_look.Look)."""

    def __init__(
        self,
        session: Session,
        dialect: Dialect,
        relation: Callable[[Stream], Relation],
        writers: Writers,
    ) -> None:
        super().__init__(session, dialect, "source")
        self._relation = relation
        self._writers = writers

    def relation(self, stream: Stream) -> Relation:
        return self._relation(replace(stream, partitions=1))

    def zone(self) -> str | None:
        ((zone, system),) = self._session.rows("SELECT @@global.time_zone, @@system_time_zone")
        return str(system if zone == "SYSTEM" else zone)

    def system(self, sessions: int) -> Iterator[Finding]:
        ((account,),) = self._session.rows("SELECT CURRENT_USER()")
        yield open_transactions(self._writers, str(account))
        yield self._connections(sessions)
        yield self._replication()
        yield self._clock()

    def require(self, relation: Relation, column: SourceColumn) -> str:
        return f"ALTER TABLE {relation.sql} MODIFY {quoted(column.name)} {column.native} NOT NULL"


class MySQLTargetLook(_System):
    """A server that is written (_examined_target.TargetLook)."""

    def __init__(self, session: Session, dialect: Dialect) -> None:
        super().__init__(session, dialect, "destination")

    def tables(self) -> AbstractContextManager[TableLook]:
        return nullcontext(self)

    def system(self, sessions: int) -> Iterator[Finding]:
        for found in (self._connections(sessions), self._replication(), self._clock()):
            yield replace(found, exit_code=ExitCode.DESTINATION)
        ((read_only,),) = self._session.rows("SELECT @@global.read_only + @@global.innodb_read_only")
        if int(str(read_only)):
            message = "this server is read-only, so it cannot be written to"
            fix = "SET GLOBAL read_only = OFF    -- unless it is a replica: then connect to its primary"
            yield Finding(
                "write_permission", self._subject, Severity.PROBLEM, message, fix, ExitCode.DESTINATION
            )
        message = "a MySQL server does not tell how much room there is"
        yield Finding("disk_space", self._subject, Severity.NOTE, message, "df -h    # on the server")

    def table(self, table: TableName) -> Iterator[Finding]:
        subject, schema = f"destination {table}", str(table.schema)
        ((account, role),) = self._session.rows("SELECT CURRENT_USER(), CURRENT_ROLE()")
        user, _, host = str(account).rpartition("@")
        grantee = f"'{user}'@'{host}'"
        rows = self._session.rows(_RIGHTS, (grantee, grantee, schema, grantee, schema, table.name))
        rights = {str(right) for (right,) in rows}
        missing = [right for right in LOAD_RIGHTS.split(", ") if right not in rights]
        if not missing:
            message = "the account may make and write it"
            yield Finding("write_permission", subject, Severity.OK, message)
            return
        grant = f"GRANT {', '.join(missing)} ON {quoted(schema)}.* TO {grantee}"
        told = f"the account has not the rights {', '.join(missing)} on {schema}"
        if role not in (None, "NONE"):  # whose rights are told to nobody
            message = f"{told}, unless its role {role} gives them"
            yield Finding("write_permission", subject, Severity.NOTE, message, grant)
            return
        yield Finding("write_permission", subject, Severity.PROBLEM, told, grant, ExitCode.DESTINATION)


def _index(parts: Sequence[tuple[str, bool]], *, is_unique: bool) -> Index:
    """Of columns, some of which it may hold the beginning of only: that keeps no column unique."""
    is_whole = not any(is_prefix for _, is_prefix in parts)
    return Index(tuple(column for column, _ in parts), is_unique and is_whole)
