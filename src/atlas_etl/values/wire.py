"""Batches in wire form: rows as their system sends them and takes them, a byte string each."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from atlas_etl.model import WireFormat

_ROWS = "_atlas_rows"
_FORMAT = b"atlas:wire_format"


def wire_batch(
    form: WireFormat, rows: pa.Array, beside: Sequence[tuple[pa.Field, pa.Array]]
) -> pa.RecordBatch:
    """Rows (a binary array without NULLs) in this form, and some of their columns decoded beside them."""
    metadata = {_FORMAT: json.dumps(form.columns)}
    fields = [pa.field(_ROWS, rows.type, nullable=False, metadata=metadata), *(field for field, _ in beside)]
    return pa.RecordBatch.from_arrays([rows, *(column for _, column in beside)], schema=pa.schema(fields))


def wire_format(schema: pa.Schema) -> WireFormat | None:
    """The form of a batch in wire form; None of any other."""
    metadata = schema.field(0).metadata if len(schema) else None
    found = (metadata or {}).get(_FORMAT)
    return None if found is None else WireFormat(tuple((name, form) for name, form in json.loads(found)))


def wire_bytes(batch: pa.RecordBatch) -> pa.Buffer:
    """The rows of a batch in wire form, one behind the other."""
    rows = batch.column(0)
    _, offsets, data = rows.buffers()
    places = np.frombuffer(offsets, np.int32, len(rows) + 1, 4 * rows.offset)
    return data.slice(int(places[0]), int(places[-1] - places[0]))
