"""THE data path: one stream, read in one snapshot, committed with its checkpoint in one load."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import datetime

from atlas_etl.contracts import Connector, Destination
from atlas_etl.model import BatchLimits, ReadRequest, RunStatus, Stream, StreamRun
from atlas_etl.pipeline.events import BatchLoaded, StreamFinished, StreamRead, StreamStarted, TransferEvent
from atlas_etl.pipeline.plan import disposition_of, plan_load, resume_from
from atlas_etl.pipeline.schema import conform
from atlas_etl.pipeline.shape import shape, shaped_schema, shaped_tail


@dataclass(frozen=True, slots=True)
class Job:
    """One stream to bring up to date, in one run."""

    run_id: str
    connector: str
    stream: Stream
    started_at: datetime
    full_refresh: bool = False
    limits: BatchLimits = field(default_factory=BatchLimits)


def transfer(source: Connector, destination: Destination, job: Job) -> Generator[TransferEvent, None, None]:
    """Move what is new of one stream; the last event is its StreamFinished, after the commit.

    Closing the iterator before that undoes the load. Raises AtlasError, having changed nothing.
    """
    stream = job.stream
    table = destination.table_name(job.connector, stream)
    state = destination.inspect(job.connector, stream.name, table)
    resumed = resume_from(stream, state, full_refresh=job.full_refresh)
    request = ReadRequest(stream, limits=job.limits)
    if resumed is not None:
        request = replace(request, since=resumed.tail_from, watermarks=resumed.watermarks)
    with source.open(request) as extract:
        read = shaped_schema(stream, extract.schema)
        plan = plan_load(
            stream,
            run_id=job.run_id,
            connector=job.connector,
            table=table,
            read=read,
            storable=destination.storable(read),
            primary_key=extract.primary_key,
            key_is_unique=extract.key_is_unique,
            state=state,
            resumed=shaped_tail(stream, resumed),
            full_refresh=job.full_refresh,
        )
        disposition = disposition_of(stream, extract.primary_key)
        yield StreamStarted(
            job.connector, stream.name, str(table), disposition, resumed, extract.estimated_rows
        )
        shaped = shape(stream, job.run_id, job.started_at)
        rows = size = 0
        with destination.begin(plan) as session:
            for batch in extract.batches():
                session.write(conform(shaped(batch), plan.schema))
                rows += batch.num_rows
                size += batch.nbytes
                yield BatchLoaded(job.connector, stream.name, rows, size)
            checkpoint = extract.checkpoint()
            yield StreamRead(job.connector, stream.name)
            result = session.commit(checkpoint)
    yield StreamFinished(
        job.connector,
        StreamRun(
            stream.name,
            RunStatus.COMPLETED,
            disposition=disposition,
            table=str(table),
            rows_read=rows,
            rows_loaded=result.rows,
            bytes_processed=size,
            loads=1,
            checkpoint=checkpoint or resumed,
            nulled=dict(extract.nulled()),
        ),
    )
