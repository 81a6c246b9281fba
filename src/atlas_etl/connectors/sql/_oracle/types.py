"""What a reader selects of a column of Oracle: its exact Arrow type, its wire form, and its hazards.

The driver's own values are not exact: its times end at microseconds, lose their zone, or are refused where
that has a name, and numbers become doubles. So times come as the server's ISO texts and numbers as their
digits (_oracle.session fetches them so). Types:
https://docs.oracle.com/en/database/oracle/oracle-database/23/sqlrf/Data-Types.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.sql._oracle.literals import quoted, signed
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.model import Hazard, HazardCells

_NUMBER = re.compile(r"NUMBER\((\d+),(-?\d+)\)")
_DIGITS = re.compile(r"TIMESTAMP\((\d)\)")
_PLAIN = {
    "BINARY_FLOAT": pa.float32(),
    "BINARY_DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "BLOB": pa.binary(),
    "LONG RAW": pa.binary(),
}
_SERIALIZED = {
    "JSON": "JSON_SERIALIZE({name} RETURNING CLOB)",
    "XMLTYPE": "XMLSERIALIZE(CONTENT {name} AS CLOB)",
    "VECTOR": "VECTOR_SERIALIZE({name} RETURNING CLOB)",
}
_UNBOUNDED = frozenset({"CLOB", "NCLOB", "BLOB", "LONG", "LONG RAW", *_SERIALIZED})
UNREADABLE = frozenset({"BFILE", "OBJECT", "CURSOR", "UNKNOWN"})  # whose values have no common text
_WIDEST = 38  # digits that any NUMBER may have
# The whole days that nanoseconds in 64 bits reach.
_FIRST_DAY, _LAST_DAY = "1677-09-22", "2262-04-10"


class Described(Struct, frozen=True):
    """A column as the server describes it."""

    name: str
    native: str  # `NUMBER(12,2)`
    nullable: bool


def source_column(column: Described, *, counts: bool = False) -> SourceColumn:
    """A column as the reader selects it. `counts`: it is a cursor or a key, so it has no fraction.

    A NUMBER without a precision may hold anything and is text; as an id it is read as int64.
    TIMESTAMP WITH TIME ZONE is the instant, in UTC; its zone is not kept.
    """
    name, native = quoted(column.name), column.native
    kind = pa.int64() if counts and is_unscaled(native) else _kind(native)
    hazards = _hazards(native, kind)
    field = values.with_source_type(pa.field(column.name, kind, column.nullable or bool(hazards)), native)
    select = _select(native, name)
    return SourceColumn(column.name, native, column.nullable, field, select, select, hazards)


def is_unscaled(native: str) -> bool:
    """Whether it is a number of any digits: NUMBER, or FLOAT, which is one of so many binary digits."""
    return native == "NUMBER" or native.startswith("FLOAT")


def is_unbounded(native: str) -> bool:
    """Whether a value may be longer than a block."""
    return native in _UNBOUNDED


def is_number(native: str) -> bool:
    return native.startswith(("NUMBER", "FLOAT"))


def digits_of(native: str) -> int:
    """How many digits of a second a timestamp has: six, unless it says so."""
    found = _DIGITS.match(native)
    return int(found[1]) if found else 6


_WHOLE = pa.decimal128(_WIDEST, 0)


def _kind(native: str) -> pa.DataType:
    if native in _PLAIN:
        return _PLAIN[native]
    if found := _NUMBER.fullmatch(native):
        return _decimal(int(found[1]), int(found[2]))
    if native.startswith("RAW"):
        return pa.binary()
    if native == "DATE":
        return pa.timestamp("us")
    if native.startswith("TIMESTAMP"):
        unit = "ns" if digits_of(native) > 6 else "us"
        return pa.timestamp(unit, "UTC" if "TIME ZONE" in native else None)
    return pa.json_() if native == "JSON" else pa.string()


def _decimal(precision: int, scale: int) -> pa.DataType:
    """The type of NUMBER(p,s), whose scale may be greater than p, and below zero."""
    width = max(precision, scale) if scale >= 0 else precision - scale
    if scale <= 0 and width <= 18:
        return pa.int64()
    if width <= _WIDEST:
        return pa.decimal128(width, max(scale, 0))
    return pa.decimal256(width, max(scale, 0)) if width <= 76 else pa.string()


def _hazards(native: str, kind: pa.DataType) -> frozenset[Hazard]:
    if pa.types.is_timestamp(kind):  # the years before 1, days of the Julian calendar, and what is past 2262
        return frozenset({Hazard.OUT_OF_RANGE})
    # INTEGER is NUMBER(38,0) as well, and may hold more.
    if kind == _WHOLE or (kind == pa.int64() and is_unscaled(native)):
        return frozenset({Hazard.PRECISION})
    if (pa.types.is_string(kind) and not is_number(native)) or kind == pa.json_():
        return frozenset({Hazard.INVALID_TEXT})
    return frozenset()


def _select(native: str, name: str) -> str:
    if native == "DATE":
        return f"TO_CHAR({name}, '{signed(0)}')"
    if native.startswith("TIMESTAMP"):
        digits = 9 if digits_of(native) > 6 else 6
        # The session's zone is UTC, which a local one is shown in.
        is_zoned = native.endswith(" WITH TIME ZONE")
        instant = f"SYS_EXTRACT_UTC({name})" if is_zoned else name
        return f"TO_CHAR({instant}, '{signed(digits)}')"
    if native.startswith("INTERVAL"):
        return f"TO_CHAR({name})"
    return _SERIALIZED[native].format(name=name) if native in _SERIALIZED else name


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
        text = pa.array(_texts(column, given, cells), pa.string())
        return text if pa.types.is_string(kind) else pa.ExtensionArray.from_storage(kind, text)
    if kind in _PLAIN.values():
        return pa.array(given, kind)
    plain = pc.utf8_ltrim(pa.array(given, pa.string()), " ")
    if pa.types.is_timestamp(kind):
        hint = f"read a query that says what it means, with CASE, instead of {quoted(column.name)}"
        found = HazardCells(column.name, Hazard.OUT_OF_RANGE, (), (), hint)
        text = _within_nanoseconds(column.name, plain, cells) if kind.unit == "ns" else plain
        return _read(text, pa.timestamp(kind.unit), found, cells).cast(kind)
    hint = f"read a query with TO_CHAR({quoted(column.name)}), or with CAST to what the column holds"
    return _read(plain, kind, HazardCells(column.name, Hazard.PRECISION, (), (), hint), cells)


def _texts(column: SourceColumn, given: Sequence[object], cells: list[HazardCells]) -> list[str | None]:
    found: list[str | None] = []
    wrong: dict[int, str] = {}
    for row, cell in enumerate(given):
        text = None if cell is None else str(cell).lstrip(" ") if _is_moment(column) else str(cell)
        if text is not None and not _is_unicode(text):
            wrong[row] = text.encode("utf-8", "surrogatepass").hex()
            text = None
        found.append(text)
    if wrong:
        cells.append(HazardCells(column.name, Hazard.INVALID_TEXT, tuple(wrong), tuple(wrong.values())))
    return found


def _is_moment(column: SourceColumn) -> bool:
    return column.native == "DATE" or column.native.startswith("TIMESTAMP")


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a surrogate pair, by which _oracle.session keeps bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _within_nanoseconds(column: str, text: pa.Array, cells: list[HazardCells]) -> pa.Array:
    """NULL where a time is past what nanoseconds reach, as 0001-01-01 and 9999-12-31 are."""
    days = pc.utf8_slice_codeunits(text, 0, 10)
    far = pc.fill_null(pc.or_(pc.less(days, _FIRST_DAY), pc.greater(days, _LAST_DAY)), False)
    hint = f"read a query with CAST({quoted(column)} AS TIMESTAMP(6)), which holds the years 0001 to 9999"
    found = HazardCells(column, Hazard.OUT_OF_RANGE, (), (), hint)
    return _without(text, pc.indices_nonzero(far).to_pylist(), found, cells)


def _read(text: pa.Array, kind: pa.DataType, found: HazardCells, cells: list[HazardCells]) -> pa.Array:
    """The texts' values; NULL, and listed as `found`, where one has none of this type."""
    try:
        return values.from_text(text, kind)
    except pa.ArrowInvalid:
        wrong = [row for row in range(len(text)) if not _fits(text.slice(row, 1), kind)]
        return values.from_text(_without(text, wrong, found, cells), kind)


def _fits(cell: pa.Array, kind: pa.DataType) -> bool:
    try:
        values.from_text(cell, kind)
    except pa.ArrowInvalid:
        return False
    return True


def _without(text: pa.Array, rows: Sequence[int], found: HazardCells, cells: list[HazardCells]) -> pa.Array:
    """NULL in these rows, which are listed as `found`."""
    if not rows:
        return text
    given, gone = text.to_pylist(), set(rows)
    cells.append(replace(found, rows=tuple(rows), texts=tuple(given[row] for row in rows)))
    return pa.array([None if row in gone else cell for row, cell in enumerate(given)], pa.string())
