"""Statements of PostgreSQL that wait for a lock: who holds it is told while they wait, and in the error."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from atlas_etl.connectors import waits
from atlas_etl.connectors.sql import _lock_waits
from atlas_etl.errors import DestinationError, SourceError
from atlas_etl.model import Stream
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database, read


@pytest.fixture
def database(
    postgres: ServerAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Database]:
    caplog.set_level(logging.INFO, logger=waits.NAME)
    monkeypatch.setattr(_lock_waits, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(_lock_waits, "_WATCHER", _lock_waits.Watcher())
    found = Database(postgres)
    found.execute("CREATE TABLE busy (n int PRIMARY KEY)")
    yield found
    found.close()


def test_a_source_that_is_locked_is_told_with_who_holds_it(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.session() as session:
        session.execute("SET application_name = 'migration'; BEGIN; LOCK TABLE busy")
        holder = session.info.backend_pid
        with pytest.raises(SourceError) as caught:
            read(database.connector(lock_timeout=2), Stream("busy", table="busy"))
    assert f"held by session {holder} of role " in caught.value.message
    assert "application 'migration'" in caught.value.message
    assert "idle in transaction, its transaction begun at 20" in caught.value.message
    assert f"pg_terminate_backend({holder})" in (caught.value.hint or "")
    (told,) = caplog.messages
    assert told.startswith("the database ")
    assert f"held by session {holder} of role " in told


@pytest.mark.parametrize(
    ("lock", "statement"),
    [
        ("LOCK TABLE busy", "INSERT INTO busy VALUES (1)"),
        ("SELECT pg_advisory_xact_lock(7)", "SELECT pg_advisory_xact_lock(7)"),
        ("CREATE TABLE same (n int)", "CREATE TABLE same (n int)"),
    ],
)
def test_a_load_that_waits_for_another_tells_whose_it_is(
    database: Database, caplog: pytest.LogCaptureFixture, lock: str, statement: str
) -> None:
    with database.session() as session, database.destination(lock_timeout=2).connect() as connection:
        session.execute(f"BEGIN; {lock}")
        holder = f"held by session {session.info.backend_pid} "
        with pytest.raises(DestinationError, match=holder):
            connection.execute(statement)
    (told,) = caplog.messages
    assert holder in told


def test_a_statement_that_is_only_slow_waits_for_nobody(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with database.destination().connect() as connection:
        connection.execute("SELECT pg_sleep(0.5)")
    assert caplog.messages == []
