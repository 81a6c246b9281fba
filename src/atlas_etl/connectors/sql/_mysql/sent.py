"""Values as the text by which MySQL and MariaDB take them, column by column: no Python object per value.

Numbers are whole digits, so that none passes through another type; bytes are hexadecimal digits.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.errors import RefusedRowError

TEXT = pa.large_string()
ROWS = 8192  # made into text at a time
_DAYS = (-719_162, 2_932_896)  # 0001-01-01 and 9999-12-31, from 1970-01-01
_MICROSECONDS_PER_DAY = 86_400_000_000


def sent(column: pa.Array, name: str) -> pa.Array:
    """The texts of a column, NULL where it is NULL. Raises RefusedRowError for what MySQL cannot hold."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return column.cast(pa.uint8()).cast(TEXT)
    if pa.types.is_floating(kind):
        return _finite(column, name).cast(TEXT)
    if pa.types.is_binary(kind):
        return values.hexadecimal(column)
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _moments(column, name)
    return values.to_text(column).cast(TEXT)


def word(text: str) -> pa.Scalar:
    """A text that stands between cells, or for one."""
    return pa.scalar(text, TEXT)


def is_bare(kind: pa.DataType) -> bool:
    """Whether SQL writes the texts of this type without quotes."""
    return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def is_plain(kind: pa.DataType) -> bool:
    """Whether the texts of this type have no letter that a quotation or a file of fields would escape."""
    times = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_floating, pa.types.is_binary)
    return is_bare(kind) or kind == pa.uuid() or any(test(kind) for test in times)


def _finite(column: pa.Array, name: str) -> pa.Array:
    """As doubles, in which every float is exact."""
    doubles = column.cast(pa.float64())
    if pc.all(pc.is_finite(doubles)).as_py() is False:
        raise RefusedRowError(
            f"column {name!r} holds NaN or an infinity, which MySQL cannot store",
            hint="leave the column out with `exclude`, or make it NULL or text in a query",
            code="value_hazard",
            column=name,
        )
    return doubles


def _moments(column: pa.Array, name: str) -> pa.Array:
    days = pa.types.is_date32(column.type)
    raw = column.view(pa.int32() if days else pa.int64())
    bounds = pc.min_max(raw)
    first, last = (
        _DAYS if days else (_DAYS[0] * _MICROSECONDS_PER_DAY, (_DAYS[1] + 1) * _MICROSECONDS_PER_DAY - 1)
    )
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is not None and (low < first or high > last):
        raise RefusedRowError(
            f"column {name!r} holds a date outside of the years 1 to 9999, which MySQL cannot store",
            hint="leave the column out with `exclude`, or make it NULL or text in a query",
            code="value_does_not_fit",
            column=name,
        )
    plain = column if days else pc.cast(column, pa.timestamp("us"))
    return plain.cast(TEXT)
