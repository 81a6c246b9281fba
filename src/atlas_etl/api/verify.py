"""Verifying one connector under its lease, looking only or as a run that repairs; what was found is kept."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from time import perf_counter

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.api.atlas import Atlas
from atlas_etl.api.located import located
from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.api.sync import refuse_lost
from atlas_etl.contracts import Connector, Destination, VerificationStore
from atlas_etl.errors import AtlasError, InterruptedRunError, LostLeaseError, StateError
from atlas_etl.model import RunStatus, Stream, StreamRun, Verification, VerifyMode
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
from atlas_etl.pipeline.run import finished, run_error, with_deletes
from atlas_etl.pipeline.verify import (
    Comparison,
    StreamVerified,
    VerifyEvent,
    VerifyJob,
    VerifyStarted,
    verify,
)

REPAIR = "verify --repair"

_UNWRITABLE = frozenset({"state_unwritable", "state_permission", "state_full"})


class ResultNotKept(Struct, frozen=True):
    """The state store cannot be written: what is found from here on is told, and kept nowhere.

    Where it could not even be told that somebody verifies, `alone` is False: a run may go on meanwhile.
    """

    connector: str
    error: StateError
    alone: bool


class StreamNotVerified(Struct, frozen=True):
    """The stream could not be compared, or not be mended; the others are gone on with."""

    connector: str
    stream: str
    error: AtlasError


VerificationEvent = VerifyEvent | Event | ResultNotKept | StreamNotVerified


class _Verification(Struct, frozen=True):
    """One connector to compare with its destination."""

    connector: PreparedConnector
    destination: PreparedDestination
    streams: tuple[Stream, ...]


def verify_connector(
    atlas: Atlas, name: str, *, streams: Sequence[str] = (), repair: bool = False
) -> Generator[VerificationEvent, None, None]:
    """Compare a connector's streams with their source, told as events; `repair` brings what differs.

    Each stream has a StreamVerified, one that was repaired a second; their counts are kept in the state
    store. One that fails has a StreamNotVerified, and does not stop the others. Without `repair`, a store
    that cannot be written is told and holds nothing up. Raises AtlasError where nothing can be compared.
    """
    prepared = atlas.connector(name)
    destination = atlas.destination(prepared.definition.destination)
    job = _Verification(prepared, destination, prepared.chosen(tuple(streams)))
    yield from (_mend if repair else _look)(job, atlas)


def _look(job: _Verification, atlas: Atlas) -> Generator[VerificationEvent, None, None]:
    """Compare each stream; the runs do not tell of it. Raises LockedError while the connector runs."""
    name, limits = job.connector.name, job.connector.definition.batch_limits
    with ExitStack() as held:
        kept_in, refused = None, None
        try:
            store = held.enter_context(atlas.state())
            held.enter_context(store.hold(name))
            kept_in = store.verifications
        except StateError as failure:
            if failure.code not in _UNWRITABLE:
                raise
            refused = ResultNotKept(name, failure, alone=False)
        if refused is not None:
            yield refused
        keeper = _Keeper(name, VerifyMode.COMPARE, kept_in)
        with _opened(job) as (source, destination):
            for stream in job.streams:
                try:
                    with located(name, stream.name):
                        for event in verify(source, destination, VerifyJob(name, stream, limits)):
                            yield event
                            yield from keeper.heard(event)
                except InterruptedRunError:
                    raise
                except AtlasError as failure:
                    yield StreamNotVerified(name, stream.name, failure)


def _mend(job: _Verification, atlas: Atlas) -> Generator[VerificationEvent, None, None]:
    """Compare each stream, and bring what differs: a run. The last event is its RunFinished."""
    name, limits = job.connector.name, job.connector.definition.batch_limits
    outcomes: list[StreamRun] = []
    with (
        atlas.state() as store,
        store.lease(name, triggered_by=REPAIR, destination=job.destination.name) as lease,
    ):
        yield RunStarted(lease.run)
        keeper = _Keeper(name, VerifyMode.REPAIR, store.verifications)
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
                                outcomes[-1] = with_deletes(outcomes[-1], event)
                            yield event
                            yield from keeper.heard(event)
                except (InterruptedRunError, LostLeaseError):
                    raise
                except AtlasError as failure:
                    begun = outcomes and outcomes[-1].name == stream.name  # a part of it is committed
                    outcome = outcomes.pop() if begun else StreamRun(stream.name, RunStatus.FAILED)
                    outcomes.append(replace(outcome, status=RunStatus.FAILED, error=run_error(failure)))
                    yield StreamNotVerified(name, stream.name, failure)
        run = finished(lease.run, outcomes)
        store.finish(run)
        yield RunFinished(run)


class _Keeper:
    """Keeps what each comparison of a connector found, as it ends, for as long as that can be kept."""

    def __init__(self, connector: str, mode: VerifyMode, kept_in: VerificationStore | None) -> None:
        self._connector = connector
        self._mode = mode
        self._kept_in = kept_in
        self._began = perf_counter()

    def heard(self, event: VerifyEvent | Event) -> Iterator[ResultNotKept]:
        """One event of a stream."""
        if isinstance(event, VerifyStarted):
            self._began = perf_counter()
        if isinstance(event, StreamVerified) and self._kept_in is not None:
            try:
                self._kept_in.record(self._verification(event.comparison))
            except StateError as failure:
                self._kept_in = None
                yield ResultNotKept(self._connector, failure, alone=True)

    def _verification(self, found: Comparison) -> Verification:
        return Verification(
            self._connector,
            found.stream,
            datetime.now(UTC),
            perf_counter() - self._began,
            self._mode,
            found.source_rows,
            found.destination_rows,
            found.counts.missing,
            found.counts.extra,
            found.counts.changed,
            found.counts.pending,
            found.quarantined,
        )


@contextmanager
def _opened(job: _Verification) -> Iterator[tuple[Connector, Destination]]:
    with closing(job.connector.open()) as source, closing(job.destination.open()) as destination:
        yield source, destination
