"""From Arrow columns to what SQLite is given: integers, doubles, text and bytes, and nothing else."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.sql._sqlite.catalog import quote
from atlas_etl.connectors.sql._sqlite.decode import leaves_the_calendar
from atlas_etl.errors import RefusedRowError

_GROUP = 18  # decimal digits that a 64-bit integer holds


def encoded(column: pa.Array) -> pa.Array:
    """A column of a stored type as int64, double, string or binary.

    Times are fixed in width, so that their text sorts as they do: `2024-03-01 10:00:00.500000Z`, with the
    Z where an instant is meant. Raises RefusedRowError for a year that four digits do not hold.
    """
    kind = column.type
    if kind == pa.bool_():
        return pc.cast(column, pa.int64())
    if kind == pa.json_():
        return column.storage
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        if leaves_the_calendar(column):
            raise RefusedRowError(
                "SQLite cannot keep a date outside the years 0001 to 9999, as its years have four digits",
                hint="load it as text: `hazards: {out_of_range: text}` on the stream",
                code="out_of_range",
            )
        if pa.types.is_date(kind) or kind.tz is None:
            return pc.cast(column, pa.string())
        return pc.binary_join_element_wise(
            pc.cast(pc.cast(column, pa.timestamp(kind.unit)), pa.string()), "Z", ""
        )
    if kind in (pa.int64(), pa.float64(), pa.string(), pa.binary()):
        return column
    return values.to_text(column)


def insert(table: str, batch: pa.RecordBatch) -> tuple[str, pa.RecordBatch]:
    """The statement that inserts a row, and the rows. NaN, which SQLite would make NULL, goes in as text."""
    names = [quote(name) for name in batch.schema.names]
    cells = [encoded(column) for column in batch.columns]
    marks = [f"?{n + 1}" for n in range(len(cells))]
    for n, cell in enumerate(list(cells)):
        if pa.types.is_floating(cell.type) and pc.any(pc.is_nan(cell)).as_py():
            nan = pc.if_else(
                pc.fill_null(pc.is_nan(cell), False), pa.scalar("NaN"), pa.scalar(None, pa.string())
            )
            cells.append(nan)
            marks[n] = f"coalesce(?{n + 1}, ?{len(cells)})"
    rows = pa.RecordBatch.from_arrays(cells, names=[f"p{n}" for n in range(len(cells))])
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(marks)})", rows


def decimal_key(text: str, kind: pa.DataType) -> str:
    """SQL of a text that sorts as the decimals of this type do, from the SQL of a stored one.

    A sign, then the digits; those of a negative number are taken from nines.
    """
    groups = -(-kind.precision // _GROUP)
    digits = (
        f"substr('{'0' * _GROUP * groups}' || replace(replace({text}, '-', ''), '.', ''), -{_GROUP * groups})"
    )
    parts = (f"CAST(substr({digits}, {_GROUP * n + 1}, {_GROUP}) AS INTEGER)" for n in range(groups))
    flipped = " || ".join(f"printf('%0{_GROUP}d', {'9' * _GROUP} - {part})" for part in parts)
    return f"CASE substr({text}, 1, 1) WHEN '-' THEN '0' || {flipped} ELSE '1' || {digits} END"


def converted(c: str, before: pa.DataType, after: pa.DataType) -> str:
    """SQL of what a stored value of one type is in a wider one."""
    if pa.types.is_decimal(after):
        here = before.scale if pa.types.is_decimal(before) else 0
        zeros = "0" * (after.scale - here)
        point = "." if zeros and not here else ""
        return f"CAST({c} AS TEXT) || '{point}{zeros}'"
    if pa.types.is_timestamp(after) and after.unit == "ns" and before.unit != "ns":
        return f"substr({c}, 1, 26) || '000{'Z' if after.tz else ''}'"
    return _as_text(c, before) if after == pa.string() else c


def _as_text(c: str, kind: pa.DataType) -> str:
    """SQL of a stored value in the form of `values.to_text`; doubles in one that reads back equal."""
    if pa.types.is_boolean(kind):
        return f"CASE {c} WHEN 1 THEN 'true' WHEN 0 THEN 'false' ELSE CAST({c} AS TEXT) END"
    if pa.types.is_timestamp(kind):
        return f"substr({c}, 1, 10) || 'T' || substr({c}, 12)"
    if pa.types.is_floating(kind):
        short = f"CAST({c} AS TEXT)"
        is_exact = f"typeof({c}) <> 'real' OR CAST({short} AS REAL) = {c}"
        return f"CASE WHEN {is_exact} THEN {short} ELSE printf('%!.17g', {c}) END"
    return f"CAST({c} AS TEXT)"
