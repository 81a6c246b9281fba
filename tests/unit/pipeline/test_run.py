"""A run: retries where they may help, one outcome per stream, and the code that the process ends with."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from msgspec.structs import replace

from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector, Extract
from atlas_etl.errors import AtlasError, DataError, ExitCode, InterruptedRunError, SourceError
from atlas_etl.model import (
    BatchLimits,
    ConnectionStatus,
    ReadRequest,
    RetryPolicy,
    Run,
    RunStatus,
    Stream,
    StreamInfo,
    StreamRun,
    Window,
)
from atlas_etl.pipeline.events import Event, RunFinished, StreamRetrying
from atlas_etl.pipeline.run import exit_code, failed_run, finished, run_streams

RUN = Run("r", "shop", RunStatus.RUNNING, "test", datetime(2026, 1, 1, tzinfo=UTC))
AT_ONCE = RetryPolicy(attempts=3, first_wait=timedelta(0), longest_wait=timedelta(0))


class Unsteady:
    """A stand-in around a real connector: its first opens fail."""

    def __init__(self, inner: Connector, failures: list[AtlasError]) -> None:
        self._inner = inner
        self._failures = failures
        self.opened = 0

    def open(self, request: ReadRequest) -> AbstractContextManager[Extract]:
        return self._open(request)

    @contextmanager
    def _open(self, request: ReadRequest) -> Iterator[Extract]:
        self.opened += 1
        if self._failures:
            raise self._failures.pop(0)
        with self._inner.open(request) as extract:
            yield extract

    def test(self) -> ConnectionStatus:
        return self._inner.test()

    def discover(self) -> list[StreamInfo]:
        return list(self._inner.discover())

    def describe(self, stream: Stream) -> StreamInfo:
        return self._inner.describe(stream)

    def close(self) -> None:
        self._inner.close()


def run(
    folder: Path,
    failures: list[AtlasError],
    names: Sequence[str] = ("t",),
    retry: RetryPolicy = AT_ONCE,
) -> tuple[Generator[Event, None, None], Unsteady]:
    with duckdb.connect(str(folder / "s.duckdb")) as source:
        source.execute("CREATE TABLE t AS SELECT 1 AS i")
    adapter = registry.load("duckdb")
    assert adapter.connector is not None
    assert adapter.destination is not None
    unsteady = Unsteady(adapter.connector(adapter.connection(path=folder / "s.duckdb")), failures)
    destination = adapter.destination(adapter.connection(path=folder / "w.duckdb"))
    streams = [Stream(name, table="t") for name in names]
    return run_streams(
        RUN, unsteady, destination, streams, limits=BatchLimits(), window=Window(), retry=retry
    ), unsteady


def gone() -> SourceError:
    return SourceError("the server went away", code="server_gone", retryable=True)


def last_run(events: list[Event]) -> Run:
    assert isinstance(events[-1], RunFinished)
    return events[-1].run


def test_what_may_pass_is_tried_again(tmp_path: Path) -> None:
    running, unsteady = run(tmp_path, [gone(), gone()])
    events = list(running)
    assert [event.attempt for event in events if isinstance(event, StreamRetrying)] == [1, 2]
    assert unsteady.opened == 3
    assert last_run(events).status is RunStatus.COMPLETED
    assert last_run(events).rows_processed == 1


@pytest.mark.parametrize(("times", "status"), [(1, RunStatus.COMPLETED), (9, RunStatus.FAILED)])
def test_a_failure_says_itself_how_often_it_is_worth_trying(
    tmp_path: Path, times: int, status: RunStatus
) -> None:
    lacking = [SourceError("8 of 9 records", retryable=True, attempts=2) for _ in range(times)]
    running, unsteady = run(tmp_path, [*lacking])
    events = list(running)
    assert [event.attempt for event in events if isinstance(event, StreamRetrying)] == [1]
    assert (unsteady.opened, last_run(events).status) == (2, status)


def test_after_the_last_attempt_the_failure_is_the_outcome(tmp_path: Path) -> None:
    running, unsteady = run(tmp_path, [gone() for _ in range(9)])
    ended = last_run(list(running))
    assert (unsteady.opened, ended.status) == (3, RunStatus.FAILED)
    assert ended.error is not None
    assert (ended.error.code, ended.error.exit_code) == ("server_gone", 3)


@pytest.mark.parametrize(
    "code", ["connection_refused", "unreachable", "timeout", "too_slow", "http_503", "http_429"]
)
def test_a_system_that_is_away_is_tried_once_by_each_further_stream(tmp_path: Path, code: str) -> None:
    """Until one of them finds it again."""
    away = [SourceError("nobody answers", code=code, retryable=True) for _ in range(4)]
    running, unsteady = run(tmp_path, [*away], ["a", "b", "c"])
    events = list(running)
    assert [event.stream for event in events if isinstance(event, StreamRetrying)] == ["a", "a"]
    assert unsteady.opened == 3 + 1 + 1
    assert [stream.status for stream in last_run(events).streams] == [
        RunStatus.FAILED, RunStatus.FAILED, RunStatus.COMPLETED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("attempts", "patience", "opened"), [(3, 4, 9), (3, 2, 5), (3, 1, 3), (1, 4, 1), (1, 1, 1)]
)
def test_a_failure_says_how_much_more_often_it_is_worth_a_try(
    tmp_path: Path, attempts: int, patience: int, opened: int
) -> None:
    locked = [
        SourceError("another process", code="database_locked", retryable=True, patience=patience)
        for _ in range(20)
    ]
    running, unsteady = run(tmp_path, [*locked], ["a", "b"], replace(AT_ONCE, attempts=attempts))
    assert last_run(list(running)).status is RunStatus.FAILED
    assert unsteady.opened == opened + 1


@pytest.mark.parametrize(("tries", "opened"), [(1, 3), (2, 2), (3, 1), (5, 1)])
def test_what_the_source_waited_for_counts_as_tries_of_the_stream(
    tmp_path: Path, tries: int, opened: int
) -> None:
    away = [SourceError("nobody answers", code="timeout", retryable=True) for _ in range(3)]
    for failure in away:
        failure.tries = tries
    running, unsteady = run(tmp_path, [*away])
    assert last_run(list(running)).status is RunStatus.FAILED
    assert unsteady.opened == opened


def test_a_system_that_is_there_again_is_tried_as_often_as_before(tmp_path: Path) -> None:
    running, unsteady = run(tmp_path, [gone() for _ in range(6)], ["a", "b", "c"])
    assert last_run(list(running)).status is RunStatus.PARTIAL
    assert unsteady.opened == 3 + 3 + 1


def test_a_statement_that_took_too_long_is_no_system_that_is_away(tmp_path: Path) -> None:
    took_too_long = SourceError("the server stopped the statement", code="timeout")
    running, unsteady = run(tmp_path, [took_too_long, gone(), gone()], ["a", "b"])
    assert last_run(list(running)).status is RunStatus.PARTIAL
    assert unsteady.opened == 1 + 3


def test_what_an_earlier_attempt_warned_of_is_kept() -> None:
    """Columns that it added, for one, which the next attempt finds in the table."""
    earlier = StreamRun("t", RunStatus.RUNNING, warnings=("added", "both"))
    later = StreamRun("t", RunStatus.COMPLETED, warnings=("both", "later"))
    assert later.after(earlier).warnings == ("added", "both", "later")


def test_what_cannot_pass_fails_at_once(tmp_path: Path) -> None:
    running, unsteady = run(tmp_path, [SourceError("wrong password", code="authentication_failed")])
    assert last_run(list(running)).status is RunStatus.FAILED
    assert unsteady.opened == 1


def test_an_interruption_is_no_outcome(tmp_path: Path) -> None:
    running, unsteady = run(tmp_path, [InterruptedRunError("stopped")])
    with pytest.raises(InterruptedRunError):
        list(running)
    assert unsteady.opened == 1


def test_closing_between_attempts_ends_the_run(tmp_path: Path) -> None:
    running, unsteady = run(tmp_path, [gone(), gone()])
    with closing(running):
        next(event for event in running if isinstance(event, StreamRetrying))
    assert unsteady.opened == 1


def test_the_exit_code_is_the_failures_own_or_partial() -> None:
    done = finished(RUN, [])
    source = failed_run(RUN, SourceError("x"))
    data = failed_run(RUN, DataError("x"))
    assert exit_code([]) is ExitCode.DONE
    assert exit_code([done]) is ExitCode.DONE
    assert exit_code([source]) is ExitCode.SOURCE
    assert exit_code([source, done]) is ExitCode.PARTIAL
    assert exit_code([data, source]) is ExitCode.SOURCE
