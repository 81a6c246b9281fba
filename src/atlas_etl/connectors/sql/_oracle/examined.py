"""Looking into an Oracle database that is written to: what it is, and what the user may do there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct

from atlas_etl.connectors.examined import clock
from atlas_etl.connectors.sql._oracle.literals import quoted
from atlas_etl.connectors.sql._oracle.open_writers import NOW, instant
from atlas_etl.connectors.sql._oracle.session import Session
from atlas_etl.errors import DestinationError, ExitCode
from atlas_etl.model import Finding, Severity, TableName

_OLDEST = 18  # the first that has private temporary tables
_CHARACTERS = "AL32UTF8"
_ABILITIES = """
SELECT SYS_CONTEXT('USERENV', 'SESSION_USER'), SYS_CONTEXT('USERENV', 'DATABASE_ROLE'),
  (SELECT p.value FROM nls_database_parameters p WHERE p.parameter = 'NLS_CHARACTERSET'),
  (SELECT COUNT(*) FROM session_privs p WHERE p.privilege = 'CREATE TABLE')
FROM dual"""
_PRIVILEGES = "SELECT p.privilege FROM session_privs p WHERE p.privilege LIKE '% ANY TABLE'"
_ELSEWHERE = ("CREATE", "ALTER", "DROP", "SELECT", "INSERT", "UPDATE", "DELETE")  # ANY TABLE


class Abilities(Struct, frozen=True):
    """What a user may do in a database, and what the database is."""

    version: str
    user: str
    role: str  # PRIMARY, PHYSICAL STANDBY
    characters: str
    may_make_tables: bool

    def refuse(self) -> None:
        """Raise DestinationError where no load can succeed, or its texts would change."""
        if int(self.version.partition(".")[0]) < _OLDEST:
            raise DestinationError(
                f"Oracle {self.version} has no private temporary tables, which loads need",
                hint=f"load into Oracle {_OLDEST}c or newer",
                code="server_too_old",
            )
        if self.role != "PRIMARY":
            raise DestinationError(
                "the database is read-only here", hint="connect to the primary database", code="read_only"
            )
        if self.characters != _CHARACTERS:
            raise DestinationError(
                f"the database keeps texts in {self.characters}, which has not every letter",
                hint=f"load into a database whose character set is {_CHARACTERS}",
                code="character_set",
            )
        if not self.may_make_tables:
            raise DestinationError(
                f"user {self.user!r} may not make tables",
                hint=f"GRANT CREATE TABLE TO {quoted(self.user)}, and a quota: "
                f"ALTER USER {quoted(self.user)} QUOTA UNLIMITED ON users",
                code="permission_denied",
            )


def abilities(session: Session) -> Abilities:
    """What one session tells of itself and its database."""
    ((user, role, characters, tables),) = session.rows(_ABILITIES)
    return Abilities(session.version, str(user), str(role), str(characters), int(str(tables)) > 0)


class OracleTargetLook:
    """A database that is written (_examined_target.TargetLook)."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def system(self, sessions: int) -> Iterator[Finding]:  # noqa: ARG002
        before = datetime.now(UTC)
        ((told,),) = self._session.rows(NOW)
        yield clock("destination", instant(told), before, datetime.now(UTC))
        try:
            abilities(self._session).refuse()
        except DestinationError as failure:
            yield Finding(
                "write_permission", "destination", Severity.PROBLEM, failure.message, failure.hint,
                ExitCode.DESTINATION,
            )  # fmt: skip
        message = "a user is not told how much room the tablespaces have beyond its quota"
        yield Finding("disk_space", "destination", Severity.NOTE, message, "SELECT * FROM user_ts_quotas")

    def table(self, table: TableName) -> Iterator[Finding]:
        subject, able = f"destination {table}", abilities(self._session)
        missing = [] if able.may_make_tables else ["CREATE TABLE"]
        if table.schema != able.user:
            has = {str(privilege) for (privilege,) in self._session.rows(_PRIVILEGES)}
            missing = [name for right in _ELSEWHERE if (name := f"{right} ANY TABLE") not in has]
        if not missing:
            yield Finding("write_permission", subject, Severity.OK, "the user may make and write it")
            return
        message = f"the user has not the rights {', '.join(missing)} for {table.schema}"
        grant = f"GRANT {', '.join(missing)} TO {quoted(able.user)}"
        yield Finding("write_permission", subject, Severity.PROBLEM, message, grant, ExitCode.DESTINATION)

    def tables(self) -> None:
        """Nothing looks into the tables of an Oracle database yet."""
