"""Rows as the text of an INSERT, built column by column: no Python object per value.

The literals mean the same in every SQL mode: a text with a backslash is written as the hexadecimal digits of
its bytes. Numbers are whole digits or quoted, so that none passes through another type.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.errors import RefusedRowError

_TEXT = pa.large_string()
_ROWS = 8192  # made at a time
_DAYS = (-719_162, 2_932_896)  # 0001-01-01 and 9999-12-31, from 1970-01-01
_MICROSECONDS_PER_DAY = 86_400_000_000


def row_texts(
    batch: pa.RecordBatch,
) -> Iterator[tuple[memoryview, np.ndarray[tuple[int], np.dtype[np.int64]]]]:
    """The rows as `(1,'a'),(2,NULL),`, and where each of them begins and the last one ends.

    Raises RefusedRowError for a value that MySQL cannot hold.
    """
    for start in range(0, batch.num_rows, _ROWS):
        part = batch.slice(start, _ROWS)
        cells = [
            pc.fill_null(_literals(column, field.name), _word("NULL"))
            for column, field in zip(part.columns, part.schema, strict=True)
        ]
        joined = pc.binary_join_element_wise(*cells, _word(","))
        rows = pc.binary_join_element_wise(_word("("), joined, _word("),"), _word(""))
        _, offsets, data = rows.buffers()
        places = np.frombuffer(offsets, np.int64)[rows.offset : rows.offset + len(rows) + 1]
        yield memoryview(data), places


def _word(text: str) -> pa.Scalar:
    return pa.scalar(text, _TEXT)


def _around(before: str, cells: pa.Array, after: str) -> pa.Array:
    return pc.binary_join_element_wise(_word(before), cells, _word(after), _word(""))


def _literals(column: pa.Array, name: str) -> pa.Array:
    """Every cell as SQL, NULL where it is NULL."""
    kind = column.type
    if pa.types.is_floating(kind):
        return _around("'", _finite(column, name).cast(_TEXT), "'")
    if pa.types.is_binary(kind):
        return _around("x'", values.hexadecimal(column), "'")
    if kind == pa.uuid():
        return _around("'", values.to_text(column).cast(_TEXT), "'")
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _around("'", _moments(column, name), "'")
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return values.to_text(column).cast(_TEXT)
    return _quoted(values.to_text(column).cast(_TEXT))


def _quoted(texts: pa.Array) -> pa.Array:
    plain = _around("'", pc.replace_substring(texts, "'", "''"), "'")
    backslash = pc.match_substring(texts, "\\")
    if not pc.any(backslash).as_py():
        return plain
    return pc.if_else(backslash, _around("_utf8mb4 x'", values.hexadecimal(texts), "'"), plain)


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
    return plain.cast(_TEXT)
