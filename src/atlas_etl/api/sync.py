"""Runs: each connector under its lease, one after another or side by side, told as events."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.api.systems import Ends, ends_of
from atlas_etl.config.schedule import CatchUp
from atlas_etl.contracts import Lease, StateStore
from atlas_etl.errors import AtlasError, InterruptedRunError, LockedError, LostLeaseError
from atlas_etl.model import AuditAction, AuditKind, Change, Run, RunStatus, Stream
from atlas_etl.pipeline.events import Event, RunFinished, RunStarted, StreamRead
from atlas_etl.pipeline.interleaved import interleaved
from atlas_etl.pipeline.progress import Progress
from atlas_etl.pipeline.run import Turns, failed_run, run_error, run_streams
from atlas_etl.state.records import new_run_id

PUT_OFF = timedelta(seconds=5)
"""When a slot is tried again that found its connector at work, where every slot is to be run."""


class SyncJob(Struct, frozen=True):
    """One connector to bring up to date."""

    connector: PreparedConnector
    destination: PreparedDestination
    streams: tuple[Stream, ...]
    triggered_by: str = "manual"
    full_refresh: bool = False
    scheduled_at: datetime | None = None  # the slot that this is the run of
    catch_up: CatchUp = CatchUp.ONCE


def sync_one(job: SyncJob, store: StateStore) -> Generator[Event, None, None]:
    """Run one connector under its lease. The last event is its RunFinished, failed or not.

    Closing the iterator undoes the load that was open and leaves the run `interrupted`.
    """
    yield from sync_all((job,), store, side_by_side=1)


def _sync(
    job: SyncJob, ends: Ends, store: StateStore, turns: Turns, then: Callable[[], Sequence[str]]
) -> Generator[Event, None, None]:
    connector = job.connector
    progress = Progress([stream.name for stream in job.streams], then)
    schedule, enabled = connector.definition.schedule, connector.definition.enabled
    store.register(connector.name, connector.protocol, enabled=enabled, schedule=schedule)
    try:
        with store.lease(
            connector.name,
            triggered_by=job.triggered_by,
            destination=job.destination.name,
            scheduled_at=job.scheduled_at,
            progress=progress.now,
        ) as lease:
            yield RunStarted(lease.run)
            if job.full_refresh:
                store.audit.record([_refreshed(lease.run, stream) for stream in job.streams])
            with closing(ends), closing(_run(job, ends, lease.run, turns)) as running:
                for event in running:
                    progress.heard(event)
                    if isinstance(event, StreamRead):
                        refuse_lost(lease)
                    if isinstance(event, RunFinished):
                        store.finish(event.run)
                    yield event
    except LostLeaseError as lost:
        yield RunFinished(failed_run(lease.run, lost))
    except LockedError as locked:
        skipped = store.record_skipped(
            connector.name,
            triggered_by=job.triggered_by,
            reason=locked.message,
            scheduled_at=job.scheduled_at,
            put_off_until=datetime.now(UTC) + PUT_OFF if job.catch_up is CatchUp.ALL else None,
        )
        yield RunFinished(replace(skipped, status=RunStatus.SKIPPED, error=run_error(locked)))


def refused(failure: AtlasError, store: StateStore, triggered_by: str) -> RunFinished:
    """The run of a connector that could not begin, for its definition is wrong; history keeps it."""
    begun = Run(new_run_id(), failure.connector or "", RunStatus.RUNNING, triggered_by, datetime.now(UTC))
    run = failed_run(begun, failure)
    store.finish(run)
    return RunFinished(run)


def _refreshed(run: Run, stream: Stream) -> Change:
    action = AuditAction.FULL_REFRESH
    return Change(AuditKind.CHECKPOINT, action, run.connector, stream.name, run_id=run.run_id)


def refuse_lost(lease: Lease) -> None:
    """Raise LostLeaseError where a commit would come too late."""
    if lease.lost():
        raise LostLeaseError(
            "another process took this run's lease, so nothing more was committed",
            hint="this process was stopped or starved for too long; run again",
            connector=lease.run.connector,
        )


def _run(job: SyncJob, ends: Ends, run: Run, turns: Turns) -> Generator[Event, None, None]:
    try:
        source, destination = ends.open()
        yield from run_streams(
            run,
            source,
            destination,
            job.streams,
            full_refresh=job.full_refresh,
            limits=job.connector.definition.batch_limits,
            window=job.connector.definition.load_window,
            retry=job.connector.definition.retry_policy,
            turns=turns,
            lanes=turns.at_once if ends.shared else 1,
        )
    except InterruptedRunError:
        raise
    except AtlasError as failure:
        yield RunFinished(failed_run(run, failure))


def sync_all(
    jobs: Sequence[SyncJob], store: StateStore, *, side_by_side: int
) -> Generator[Event, None, None]:
    """Run every connector, at most so many streams of them at once; their events interleave.

    Closing the iterator stops every run at its next batch, undoing what was not committed.
    """
    turns = Turns(side_by_side)
    with ends_of([(job.connector, job.destination) for job in jobs]) as ends:
        # A list's iterator, which gives each of them once, whichever thread asks.
        waiting = [job.connector.name for job in jobs]
        left = iter(
            [_sync(job, own, store, turns, waiting.copy) for job, own in zip(jobs, ends, strict=True)]
        )
        yield from interleaved([_lane(left, waiting) for _ in jobs[:side_by_side]])


def _lane(left: Iterator[Generator[Event, None, None]], waiting: list[str]) -> Generator[Event, None, None]:
    for run in left:
        waiting.pop(0)  # whichever thread does: as many are gone as began, in their order
        yield from run
