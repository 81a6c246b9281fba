"""Who may still commit rows that a snapshot cannot see, and since when.

A row's `now()` is the beginning of its statement, in MySQL and MariaDB alike, and not that of its
transaction. So whoever is looked for before a snapshot and is not found began afterwards, or had committed:

1. statements that run now began as long ago as the process list says; InnoDB may not know them yet;
2. a transaction of our own begins;
3. transactions of others began when InnoDB says. It says so from a copy that is renewed only after nobody
   has read it for 0.1 seconds; the copy is new enough if our own transaction is in it
   (https://dev.mysql.com/doc/refman/8.4/en/innodb-information-schema-internal-data.html).

One gap is left: a transaction whose first statement waited for a metadata lock began, for InnoDB, after that.
InnoDB tells times in the server's own zone and in whole seconds.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import cast

from atlas_etl.connectors.sql._late import UNSEEN_LAG
from atlas_etl.connectors.sql._mysql.session import Session
from atlas_etl.connectors.sql._seen_writers import Writers
from atlas_etl.errors import SourceError

_REUSED_SECONDS = 1.0
_RENEWED_SECONDS = 0.12
_ATTEMPTS = 4

# UTC_TIMESTAMP is when the statement began, so before it looks for others.
_STATEMENTS = """
SELECT UTC_TIMESTAMP(6), @@read_only + @@innodb_read_only > 0, MAX(TIME)
FROM information_schema.PROCESSLIST
WHERE COMMAND IN ('Query', 'Execute') AND ID <> CONNECTION_ID()"""
# An hour that a zone has twice is taken as the first.
_TRANSACTIONS = """
SELECT MIN(IF(thread = CONNECTION_ID(), NULL,
    IF(CONVERT_TZ(utc - INTERVAL 1 HOUR, '+00:00', 'SYSTEM') = local, utc - INTERVAL 1 HOUR, utc))),
  MAX(thread = CONNECTION_ID())
FROM (SELECT trx_mysql_thread_id AS thread, trx_started AS local,
        CONVERT_TZ(trx_started, 'SYSTEM', '+00:00') AS utc
      FROM information_schema.INNODB_TRX
      WHERE trx_is_read_only = 0 OR trx_mysql_thread_id = CONNECTION_ID()) AS writers"""


class WriterProbe:
    """Looks for writers, at most once a second: what was found stays true for every later snapshot.

    Only watermarks that are older than that look profit from it, hence `forget`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: tuple[float, Writers] | None = None

    def writers(self, session: Session) -> Writers:
        """To be asked before the snapshot. Raises SourceError."""
        with self._lock:
            if self._latest is None or time.monotonic() - self._latest[0] > _REUSED_SECONDS:
                asked = time.monotonic()
                self._latest = (asked, _probe(session))
            return self._latest[1]

    def forget(self) -> None:
        """Look again for the next snapshot."""
        with self._lock:
            self._latest = None


def _probe(session: Session) -> Writers:
    ((now, replica, seconds),) = session.rows(_STATEMENTS)
    now = cast(datetime, now).replace(tzinfo=UTC)
    running = now if seconds is None else now - timedelta(seconds=int(str(seconds)) + 1)
    try:
        oldest = _oldest_transaction(session, now, running)
    except SourceError as failure:
        if failure.code != "permission_denied":
            raise
        oldest = None
    if oldest is None or replica:
        return Writers(
            min(now - UNSEEN_LAG, oldest or now), visible=oldest is not None, replica=bool(replica)
        )
    return Writers(min(now, oldest), visible=True, replica=False)


def _oldest_transaction(session: Session, now: datetime, running: datetime) -> datetime | None:
    """When the oldest transaction or `running` statement of others began.

    None where InnoDB's copy stays an old one.
    """
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    try:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_RENEWED_SECONDS)
            ((began, current),) = session.rows(_TRANSACTIONS)
            if current:
                others = now if began is None else cast(datetime, began).replace(tzinfo=UTC)
                return min(running, others)
        return None
    finally:
        session.run("COMMIT")
