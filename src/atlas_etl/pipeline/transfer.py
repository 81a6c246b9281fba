"""The data path: one stream from a connector's snapshot into a destination's loads."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from msgspec.structs import replace

from atlas_etl.contracts import Connector, Destination, LoadSession, ProtectedSource
from atlas_etl.errors import RefusedRowError, WiderColumnsError
from atlas_etl.model import RefusedRow, RunStatus, StreamRun
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
from atlas_etl.pipeline.opened import Job, opened
from atlas_etl.pipeline.plan import next_window
from atlas_etl.pipeline.portions import LoadEnd, Portion, portions
from atlas_etl.pipeline.prefetch import Prefetch
from atlas_etl.pipeline.quarantine import Quarantine
from atlas_etl.pipeline.schema import told, unread_values
from atlas_etl.pipeline.shape import shape, shaped_tail

_LOADED_BEFORE = "the same rows were loaded before, so nothing was done"


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
    if stream.load_id is not None:
        into = destination.table_name(job.connector, stream)
        if destination.has_load(job.connector, stream.name, into, stream.load_id):
            known = StreamRun(stream.name, RunStatus.COMPLETED, table=str(into), warnings=(_LOADED_BEFORE,))
            yield StreamFinished(job.connector, known)
            return
    with opened(source, destination, job, careful=careful) as found:
        if found is None:
            yield StreamFinished(job.connector, StreamRun(stream.name, RunStatus.COMPLETED))
            return
        extract, plan, resumed = found.extract, found.plan, found.resumed
        if isinstance(source, ProtectedSource):
            plan = replace(plan, protection=source.protection(stream))
        table, disposition = str(found.table), found.disposition
        yield StreamStarted(job.connector, stream.name, table, disposition, resumed, extract.estimated_rows)
        unread = () if resumed is None else unread_values(plan.changes)
        fitting = Fitting(shape(stream, job.run_id, job.started_at), plan)
        quarantine = Quarantine(stream, plan, found.state.quarantine, shaped_tail(stream, resumed))
        done = StreamRun(
            stream.name,
            RunStatus.RUNNING,
            disposition=disposition,
            table=table,
            checkpoint=resumed and resumed.without_parents(),
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
                    rows_left_out=read.rows_left_out + result.left_out,
                    loads=read.loads + 1,
                    checkpoint=end.checkpoint.without_parents() if end.checkpoint else read.checkpoint,
                    nulled=end.nulled,
                    warnings=(*unread, *end.warnings),
                    schema_changes=(*read.schema_changes, *told(plan.changes)),
                )
                more = end.more
                if more:
                    yield WindowCommitted(job.connector, done)
                    plan = next_window(plan)
    yield StreamFinished(job.connector, replace(done, status=RunStatus.COMPLETED))


def _fill(
    job: Job,
    session: LoadSession,
    portions_left: Prefetch[Portion | LoadEnd],
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
            slower=portions_left.slower,
        )
        yield BatchLoaded(
            job.connector, read.name, read.rows_read, read.bytes_processed, portions_left.slower
        )
    raise AssertionError("the rows have no end")
