"""The data path: one stream from a connector's snapshot into a destination's loads."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime

from atlas_etl.contracts import Connector, Destination, LoadSession
from atlas_etl.errors import RefusedRowError, WiderColumnsError
from atlas_etl.model import (
    BatchLimits,
    ReadRequest,
    RefusedRow,
    RunStatus,
    Stream,
    StreamRun,
    Window,
)
from atlas_etl.pipeline.events import (
    BatchLoaded,
    RowsRefused,
    StreamFinished,
    StreamRead,
    StreamStarted,
    TransferEvent,
    WindowCommitted,
)
from atlas_etl.pipeline.fitting import Fitting
from atlas_etl.pipeline.own_source import refuse_own_source
from atlas_etl.pipeline.plan import disposition_of, may_pass, next_window, plan_load, resume_from, window_for
from atlas_etl.pipeline.portions import LoadEnd, Portion, portions
from atlas_etl.pipeline.prefetch import Prefetch
from atlas_etl.pipeline.quarantine import Quarantine
from atlas_etl.pipeline.schema import known_columns
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
    window: Window = field(default_factory=Window)


def transfer(source: Connector, destination: Destination, job: Job) -> Generator[TransferEvent, None, None]:
    """Move what is new of one stream; the last event is its StreamFinished, after the commit.

    A long load is committed in windows. Closing the iterator before its end undoes the window that is open.
    Where rows are refused and may be kept aside, that window is undone too, and the rest is loaded with care.
    So it is where a source finds that the columns which it told are too narrow, and tells wider ones.
    Raises AtlasError, having changed nothing since the last commit.
    """
    earlier = committed = StreamRun(job.stream.name, RunStatus.RUNNING)
    careful = False
    while True:
        refused: RowsRefused | None = None
        try:
            with closing(_transferred(source, destination, job, careful=careful)) as events:
                for event in events:
                    if isinstance(event, WindowCommitted | StreamFinished):
                        committed = event.outcome.after(earlier)
                        yield replace(event, outcome=committed)
                    else:
                        yield event
            return
        except WiderColumnsError:
            pass
        except RefusedRowError as failure:
            if careful:
                raise
            if not job.stream.quarantine_limit:
                aside = "set `quarantine_limit` on the stream to keep such rows aside and load the others"
                failure.hint = f"{failure.hint}; or {aside}" if failure.hint else aside
                raise
            careful = True
            refused = RowsRefused(job.connector, job.stream.name, failure.message)
        earlier = committed
        if refused is not None:
            yield refused


def _transferred(
    source: Connector, destination: Destination, job: Job, *, careful: bool
) -> Generator[TransferEvent, None, None]:
    stream = job.stream
    table = destination.table_name(job.connector, stream)
    state = destination.inspect(job.connector, stream.name, table)
    resumed = resume_from(stream, state, full_refresh=job.full_refresh)
    window = window_for(stream, state, resumed, full_refresh=job.full_refresh, window=job.window)
    known = known_columns(state.schema, destination.storable)
    # One batch is filled while another waits, and one is written.
    limits = replace(job.limits, bytes=job.limits.bytes // 2)
    request = ReadRequest(stream, limits=limits, window=window, known=known, may_read_again=True)
    if resumed is not None:
        request = replace(request, since=resumed.tail_from, watermarks=resumed.watermarks, past=resumed.high)
    with source.open(request) as extract:
        refuse_own_source(extract, destination, stream, table, state)
        if not extract.schema.names:  # it never had a row that could tell its columns
            yield StreamFinished(job.connector, StreamRun(stream.name, RunStatus.COMPLETED))
            return
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
            careful=careful,
        )
        offered = extract.wire_format
        passes = offered is not None and may_pass(plan, extract.schema, read, offered, state)
        if offered is not None and passes and destination.takes(offered, plan):
            plan = replace(plan, wire_format=offered)
        disposition = disposition_of(stream, extract.primary_key)
        yield StreamStarted(
            job.connector, stream.name, str(table), disposition, resumed, extract.estimated_rows
        )
        fitting = Fitting(shape(stream, job.run_id, job.started_at), plan)
        quarantine = Quarantine(stream, plan, state.quarantine, shaped_tail(stream, resumed))
        done = StreamRun(
            stream.name, RunStatus.RUNNING, disposition=disposition, table=str(table), checkpoint=resumed
        )
        read_ahead = Prefetch(
            portions(extract, fitting, job.window),
            size=lambda portion: portion.bytes,
            most=job.limits.bytes,
            interrupt=extract.interrupt,
        )
        with closing(read_ahead):
            more = True
            while more:
                with destination.begin(plan) as session:
                    read, end = yield from _fill(job, session, read_ahead, quarantine=quarantine, done=done)
                    yield StreamRead(job.connector, stream.name)
                    result = session.commit(end.checkpoint, quarantine.change(plan.load_id))
                done = replace(
                    read,
                    rows_loaded=read.rows_loaded + result.rows,
                    rows_quarantined=read.rows_quarantined + quarantine.committed(),
                    loads=read.loads + 1,
                    checkpoint=end.checkpoint or read.checkpoint,
                    nulled=end.nulled,
                    warnings=end.warnings,
                )
                more = end.more
                if more:
                    yield WindowCommitted(job.connector, done)
                    plan = next_window(plan)
    yield StreamFinished(job.connector, replace(done, status=RunStatus.COMPLETED))


def _fill(
    job: Job,
    session: LoadSession,
    portions_left: Iterator[Portion | LoadEnd],
    *,
    quarantine: Quarantine,
    done: StreamRun,
) -> Generator[BatchLoaded, None, tuple[StreamRun, LoadEnd]]:
    """Write rows up to where the load may end; gives back what was read, and that end."""
    read = done
    for portion in portions_left:
        if isinstance(portion, LoadEnd):
            return read, portion
        rows, refused = portion.rows, portion.refused
        quarantine.loaded(rows)
        quarantine.refuse(refused)
        by_table = session.write(rows) if rows.num_rows else {}
        quarantine.refuse(RefusedRow(rows.slice(place, 1), why) for place, why in by_table.items())
        read = replace(
            read,
            rows_read=read.rows_read + rows.num_rows + len(refused),
            bytes_processed=read.bytes_processed + rows.nbytes,
        )
        yield BatchLoaded(job.connector, read.name, read.rows_read, read.bytes_processed)
    raise AssertionError("the rows have no end")
