"""One run of one connector: its streams, one after another or side by side, each with its own outcome."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from threading import BoundedSemaphore

from msgspec.structs import replace
from tenacity import RetryCallState, Retrying, wait_exponential_jitter

from atlas_etl.contracts import Connector, Destination
from atlas_etl.errors import AtlasError, ExitCode, InterruptedRunError
from atlas_etl.model import BatchLimits, RetryPolicy, Run, RunError, RunStatus, Stream, StreamRun, Window
from atlas_etl.pipeline.events import (
    Event,
    RunFinished,
    StreamFinished,
    StreamReconciled,
    StreamRetrying,
    WindowCommitted,
)
from atlas_etl.pipeline.interleaved import interleaved
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.reconcile import reconcile
from atlas_etl.pipeline.transfer import transfer

_Work = Callable[[], Generator[Event, None, None]]
_AWAY = frozenset(
    {"unreachable", "connection_refused", "connection_failed", "timeout", "too_slow",
     "http_429", "http_502", "http_503", "http_504", "database_locked"}
)  # fmt: skip


class Turns:
    """How many streams go at once, of one run or of several; a stream has a turn while it runs."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._free = BoundedSemaphore(at_once)

    def __enter__(self) -> None:
        self._free.acquire()

    def __exit__(self, *exc: object) -> None:
        self._free.release()


class _Patience:
    """How often each stream of a run is tried: once, for as long as a system is away or turns all away."""

    def __init__(self, retry: RetryPolicy) -> None:
        self._usual = self.retry = retry

    def tell(self, failure: AtlasError | None) -> None:
        """How a stream ended."""
        is_away = failure is not None and failure.retryable and failure.code in _AWAY
        self.retry = replace(self._usual, attempts=1) if is_away else self._usual


def run_streams(
    run: Run,
    source: Connector,
    destination: Destination,
    streams: Sequence[Stream],
    *,
    full_refresh: bool = False,
    limits: BatchLimits,
    window: Window,
    retry: RetryPolicy,
    turns: Turns | None = None,
    lanes: int = 1,
) -> Generator[Event, None, None]:
    """Transfer every stream; one that fails does not stop the others. The last event is RunFinished.

    In each of several lanes streams run one after another, in a thread that both ends must be able to serve.
    A failure that may pass is tried again; of a system that is away, not by each stream. Retry is resume: the
    transfer begins at the last commit.
    """
    turns = turns or Turns(lanes)
    jobs = [
        Job(run.run_id, run.connector, stream, run.started_at, full_refresh, limits, window)
        for stream in streams
    ]
    left = iter(jobs)  # a list's, which gives each of them once, whichever thread asks
    patience = _Patience(retry)
    works = [_lane(source, destination, left, patience, turns) for _ in jobs[:lanes]]
    outcomes: dict[str, StreamRun] = {}
    with closing(interleaved(works)) as events:
        for event in events:
            if isinstance(event, StreamFinished):
                outcomes[event.outcome.name] = event.outcome
            yield event
    yield RunFinished(finished(run, [outcomes[stream.name] for stream in streams]))


def _lane(
    source: Connector, destination: Destination, left: Iterator[Job], patience: _Patience, turns: Turns
) -> Generator[Event, None, None]:
    """Streams that no other lane has taken, until there are none."""
    for job in left:
        with turns:
            yield from _settled(source, destination, job, patience)


def _settled(
    source: Connector, destination: Destination, job: Job, patience: _Patience
) -> Generator[Event, None, None]:
    """One stream, whose failure is an outcome; the last event is its StreamFinished."""
    committed = StreamRun(job.stream.name, RunStatus.RUNNING)
    try:
        for event in _synced(source, destination, job, patience.retry):
            if isinstance(event, WindowCommitted):
                committed = event.outcome
            yield event
        patience.tell(None)
    except InterruptedRunError:
        raise
    except AtlasError as failure:
        patience.tell(failure)
        failure.located(connector=job.connector, stream=job.stream.name)
        yield StreamFinished(
            job.connector, replace(committed, status=RunStatus.FAILED, error=run_error(failure))
        )


