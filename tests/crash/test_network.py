"""A bad network between Atlas and PostgreSQL: equal rows, or an error and then equal rows."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.conftest import harness, until_waiting
from tests.crash.harness import DEADLINE, Harness, end
from tests.crash.proxy import Drip, Fault, LateCommit, LostCommit, ResetAfter, StallAfter, proxy
from tests.crash.sources import PostgresSource, SqliteSource
from tests.crash.targets import PostgresTarget, Target, embedded, server_keys
from tests.project import Project
from tests.servers import ServerAddress

ROWS = 5000
PARTIAL = 5


@contextmanager
def through(fault: Fault, address: ServerAddress) -> Iterator[dict[str, object]]:
    """A server's keys in a definition, by way of a fault."""
    with proxy(address.host, address.port, fault) as port:
        yield server_keys(replace(address, host="127.0.0.1", port=port))


@pytest.fixture
def reading(project: Project, postgres_source: PostgresSource, tmp_path: Path, seed: int) -> Harness:
    """From PostgreSQL into DuckDB."""
    return harness(project, postgres_source, embedded("duckdb", tmp_path), seed, rows=ROWS)


@pytest.fixture
def writing(project: Project, sqlite_source: SqliteSource, postgres: ServerAddress, seed: int) -> Harness:
    """From SQLite into PostgreSQL."""
    return harness(project, sqlite_source, PostgresTarget(postgres), seed, rows=ROWS)


def sync_from(crash: Harness, fault: Fault) -> int:
    """The exit code of a sync whose source lies behind a fault; the next one goes to it directly."""
    assert isinstance(crash.source, PostgresSource)
    with through(fault, crash.source.address) as keys:
        crash.define(source=keys)
        done = crash.sync()
    crash.define()
    print(done.stderr)
    return done.returncode


def sync_into(crash: Harness, fault: Fault) -> int:
    """The exit code of a sync whose destination lies behind a fault; the next one goes to it directly."""
    assert isinstance(crash.target, PostgresTarget)
    with through(fault, crash.target.address) as keys:
        crash.define(destination=keys)
        done = crash.sync()
    crash.define()
    print(done.stderr)
    return done.returncode


def begin_again(crash: Harness) -> None:
    """Let the next sync read everything."""
    assert crash.project.atlas("state", "reset", "c").returncode == 0
    crash.source.add(100, crash.dice)


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_a_source_that_resets_a_connection(reading: Harness, share: float) -> None:
    counted = Fault()
    assert sync_from(reading, counted) == 0
    after = int(counted.sent_down * share)
    for once in (False, True):
        begin_again(reading)
        fault = ResetAfter(down=after, once=once)
        code = sync_from(reading, fault)
        assert fault.resets
        if once:  # the second attempt gets through
            assert code == 0
            assert not reading.compare()
        else:
            assert code in (3, PARTIAL)
            assert not reading.finish()


@pytest.mark.parametrize("share", [0.1, 0.7])
def test_a_destination_that_resets_a_connection(writing: Harness, share: float) -> None:
    counted = Fault()
    assert sync_into(writing, counted) == 0
    after = int(counted.sent_up * share)
    for once in (False, True):
        begin_again(writing)
        fault = ResetAfter(up=after, once=once)
        code = sync_into(writing, fault)
        assert fault.resets
        if once:
            assert code == 0
            assert not writing.compare()
        else:
            assert code in (4, PARTIAL)
            assert not writing.finish()


def test_a_source_that_drips(reading: Harness) -> None:
    assert sync_from(reading, Drip(37)) == 0
    assert not reading.compare()


def test_a_destination_that_drips(writing: Harness) -> None:
    assert sync_into(writing, Drip(37)) == 0
    assert not writing.compare()


def test_a_source_that_stalls_and_goes_on(reading: Harness) -> None:
    assert isinstance(reading.source, PostgresSource)
    fault = StallAfter(100_000)
    with through(fault, reading.source.address) as keys:
        reading.define(source=keys)
        running = reading.start()
        try:
            assert fault.stalled.wait(DEADLINE)
            reading.source.add(100, reading.dice)  # after the snapshot
            fault.go_on.set()
            _, said = running.communicate(timeout=DEADLINE)
        finally:
            end(running)
    assert running.returncode == 0, said
    assert reading.compare().lost
    reading.define()
    assert not reading.finish()


def test_a_stalled_sync_can_be_stopped(reading: Harness) -> None:
    assert isinstance(reading.source, PostgresSource)
    fault = StallAfter(100_000)
    with through(fault, reading.source.address) as keys:
        reading.define(source=keys)
        running = reading.start()
        try:
            assert fault.stalled.wait(DEADLINE)
            running.send_signal(signal.SIGTERM)
            _, said = running.communicate(timeout=DEADLINE)
        finally:
            end(running)
            fault.go_on.set()
    assert running.returncode == 130, said
    reading.define()
    assert not reading.finish()


@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_commit_whose_answer_is_lost(writing: Harness, number: int, heard: bool) -> None:
    assert not writing.finish()
    writing.source.add(500, writing.dice)
    fault = LostCommit(number, heard=heard)
    code = sync_into(writing, fault)
    assert fault.resets == 1
    # It is tried again from the checkpoint that the destination has, whatever that is.
    assert code == 0
    assert not writing.compare()


@pytest.mark.parametrize("target", ["stub_mssql"], indirect=True)
@pytest.mark.parametrize("heard", [True, False], ids=["heard", "unheard"])
@pytest.mark.parametrize("number", [2, 4])  # before each load's, its fence is committed
def test_a_commit_of_tds_whose_answer_is_lost(
    project: Project, sqlite_source: SqliteSource, target: Target, seed: int, number: int, heard: bool
) -> None:
    crash = harness(project, sqlite_source, target, seed, rows=500)
    assert not crash.finish()
    crash.source.add(50, crash.dice)
    loads = target.loads()
    fault = LostCommit(number, heard=heard, commit=LostCommit.MSSQL)
    keys = target.connection()
    with proxy("127.0.0.1", int(str(keys["port"])), fault) as port:
        crash.define(destination={**keys, "port": port})
        done = crash.sync()
    crash.define()
    assert fault.resets == 1
    assert done.returncode == 0, done.stderr
    assert target.loads() == loads + (3 if heard else 2)
    assert not crash.compare()


def test_a_commit_whose_answer_is_lost_is_not_called_a_success(writing: Harness) -> None:
    assert not writing.finish()
    writing.source.add(500, writing.dice)
    loads = writing.target.loads()
    writing.attempts = 1
    assert sync_into(writing, LostCommit(1, heard=True)) == PARTIAL
    assert writing.target.loads() == loads + 2
    assert not writing.finish()


def test_a_commit_that_comes_after_the_next_attempt_has_begun(writing: Harness) -> None:
    """The connection is reset, the sync tries again, and only then the server hears of the first COMMIT."""
    assert isinstance(writing.target, PostgresTarget)
    assert not writing.finish()
    writing.source.add(500, writing.dice)
    fault = LateCommit(1)
    with through(fault, writing.target.address) as keys:
        writing.define(destination=keys)
        running = writing.start()
        try:
            until_waiting(writing.target.address, running)
            assert fault.deliver is not None
            fault.deliver()
            _, said = running.communicate(timeout=DEADLINE)
        finally:
            end(running)
    writing.define()
    assert running.returncode in (0, PARTIAL), said
    assert not writing.finish()
