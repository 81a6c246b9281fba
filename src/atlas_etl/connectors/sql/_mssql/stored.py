"""How SQL Server keeps columns: which Arrow types come back, their declarations, and which lose nothing.

Types: https://learn.microsoft.com/sql/t-sql/data-types/data-types-transact-sql. It has no signed byte and no
unsigned numbers but `tinyint`, so they are kept in the next larger type.
"""

from __future__ import annotations

import pyarrow as pa
from msgspec import Struct

COLLATION = "Latin1_General_100_BIN2"  # neither case nor accents are ignored; blanks at the end always are
LONG_TEXT = f"nvarchar(max) COLLATE {COLLATION}"
INSTANT = pa.timestamp("us", "UTC")
MAX_DIGITS = 38
MAX_KEY_COLUMNS = 32

_DECLARED: dict[pa.DataType, str] = {
    pa.bool_(): "bit",
    pa.uint8(): "tinyint",
    pa.int16(): "smallint",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "float(53)",
    pa.string(): LONG_TEXT,
    pa.binary(): "varbinary(max)",
    pa.date32(): "date",
    pa.time64("us"): "time(6)",
    pa.timestamp("us"): "datetime2(6)",
    INSTANT: "datetimeoffset(6)",
    pa.uuid(): "uniqueidentifier",
}
_LARGER = {
    pa.int8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
}
_KEPT: dict[str, pa.DataType] = {
    "bit": pa.bool_(),
    "tinyint": pa.uint8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "float": pa.float64(),
    "money": pa.decimal128(19, 4),
    "smallmoney": pa.decimal128(10, 4),
    "date": pa.date32(),
    "time": pa.time64("us"),
    **dict.fromkeys(("datetime", "smalldatetime", "datetime2"), pa.timestamp("us")),
    "datetimeoffset": INSTANT,
    "uniqueidentifier": pa.uuid(),
    **dict.fromkeys(("binary", "varbinary", "image", "timestamp", "rowversion"), pa.binary()),
}
_TEXTS = frozenset({"char", "varchar", "text", "nchar", "nvarchar", "ntext"})
_LONG = _TEXTS | {"binary", "varbinary"}
_TIMED = frozenset({"time", "datetime2", "datetimeoffset"})
# What takes each value as it is, or refuses it. The others round, pad, or write question marks.
_EXACT = frozenset({
    "bit", "tinyint", "smallint", "int", "bigint", "real", "float", "decimal", "numeric", "date", "nvarchar",
    "uniqueidentifier", "varbinary", *_TIMED,
})  # fmt: skip


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type that comes back; text where there is no exact one, as of nanoseconds and of what has parts."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_decimal(kind):
        exact = kind.precision <= MAX_DIGITS and 0 <= kind.scale <= kind.precision
        return pa.decimal128(kind.precision, kind.scale) if exact else pa.string()
    if pa.types.is_timestamp(kind):
        return pa.string() if kind.unit == "ns" else pa.timestamp("us", "UTC" if kind.tz else None)
    if kind in _DECLARED:
        return kind
    if kind in _LARGER:
        return _LARGER[kind]
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_time32(kind):
        return pa.time64("us")
    binary = (pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    return pa.binary() if any(test(kind) for test in binary) else pa.string()


def declaration(kind: pa.DataType) -> str:
    """The DDL of a stored type; text of a decimal that grew past what the server has."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})" if kind.precision <= MAX_DIGITS else LONG_TEXT
    return _DECLARED[_LARGER.get(kind, kind)]


def is_long(kind: pa.DataType) -> bool:
    """Whether no index holds a column of this stored type."""
    return declaration(kind) in (LONG_TEXT, "varbinary(max)")


class KeptColumn(Struct, frozen=True):
    """A table's column as the catalog has it."""

    name: str
    kind: str  # `nvarchar`
    native: str  # `nvarchar(20)`
    precision: int
    scale: int
    collation: str | None
    nullable: bool
    given: bool  # whether the server gives its values: computed, IDENTITY, rowversion

    @property
    def type(self) -> pa.DataType:
        """What the column's values read as in Arrow, in microseconds."""
        if self.kind in ("decimal", "numeric"):
            return pa.decimal128(self.precision, self.scale)
        return _KEPT.get(self.kind, pa.string())

    @property
    def is_exact(self) -> bool:
        """Whether it takes each value of its type as it is, or refuses it."""
        return self.kind in _EXACT and (self.kind not in _TIMED or self.scale >= 6)

    @property
    def has_length(self) -> bool:
        """Whether values that are compared equal may be of several lengths."""
        return self.kind in _LONG

    @property
    def declared(self) -> str:
        """The type as a stage has it."""
        return f"{self.native} COLLATE {self.collation}" if self.collation else self.native
