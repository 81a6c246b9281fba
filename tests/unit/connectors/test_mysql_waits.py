"""Statements of MySQL and MariaDB that wait for a lock: who holds it is told then, and in the error."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from atlas_etl.connectors import waits
from atlas_etl.connectors.sql import _lock_waits
from atlas_etl.connectors.sql._mysql.connection import Server
from atlas_etl.connectors.sql._mysql.session import READING, Session
from atlas_etl.errors import DestinationError, SourceError
from atlas_etl.model import Stream
from tests.servers import ServerAddress
from tests.unit.connectors.mysql_database import Database, read


@pytest.fixture
def database(
    mysql: ServerAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Database]:
    caplog.set_level(logging.INFO, logger=waits.NAME)
    monkeypatch.setattr(_lock_waits, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(_lock_waits, "_WATCHER", _lock_waits.Watcher())
    found = Database(mysql)
    found.execute("CREATE TABLE busy (n INT PRIMARY KEY)", "INSERT INTO busy VALUES (1)")
    return found


def session_of(database: Database) -> Session:
    return Session(Server(database.config(lock_timeout=2), DestinationError), sql_mode=READING)


def test_a_load_that_waits_for_a_row_tells_who_holds_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    session = session_of(database)
    with database.client() as client, client.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE busy SET n = 2")
        holder = client.thread_id()
        with pytest.raises(DestinationError, match=f"held by session {holder} of user 'root' ") as caught:
            session.run("DELETE FROM busy")
    session.close()
    assert (caught.value.code, caught.value.retryable) == ("lock_timeout", True)
    assert "its transaction open for " in caught.value.message
    assert f"KILL {holder}" in (caught.value.hint or "")
    (told,) = caplog.messages
    assert told.startswith("the database ")
    assert f"held by session {holder} of user 'root' (from 127.0.0.1" in told


def test_a_source_that_waits_for_a_table_tells_that(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.client() as client, client.cursor() as cursor:
        cursor.execute("LOCK TABLES busy WRITE")
        with pytest.raises(SourceError) as caught:
            read(database.connector(lock_timeout=2), Stream("busy", table="busy"))
    assert "held by a session that the server does not name (Waiting for table" in caught.value.message
    assert "KILL" not in (caught.value.hint or "")
    (told,) = caplog.messages
    assert "waiting for a lock that is held by a session that the server does not name" in told


def test_of_a_table_the_transaction_that_is_open_for_longest_may_be_it(database: Database) -> None:
    session = session_of(database)
    with database.client() as client, client.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("SELECT * FROM busy")
        with pytest.raises(DestinationError, match=rf"; perhaps by session {client.thread_id()} of user"):
            session.run("ALTER TABLE busy ADD COLUMN more INT")
    session.close()


def test_an_account_that_may_not_see_others_is_told_of_the_lock_alone(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.account("SELECT, DELETE ON {}.*") as other:
        session = session_of(other)
        with database.client() as client, client.cursor() as cursor:
            cursor.execute("LOCK TABLES busy WRITE")
            with pytest.raises(DestinationError, match="held by a session that the server does not name"):
                session.run("DELETE FROM busy")
        session.close()
    assert len(caplog.messages) == 1


def test_a_statement_that_is_only_slow_waits_for_nobody(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    session = session_of(database)
    session.rows("SELECT SLEEP(0.5)")
    session.close()
    assert caplog.messages == []
