"""The contract of RunSummaries: what a database sums is what the runs say, and it gives no more than that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import Engine, event, insert

from atlas_etl.model import Run, RunError, RunStatus, RunSummary, SchemaChanged, StreamRun
from atlas_etl.state import SqlStateStore, summaries
from atlas_etl.state.records import new_run_id, run_of, run_values
from atlas_etl.state.schema import scheduled_runs
from tests.contract.state_places import SHORT, store

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=30)
BOUNDS = [SINCE + timedelta(days=days) for days in range(31)]
ODD = 'a"b\\" \\u0000 "rows_loaded": 9 \x00\ud800😀 {["schema_changes": ["no"]'
number = itertools.count()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStateStore]:
    with closing(store(request.param, request, tmp_path, SHORT)) as opened:
        yield opened


def run(connector: str, at: datetime, status: RunStatus = RunStatus.COMPLETED, **more: object) -> Run:
    ended = None if status is RunStatus.RUNNING else at + timedelta(seconds=1.5)
    return Run(new_run_id(), connector, status, "test", at, ended, **more)  # type: ignore[arg-type]


def keep(state: SqlStateStore, runs: Sequence[Run]) -> None:
    with state._database.writing() as connection:
        connection.execute(insert(scheduled_runs), [run_values(each) for each in runs])


STREAMS = st.builds(
    StreamRun,
    st.sampled_from(["orders", "items", ODD]),
    st.sampled_from([RunStatus.COMPLETED, RunStatus.FAILED]),
    rows_loaded=st.integers(0, 2**40),
    rows_quarantined=st.integers(0, 9),
    warnings=st.sampled_from([(), (ODD,)]),
    schema_changes=st.sampled_from([(), ("column 'a' was added (text)", ODD)]),
    error=st.sampled_from([None, RunError("x", ODD)]),
)
RUNS = st.lists(
    st.builds(
        run,
        st.just(""),
        st.integers(-60, 31 * 24 * 60).map(
            lambda minutes: SINCE + timedelta(minutes=minutes, microseconds=7)
        ),
        st.sampled_from([each for each in RunStatus if each is not RunStatus.RUNNING]),
        rows_processed=st.integers(0, 2**40),
        bytes_processed=st.integers(0, 2**40),
        streams=st.lists(STREAMS, max_size=3, unique_by=lambda stream: stream.name).map(tuple),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda each: each.started_at,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(runs=RUNS)
def test_sums_are_those_of_the_runs(state: SqlStateStore, runs: list[Run]) -> None:
    name = f"shop{next(number)}"
    runs = [replace(each, connector=name, run_id=new_run_id()) for each in runs]
    runs.sort(key=lambda each: each.started_at, reverse=True)
    keep(state, runs)
    within = [each for each in runs if SINCE <= each.started_at < UNTIL]
    spans = state.summaries.spans(BOUNDS).get(name, ())
    assert bool(spans) == bool(within)
    for span in spans:
        own = [each for each in within if span.begins <= each.started_at < span.ends]
        assert span.runs == len(own)
        assert span.failed == sum(each.status.is_failure for each in own)
        assert span.rows == sum(each.rows_processed for each in own)
        assert span.bytes == sum(each.bytes_processed for each in own)
        assert span.longest == pytest.approx(1.5 if own else 0.0, abs=0.01)
    found = state.summaries.summary(name, SINCE, UNTIL, most=5)
    assert found.last == (within[0] if within else None)
    assert found.failures == tuple(each for each in within if each.status.is_failure)[:5]
    streams = [(each, stream) for each in within for stream in each.streams]
    changes = [
        SchemaChanged(each.started_at, stream.name, change)
        for each, stream in streams
        for change in stream.schema_changes
    ]
    assert found.changes == tuple(changes[:5])
    assert found.seconds == (
        median([1.5]) if any(each.status is RunStatus.COMPLETED for each in within) else None
    )
    for total in found.streams:
        own_streams = [stream for _, stream in streams if stream.name == total.last.name]
        assert total.last == own_streams[0]
        assert total.rows == sum(stream.rows_loaded for stream in own_streams)
        assert total.quarantined == sum(stream.rows_quarantined for stream in own_streams)
    assert [total.last.name for total in found.streams] == sorted({stream.name for _, stream in streams})


def test_of_nothing_there_is_nothing(state: SqlStateStore) -> None:
    assert state.summaries.spans(BOUNDS) == {}
    assert state.summaries.spans([SINCE]) == {}
    assert state.summaries.summary("shop", SINCE, UNTIL, most=5) == RunSummary()


def test_usual_time_is_that_of_the_newest_runs(state: SqlStateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summaries, "_MOST_TIMED", 3)
    took = [60, 60, 60, 60, 2, 1, 3]
    runs = [run("shop", SINCE + timedelta(hours=hour)) for hour in range(len(took))]
    keep(
        state,
        [
            replace(r, completed_at=r.started_at + timedelta(seconds=s))
            for r, s in zip(runs, took, strict=True)
        ],
    )
    assert state.summaries.summary("shop", SINCE, UNTIL, most=5).seconds == 2.0


@contextmanager
def statements_of(engine: Engine) -> Iterator[list[str]]:
    told: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        told.append(statement)

    event.listen(engine, "after_cursor_execute", hear)
    try:
        yield told
    finally:
        event.remove(engine, "after_cursor_execute", hear)


def test_what_is_read_does_not_grow_with_the_history(
    state: SqlStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr(summaries, "run_of", lambda row: read.append(row) or run_of(row))
    statements = {}
    for name, many in (("few", 120), ("many", 2400)):
        stream = StreamRun("orders", RunStatus.COMPLETED, rows_loaded=1, schema_changes=("a was added",))
        each = (UNTIL - SINCE) / many
        status = itertools.cycle([RunStatus.COMPLETED, RunStatus.FAILED])
        keep(
            state,
            [
                run(name, SINCE + place * each, next(status), streams=(stream,), rows_processed=1)
                for place in range(many)
            ],
        )
        read.clear()
        with statements_of(state._database.engine) as told:
            spans = state.summaries.spans(BOUNDS)[name]
            found = state.summaries.summary(name, SINCE, UNTIL, most=50)
        assert sum(span.runs for span in spans) == sum(span.rows for span in spans) == many
        assert found.streams[0].rows == many
        statements[name] = len(told)
        assert (len(found.failures), len(found.changes)) == (50, 50)
        assert len(read) == 1 + 1 + 50 + 50  # the last one, that of each stream, failures, changes
    assert statements["few"] == statements["many"] <= 12  # SQLite is told of each BEGIN, too
