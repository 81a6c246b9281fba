"""Cursor columns compared with a bound in Arrow, wherever Arrow orders values as their source does.

Not-a-number is greater than every number, as PostgreSQL and DuckDB have it; text is in the order of its
code points.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

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


def _is_nan(bound: pa.Scalar) -> bool:
    return bool(bound.as_py() != bound.as_py())


def _plain(bound: pa.Scalar) -> pa.Scalar:
    return bound.value if isinstance(bound, pa.ExtensionScalar) else bound
