"""Rows as arrays that are bound to an INSERT into Oracle.

Numbers and times are bound as texts, which SQL makes values of: a bound text has no other form on the way.
Floating point numbers are bound as their bits. An empty text is NULL to Oracle
(https://docs.oracle.com/en/database/oracle/oracle-database/23/sqlrf/Nulls.html), and so are bound bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import oracledb
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.sql._oracle.literals import moment, quoted
from atlas_etl.errors import RefusedRowError

_FLOATS = {pa.float32(): oracledb.DB_TYPE_BINARY_FLOAT, pa.float64(): oracledb.DB_TYPE_BINARY_DOUBLE}
# TO_TIMESTAMP makes 1582-10-15 of each of them: there the Julian calendar ends.
_FIRST_GAP, _LAST_GAP = "1582-10-05", "1582-10-14"

Size: TypeAlias = (
    oracledb.DbType | int | None
)  # as `setinputsizes` takes them: an integer is a text's greatest length


class Bound(Struct, frozen=True):
    """An INSERT with its rows."""

    sql: str
    rows: Sequence[tuple[object, ...]]
    sizes: Sequence[Size]


def value(kind: pa.DataType, mark: str) -> str:
    """The SQL that makes a value of this stored type of a bound one: of a text, but for bytes and floats."""
    if pa.types.is_timestamp(kind):
        read = f"TO_TIMESTAMP({mark}, '{moment(9 if kind.unit == 'ns' else 6)}')"
        return f"FROM_TZ({read}, '+00:00')" if kind.tz else read
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return f"TO_NUMBER({mark})"
    return mark


def insert(table: str, batch: pa.RecordBatch) -> Bound:
    """The rows' INSERT. Raises RefusedRowError for values that the server has no form of."""
    columns = [_column(batch.column(place), name) for place, name in enumerate(batch.schema.names)]
    marks = (value(field.type, f":{place}") for place, field in enumerate(batch.schema, 1))
    names = ", ".join(map(quoted, batch.schema.names))
    return Bound(
        f"INSERT INTO {table} ({names}) VALUES ({', '.join(marks)})",
        list(zip(*(cells for cells, _ in columns), strict=True)),
        [size for _, size in columns],
    )


def refuse_empty(batch: pa.RecordBatch, columns: Collection[str]) -> None:
    """Raise RefusedRowError (`empty_text`) where one of these columns has an empty text, or empty bytes."""
    for field, is_empty in zip(batch.schema, map(_is_empty, batch.columns), strict=True):
        if field.name in columns and is_empty is not None:
            raise _empty(field)


def without_empty(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with NULL in the place of what is empty."""
    columns = [
        column
        if (is_empty := _is_empty(column)) is None
        else pc.if_else(is_empty, pa.scalar(None, column.type), column)
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _is_empty(column: pa.Array) -> pa.Array | None:
    """Which of the cells are empty; None where none is."""
    if not (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
        return None
    found = pc.fill_null(pc.equal(pc.binary_length(column), 0), False)
    return found if pc.any(found).as_py() else None


def _empty(field: pa.Field) -> RefusedRowError:
    what = "text" if pa.types.is_string(field.type) else "binary"
    return RefusedRowError(
        f"column {field.name!r} has an empty {what}, which Oracle does not tell from NULL",
        hint="set `empty_text_is_null: true` at the destination to have NULL there; in a key or a cursor it "
        "cannot be",
        code="empty_text",
        column=field.name,
    )


def _column(column: pa.Array, name: str) -> tuple[Sequence[object], Size]:
    kind = column.type
    if kind in _FLOATS:
        return column.to_pylist(), _FLOATS[kind]
    if pa.types.is_binary(kind):
        return column.to_pylist(), oracledb.DB_TYPE_RAW
    text = values.to_text(column)
    if pa.types.is_timestamp(kind):
        text = _moments(text, name)
    return text.to_pylist(), max(1, pc.max(pc.utf8_length(text)).as_py() or 0)


def _moments(text: pa.Array, name: str) -> pa.Array:
    """ISO texts without their zone, which is UTC."""
    days = pc.utf8_slice_codeunits(text, 0, 10)
    known = pc.match_substring_regex(text, r"^\d{4}-")
    gap = pc.and_(pc.greater_equal(days, _FIRST_GAP), pc.less_equal(days, _LAST_GAP))
    for wrong, why in (
        (pc.invert(known), "is not of the years 1 to 9999"),
        (gap, "is one of the ten days that the calendar left out in 1582"),
    ):
        if pc.any(wrong).as_py():
            raise RefusedRowError(
                f"column {name!r} has a time that {why}, which Oracle cannot hold",
                hint="set the hazard's policy at the source, or read the column as text with a query",
                code="value_does_not_fit",
                column=name,
            )
    return pc.replace_substring_regex(text, "Z$", "")
