"""What a reader selects of a column of SQL Server: its exact Arrow type, its wire form, and its hazards.

The driver would cut times to microseconds and have FreeTDS convert text, with question marks where it cannot.
So numbers, dates and times come as the server's own ISO and decimal texts, and text as its UTF-16 bytes.
Types: https://learn.microsoft.com/sql/t-sql/data-types/data-types-transact-sql.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.sql._mssql.literals import quoted
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.model import Hazard, HazardCells

_TYPE = re.compile(r"(?P<name>\w+)\s*(?:\((?P<size>\w+)(?:,\s*(?P<scale>\d+))?\))?")
_PLAIN = {
    "bit": pa.bool_(),
    "tinyint": pa.uint8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "float": pa.float64(),
    "binary": pa.binary(),
    "varbinary": pa.binary(),
}
_BYTES = frozenset({"image", "geometry", "geography"})  # the server's own form of what is no text
_MONEY = {"money": pa.decimal128(19, 4), "smallmoney": pa.decimal128(10, 4)}
_MOMENTS = frozenset({"date", "datetime", "smalldatetime", "datetime2", "datetimeoffset"})
UNBOUNDED = frozenset({"text", "ntext", "image", "xml", "json", "geometry", "geography"})
# The whole days that nanoseconds in 64 bits reach.
_FIRST_DAY, _LAST_DAY = "1677-09-22", "2262-04-10"


class MSSQLColumn(SourceColumn, frozen=True):
    """A column of SQL Server, whose texts are ordered by a collation."""

    collation: str | None = None


class Described(Struct, frozen=True):
    """A column as the server describes it."""

    name: str
    native: str  # `decimal(12,2)`
    nullable: bool
    collation: str | None = None


def source_column(column: Described) -> MSSQLColumn:
    """A column as the reader selects it.

    An instant (datetimeoffset) is in UTC; its offset is not kept. rowversion is the number that it counts.
    uniqueidentifier orders by its last bytes first, so it is no cursor (_mssql.reader refuses it).
    """
    name = quoted(column.name)
    kind, select, text = _forms(column.native, name)
    is_far = pa.types.is_timestamp(kind) and kind.unit == "ns"
    hazards = frozenset({Hazard.OUT_OF_RANGE}) if is_far else frozenset()
    if pa.types.is_string(kind) or kind == pa.json_():
        hazards = frozenset({Hazard.INVALID_TEXT})
    field = values.with_source_type(
        pa.field(column.name, kind, column.nullable or bool(hazards)), column.native
    )
    return MSSQLColumn(
        column.name, column.native, column.nullable, field, select, text, hazards, collation=column.collation
    )


def family(native: str) -> tuple[str, str | None, int | None]:
    """A type's name, its size (`max` too) and its scale."""
    found = _TYPE.match(native.lower())
    if found is None:
        return native, None, None
    return found["name"], found["size"], int(found["scale"]) if found["scale"] else None


def is_unbounded(native: str) -> bool:
    """Whether a value may be longer than a page."""
    name, size, _ = family(native)
    return size == "max" or name in UNBOUNDED


def _forms(native: str, name: str) -> tuple[pa.DataType, str, str]:
    """The Arrow type, the SQL of its wire form, and that of its text."""
    kind, size, scale = family(native)
    text = _utf16(f"CONVERT(nvarchar(max), {name}, 126)")
    if kind in _PLAIN:
        spelled = {"float": 3, "real": 3, "binary": 2, "varbinary": 2}.get(kind, 0)
        return _PLAIN[kind], name, _utf16(f"CONVERT(nvarchar(max), {name}, {spelled})")
    if kind in _BYTES:
        data = f"CAST({name} AS varbinary(max))"
        hexadecimal = f"CONVERT(nvarchar(max), {data}, 2)"
        return pa.binary(), data, _utf16(hexadecimal)
    if kind in _MONEY:
        exact = _MONEY[kind]
        digits = f"CAST({name} AS decimal({exact.precision},4))"
        return exact, f"CONVERT(varchar(41), {digits})", _utf16(f"CONVERT(nvarchar(41), {digits})")
    if kind in ("decimal", "numeric"):
        exact = pa.decimal128(int(size or 18), scale or 0)
        return exact, f"CONVERT(varchar(41), {name})", _utf16(f"CONVERT(nvarchar(41), {name})")
    if kind in ("timestamp", "rowversion"):
        return pa.int64(), f"CAST({name} AS bigint)", _utf16(f"CONVERT(nvarchar(20), {name}, 1)")
    if kind == "uniqueidentifier":
        return pa.uuid(), f"CONVERT(char(36), {name})", _utf16(f"CONVERT(nchar(36), {name})")
    if kind == "time":
        unit = "ns" if int(size or 7) > 6 else "us"
        time = f"CONVERT(nvarchar(16), {name}, 121)"
        return pa.time64(unit), f"CONVERT(varchar(16), {name}, 121)", _utf16(time)
    if kind in _MOMENTS:
        return _moment(kind, size), _iso(kind, size, name), text
    if kind == "json":
        return pa.json_(), _utf16(f"CAST({name} AS nvarchar(max))"), _utf16(f"CAST({name} AS nvarchar(max))")
    characters = _utf16(f"{name}.ToString()" if kind == "hierarchyid" else f"CAST({name} AS nvarchar(max))")
    return pa.string(), characters, characters


