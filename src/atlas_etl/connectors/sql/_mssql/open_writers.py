"""Who may still commit rows that a snapshot of SQL Server cannot see, and since when.

A row's GETDATE() is that of its statement. So whoever is looked for before a snapshot and is not found began
afterwards, or had committed: requests that run now began when the server says, and so did transactions
(https://learn.microsoft.com/sql/relational-databases/system-dynamic-management-views). Both are told by the
server's local clock in whole seconds here, and an hour more is allowed for: summer time may
have ended meanwhile.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from atlas_etl.connectors.sql._late import UNSEEN_LAG, OpenWriters
from atlas_etl.connectors.sql._mssql.session import Session
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.errors import AtlasError

NOW = "SELECT CONVERT(varchar(33), SYSUTCDATETIME(), 126)"
_SERVER = """
SELECT CONVERT(varchar(33), SYSUTCDATETIME(), 126),
  CONVERT(nvarchar(20), DATABASEPROPERTYEX(DB_NAME(), 'Updateability'))"""
_REQUESTS = """
SELECT MAX(DATEDIFF(second, r.start_time, GETDATE()))
FROM sys.dm_exec_requests AS r JOIN sys.dm_exec_sessions AS s ON s.session_id = r.session_id
WHERE s.is_user_process = 1 AND r.session_id <> @@SPID"""
# Those that change rows, of this server or of several; one without a session may be prepared.
_TRANSACTIONS = """
SELECT MAX(DATEDIFF(second, t.transaction_begin_time, GETDATE()))
FROM sys.dm_tran_active_transactions AS t
LEFT JOIN sys.dm_tran_session_transactions AS x ON x.transaction_id = t.transaction_id
LEFT JOIN sys.dm_exec_sessions AS s ON s.session_id = x.session_id
WHERE t.transaction_type IN (1, 4) AND COALESCE(x.session_id, 0) <> @@SPID
  AND COALESCE(s.is_user_process, 1) = 1"""
_SUMMER_TIME = timedelta(hours=1)
_ROUNDING = timedelta(minutes=1)  # smalldatetime rounds what it is given to minutes


def seen(writers: Writers, taken: datetime, *, late_by: timedelta) -> OpenWriters:
    """As the reader asks for them, of a snapshot that was taken then, or so much later."""
    wrote = (writers.began - _ROUNDING).replace(microsecond=0)
    return OpenWriters(writers.began, wrote, taken + late_by, writers.unproven)


def probe(session: Session) -> Writers:
    """To be asked before the snapshot. Raises what the session raises."""
    ((now, updateability),) = session.rows(_SERVER)
    taken, replica = instant(now), updateability == "READ_ONLY"
    found: list[object] = []
    visible = True
    for question in (_REQUESTS, _TRANSACTIONS):
        try:
            found += session.rows(question)[0]
        except AtlasError as failure:
            if failure.code != "permission_denied":
                raise
            visible = False
    ages = [int(str(age)) for age in found if age is not None]
    began = taken
    if ages:
        began = taken - timedelta(seconds=max(*ages, 0) + 1) - _SUMMER_TIME
    if replica or not visible:
        began = min(began, taken - UNSEEN_LAG)
    return Writers(began, visible, replica)


def instant(cell: object) -> datetime:
    """What NOW gives, to microseconds."""
    return datetime.fromisoformat(str(cell)[:26]).replace(tzinfo=UTC)
