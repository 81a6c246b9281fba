"""Cursor columns compared with a bound in Arrow, wherever Arrow orders values as their source does.

Not-a-number is greater than every number, as PostgreSQL and DuckDB have it; text is in the order of its
code points.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.model import CursorValue


def at_or_after(column: pa.Array, bound: pa.Scalar) -> pa.Array:
    """A mask of the values that do not come before the bound; NULL stays NULL."""
    if pa.types.is_floating(column.type):
        nan = pc.is_nan(column)
        return nan if _is_nan(bound) else pc.or_(pc.greater_equal(column, bound), nan)
    return pc.greater_equal(values.storage(column), _plain(bound))


def past(column: pa.Array, bound: pa.Scalar) -> pa.Array:
    """A mask of the values that come after the bound; NULL stays NULL."""
    if pa.types.is_floating(column.type):
        nan = pc.is_nan(column)
        return pc.and_(nan, False) if _is_nan(bound) else pc.or_(pc.greater(column, bound), nan)
    return pc.greater(values.storage(column), _plain(bound))


def within(
    batch: pa.RecordBatch, cursor: str, *, until: CursorValue | None, after: CursorValue | None
) -> pa.RecordBatch:
    """The rows that do not come after `until`; with `after`, only those that have a cursor past it.

    Raises SchemaChangeError where a bound is none of the column's values.
    """
    column = batch.column(cursor)
    if until is not None:
        kept = pc.invert(pc.fill_null(past(column, values.cursor_scalar(until, column.type)), False))
        batch, column = batch.filter(kept), column.filter(kept)
    if after is not None:
        batch = batch.filter(past(column, values.cursor_scalar(after, column.type)))
    return batch


class Edges(Struct, frozen=True):
    """The least and greatest cursor of some rows, and how many rows have none."""

    low: pa.Scalar | None = None
    high: pa.Scalar | None = None
    nulls: int = 0

    def with_column(self, column: pa.Array) -> Edges:
        """The edges of these rows and more."""
        found = edges(column)
        if self.low is None or self.high is None:
            return Edges(found.low, found.high, self.nulls + found.nulls)
        if found.low is None or found.high is None:
            return Edges(self.low, self.high, self.nulls + found.nulls)
        low = found.low if before(found.low, self.low) else self.low
        high = found.high if before(self.high, found.high) else self.high
        return Edges(low, high, self.nulls + found.nulls)


def edges(column: pa.Array) -> Edges:
    """The edges of one column."""
    nulls = column.null_count
    if nulls == len(column):
        return Edges(nulls=nulls)
    kind, plain = column.type, values.storage(column)
    if pa.types.is_floating(kind):
        numbers = plain.filter(pc.invert(pc.is_nan(plain))).drop_null()
        nan = pa.scalar(float("nan"), kind)
        if not len(numbers):
            return Edges(nan, nan, nulls)
        found = pc.min_max(numbers)
        return Edges(found["min"], nan if len(numbers) + nulls < len(column) else found["max"], nulls)
    found = pc.min_max(plain)
    return Edges(_restored(found["min"], kind), _restored(found["max"], kind), nulls)


def before(one: pa.Scalar, other: pa.Scalar) -> bool:
    """Whether one value comes before another of its type."""
    return not bool(at_or_after(pa.array([one], type=one.type), other)[0].as_py())


def _is_nan(bound: pa.Scalar) -> bool:
    return bool(bound.as_py() != bound.as_py())


def _plain(bound: pa.Scalar) -> pa.Scalar:
    return bound.value if isinstance(bound, pa.ExtensionScalar) else bound


def _restored(scalar: pa.Scalar, kind: pa.DataType) -> pa.Scalar:
    if not isinstance(kind, pa.BaseExtensionType):
        return scalar
    return pa.ExtensionArray.from_storage(kind, pa.array([scalar], kind.storage_type))[0]
