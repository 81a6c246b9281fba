"""Repair: of a stream whose copy differs from its source, bring the rows that differ, in one load.

A table that is kept by key gets the source's rows of the keys that differ, and loses those that only it has;
for these a stream with `deletes` is reconciled, which deletes or marks them. An append gets the rows that it
misses. Checkpoints stay, and what is pending is left to the next sync. What cannot be mended so is loaded
again, whole: an append with rows too many or other ones, rows without a key, a table that is not there, more
keys than are worth looking up.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from atlas_etl.contracts import Connector, Destination
from atlas_etl.errors import DataError, DestinationError
from atlas_etl.model import Disposition, LoadPlan, RunStatus, StreamRun
from atlas_etl.pipeline.differences import Differences, key_hashes
from atlas_etl.pipeline.digest import row_digests
from atlas_etl.pipeline.events import (
    BatchLoaded,
    ReconcileEvent,
    StreamFinished,
    StreamRead,
    StreamStarted,
    TransferEvent,
)
from atlas_etl.pipeline.fitting import Fitting
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.reconcile import reconcile
from atlas_etl.pipeline.schema import evolve
from atlas_etl.pipeline.shape import shape, shaped_schema
from atlas_etl.pipeline.sides import Sides, sides_of, whole
from atlas_etl.pipeline.transfer import transfer
from atlas_etl.pipeline.verify import (
    Comparison,
    StreamVerified,
    VerifyEvent,
    VerifyJob,
    compare,
    differences_of,
    verify,
)

Repairing = Generator[VerifyEvent | TransferEvent | ReconcileEvent, None, None]
Mask = npt.NDArray[np.bool_]

_MOST_KEYS = 5_000_000  # that are looked up one by one: 40 MB of hashes
_MOST_EXTRA, _MOST_EXTRA_SHARE = 1_000, 0.1  # rows that go at once without being asked for


def repair(source: Connector, destination: Destination, job: Job) -> Repairing:
    """Compare one stream, mend it where it differs, and compare it again.

    Where it is equal, its one StreamVerified is the last event; else there is a StreamFinished after the
    commit and then the second StreamVerified. Raises AtlasError, having committed nothing.
    """
    looking = VerifyJob(job.connector, job.stream, job.limits)
    with source.open(whole(job.connector, job.stream, destination, job.limits)) as extract:
        sides = sides_of(job.connector, job.stream, destination, extract)
        with closing(differences_of(sides)) as differences:
            found: Comparison | None = None
            for event in compare(looking, sides, destination, differences):
                yield event
                if isinstance(event, StreamVerified):
                    found = event.comparison
            if found is None or found.is_equal:
                return
            _refuse_foreign_rows(sides)
            deletes = job.stream.deletes
            if deletes is None:
                _refuse_many_extra(sides, found)
            wanted = _wanted(sides, differences, found)
            if wanted is not None:
                yield from _mended(job, sides, destination, wanted)
    if wanted is None:
        again = replace(job, full_refresh=sides.state.schema is not None)
        yield from transfer(source, destination, again)
    elif deletes is not None and found.counts.extra:
        now = replace(job, stream=replace(job.stream, deletes=replace(deletes, every=None)))
        yield from reconcile(source, destination, now)
    yield from verify(source, destination, looking)


def _refuse_foreign_rows(sides: Sides) -> None:
    if sides.state.has_foreign_rows:
        raise DestinationError(
            f"the table {sides.table} has rows that this stream did not load; repairing would delete them",
            hint="choose another table with `into`, or empty or drop that one",
            code="table_not_ours",
            stream=sides.stream.name,
        )


def _refuse_many_extra(sides: Sides, found: Comparison) -> None:
    """Raise DataError: a source that lost most of its rows is more likely broken than right."""
    extra, there = found.counts.extra, found.destination_rows
    few = extra <= max(_MOST_EXTRA, int(_MOST_EXTRA_SHARE * there)) and (found.source_rows or not extra)
    if few or sides.disposition is Disposition.REPLACE:
        return
    raise DataError(
        f"{extra:,} of the {there:,} rows of {sides.table} are not in the source, so none was deleted",
        hint="if they are to go, `atlas connector sync --full-refresh` loads the table again without them",
        code="too_many_deletes",
        stream=sides.stream.name,
    )


class _Keys:
    """The rows of the keys that differ; those that only the destination has go."""

    disposition = Disposition.MERGE

    def __init__(self, sides: Sides, differences: Differences) -> None:
        self._key = sides.key
        found = [key_hashes(keys, self._key) for keys in differences.differing_keys()]
        self._hashes = np.unique(np.concatenate(found))
        self._differences = differences

    def extra_keys(self) -> Iterator[pa.RecordBatch]:
        return self._differences.extra_keys()

    def among(self, batch: pa.RecordBatch) -> Mask:
        """Which rows are written; one of another key that has the same hash is written as it is."""
        hashes = key_hashes(batch, self._key)
        same: Mask = self._hashes[_places(self._hashes, hashes)] == hashes
        return same


class _Rows:
    """The rows that an append misses, each as often as it is missing."""

    disposition = Disposition.APPEND

    def __init__(self, differences: Differences) -> None:
        self._digests, self._left = differences.missing_rows()

    def extra_keys(self) -> Iterator[pa.RecordBatch]:
        return iter(())

    def among(self, batch: pa.RecordBatch) -> Mask:
        """Which rows are written; they are missing no more."""
        digests = row_digests(batch)
        places = _places(self._digests[:, 0], digests[:, 0])
        chosen: Mask = (self._digests[places] == digests).all(axis=1)
        for row in np.flatnonzero(chosen):
            chosen[row] = self._left[places[row]] > 0
            self._left[places[row]] -= 1
        return chosen


def _places(ordered: npt.NDArray[np.uint64], wanted: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    return np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)


def _wanted(sides: Sides, differences: Differences, found: Comparison) -> _Keys | _Rows | None:
    """The source's rows that mend the table; None where it is loaded again."""
    counts = found.counts
    begun = sides.state.schema is not None and (sides.cursor is None or sides.checkpoint is not None)
    if not begun or counts.missing + counts.extra + counts.changed > _MOST_KEYS:
        return None
    if sides.disposition is Disposition.APPEND:
        # What a parent's bound leaves to the next sync is missing as well, and would come twice.
        by_parent = sides.checkpoint is not None and sides.checkpoint.parents is not None
        return None if counts.extra or counts.changed or by_parent else _Rows(differences)
    keyed = sides.disposition is Disposition.MERGE or sides.extract.key_is_unique
    return _Keys(sides, differences) if keyed and not differences.has_null_keys() else None


