"""Record batches as rows: in slices within limits, and as JSON can hold them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pyarrow as pa

from atlas_etl.model import BatchLimits
from atlas_etl.values.text import to_text


def split(batch: pa.RecordBatch, limits: BatchLimits) -> Iterator[pa.RecordBatch]:
    """The batch in slices within the limits; a single row may still be larger than `limits.bytes`."""
    if batch.num_rows <= limits.rows and (batch.nbytes <= limits.bytes or batch.num_rows == 1):
        if batch.num_rows:
            yield batch
        return
    half = batch.num_rows // 2
    yield from split(batch.slice(0, half), limits)
    yield from split(batch.slice(half), limits)


def no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """A batch of these columns without a row; Arrow's own ways to one know no lists of uuids."""
    return pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema)


def json_rows(batch: pa.RecordBatch) -> list[list[object]]:
    """The rows as JSON can hold them: numbers and booleans as they are, everything else as text.

    Integers past 2**53 and decimals are text too: many JSON readers would round them.
    """
    columns = [_json_column(column) for column in batch.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _json_column(column: pa.Array) -> list[object]:
    kind = column.type
    if pa.types.is_boolean(kind):
        return list(column.to_pylist())
    if pa.types.is_integer(kind):
        return [cell if cell is None or abs(cell) <= 2**53 else str(cell) for cell in column.to_pylist()]
    if pa.types.is_floating(kind):
        return [cell if cell is None or math.isfinite(cell) else str(cell) for cell in column.to_pylist()]
    return list(to_text(column).to_pylist())
