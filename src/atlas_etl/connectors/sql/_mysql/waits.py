"""Telling what a session of MySQL or MariaDB waits for: who holds the lock that keeps a statement.

Each server has some of the tables that tell it, and accounts without PROCESS see their own sessions alone.
Row locks are told by all. A lock of a table is told by MySQL 8; elsewhere it is known only that one is waited
for, and whose transaction, if any, is open for longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

import pymysql

from atlas_etl.connectors.sql._lock_waits import Holder, LockWaits
from atlas_etl.connectors.sql._mysql.connection import Client, Server
from atlas_etl.errors import AtlasError

_ROW_LOCKS = """
SELECT holder.trx_mysql_thread_id
FROM information_schema.INNODB_LOCK_WAITS AS waits
JOIN information_schema.INNODB_TRX AS ours ON ours.trx_id = waits.requesting_trx_id
JOIN information_schema.INNODB_TRX AS holder ON holder.trx_id = waits.blocking_trx_id
WHERE ours.trx_mysql_thread_id = %s ORDER BY holder.trx_started, 1 LIMIT 1"""
_ROW_LOCKS_OF_MYSQL_8 = """
SELECT holder.PROCESSLIST_ID
FROM performance_schema.data_lock_waits AS waits
JOIN performance_schema.threads AS ours ON ours.THREAD_ID = waits.REQUESTING_THREAD_ID
JOIN performance_schema.threads AS holder ON holder.THREAD_ID = waits.BLOCKING_THREAD_ID
WHERE ours.PROCESSLIST_ID = %s ORDER BY 1 LIMIT 1"""
_TABLE_LOCKS_OF_MYSQL_8 = """
SELECT holder.PROCESSLIST_ID
FROM performance_schema.metadata_locks AS wanted
JOIN performance_schema.threads AS ours ON ours.THREAD_ID = wanted.OWNER_THREAD_ID
JOIN performance_schema.metadata_locks AS held ON held.OBJECT_TYPE = wanted.OBJECT_TYPE
  AND held.OBJECT_SCHEMA <=> wanted.OBJECT_SCHEMA AND held.OBJECT_NAME <=> wanted.OBJECT_NAME
  AND held.LOCK_STATUS = 'GRANTED' AND held.OWNER_THREAD_ID <> wanted.OWNER_THREAD_ID
JOIN performance_schema.threads AS holder ON holder.THREAD_ID = held.OWNER_THREAD_ID
WHERE wanted.LOCK_STATUS = 'PENDING' AND ours.PROCESSLIST_ID = %s AND holder.PROCESSLIST_ID IS NOT NULL
ORDER BY 1 LIMIT 1"""
_STATE = "SELECT STATE FROM information_schema.PROCESSLIST WHERE ID = %s"
_LONGEST_OPEN = """
SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX
WHERE trx_mysql_thread_id NOT IN (0, %s, CONNECTION_ID()) ORDER BY trx_started, 1 LIMIT 1"""
_SESSION = "SELECT USER, HOST, COMMAND, TIME FROM information_schema.PROCESSLIST WHERE ID = %s"
# Both in the server's own zone.
_OPEN_FOR = """
SELECT TIMESTAMPDIFF(SECOND, trx_started, SYSDATE())
FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = %s"""

_Row = Sequence[Any]


class Waits(LockWaits):
    """What the statements of one client wait for."""

    def __init__(self, server: Server, client: Client) -> None:
        self._server = server
        self._client = client
        self._thread: int = client.thread_id()  # type: ignore[no-untyped-call]

    @property
    def waits_at(self) -> str:
        database = self._server.config.database
        return f"the database {database}" if database else f"the server {self._server.config.host}"

    @property
    def is_over(self) -> bool:
        return not self._client.open

    def first_holder(self) -> Holder | None:
        with suppress(AtlasError, pymysql.err.Error), closing(self._server.open_client()) as other:
            with other.cursor() as cursor:
                cursor.execute("SET SESSION time_zone = 'SYSTEM', lock_wait_timeout = 1")
            for query in (_ROW_LOCKS, _ROW_LOCKS_OF_MYSQL_8, _TABLE_LOCKS_OF_MYSQL_8):
                found = _first(other, query, self._thread)
                if found is not None:
                    return Holder(int(found[0]), _told(other, int(found[0])))
            return self._unknown(other)
        return None

    def _unknown(self, other: Client) -> Holder | None:
        """What is known of a lock whose holder is not told; None where none is waited for."""
        state = _first(other, _STATE, self._thread)
        why = str(state[0]) if state is not None else ""
        if "lock" not in why.lower():
            return None
        longest = _first(other, _LONGEST_OPEN, self._thread)
        perhaps = f"; perhaps by {_told(other, int(longest[0]))}" if longest is not None else ""
        return Holder(None, f"a session that the server does not name ({why}){perhaps}")


def _told(other: Client, session: int) -> str:
    found = _first(other, _SESSION, session)
    if found is None:
        return f"session {session}"
    user, host, command, seconds = found
    doing = f"idle for {seconds} s" if command == "Sleep" else f"busy for {seconds} s"
    transaction = _first(other, _OPEN_FOR, session)
    open_for = f", its transaction open for {transaction[0]} s" if transaction is not None else ""
    return f"session {session} of user {str(user)!r} (from {host}, {doing}{open_for})"


def _first(other: Client, query: str, session: int) -> _Row | None:
    """The first row; None where there is none, or where this server or account has no such table."""
    with suppress(pymysql.err.Error), other.cursor() as cursor:
        cursor.execute(query, (session,))
        row: _Row | None = cursor.fetchone()
        return row
    return None
