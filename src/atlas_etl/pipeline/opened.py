"""One stream opened on both sides: the snapshot that is read, and the plan of how its rows are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from msgspec import Struct, field
from msgspec.structs import replace

from atlas_etl.contracts import Connector, Destination, Extract, ProtectedSource
from atlas_etl.errors import ConfigError
from atlas_etl.model import (
    BatchLimits,
    Checkpoint,
    Disposition,
    LoadPlan,
    NextTail,
    ReadRequest,
    Stream,
    TableName,
    TableState,
    Window,
)
from atlas_etl.pipeline.own_source import refuse_own_source
from atlas_etl.pipeline.plan import disposition_of, may_pass, plan_load, resume_from, window_for
from atlas_etl.pipeline.schema import known_columns
from atlas_etl.pipeline.shape import shaped_schema, shaped_tail


class Job(Struct, frozen=True):
    """One stream to bring up to date, in one run."""

    run_id: str
    connector: str
    stream: Stream
    started_at: datetime
    full_refresh: bool = False
    limits: BatchLimits = field(default_factory=BatchLimits)
    window: Window = field(default_factory=Window)


class OpenedStream(Struct, frozen=True):
    """What is read of a stream, what is there of it, and how the one meets the other."""

    extract: Extract
    table: TableName
    state: TableState
    resumed: Checkpoint | None  # as the source's cursor has it
    disposition: Disposition  # which the definition means; the plan's may do the same more cheaply
    plan: LoadPlan


def _next_tail(extract: Extract, plan: LoadPlan, stream: Stream) -> NextTail | None:
    """The extract's, where the table has its cursors as the source has them."""
    if plan.cursor is None or stream.cursor is None:
        return None
    read, stored = extract.schema.field(stream.cursor).type, plan.schema.field(plan.cursor).type
    return extract.next_tail if read == stored else None


@contextmanager
def opened(
    source: Connector,
    destination: Destination,
    job: Job,
    *,
    careful: bool = False,
    only_outline: bool = False,
) -> Iterator[OpenedStream | None]:
    """A stream whose snapshot ends with the block; None where it never had a row that could tell its columns.

    Raises AtlasError, having changed nothing.
    """
    stream = job.stream
    table = destination.table_name(job.connector, stream)
    state = destination.inspect(job.connector, stream.name, table)
    try:
        resumed = resume_from(stream, state, full_refresh=job.full_refresh)
    except ConfigError:  # a cursor that the source does not have is the source's to refuse, by its names
        with source.open(ReadRequest(stream, limits=job.limits, only_outline=True)):
            raise
    window = window_for(stream, state, resumed, full_refresh=job.full_refresh, window=job.window)
    known = known_columns(stream, state.schema, destination.storable)
    if known is not None and job.full_refresh:
        known = dataclasses.replace(known, settled=frozenset())  # what is read now has its types alone
    # One batch is filled while another waits, and one is written.
    limits = replace(job.limits, bytes=job.limits.bytes // 2)
    request = ReadRequest(
        stream, limits=limits, window=window, known=known, may_read_again=True, only_outline=only_outline
    )
    if resumed is not None:
        request = replace(
            request,
            since=resumed.tail_from,
            watermarks=resumed.watermarks,
            parents=resumed.parents,
            past=resumed.high,
            protection=resumed.protection,
        )
    with source.open(request) as extract:
        refuse_own_source(extract, destination, stream, table, state)
        if not extract.schema.names:
            yield None
            return
        disposition = disposition_of(stream, extract.primary_key)
        # Rows that go on from a checkpoint were looked at with it.
        meets = disposition is Disposition.MERGE and not (job.full_refresh or state.empty)
        if isinstance(source, ProtectedSource) and meets and resumed is None and state.protection is not None:
            source.refuse_changed(stream, state.protection)
        read = shaped_schema(stream, extract.schema)
        plan = plan_load(
            stream,
            run_id=job.run_id,
            connector=job.connector,
            table=table,
            read=read,
            storable=destination.storable,
            primary_key=extract.primary_key,
            key_is_unique=extract.key_is_unique,
            state=state,
            resumed=shaped_tail(stream, resumed),
            full_refresh=job.full_refresh,
            careful=careful,
        )
        plan = replace(plan, next_tail=_next_tail(extract, plan, stream))
        offered = extract.wire_format
        passes = offered is not None and may_pass(plan, extract.schema, read, offered, state)
        if offered is not None and passes and destination.takes(offered, plan):
            plan = replace(plan, wire_format=offered)
        yield OpenedStream(extract, table, state, resumed, disposition, plan)
