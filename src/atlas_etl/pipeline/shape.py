"""Columns as the definition wants them: naive times given their zone, and the run's own columns added."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.errors import RefusedRowError
from atlas_etl.model import DELETED_AT, Checkpoint, CursorKind, CursorValue, Deletion, Stream

Shape = Callable[[pa.RecordBatch], pa.RecordBatch]

_MICROSECOND_DIGITS = 6
_METADATA = (pa.field("_atlas_run_id", pa.string()), pa.field("_atlas_loaded_at", pa.timestamp("us", "UTC")))
_MARK = pa.field(DELETED_AT, pa.timestamp("us", "UTC"))


def shaped_schema(stream: Stream, schema: pa.Schema) -> pa.Schema:
    """The schema that `shape` gives its batches."""
    fields = [
        field.with_type(pa.timestamp(field.type.unit, "UTC")) if _gets_zone(stream, field) else field
        for field in schema
    ]
    return pa.schema([*fields, *_added(stream)])


def added_names(stream: Stream) -> tuple[str, ...]:
    """The columns that the run adds."""
    return tuple(field.name for field in _added(stream))


def added_cells(stream: Stream, run_id: str, started_at: datetime) -> Mapping[str, pa.Scalar]:
    """What the run adds to every row; the source has it, so that its mark is empty."""
    cells = {
        _METADATA[0].name: pa.scalar(run_id),
        _METADATA[1].name: pa.scalar(started_at, _METADATA[1].type),
        _MARK.name: pa.scalar(None, _MARK.type),
    }
    return {name: cells[name] for name in added_names(stream)}


def shape(stream: Stream, run_id: str, started_at: datetime) -> Shape:
    """A function that shapes batches. It raises RefusedRowError for times that a zone has twice or never."""
    added = added_cells(stream, run_id, started_at).values()

    def apply(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            _in_zone(column, stream, field.name) if _gets_zone(stream, field) else column
            for column, field in zip(batch.columns, batch.schema, strict=True)
        ]
        columns += [pa.repeat(cell, batch.num_rows) for cell in added]
        return pa.RecordBatch.from_arrays(columns, schema=shaped_schema(stream, batch.schema))

    return apply


def shaped_tail(stream: Stream, tail: Checkpoint | None) -> Checkpoint | None:
    """The tail's beginning as the shaped cursor column has it.

    A `lag` may put it where the zone has a time twice or never. Rows have no such times, so the first of the
    two, or the end of the gap, parts them as the local time does.
    """
    if tail is None or stream.timezone is None or tail.tail_from.kind is not CursorKind.TIMESTAMP:
        return tail
    fine = len(tail.tail_from.text.partition(".")[2]) > _MICROSECOND_DIGITS
    naive = pa.array([values.cursor_scalar(tail.tail_from, pa.timestamp("ns" if fine else "us"))])
    local = pc.assume_timezone(naive, stream.timezone, ambiguous="earliest", nonexistent="latest")
    instant = values.to_text(pc.cast(local, pa.timestamp(naive.type.unit, "UTC")))[0].as_py()
    return replace(tail, tail_from=CursorValue(CursorKind.TIMESTAMPTZ, instant))


def stored_tail(tail: Checkpoint | None, kind: pa.DataType) -> Checkpoint | None:
    """The tail's beginning no finer than a column of this type keeps it.

    Rows at it were stored exactly, or not at all, so that what is cut off is zeros.
    """
    return tail and replace(tail, tail_from=stored_bound(tail.tail_from, kind))


def stored_bound(bound: CursorValue, kind: pa.DataType) -> CursorValue:
    """A cursor's value no finer than a column of this type keeps it."""
    if not pa.types.is_timestamp(kind) or kind.unit == "ns":
        return bound
    moment, point, fraction = bound.text.rstrip("Z").partition(".")
    zone = "Z" if bound.kind is CursorKind.TIMESTAMPTZ else ""
    return CursorValue(bound.kind, f"{moment}{point}{fraction[:_MICROSECOND_DIGITS]}{zone}")


def _has_mark(stream: Stream) -> bool:
    return stream.deletes is not None and stream.deletes.how is Deletion.SOFT


def _added(stream: Stream) -> tuple[pa.Field, ...]:
    return (*(_METADATA if stream.metadata_columns else ()), *((_MARK,) if _has_mark(stream) else ()))


def _gets_zone(stream: Stream, field: pa.Field) -> bool:
    return bool(stream.timezone and pa.types.is_timestamp(field.type) and field.type.tz is None)


def _in_zone(column: pa.Array, stream: Stream, name: str) -> pa.Array:
    try:
        local = pc.assume_timezone(column, stream.timezone, ambiguous="raise", nonexistent="raise")
    except pa.ArrowInvalid as failure:
        raise RefusedRowError(
            f"column {name!r} holds a local time that {stream.timezone} has twice or never",
            hint="remove `timezone` to keep the times naive, or convert them in a query",
            code="ambiguous_time",
            stream=stream.name,
            column=name,
        ) from failure
    return pc.cast(local, pa.timestamp(column.type.unit, "UTC"))