def _mended(job: Job, sides: Sides, destination: Destination, wanted: _Keys | _Rows) -> Repairing:
    """One load of the rows that are wanted, and of deletions."""
    stream, state, extract = job.stream, sides.state, sides.extract
    schema, changes = evolve(state.schema, shaped_schema(stream, extract.schema), destination.storable)
    plan = LoadPlan(
        job.run_id,
        job.connector,
        stream.name,
        sides.table,
        wanted.disposition,
        schema,
        sides.key,
        sides.cursor,
        changes=changes,
        version=state.version,
        deletes=wanted.disposition is Disposition.MERGE,
    )
    table, there = str(sides.table), extract.estimated_rows
    yield StreamStarted(job.connector, stream.name, table, sides.disposition, state.checkpoint, there)
    careful = replace(plan, careful=stream.quarantine_limit > 0)  # what is refused was not compared either
    fitting = Fitting(shape(stream, job.run_id, job.started_at), careful)
    rows = size = 0
    with destination.begin(plan) as session:
        if stream.deletes is None:
            for keys in wanted.extra_keys():
                session.delete(keys)
        for batch, _ in fitting.fitted(extract.again(until=sides.high)):
            found = batch.filter(pa.array(wanted.among(batch.select(sides.schema.names))))
            if found.num_rows:
                session.write(found)
            rows += found.num_rows
            size += found.nbytes
            yield BatchLoaded(job.connector, stream.name, rows, size)
        yield StreamRead(job.connector, stream.name)
        result = session.commit(None)
    yield StreamFinished(
        job.connector,
        StreamRun(
            stream.name,
            RunStatus.COMPLETED,
            disposition=sides.disposition,
            table=table,
            rows_read=rows,
            rows_loaded=rows - result.left_out,
            rows_left_out=result.left_out,
            bytes_processed=size,
            loads=1,
            checkpoint=state.checkpoint and state.checkpoint.without_parents(),
        ),
    )
