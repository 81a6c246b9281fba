"""What PostgreSQL's binary COPY format is made of: the wire forms, their Arrow types, constants, errors.

Sources: PostgreSQL documentation, COPY, "Binary Format"; the `*send`/`*recv` functions in
src/backend/utils/adt; catalog/pg_type.dat for the object ids; datatype/timestamp.h for the ranges.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

from atlas_etl.model import Hazard
from atlas_etl.values import UNLIMITED_DECIMAL

Buffer = bytes | bytearray | memoryview
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
HEADER = SIGNATURE + struct.pack(">II", 0, 0)
TRAILER = struct.pack(">h", -1)
MAX_FIELD_BYTES = 0x3FFFFFFF  # MaxAllocSize, memutils.h

EPOCH_DAYS = 10_957  # 1970-01-01 to 2000-01-01
EPOCH_MICROSECONDS = EPOCH_DAYS * 86_400_000_000
DAY_MICROSECONDS = 86_400_000_000
# The years 0001 to 9999, counted from 2000-01-01.
FIRST_DAY = -719_162 - EPOCH_DAYS
LAST_DAY = 2_932_896 - EPOCH_DAYS
FIRST_MICROSECOND = FIRST_DAY * DAY_MICROSECONDS
LAST_MICROSECOND = (LAST_DAY + 1) * DAY_MICROSECONDS - 1
# What PostgreSQL itself can hold: 4714-11-24 BC to 294276 (timestamps) or 5874897 (dates).
PG_FIRST_DAY, PG_LAST_DAY = -2_451_545, 2_145_031_948
PG_FIRST_MICROSECOND, PG_LAST_MICROSECOND = -211_813_488_000_000_000, 9_223_371_331_199_999_999

NUMERIC_POSITIVE, NUMERIC_NEGATIVE = 0x0000, 0x4000
NUMERIC_NAN, NUMERIC_PLUS_INFINITY, NUMERIC_MINUS_INFINITY = 0xC000, 0xD000, 0xF000


class PgCopyError(ValueError):
    """The bytes are not what PostgreSQL's binary COPY format says they should be, or cannot be made so.

    The message names the column where one is known, and never a value.
    """


class UnrepresentableError(PgCopyError):
    """Arrow values that the PostgreSQL column cannot hold exactly.

    `rows` are indices into the batch that was to be encoded.
    """

    def __init__(self, reason: str, rows: Sequence[int], column: str | None = None) -> None:
        where = f"column {column!r}: " if column is not None else ""
        super().__init__(f"{where}{reason} ({len(rows)} rows, the first at index {rows[0]} of the batch)")
        self.reason = reason
        self.rows = tuple(rows)
        self.column = column


class Wire(StrEnum):
    """The binary forms that the codec knows."""

    BOOL = "boolean"
    INT2 = "smallint"
    INT4 = "integer"
    INT8 = "bigint"
    OID = "oid"
    FLOAT4 = "real"
    FLOAT8 = "double precision"
    NUMERIC = "numeric"
    TEXT = "text"  # varchar, bpchar, name, xml, citext and enums look the same
    CHAR = '"char"'
    BYTEA = "bytea"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamp with time zone"
    INTERVAL = "interval"
    UUID = "uuid"
    JSON = "json"
    JSONB = "jsonb"
    ARRAY = "array"


class PgType(Struct, frozen=True):
    """A column's type, as COPY sends it and expects it.

    `oid` is pg_type.oid (an array's element needs the true one: PostgreSQL checks it on input),
    `typmod` is pg_attribute.atttypmod; an array keeps the typmod of its column in its element.
    """

    wire: Wire
    oid: int
    typmod: int = -1
    element: PgType | None = None

    def numeric_scale(self) -> tuple[int, int] | None:
        """Precision and scale of a constrained numeric (numeric.c, make_numeric_typmod)."""
        if self.wire is not Wire.NUMERIC or self.typmod < 4:
            return None
        packed = self.typmod - 4
        return packed >> 16 & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024

    def arrow_type(self) -> pa.DataType:
        """What the column is in Arrow. Exact for every value that the decoder does not call a hazard."""
        if self.element is not None:
            return pa.list_(self.element.arrow_type())
        if self.wire is Wire.NUMERIC:
            return _decimal_type(self.numeric_scale())
        return _ARROW_TYPES[self.wire]

    def hazards(self) -> frozenset[Hazard]:
        """The hazards that the decoder can find in a column of this type."""
        if self.element is not None:
            return self.element.hazards() | {Hazard.ARRAY_SHAPE}
        if self.arrow_type() == UNLIMITED_DECIMAL:
            return frozenset()
        return _HAZARDS.get(self.wire, frozenset())


def builtin_type(oid: int, typmod: int = -1) -> PgType | None:
    """The type of this object id, or None where a reader has to select the column `::text`.

    A domain is sent as its base type: pass that one's oid. Enums and citext have no fixed oid: `text_type`.
    """
    if oid in _SCALARS:
        return PgType(_SCALARS[oid], oid, typmod)
    if oid in _ARRAYS:
        element = _ARRAYS[oid]
        return PgType(Wire.ARRAY, oid, -1, PgType(_SCALARS[element], element, typmod))
    return None


def text_type(oid: int = 25) -> PgType:
    """A type whose binary form is its text: an enum, citext, or whatever was selected `::text`."""
    return PgType(Wire.TEXT, oid)


def array_type(element: PgType, oid: int = 0) -> PgType:
    """The array of a type, for elements without a fixed oid; builtin_type knows the others."""
    return PgType(Wire.ARRAY, oid, -1, element)


def _decimal_type(declared: tuple[int, int] | None) -> pa.DataType:
    if declared is None:
        return UNLIMITED_DECIMAL
    precision, scale = declared
    # A negative scale, or one beyond the precision (PostgreSQL 15), is widened to an ordinary decimal.
    precision, scale = max(precision - min(scale, 0), scale), max(scale, 0)
    if precision > 76:
        return UNLIMITED_DECIMAL
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


_ARROW_TYPES: dict[Wire, pa.DataType] = {
    Wire.BOOL: pa.bool_(),
    Wire.INT2: pa.int16(),
    Wire.INT4: pa.int32(),
    Wire.INT8: pa.int64(),
    Wire.OID: pa.uint32(),
    Wire.FLOAT4: pa.float32(),
    Wire.FLOAT8: pa.float64(),
    Wire.TEXT: pa.string(),
    Wire.CHAR: pa.string(),
    Wire.BYTEA: pa.binary(),
    Wire.DATE: pa.date32(),
    Wire.TIME: pa.time64("us"),
    Wire.TIMESTAMP: pa.timestamp("us"),
    Wire.TIMESTAMPTZ: pa.timestamp("us", tz="UTC"),
    Wire.INTERVAL: pa.month_day_nano_interval(),
    Wire.UUID: pa.uuid(),
    Wire.JSON: pa.json_(),
    Wire.JSONB: pa.json_(),
}

_HAZARDS: dict[Wire, frozenset[Hazard]] = {
    Wire.NUMERIC: frozenset({Hazard.DECIMAL_SPECIAL, Hazard.PRECISION}),
    Wire.DATE: frozenset({Hazard.INFINITY, Hazard.OUT_OF_RANGE}),
    Wire.TIME: frozenset({Hazard.TIME_RANGE}),
    Wire.TIMESTAMP: frozenset({Hazard.INFINITY, Hazard.OUT_OF_RANGE}),
    Wire.TIMESTAMPTZ: frozenset({Hazard.INFINITY, Hazard.OUT_OF_RANGE}),
    Wire.INTERVAL: frozenset({Hazard.INTERVAL}),
}

_SCALARS: dict[int, Wire] = {
    16: Wire.BOOL,
    17: Wire.BYTEA,
    18: Wire.CHAR,
    19: Wire.TEXT,  # name
    20: Wire.INT8,
    21: Wire.INT2,
    23: Wire.INT4,
    25: Wire.TEXT,
    26: Wire.OID,
    114: Wire.JSON,
    142: Wire.TEXT,  # xml
    700: Wire.FLOAT4,
    701: Wire.FLOAT8,
    1042: Wire.TEXT,  # bpchar, blanks included
    1043: Wire.TEXT,  # varchar
    1082: Wire.DATE,
    1083: Wire.TIME,
    1114: Wire.TIMESTAMP,
    1184: Wire.TIMESTAMPTZ,
    1186: Wire.INTERVAL,
    1700: Wire.NUMERIC,
    2950: Wire.UUID,
    3802: Wire.JSONB,
}

_ARRAYS: dict[int, int] = {
    1000: 16,
    1001: 17,
    1002: 18,
    1003: 19,
    1016: 20,
    1005: 21,
    1007: 23,
    1009: 25,
    1028: 26,
    199: 114,
    143: 142,
    1021: 700,
    1022: 701,
    1014: 1042,
    1015: 1043,
    1182: 1082,
    1183: 1083,
    1115: 1114,
    1185: 1184,
    1187: 1186,
    1231: 1700,
    2951: 2950,
    3807: 3802,
}

# "char" holds one byte; charout (PostgreSQL 16) writes 0 as nothing and 128 to 255 as octal escapes.
CHAR_TEXTS = pa.array(
    ["", *map(chr, range(1, 128)), *(f"\\{byte:o}" for byte in range(128, 256))], pa.string()
)


def storage_type(kind: pa.DataType) -> pa.DataType:
    """The type under an extension type."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def with_type(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as the extension type, where the type is one."""
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, column)
    return column
