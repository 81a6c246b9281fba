"""Fixtures of the crash tests: a seed, a source and a destination of each kind."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.harness import AFTER, DEADLINE, ENDED, Harness, Moment
from tests.crash.sabotage import Point
from tests.crash.sources import PostgresSource, Source, SqliteSource
from tests.crash.targets import EMBEDDED, MySQLTarget, PostgresTarget, StubMSSQLTarget, Target, embedded
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import postgres as postgres_recipe

DESTINATIONS = (*EMBEDDED, "postgresql", "mysql", "stub_mssql")


@pytest.fixture
def seed() -> int:
    """Printed where a test fails; ATLAS_TEST_SEED makes it the same again."""
    chosen = int(os.environ.get("ATLAS_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"ATLAS_TEST_SEED={chosen}")
    return chosen


@pytest.fixture
def postgres_source(postgres_server: ServerAddress) -> Iterator[PostgresSource]:
    """Tables in a database of their own, beside that of a destination."""
    with postgres_recipe.fresh_database(postgres_server) as address:
        yield PostgresSource(address)


@pytest.fixture
def sqlite_source(tmp_path: Path) -> SqliteSource:
    return SqliteSource(tmp_path)


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """The destination of the protocol that the test is parametrised with."""
    match request.param:
        case "postgresql":
            return PostgresTarget(request.getfixturevalue("postgres"))
        case "mysql":
            return MySQLTarget(request.getfixturevalue("mysql"))
        case "stub_mssql":
            return StubMSSQLTarget(request.getfixturevalue("stub_mssql_server"))
        case protocol:
            return embedded(protocol, tmp_path)


def harness(project: Project, source: Source, target: Target, seed: int, *, rows: int) -> Harness:
    """A harness whose source has rows already."""
    made = Harness(project, source, target, seed=seed)
    source.add(rows, made.dice)
    return made


def kill_around_commits(crash: Harness, *, rows: int) -> None:
    """Kill syncs before and after commits of its two streams, and within a load; then nothing may differ."""
    with crash.being_written():
        commit = crash.dice.choice([1, 2])  # the first stream's, or the other's
        assert crash.disturb(Point("commit", commit, "before")) != ENDED
        timing = crash.measure()
        crash.source.add(rows, crash.dice)
        crash.disturb(Moment(crash.dice.random(), in_load=True), timing)
        assert crash.disturb(Point("commit", 3 - commit, "after")) == AFTER
    assert not crash.finish()
    assert not crash.report.findings


def until_waiting(address: ServerAddress, process: subprocess.Popen[str]) -> None:
    """Return as soon as a session of the database waits for another, or the process has ended."""
    deadline = time.monotonic() + DEADLINE
    with postgres_recipe.connect(address) as client:
        while process.poll() is None and time.monotonic() < deadline:
            waiting = "SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
            if client.execute(waiting, [address.database]).fetchall():
                return
            time.sleep(0.02)