def _moment(kind: str, size: str | None) -> pa.DataType:
    if kind == "date":
        return pa.date32()
    has_size = kind in ("datetime2", "datetimeoffset")
    unit = "ns" if has_size and int(size or 7) > 6 else "us"
    return pa.timestamp(unit, "UTC" if kind == "datetimeoffset" else None)


def _iso(kind: str, size: str | None, name: str) -> str:
    if kind == "date":
        return f"CONVERT(varchar(10), {name}, 23)"
    if kind == "datetimeoffset":
        return f"CONVERT(varchar(33), CAST(SWITCHOFFSET({name}, '+00:00') AS datetime2({size or 7})), 126)"
    return f"CONVERT(varchar(33), {name}, 126)"


def _utf16(sql: str) -> str:
    return f"CAST({sql} AS varbinary(max))"


def decoded(
    columns: Sequence[SourceColumn], rows: Sequence[tuple[object, ...]]
) -> tuple[pa.RecordBatch, list[HazardCells]]:
    """A piece of a result as a batch; cells without an exact form are NULL in it, and listed."""
    cells: list[HazardCells] = []
    arrays = [_array(column, [row[place] for row in rows], cells) for place, column in enumerate(columns)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([column.field for column in columns])), cells


def _array(column: SourceColumn, given: Sequence[object], cells: list[HazardCells]) -> pa.Array:
    kind = column.field.type
    if pa.types.is_string(kind) or kind == pa.json_():
        text = pa.array(_texts(column.name, given, cells), pa.string())
        return text if pa.types.is_string(kind) else pa.ExtensionArray.from_storage(kind, text)
    if kind in _PLAIN.values():
        return pa.array(given, kind)
    text = pa.array(given, pa.string())
    if pa.types.is_timestamp(kind):
        text = _without_far(column.name, text, cells) if kind.unit == "ns" else text
        return values.from_text(text, pa.timestamp(kind.unit)).cast(kind)
    return values.from_text(text, kind)


def _texts(column: str, given: Iterable[object], cells: list[HazardCells]) -> list[str | None]:
    found: list[str | None] = []
    wrong: dict[int, str] = {}
    for row, cell in enumerate(given):
        try:
            found.append(cell.decode("utf-16-le") if isinstance(cell, bytes) else None)
        except UnicodeDecodeError:
            found.append(None)
            wrong[row] = cell.hex() if isinstance(cell, bytes) else ""
    if wrong:
        cells.append(HazardCells(column, Hazard.INVALID_TEXT, tuple(wrong), tuple(wrong.values())))
    return found


def _without_far(column: str, text: pa.Array, cells: list[HazardCells]) -> pa.Array:
    """NULL where a time is past what nanoseconds reach, as 0001-01-01 and 9999-12-31 are."""
    days = pc.utf8_slice_codeunits(text, 0, 10)
    far = pc.fill_null(pc.or_(pc.less(days, _FIRST_DAY), pc.greater(days, _LAST_DAY)), False)
    rows = pc.indices_nonzero(far).to_pylist()
    if not rows:
        return text
    hint = f"read a query with CAST({quoted(column)} AS datetime2(6)), which holds the years 0001 to 9999"
    found = HazardCells(column, Hazard.OUT_OF_RANGE, tuple(rows), tuple(text.take(rows).to_pylist()), hint)
    cells.append(found)
    return pc.if_else(far, pa.scalar(None, pa.string()), text)