def _synced(
    source: Connector, destination: Destination, job: Job, retry: RetryPolicy
) -> Generator[Event, None, None]:
    """One stream's rows, and then what its source deleted of them; the last event is StreamFinished.

    Both are tried on their own: what was loaded stays, and is told, whatever becomes of the deletes.
    """
    for event in _tried(partial(transfer, source, destination, job), job, retry):
        if isinstance(event, StreamFinished):
            outcome = event.outcome
        else:
            yield event
    try:
        for event in _tried(partial(reconcile, source, destination, job), job, retry):
            if isinstance(event, StreamReconciled):
                outcome = with_deletes(outcome, event)
            yield event
    except InterruptedRunError:
        raise
    except AtlasError as failure:
        failure.located(connector=job.connector, stream=job.stream.name)
        outcome = replace(outcome, status=RunStatus.FAILED, error=run_error(failure))
    yield StreamFinished(job.connector, outcome)


def with_deletes(outcome: StreamRun, found: StreamReconciled) -> StreamRun:
    """The outcome of a stream's load, and what its source deleted."""
    many = found.left_out > 1
    keys = f"{found.left_out:,} rows of the source have keys" if many else "1 row of the source has a key"
    unknown = (
        f"{keys} that {outcome.table} cannot have, so there is nothing to compare; "
        f"`atlas quarantine list {found.connector}` shows what was kept aside, and "
        f"`atlas connector verify {found.connector} --repair` keeps aside what no load has read since"
    )
    warnings = (*outcome.warnings, unknown) if found.left_out else outcome.warnings
    return replace(outcome, rows_deleted=found.deleted, warnings=warnings)


def _tried(work: _Work, job: Job, retry: RetryPolicy) -> Generator[Event, None, None]:
    may_pass = False
    attempts = Retrying(
        wait=wait_exponential_jitter(
            multiplier=retry.first_wait.total_seconds(), max=retry.longest_wait.total_seconds()
        ),
        retry=lambda _: may_pass,
        reraise=True,
    )
    tries = 0
    earlier = committed = StreamRun(job.stream.name, RunStatus.RUNNING)
    for attempt in attempts:
        with attempt, closing(work()) as events:
            for event in events:
                if isinstance(event, WindowCommitted | StreamFinished):
                    committed = event.outcome.after(earlier)
                    yield replace(event, outcome=committed)
                else:
                    yield event
        earlier = committed
        state = attempt.retry_state
        failure = _failure(state)
        tries += failure.tries if failure is not None else 0
        may_pass = failure is not None and _may_pass(failure, retry, tries)
        if failure is not None and may_pass:
            yield StreamRetrying(job.connector, job.stream.name, run_error(failure), state.attempt_number)


def _may_pass(failure: AtlasError, retry: RetryPolicy, tries: int) -> bool:
    """Whether a stream that was tried so often, by its source's own tries, too, is tried once more."""
    most = 1 + failure.patience * (retry.attempts - 1)
    return failure.retryable and tries < min(most, failure.attempts or most)


def _failure(state: RetryCallState) -> AtlasError | None:
    failure = state.outcome.exception() if state.outcome is not None else None
    return failure if isinstance(failure, AtlasError) else None


def finished(run: Run, outcomes: Sequence[StreamRun]) -> Run:
    """The run with its end: completed, partial (some streams committed), or failed."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    status = RunStatus.COMPLETED
    if failed:
        status = RunStatus.FAILED if len(failed) == len(outcomes) else RunStatus.PARTIAL
    return replace(
        run,
        status=status,
        completed_at=datetime.now(UTC),
        streams=tuple(outcomes),
        rows_processed=sum(outcome.rows_loaded for outcome in outcomes),
        bytes_processed=sum(outcome.bytes_processed for outcome in outcomes),
        error=failed[0].error if failed else None,
    )


def failed_run(run: Run, failure: AtlasError) -> Run:
    """The run, ended before its first stream."""
    return replace(run, status=RunStatus.FAILED, completed_at=datetime.now(UTC), error=run_error(failure))


def run_error(failure: AtlasError) -> RunError:
    """The failure as history keeps it."""
    return RunError(failure.code, failure.message, failure.hint, int(failure.exit_code), failure.retryable)


def exit_code(runs: Sequence[Run]) -> ExitCode:
    """What a process ends with after these runs: the one failure's code, or PARTIAL where some committed."""
    codes = {ExitCode(run.error.exit_code) for run in runs if run.error is not None}
    if not codes:
        return ExitCode.DONE
    committed = any(run.status in (RunStatus.COMPLETED, RunStatus.PARTIAL) for run in runs)
    if committed:
        return ExitCode.PARTIAL
    return codes.pop() if len(codes) == 1 else min(codes)
