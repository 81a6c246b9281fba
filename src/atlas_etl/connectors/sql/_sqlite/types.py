"""What a column's declared type means: Arrow types from declarations, and declarations for Arrow types.

SQLite keeps declarations as text and uses them only for the column's affinity
(https://www.sqlite.org/datatype3.html, section 3.1). Atlas reads the rest of their meaning.
"""

from __future__ import annotations

import re
from typing import Literal

import pyarrow as pa

Affinity = Literal["INTEGER", "TEXT", "BLOB", "REAL", "NUMERIC"]

MAX_EXACT_DIGITS = 15  # decimals of so many digits and doubles convert to each other without loss

_NAMED: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "JSON": pa.json_(),
    "JSON_TEXT": pa.json_(),
    "UUID": pa.uuid(),
    "GUID": pa.uuid(),
    "UNIQUEIDENTIFIER": pa.uuid(),
    "BYTEA": pa.binary(),
}
_TIMESTAMPS = {"TIMESTAMP", "DATETIME", "DATETIME2", "SMALLDATETIME", "TIMESTAMP WITHOUT TIME ZONE"}
_TIMESTAMPS_UTC = {"TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE", "DATETIMEOFFSET"}
_DECIMALS = {"DECIMAL", "NUMERIC", "DEC", "NUMBER", "DECIMAL_TEXT", "MONEY", "CURRENCY"}


def affinity(declared: str) -> Affinity:
    """SQLite's own five rules, in its order."""
    name = declared.upper()
    if "INT" in name:
        return "INTEGER"
    if any(part in name for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in name or not name:
        return "BLOB"
    return "REAL" if any(part in name for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def base_name(declared: str) -> str:
    """The declaration in capitals, without its parameters: `timestamp(6) with time zone` has three words."""
    return " ".join(re.sub(r"\([^)]*\)", " ", declared).upper().split())


def arrow_type(declared: str) -> pa.DataType | None:
    """The Arrow type that a declaration promises, or None where only the values can tell.

    NUMERIC and DECIMAL without digits are doubles, which is how SQLite itself keeps and adds them.
    """
    name = base_name(declared)
    found = re.search(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", declared)
    first, second = (int(found[1]), int(found[2] or 0)) if found else (0, 0)
    unit = "ns" if first > 6 else "us"
    if name in _NAMED:
        return _NAMED[name]
    if name in _TIMESTAMPS:
        return pa.timestamp(unit)
    if name in _TIMESTAMPS_UTC:
        return pa.timestamp(unit, "UTC")
    if name == "TIME":
        return pa.time64(unit)
    if name in _DECIMALS:
        return _decimal(first, second) if first and second <= first <= 76 else pa.float64()
    if name in ("ANY", "STRING") or "INTERVAL" in name or "POINT" in name:
        return None  # names that contain INT, or that promise nothing
    by_affinity: dict[Affinity, pa.DataType | None] = {
        "INTEGER": pa.int64(),
        "TEXT": pa.string(),
        "BLOB": pa.binary() if name else None,
        "REAL": pa.float64(),
        "NUMERIC": None,
    }
    return by_affinity[affinity(declared)]


def zone_is_open(declared: str) -> bool:
    """Whether the declaration leaves it to the values if its timestamps have a zone."""
    return base_name(declared) in _TIMESTAMPS - {"TIMESTAMP WITHOUT TIME ZONE"}


def kept_type(declared: str) -> pa.DataType:
    """What a column of this declaration gives back of what Atlas writes to it; null where it may change it.

    A NUMERIC affinity turns long decimals and JSON numbers into doubles.
    """
    kind = arrow_type(declared) or pa.string()
    if affinity(declared) == "NUMERIC" and (
        kind == pa.json_() or (pa.types.is_decimal(kind) and kind.precision > MAX_EXACT_DIGITS)
    ):
        return pa.null()
    return kind


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column of this type reads back as; text where SQLite has nothing exact."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if kind == pa.uint64():
        return pa.decimal128(20, 0)  # SQLite's integers end at 2**63 - 1
    if pa.types.is_integer(kind):
        return pa.int64()
    if pa.types.is_floating(kind):
        return pa.float64()
    if pa.types.is_decimal(kind):
        precision, scale = max(kind.precision - min(kind.scale, 0), kind.scale), max(kind.scale, 0)
        return _decimal(precision, scale) if precision <= 76 else pa.string()
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns" if kind.unit == "ns" else "us", "UTC" if kind.tz else None)
    if pa.types.is_time(kind):
        return pa.time64("ns" if kind.unit == "ns" else "us")
    if pa.types.is_date(kind):
        return pa.date32()
    if any(is_kind(kind) for is_kind in _BINARIES):
        return pa.binary()
    return kind if kind in (pa.bool_(), pa.uuid(), pa.json_()) else pa.string()


def declaration(kind: pa.DataType) -> str:
    """The declared type of a stored type. `_TEXT` keeps SQLite from turning digits into doubles.

    Integers are BIGINT: INTEGER as a primary key would number rows without a key instead of keeping NULL.
    """
    if pa.types.is_decimal(kind):
        return f"DECIMAL_TEXT({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return ("TIMESTAMPTZ" if kind.tz else "TIMESTAMP") + ("(9)" if kind.unit == "ns" else "")
    if pa.types.is_time(kind):
        return "TIME(9)" if kind.unit == "ns" else "TIME"
    return _DECLARATIONS[kind]


_BINARIES = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)
_DECLARATIONS = {
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.string(): "TEXT",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    pa.uuid(): "UUID",
    pa.json_(): "JSON_TEXT",
}


def _decimal(precision: int, scale: int) -> pa.DataType:
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
