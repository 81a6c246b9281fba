"""Who may still commit rows that a snapshot of Oracle cannot see, and since when.

A row's SYSTIMESTAMP is that of its statement. So whoever is looked for before a snapshot and is not found
began afterwards, or had committed: a session's call has been active for LAST_CALL_ET seconds, and a
transaction has a START_DATE, of its first change. That is told by the clock of the server's machine, of which
an hour more is allowed for summer time. The GV$ views show all instances of a cluster:
https://docs.oracle.com/en/database/oracle/oracle-database/23/refrn/V-TRANSACTION.html.

A transaction that was prepared for two-phase commit and lost its session needs no look: whoever reads a row
of it gets ORA-01591, and no silent gap.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from atlas_etl.connectors.sql._late import UNSEEN_LAG, OpenWriters
from atlas_etl.connectors.sql._oracle.literals import moment
from atlas_etl.connectors.sql._oracle.session import Session
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.errors import DestinationError, SourceError

NOW = f"SELECT TO_CHAR(SYS_EXTRACT_UTC(SYSTIMESTAMP), '{moment(6)}') FROM dual"
_SERVER = f"""
SELECT TO_CHAR(SYS_EXTRACT_UTC(SYSTIMESTAMP), '{moment(6)}'), SYS_CONTEXT('USERENV', 'DATABASE_ROLE')
FROM dual"""
_CALLS = """
SELECT MAX(s.last_call_et) FROM gv$session s
WHERE s.type = 'USER' AND s.status = 'ACTIVE' AND s.audsid <> SYS_CONTEXT('USERENV', 'SESSIONID')"""
_TRANSACTIONS = "SELECT MAX(CEIL((SYSDATE - t.start_date) * 86400)) FROM gv$transaction t"
_SUMMER_TIME = timedelta(hours=1)
_UPDATED = timedelta(seconds=5)  # LAST_CALL_ET is, every three seconds
_ROUNDING = timedelta(seconds=1)  # a DATE has whole seconds
_UNSEEN = frozenset({"table_not_found", "permission_denied"})  # what a view without a grant looks like


def seen(writers: Writers, taken: datetime) -> OpenWriters:
    """As the reader asks for them, of a snapshot that was taken then."""
    wrote = (writers.began - _ROUNDING).replace(microsecond=0)
    return OpenWriters(writers.began, wrote, taken, writers.unproven)


def probe(session: Session) -> Writers:
    """To be asked before the snapshot. Raises SourceError, or what else the session does."""
    ((now, role),) = session.rows(_SERVER)
    taken, replica = instant(now), "STANDBY" in str(role)
    began, visible = taken, True
    for question, more in ((_CALLS, _UPDATED), (_TRANSACTIONS, _SUMMER_TIME)):
        try:
            ((age,),) = session.rows(question)
        except (SourceError, DestinationError) as failure:
            if failure.code not in _UNSEEN:
                raise
            visible = False
            continue
        if age is not None:
            began = min(began, taken - timedelta(seconds=int(str(age))) - more)
    if replica or not visible:
        began = min(began, taken - UNSEEN_LAG)
    return Writers(began, visible, replica)


def instant(cell: object) -> datetime:
    """What NOW gives."""
    return datetime.fromisoformat(str(cell).strip()[:26]).replace(tzinfo=UTC)
