"""Syncs killed on each side of what deletes rows: before it none has gone, after it those that should."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.crash.conftest import harness
from tests.crash.harness import AFTER, Harness
from tests.crash.rows import compare
from tests.crash.sabotage import Point
from tests.crash.sources import PostgresSource, SqliteSource
from tests.crash.targets import Target
from tests.project import Project


def merged(crash: Harness) -> Counter[str | None]:
    """The keys of the merged table, as often as they are there."""
    return Counter(row[0] for row in crash.target.rows("merged"))


def at_source(crash: Harness) -> Counter[str | None]:
    return Counter(row[0] for row in crash.source.rows("merged"))


def last_commit(crash: Harness) -> int:
    """The number of a sync's commit of deletes: they follow the load of the merged stream, the last."""
    assert crash.sync().returncode == 0  # the first one makes tables, too
    return crash.points()["commit"]


@pytest.mark.parametrize("target", ["duckdb", "sqlite", "parquet", "postgresql", "mysql"], indirect=True)
def test_a_kill_around_the_deletes_of_a_sync(
    project: Project, sqlite_source: SqliteSource, target: Target, seed: int
) -> None:
    crash = harness(project, sqlite_source, target, seed, rows=300)
    crash.deletes = {"max_share": 0.5}
    crash.define()
    last = last_commit(crash)

    crash.source.delete("id % 3 = 0")
    crash.source.add(50, crash.dice)
    before = merged(crash)
    kept = at_source(crash)
    assert crash.disturb(Point("commit", last, "before")) == AFTER  # the loads are there
    assert merged(crash) == before | kept
    assert not compare(crash.source.rows("appended"), crash.target.rows("appended"))

    assert crash.disturb(Point("commit", last, "after")) == AFTER
    assert merged(crash) == kept
    assert not crash.finish()

    crash.source.delete("id % 3 = 1")
    for step in (crash.dice.randrange(15), crash.dice.randrange(15, 50)):
        crash.disturb(Point("step", step + 1, "before"))
        assert kept - merged(crash) <= kept - at_source(crash)  # none has gone that the source has
    assert not crash.finish()
    assert not crash.report.findings


@pytest.mark.parametrize("target", ["postgresql"], indirect=True)
def test_deletes_under_writers(
    project: Project, postgres_source: PostgresSource, target: Target, seed: int
) -> None:
    """Rows come, change and go while keys are read, and syncs are killed at the deletes."""
    crash = harness(project, postgres_source, target, seed, rows=1000)
    crash.deletes = {"max_share": 1}
    crash.define()
    last = last_commit(crash)
    with crash.being_written():
        for remainder, side in enumerate(["before", "after", "before"]):
            before = merged(crash)
            crash.source.delete(f"id % 7 = {remainder}")
            crash.disturb(Point("commit", last, side))
            assert before & at_source(crash) <= merged(crash)  # none has gone that the source has
    assert not crash.finish()
    assert not crash.report.findings
