"""Columns as the definition wants them: naive times given their zone, and the run's own columns added."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.errors import DataError
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
    mark = (_MARK,) if _has_mark(stream) else ()
    return pa.schema([*fields, *(_METADATA if stream.metadata_columns else ()), *mark])


def shape(stream: Stream, run_id: str, started_at: datetime) -> Shape:
    """A function that shapes batches. It raises DataError for times that a zone has twice or never."""

    def apply(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            _in_zone(column, stream, field.name) if _gets_zone(stream, field) else column
            for column, field in zip(batch.columns, batch.schema, strict=True)
        ]
        if stream.metadata_columns:
            constants = (pa.scalar(run_id), pa.scalar(started_at, _METADATA[1].type))
            columns += [pa.repeat(constant, batch.num_rows) for constant in constants]
        if _has_mark(stream):
            columns.append(pa.nulls(batch.num_rows, _MARK.type))  # the source has the row
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
    if tail is None or not pa.types.is_timestamp(kind) or kind.unit == "ns":
        return tail
    moment, point, fraction = tail.tail_from.text.rstrip("Z").partition(".")
    zone = "Z" if tail.tail_from.kind is CursorKind.TIMESTAMPTZ else ""
    text = f"{moment}{point}{fraction[:_MICROSECOND_DIGITS]}{zone}"
    return replace(tail, tail_from=CursorValue(tail.tail_from.kind, text))


def _has_mark(stream: Stream) -> bool:
    return stream.deletes is not None and stream.deletes.how is Deletion.SOFT


def _gets_zone(stream: Stream, field: pa.Field) -> bool:
    return bool(stream.timezone and pa.types.is_timestamp(field.type) and field.type.tz is None)


def _in_zone(column: pa.Array, stream: Stream, name: str) -> pa.Array:
    try:
        local = pc.assume_timezone(column, stream.timezone, ambiguous="raise", nonexistent="raise")
    except pa.ArrowInvalid as failure:
        raise DataError(
            f"column {name!r} holds a local time that {stream.timezone} has twice or never",
            hint="remove `timezone` to keep the times naive, or convert them in a query",
            code="ambiguous_time",
            stream=stream.name,
            column=name,
        ) from failure
    return pc.cast(local, pa.timestamp(column.type.unit, "UTC"))
