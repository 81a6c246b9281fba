"""Runs as bars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from atlas_etl.cli.sparkline import history_lines, sparkline
from atlas_etl.model import Run, RunStatus

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


def run(rows: int, seconds: float = 1, status: RunStatus = RunStatus.COMPLETED, name: str = "shop") -> Run:
    return Run("r", name, status, "manual", NOON, NOON + timedelta(seconds=seconds), rows_processed=rows)


def test_bars_grow_with_the_amount_and_failures_are_marked() -> None:
    runs = [run(0), run(50), run(100), run(3, status=RunStatus.FAILED), run(0, status=RunStatus.SKIPPED)]
    assert sparkline(runs, [each.rows_processed for each in runs]) == "▁▅█×·"
    assert sparkline([run(0), run(0)], [0, 0]) == "▁▁"
    assert sparkline([], []) == ""


def test_a_line_for_each_connector_with_the_latest_last() -> None:
    latest_first = [run(8, 1), run(1, 1, name="logs"), run(0, 4, RunStatus.PARTIAL), run(4, 8)]
    assert history_lines(latest_first) == [("logs", "█", "█"), ("shop", "▅×█", "█×▂")]
