"""Rows in the form of their table; where a load is careful, those that have none are told from the others."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.contracts import Extract
from atlas_etl.errors import NullKeyError, RefusedRowError
from atlas_etl.model import LoadPlan, RefusedRow
from atlas_etl.pipeline.schema import conform
from atlas_etl.pipeline.shape import Shape


class Fitting(Struct, frozen=True):
    """Brings what was read into the form of the plan's table."""

    shaped: Shape
    plan: LoadPlan

    def fitted(self, extract: Extract) -> Generator[tuple[pa.RecordBatch, list[RefusedRow]], None, None]:
        """What an extract reads, in the plan's schema, and the rows that are refused on the way."""
        passes = self.plan.wire_format is not None
        for batch in extract.wire_batches() if passes else extract.batches():
            rows, refused = self.fit(batch)
            yield rows, [*map(self._shape_of, extract.refused()), *refused]
        if left := extract.refused():
            yield self._empty(), [*map(self._shape_of, left)]

    def fit(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, list[RefusedRow]]:
        """The rows in the plan's schema, and those that the stream's contract refuses.

        Raises RefusedRowError for the first of them, unless the plan is careful.
        """
        if values.wire_format(rows.schema) is not None:
            return rows, []
        if not self.plan.careful:
            return conform(self.shaped(rows), self.plan.schema), []
        fitting: list[pa.RecordBatch] = []
        refused: list[RefusedRow] = []
        for found in self._told_apart(rows):
            if isinstance(found, RefusedRow):
                refused.append(found)
            else:
                fitting.append(found)
        return pa.concat_batches([self._empty(), *fitting]), refused

    def _empty(self) -> pa.RecordBatch:
        return values.no_rows(self.plan.schema)

    def _shape_of(self, refused: RefusedRow) -> RefusedRow:
        """A row that was refused as it was read, with its times as the table has them where they can be."""
        try:
            return replace(refused, row=self.shaped(refused.row))
        except RefusedRowError:
            return refused

    def _told_apart(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch | RefusedRow]:
        try:
            formed = conform(self.shaped(rows), self.plan.schema)
        except RefusedRowError as why:
            if rows.num_rows == 1:
                yield self._shape_of(RefusedRow(rows, why))
                return
        else:
            yield from self._with_key(formed)
            return
        half = rows.num_rows // 2
        yield from self._told_apart(rows.slice(0, half))
        yield from self._told_apart(rows.slice(half))

    def _with_key(self, rows: pa.RecordBatch) -> Iterator[pa.RecordBatch | RefusedRow]:
        """A merge needs a value in every column of the key."""
        key = self.plan.primary_key if self.plan.merges else ()
        missing = [rows.column(name).is_null() for name in key if rows.column(name).null_count]
        if not missing:
            yield rows
            return
        without = missing[0]
        for other in missing[1:]:
            without = pc.or_(without, other)
        yield rows.filter(pc.invert(without))
        bare = rows.filter(without)
        why = NullKeyError(self.plan.primary_key, self.plan.stream)
        yield from (RefusedRow(bare.slice(row, 1), why) for row in range(bare.num_rows))


def as_far_as_they_go(columns: Sequence[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """The columns in the schema's types, by position, with NULL for each cell that has no such form."""
    return pa.RecordBatch.from_arrays(
        [_fitting_cells(column, field.type) for column, field in zip(columns, schema, strict=True)],
        schema=pa.schema([field.with_nullable(True) for field in schema]),
    )


def _fitting_cells(column: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return values.convert(column, kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        if len(column) <= 1:
            return pa.nulls(len(column), kind)
    half = len(column) // 2
    return pa.concat_arrays([_fitting_cells(column[:half], kind), _fitting_cells(column[half:], kind)])
