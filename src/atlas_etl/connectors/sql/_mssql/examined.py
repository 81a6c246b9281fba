"""Looking into a SQL Server that is written to: what the database allows, and what the login may do there.

Rights are read and not tried: https://learn.microsoft.com/sql/t-sql/functions/has-perms-by-name-transact-sql.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from atlas_etl.connectors.examined import clock
from atlas_etl.connectors.sql._mssql.literals import literal, quoted
from atlas_etl.connectors.sql._mssql.open_writers import NOW, instant
from atlas_etl.errors import DestinationError, ExitCode
from atlas_etl.model import Finding, Severity, TableName

_LEAST_LEVEL = 130  # the first that has OPENJSON, that of SQL Server 2016
_ABILITIES = """
SELECT CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion')),
  CONVERT(nvarchar(128), SERVERPROPERTY('Edition')), USER_NAME(),
  CONVERT(nvarchar(20), DATABASEPROPERTYEX(DB_NAME(), 'Updateability')),
  (SELECT CAST(d.compatibility_level AS int) FROM sys.databases AS d WHERE d.database_id = DB_ID()),
  HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'CREATE SCHEMA'),
  HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'CREATE TABLE')"""
_RIGHTS = ("ALTER", "SELECT", "INSERT", "UPDATE", "DELETE")
_OF_SCHEMA = "HAS_PERMS_BY_NAME({schema}, 'SCHEMA', '{right}')"

Run = Callable[[str], Sequence[tuple[object, ...]]]


class Abilities(Struct, frozen=True):
    """What a login may do in a database, and what the database may do."""

    version: str
    user: str
    read_only: bool
    level: int  # of compatibility
    may_make_schemas: bool
    may_make_tables: bool

    def refuse(self) -> None:
        """Raise DestinationError where no load can succeed."""
        if self.read_only:
            raise DestinationError(
                "the database is read-only here",
                hint="connect to the primary server, without `application_intent: read_only`",
                code="read_only",
            )
        if self.level < _LEAST_LEVEL:
            raise DestinationError(
                f"the database has the compatibility level {self.level}, and loads need OPENJSON",
                hint=f"ALTER DATABASE CURRENT SET COMPATIBILITY_LEVEL = {_LEAST_LEVEL}, or a higher one",
                code="server_too_old",
            )
        if not self.may_make_tables:
            raise DestinationError(
                f"user {self.user!r} may not make tables in the database",
                hint=f"GRANT CREATE TABLE, CREATE SCHEMA TO {quoted(self.user)}",
                code="permission_denied",
            )


def abilities(run: Run) -> Abilities:
    """What one session tells of itself and its database."""
    ((version, edition, user, updateability, level, schemas, tables),) = run(_ABILITIES)
    return Abilities(
        f"SQL Server {version} {edition}", str(user), updateability == "READ_ONLY", int(str(level)),
        bool(schemas), bool(tables),
    )  # fmt: skip


class MSSQLTargetLook:
    """A database that is written (_examined_target.TargetLook)."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def system(self, sessions: int) -> Iterator[Finding]:  # noqa: ARG002
        before = datetime.now(UTC)
        ((told,),) = self._run(NOW)
        yield clock("destination", instant(told), before, datetime.now(UTC))
        try:
            abilities(self._run).refuse()
        except DestinationError as failure:
            yield Finding(
                "write_permission", "destination", Severity.PROBLEM, failure.message, failure.hint,
                ExitCode.DESTINATION,
            )  # fmt: skip
        message = "a login of one database is not told how much room the server has"
        yield Finding("disk_space", "destination", Severity.NOTE, message, "EXEC sp_spaceused")

    def table(self, table: TableName) -> Iterator[Finding]:
        subject, schema = f"destination {table}", str(table.schema)
        able = abilities(self._run)
        told = ", ".join(_OF_SCHEMA.format(schema=literal(quoted(schema)), right=right) for right in _RIGHTS)
        ((is_there, *rights),) = self._run(
            f"SELECT CASE WHEN SCHEMA_ID({literal(schema)}) IS NULL THEN 0 ELSE 1 END, {told}"
        )
        user = quoted(able.user)
        if not is_there:
            missing = [] if able.may_make_schemas else ["CREATE SCHEMA"]
            grant = f"GRANT CREATE SCHEMA TO {user}"
        else:
            missing = [right for right, has in zip(_RIGHTS, rights, strict=True) if has != 1]
            grant = f"GRANT {', '.join(missing)} ON SCHEMA::{quoted(schema)} TO {user}"
        if not missing:
            yield Finding("write_permission", subject, Severity.OK, "the login may make and write it")
            return
        message = f"the login has not the rights {', '.join(missing)} for {schema}"
        yield Finding("write_permission", subject, Severity.PROBLEM, message, grant, ExitCode.DESTINATION)

    def tables(self) -> None:
        """Nothing looks into the tables of a SQL Server yet."""
