"""Syncs killed under concurrent writes lose no row and double none, into every destination."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.conftest import DESTINATIONS, harness, kill_around_commits
from tests.crash.harness import BEFORE, Moment
from tests.crash.sabotage import Point
from tests.crash.sources import PostgresSource, SqliteSource
from tests.crash.targets import Target, embedded
from tests.project import Project


@pytest.mark.parametrize("target", DESTINATIONS, indirect=True)
def test_a_killed_sync_loses_and_doubles_nothing(
    project: Project, postgres_source: PostgresSource, target: Target, seed: int
) -> None:
    crash = harness(project, postgres_source, target, seed, rows=2000)
    kill_around_commits(crash, rows=2000)


def test_a_killed_sync_from_sqlite_loses_and_doubles_nothing(
    project: Project, sqlite_source: SqliteSource, tmp_path: Path, seed: int
) -> None:
    crash = harness(project, sqlite_source, embedded("duckdb", tmp_path), seed, rows=2000)
    with crash.being_written():
        timing = crash.measure()
        crash.disturb(Moment(crash.dice.random(), in_load=False), timing)
        assert crash.disturb(Point("commit", 1, "before")) == BEFORE
    assert not crash.finish()
    assert not crash.report.findings
