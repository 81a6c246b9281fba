"""What a sync of one stream would do, from the very plan that it would follow. Nothing is changed."""

from __future__ import annotations

from msgspec import Struct

from atlas_etl.contracts import Connector, Destination
from atlas_etl.model import CreateTable, Disposition, Stream
from atlas_etl.pipeline.opened import Job, OpenedStream, opened


class StreamForecast(Struct, frozen=True):
    """What would be read of a stream, and how it would be loaded."""

    stream: str
    disposition: Disposition | None  # None: the source never had a record that could tell its columns
    table: str
    primary_key: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()  # that the source is asked
    cursor: str | None = None
    since: str | None = None  # rows from this cursor on, inclusively; None: all rows
    changes: tuple[str, ...] = ()  # of the table, as the destination writes them
    replaces: bool = False  # rows that are there go
    format: str = "arrow"  # in which rows travel: `arrow`, or `wire` where they pass as the source sends them
    estimated_rows: int | None = None
    promise: str = ""
    protect: tuple[tuple[str, str], ...] = ()  # columns, and what becomes of their values


def forecast(source: Connector, destination: Destination, job: Job) -> StreamForecast:
    """Look at one stream. Raises the AtlasError that a sync of it would begin with."""
    with opened(source, destination, job, only_outline=True) as found:
        if found is None:
            table = destination.table_name(job.connector, job.stream)
            return StreamForecast(job.stream.name, None, str(table))
        outline = found.extract.outline()
        return StreamForecast(
            job.stream.name,
            found.disposition,
            str(found.table),
            found.plan.primary_key,
            outline.statements,
            job.stream.cursor,
            found.resumed.tail_from.text if found.resumed else None,
            tuple(destination.changes(found.plan)) or _new_table(found),
            found.plan.disposition is Disposition.REPLACE and not found.state.empty,
            "arrow" if found.plan.wire_format is None else "wire",
            outline.rows,
            promise(job.stream, found.disposition, (*outline.caveats, *destination.caveats())),
            tuple((name, str(rule)) for name, rule in job.stream.protect.items()),
        )


def _new_table(found: OpenedStream) -> tuple[str, ...]:
    is_new = any(isinstance(change, CreateTable) for change in found.plan.changes)
    return (f"make {found.table}",) if is_new else ()


def promise(stream: Stream, disposition: Disposition, caveats: tuple[str, ...]) -> str:
    """Which promise a stream has, in words: `exact`, or `weaker` and why; see docs/exactness.md."""
    held = f"weaker: {'; '.join(caveats)}" if caveats else "exact: no row is lost or doubled"
    if disposition is Disposition.REPLACE or stream.deletes is not None:
        return held
    return f"{held}. Rows that the source deletes stay; `deletes: reconcile` removes them"
