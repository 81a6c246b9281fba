"""The harness itself: what commits apart or keeps its tail is reported, and what differs is named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.crash.conftest import harness
from tests.crash.harness import around_commits
from tests.crash.rows import Row, compare
from tests.crash.sabotage import Plan
from tests.crash.sources import SqliteSource
from tests.crash.targets import embedded
from tests.project import Project


def test_it_reports_rows_lost_where_state_is_saved_apart(
    project: Project, sqlite_source: SqliteSource, tmp_path: Path, seed: int
) -> None:
    crash = harness(project, sqlite_source, embedded("duckdb", tmp_path), seed, rows=100)
    assert not crash.finish()
    with crash.being_written():
        for point in around_commits(Counter(commit=1)):
            crash.source.add(50, crash.dice)
            crash.disturb(point, broken="state saved apart")
    assert crash.finish().lost
    assert crash.report.lost


def test_it_reports_rows_doubled_where_the_tail_is_kept(
    project: Project, sqlite_source: SqliteSource, tmp_path: Path, seed: int
) -> None:
    crash = harness(project, sqlite_source, embedded("duckdb", tmp_path), seed, rows=100)
    assert not crash.finish()
    assert crash.sync(Plan("duckdb", broken="tail kept")).returncode == 0
    assert crash.compare().doubled
    assert crash.report.doubled


def row(row_id: int, version: int = 1) -> Row:
    return (str(row_id), "1", "1.00", None, str(version))


def test_a_difference_tells_lost_doubled_and_unknown_rows() -> None:
    found = compare([row(1), row(1), row(2), row(3)], [row(1), row(2), row(2), row(3, version=2)])
    assert found.lost == Counter([row(1), row(3)])
    assert found.doubled == Counter([row(2)])
    assert found.unknown == Counter([row(3, version=2)])
    assert not compare([row(1), row(2)], [row(2), row(1)])
