"""What a report sums: every run of its time once, in the span that it started in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from atlas_etl.api.report import SPANS, connector_report, in_order
from atlas_etl.model import Run, RunStatus, StreamRun

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=30)


def run(minutes: float, status: RunStatus = RunStatus.COMPLETED, rows: int = 1, **more: object) -> Run:
    started = SINCE + timedelta(minutes=minutes)
    return Run(
        "r", "shop", status, "test", started, started + timedelta(seconds=rows), rows_processed=rows, **more
    )  # type: ignore[arg-type]


RUNS = st.lists(
    st.builds(
        run, st.floats(-60, 30 * 24 * 60), st.sampled_from([*RunStatus]), st.integers(0, 10**9)
    ),
    max_size=50,
)  # fmt: skip


@given(runs=RUNS)
def test_spans_hold_every_run_once(runs: list[Run]) -> None:
    runs.sort(key=lambda one: one.started_at, reverse=True)
    found = connector_report("shop", runs, None, SINCE, UNTIL)
    within = [one for one in runs if one.started_at >= SINCE]
    assert len(found.spans) == SPANS
    assert (found.spans[0].begins, found.spans[-1].ends) == (SINCE, UNTIL)
    assert sum(span.runs for span in found.spans) == found.runs == len(within)
    assert sum(span.rows for span in found.spans) == found.rows == sum(one.rows_processed for one in within)
    failed = sum(one.status.is_failure for one in within)
    assert sum(span.failed for span in found.spans) == found.failed == len(found.failures) == failed
    assert found.last == (within[0] if within else None)


def test_streams_are_summed_and_stand_as_the_last_run_left_them() -> None:
    def stream(rows: int, *changes: str) -> StreamRun:
        return StreamRun(
            "orders", RunStatus.COMPLETED, rows_loaded=rows, rows_quarantined=1, schema_changes=changes
        )

    runs = [run(20, streams=(stream(5),)), run(10, streams=(stream(3, "column 'a' was added (text)"),))]
    found = connector_report("shop", runs, SINCE, SINCE, UNTIL)
    (total,) = found.streams
    assert (total.last.rows_loaded, total.rows, total.quarantined) == (5, 8, 2)
    (change,) = found.changes
    assert (change.at, change.stream, change.change) == (
        runs[1].started_at, "orders", "column 'a' was added (text)",
    )  # fmt: skip
    assert found.seconds == 1.0


def test_what_failed_comes_first() -> None:
    bad, good = [run(1, RunStatus.FAILED)], [run(1)]
    assert in_order({"b": good, "c": bad, "a": good, "d": []}) == ["c", "a", "b", "d"]
