"""Source against destination: whether the copy of one stream equals its source, and where it does not.

Both sides are read in one snapshot each, the source up to the checkpoint, and compared in the form that the
destination stores. Where both are of one kind and compute checksums of the same texts themselves, equal ones
end it. Else each side is reduced to buckets of digests, in constant memory; only rows of the buckets that
differ are read again and compared by key. Where the source may have a key several times, all rows are
compared at once: which of them counts has to be found out.

The tail is compared as `differences` says, unless the table has no row with the checkpoint's greatest cursor,
which no source can bring about, or nothing but the tail is there to compare: then it counts like the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct, field

from atlas_etl.contracts import Connector, Destination
from atlas_etl.model import BatchLimits, Stream
from atlas_etl.pipeline.differences import Counts, Differences, Example, Latest
from atlas_etl.pipeline.digest import Buckets, Digests, bucket_of, row_digests
from atlas_etl.pipeline.sides import Rows, Sides, sides_of, whole

_EXAMPLES = 10


class VerifyJob(Struct, frozen=True):
    """One stream to compare."""

    connector: str
    stream: Stream
    limits: BatchLimits = field(default_factory=BatchLimits)


class Comparison(Struct, frozen=True):
    """What comparing one stream found; of the source only rows up to the checkpoint are counted."""

    stream: str
    table: str
    high: str | None  # the cursor up to which they are compared
    source_rows: int
    destination_rows: int
    quarantined: int  # rows that are kept aside; those of them that the source has are no differences
    counts: Counts = field(default_factory=Counts)
    differing_keys: int | None = 0  # None without a key
    examples: tuple[Example, ...] = ()  # of them

    @property
    def is_equal(self) -> bool:
        return not (self.counts.missing or self.counts.extra or self.counts.changed)


class VerifyStarted(Struct, frozen=True):
    """Both sides are known. `estimated_rows`: how many will be read at least, on both together."""

    connector: str
    stream: str
    table: str
    high: str | None  # the cursor up to which they are compared
    estimated_rows: int | None


class RowsCompared(Struct, frozen=True):
    """So many rows and bytes were read so far, on both sides together."""

    connector: str
    stream: str
    rows: int
    bytes: int


class StreamVerified(Struct, frozen=True):
    """The stream is compared."""

    connector: str
    comparison: Comparison


VerifyEvent = VerifyStarted | RowsCompared | StreamVerified
Verifying = Generator[VerifyEvent, None, None]


def verify(source: Connector, destination: Destination, job: VerifyJob) -> Verifying:
    """Compare one stream; the last event is its StreamVerified. Raises AtlasError. Changes nothing."""
    with source.open(whole(job.connector, job.stream, destination, job.limits)) as extract:
        sides = sides_of(job.connector, job.stream, destination, extract)
        with closing(differences_of(sides)) as differences:
            yield from compare(job, sides, destination, differences)


def differences_of(sides: Sides) -> Differences:
    """Where the rows of both sides will be compared."""
    return Differences(sides.key_schema, Latest(sides.cursor_field) if sides.only_latest else None)


def compare(job: VerifyJob, sides: Sides, destination: Destination, differences: Differences) -> Verifying:
    """Compare both sides, and leave what differs in `differences`. The last event is StreamVerified."""
    estimated = sides.extract.estimated_rows
    table, high = str(sides.table), sides.high.text if sides.high else None
    yield VerifyStarted(job.connector, job.stream.name, table, high, 2 * estimated if estimated else None)
    progress, aside = _Progress(job), len(sides.state.quarantine)
    with sides.stored(destination) as stored:
        equal_rows = stored.count_equal()
        if equal_rows is not None:
            yield StreamVerified(
                job.connector, Comparison(job.stream.name, table, high, equal_rows, equal_rows, aside)
            )
            return
        differing: npt.NDArray[np.bool_] | None = None
        if not sides.only_latest:
            ours, theirs = Buckets(), Buckets()
            yield from progress.digested(sides.read, ours)
            yield from progress.digested(stored.rows, theirs)
            differing = ours.differing(theirs)
            if not differing.any():
                rows = ours.rows
                yield StreamVerified(
                    job.connector, Comparison(job.stream.name, table, high, rows, rows, aside)
                )
                return
        read_rows = destination_rows = tail_rows = 0
        reaches = False
        for batch, digests in sides.read():
            differences.add_read(*_candidates(batch, digests, differing))
            read_rows += batch.num_rows
            yield progress.of(batch)
        for batch, digests in stored.rows():
            candidates, of_them = _candidates(batch, digests, differing)
            differences.add_stored(candidates, of_them, sides.in_tail(candidates))
            destination_rows += batch.num_rows
            reaches = reaches or sides.reaches_checkpoint(batch)
            yield progress.of(batch)
    kept_aside = sides.quarantined()
    for digests in (row_digests(kept_aside), ~row_digests(kept_aside)):  # refused by the table, or before
        differences.add_quarantined(kept_aside, digests)
    counting = differences.compare()
    if reaches and (differences.has_missing() or differences.has_extra()):
        for batch, digests in sides.tail():
            differences.add_tail(digests)
            tail_rows += batch.num_rows
    if sides.key and sides.checkpoint is not None and differences.has_extra():
        for batch, _ in sides.later():
            differences.add_later(batch)
    counts = differences.counts(tail_is_open=reaches and tail_rows < read_rows)
    yield StreamVerified(
        job.connector,
        Comparison(
            job.stream.name,
            table,
            high,
            counting if sides.only_latest else read_rows,
            destination_rows,
            aside,
            counts,
            differences.count_keys() if sides.key else None,
            differences.examples(_EXAMPLES),
        ),
    )


def _candidates(batch: pa.RecordBatch, digests: Digests, differing: npt.NDArray[np.bool_] | None) -> Rows:
    """The rows that may differ, with their digests: those of the buckets that do."""
    if differing is None:
        return batch, digests
    chosen = differing[bucket_of(digests)]
    return batch.filter(pa.array(chosen)), digests[chosen]


class _Progress:
    """Counts what was read of one stream."""

    def __init__(self, job: VerifyJob) -> None:
        self._job = job
        self._rows = self._bytes = 0

    def of(self, batch: pa.RecordBatch) -> RowsCompared:
        """One batch more."""
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        return RowsCompared(self._job.connector, self._job.stream.name, self._rows, self._bytes)

    def digested(self, rows: Callable[[], Iterator[Rows]], into: Buckets) -> Verifying:
        for batch, digests in rows():
            into.add(digests)
            yield self.of(batch)
