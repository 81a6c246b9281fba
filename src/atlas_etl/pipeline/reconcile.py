"""Deletes at the source: the keys that it still has, and the rows of the table that have none of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from atlas_etl.contracts import Connector, Destination
from atlas_etl.model import Disposition, LoadPlan, ReadRequest, ReconcilePlan, RefusedRow
from atlas_etl.pipeline.deletes import is_due, plan_reconcile, stream_of_keys
from atlas_etl.pipeline.events import KeysRead, ReconcileEvent, StreamRead, StreamReconciled
from atlas_etl.pipeline.fitting import Fitting, as_far_as_they_go
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.shape import shape, shaped_schema


def reconcile(source: Connector, destination: Destination, job: Job) -> Generator[ReconcileEvent, None, None]:
    """Delete or mark the rows that the source deleted; the last event is StreamReconciled, after the commit.

    The stream's load is committed before, so that the keys' snapshot is the newer one: a row that is there
    has its key in it, unless it was deleted. There are no events where nothing is asked for, or it is not yet
    time; a full refresh leaves no such rows. Closing the iterator changes nothing. Raises AtlasError, having
    changed nothing.
    """
    stream = job.stream
    deletes = stream.deletes
    if deletes is None or job.full_refresh:
        return
    table = destination.table_name(job.connector, stream)
    last = destination.reconciled_at(job.connector, stream.name, table) if deletes.every is not None else None
    if not is_due(deletes, last, datetime.now(UTC)):
        return
    state = destination.inspect(job.connector, stream.name, table)
    keys_only = stream_of_keys(stream, stream.primary_key or source.describe(stream).primary_key)
    key = list(keys_only.primary_key)
    at = datetime.now(UTC)
    with source.open(ReadRequest(keys_only, limits=job.limits)) as extract:
        there = shaped_schema(keys_only, extract.schema)
        plan = plan_reconcile(
            stream,
            deletes,
            run_id=job.run_id,
            connector=job.connector,
            table=table,
            read=pa.schema([there.field(name) for name in key]),
            storable=destination.storable,
            state=state,
            at=at,
        )
        shaped = shape(keys_only, job.run_id, job.started_at)
        fitting = Fitting(lambda batch: shaped(batch.select(key)), _fitting_plan(plan))
        keys = 0
        with destination.reconcile(plan) as session:
            for batch, refused in fitting.fitted(extract):
                session.write(batch)
                if refused:
                    session.write(pa.concat_batches(_told(found, key, plan.keys) for found in refused))
                keys += batch.num_rows + len(refused)
                yield KeysRead(job.connector, stream.name, keys)
            yield StreamRead(job.connector, stream.name)
            result = session.commit()
    yield StreamReconciled(
        job.connector, stream.name, deletes.how, result.deleted, result.kept, result.left_out
    )


def _fitting_plan(plan: ReconcilePlan) -> LoadPlan:
    """The plan by which keys come into the form that the table has."""
    return LoadPlan(
        plan.run_id,
        plan.connector,
        plan.stream,
        plan.table,
        Disposition.MERGE,
        plan.keys,
        tuple(plan.keys.names),
        None,
        careful=plan.careful,
    )


def _told(refused: RefusedRow, key: Sequence[str], keys: pa.Schema) -> pa.RecordBatch:
    """A refused key as the table would have it, had it come when its column was read otherwise.

    NULL where the table's column has no such value: no row of it can have that key.
    """
    row = refused.row if refused.row.schema.names == keys.names else refused.row.select(key)
    columns = [
        pa.array([refused.texts[name]]) if name in refused.texts else column
        for name, column in zip(key, row.columns, strict=True)
    ]
    return as_far_as_they_go(columns, keys)
