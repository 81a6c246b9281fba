"""Verifying one connector under its lease: looking only, or as a run that repairs."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.located import located
from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.api.sync import refuse_lost
from atlas_etl.contracts import Connector, Destination, StateStore
from atlas_etl.errors import AtlasError, InterruptedRunError, LostLeaseError
from atlas_etl.model import RunStatus, Stream, StreamRun
from atlas_etl.pipeline.events import (
    Event,
    RunFinished,
    RunStarted,
    StreamFinished,
    StreamRead,
    StreamReconciled,
)
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.repair import repair
from atlas_etl.pipeline.run import finished, run_error
from atlas_etl.pipeline.verify import VerifyEvent, VerifyJob, verify

REPAIR = "verify --repair"


@dataclass(frozen=True, slots=True)
class _Verification:
    """One connector to compare with its destination."""

    connector: PreparedConnector
    destination: PreparedDestination
    streams: tuple[Stream, ...]


def verify_connector(
    atlas: Atlas, name: str, *, streams: Sequence[str] = (), repair: bool = False
) -> Generator[VerifyEvent | Event, None, None]:
    """Compare a connector's streams with their source, told as events; `repair` brings what differs.

    Each stream has a StreamVerified, one that was repaired a second. Raises AtlasError.
    """
    prepared = atlas.connector(name)
    destination = atlas.destination(prepared.definition.destination)
    job = _Verification(prepared, destination, prepared.chosen(tuple(streams)))
    with atlas.state() as store:
        yield from (_mend if repair else _look)(job, store)


def _look(job: _Verification, store: StateStore) -> Generator[VerifyEvent, None, None]:
    """Compare each stream; history does not tell of it. Raises LockedError while the connector runs."""
    name, limits = job.connector.name, job.connector.definition.batch_limits
    with store.hold(name), _opened(job) as (source, destination):
        for stream in job.streams:
            with located(name, stream.name):
                yield from verify(source, destination, VerifyJob(name, stream, limits))


def _mend(job: _Verification, store: StateStore) -> Generator[VerifyEvent | Event, None, None]:
    """Compare each stream, and bring what differs: a run. The last event is its RunFinished.

    Raises the first AtlasError after it; a stream that cannot be repaired does not stop the others.
    """
    name, limits = job.connector.name, job.connector.definition.batch_limits
    outcomes: list[StreamRun] = []
    first: AtlasError | None = None
    with store.lease(name, triggered_by=REPAIR, destination=job.destination.name) as lease:
        yield RunStarted(lease.run)
        with _opened(job) as (source, destination):
            for stream in job.streams:
                task = Job(lease.run.run_id, name, stream, lease.run.started_at, limits=limits)
                try:
                    with located(name, stream.name), closing(repair(source, destination, task)) as repairing:
                        for event in repairing:
                            if isinstance(event, StreamRead):
                                refuse_lost(lease)
                            if isinstance(event, StreamFinished):
                                outcomes.append(event.outcome)
                            if isinstance(event, StreamReconciled):
                                outcomes[-1] = replace(outcomes[-1], rows_deleted=event.deleted)
                            yield event
                except (InterruptedRunError, LostLeaseError):
                    raise
                except AtlasError as failure:
                    first = first or failure
                    begun = outcomes and outcomes[-1].name == stream.name  # a part of it is committed
                    outcome = outcomes.pop() if begun else StreamRun(stream.name, RunStatus.FAILED)
                    outcomes.append(replace(outcome, status=RunStatus.FAILED, error=run_error(failure)))
        run = finished(lease.run, outcomes)
        store.finish(run)
        yield RunFinished(run)
    if first is not None:
        raise first


@contextmanager
def _opened(job: _Verification) -> Iterator[tuple[Connector, Destination]]:
    with closing(job.connector.open()) as source, closing(job.destination.open()) as destination:
        yield source, destination
