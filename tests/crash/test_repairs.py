"""Comparing while others write, and repairs that are killed around their commits."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.crash.conftest import DESTINATIONS, harness
from tests.crash.harness import SYNC
from tests.crash.sabotage import Plan, Point
from tests.crash.sources import PostgresSource, SqliteSource
from tests.crash.targets import CONNECTOR, Target, embedded
from tests.project import Project

VERIFY = ("connector", "verify", CONNECTOR)
REPAIR = (*VERIFY, "--repair")
DIFFERENT = 8


@pytest.mark.parametrize("source", ["sqlite_source", "postgres_source"])
def test_a_copy_equals_its_source_while_rows_are_written(
    request: pytest.FixtureRequest, project: Project, tmp_path: Path, source: str, seed: int
) -> None:
    written = request.getfixturevalue(source)
    crash = harness(project, written, embedded("duckdb", tmp_path), seed, rows=300)
    if isinstance(written, PostgresSource):
        written.make_older()  # a table that is all tail is compared as if nobody wrote
    with crash.being_written():
        for _ in range(3):
            assert crash.sync().returncode == 0
            done = crash.sync(command=VERIFY)
            assert done.returncode == 0, done.stdout + done.stderr
    assert not crash.finish()


@pytest.mark.parametrize("target", DESTINATIONS, indirect=True)
def test_a_repair_that_is_killed_around_a_commit_is_made_again(
    project: Project, sqlite_source: SqliteSource, target: Target, seed: int
) -> None:
    crash = harness(project, sqlite_source, target, seed, rows=400)
    assert not crash.finish()
    sqlite_source.change_behind_the_cursor()
    broken = crash.compare()
    assert broken.lost
    assert broken.unknown
    assert crash.sync(command=SYNC).returncode == 0
    assert crash.compare()  # no sync sees it
    assert crash.sync(command=VERIFY).returncode == DIFFERENT
    loads = target.loads()
    killed = crash.sync(Plan(target.protocol, Point("commit", 1, "before")), REPAIR)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert target.loads() == loads
    killed = crash.sync(Plan(target.protocol, Point("commit", 1, "after")), REPAIR)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = crash.sync(command=(*REPAIR, "--json"))
    assert done.returncode == 0, done.stderr
    assert {stream["status"] for stream in done.json()["streams"]} == {"equal"}
    crash.source.add(50, crash.dice)
    assert not crash.finish()
