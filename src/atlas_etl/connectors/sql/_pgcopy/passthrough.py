"""Rows of PostgreSQL's binary COPY format that pass undecoded, where each is exact in Arrow, too.

Whether rows are decoded on the way or not makes no difference to what arrives: a piece of a stream in which a
value has no exact form is decoded, for the stream's policies to judge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.sql._pgcopy.cells import Cells, gather_bytes
from atlas_etl.connectors.sql._pgcopy.columns import decode_cells
from atlas_etl.connectors.sql._pgcopy.decode import Decoded, RowDecoder
from atlas_etl.connectors.sql._pgcopy.types import PgCopyError, PgType, Wire
from atlas_etl.model import WireFormat

_COUNT_BYTES, _LENGTH_BYTES = 2, 4  # of a row, and of a field
_FIRST_SPECIAL = 0xC000  # numeric.c: NUMERIC_NAN, NUMERIC_PINF and NUMERIC_NINF in the place of a sign


class RowPasser(RowDecoder):
    """A decoder whose batches are in wire form (values.wire), with the columns `beside` decoded."""

    def __init__(
        self, schema: pa.Schema, types: Sequence[PgType], form: WireFormat, beside: Sequence[str]
    ) -> None:
        super().__init__(schema, types)
        self._form = form
        self._beside = [schema.get_field_index(name) for name in beside]

    def _decode(self, columns: list[Cells], count: int) -> Decoded:
        if not count or any(map(_has_hazard, columns, self._types, self._schema)):
            return super()._decode(columns, count)
        first, last = columns[0], columns[-1]
        start = first.start - (_COUNT_BYTES + _LENGTH_BYTES)
        rows = gather_bytes(first.data, start, last.start + np.maximum(last.length, 0) - start)
        beside = [
            (field, decode_cells(columns[place], self._types[place], field.type)[0])
            for place in self._beside
            for field in (self._schema.field(place),)
        ]
        return Decoded(values.wire_batch(self._form, rows, beside), ())


def _has_hazard(cells: Cells, type_: PgType, field: pa.Field) -> bool:
    if not type_.hazards():
        return False
    if type_.wire is Wire.NUMERIC:  # what its type declares bounds its digits
        return bool((cells.gather(">u2", 4) >= _FIRST_SPECIAL).any())
    try:
        return any(mask.any() for _, mask in decode_cells(cells, type_, field.type)[1])
    except (IndexError, PgCopyError):
        return True  # decoding tells what is wrong
