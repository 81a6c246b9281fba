"""How Oracle keeps columns: which Arrow types come back, their declarations, and which lose nothing.

Types: https://docs.oracle.com/en/database/oracle/oracle-database/23/sqlrf/Data-Types.html. It has no integers
of so many bits, so whole numbers, and true and false, are NUMBER(19,0); a date is a time at midnight, because
its DATE has one.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.sql._oracle.catalog import native_type
from atlas_etl.connectors.sql._oracle.types import digits_of

# A LOB is no key, cannot be compared, and is found by no index.
LONG_TEXT, LONG_BYTES = "CLOB", "BLOB"
SHORT_TEXT, SHORT_BYTES = "VARCHAR2(4000 BYTE)", "RAW(2000)"
MAX_DIGITS = 38
MAX_KEY_COLUMNS = 32
_WHOLE = pa.decimal128(19, 0)  # what NUMBER(19,0) would be, if it were not int64

_DECLARED: dict[pa.DataType, str] = {
    pa.int64(): "NUMBER(19,0)",
    pa.float32(): "BINARY_FLOAT",
    pa.float64(): "BINARY_DOUBLE",
    pa.string(): LONG_TEXT,
    pa.binary(): LONG_BYTES,
    pa.timestamp("us"): "TIMESTAMP(6)",
    pa.timestamp("ns"): "TIMESTAMP(9)",
    pa.timestamp("us", "UTC"): "TIMESTAMP(6) WITH TIME ZONE",
    pa.timestamp("ns", "UTC"): "TIMESTAMP(9) WITH TIME ZONE",
}
_SHORT = {LONG_TEXT: SHORT_TEXT, LONG_BYTES: SHORT_BYTES}
_TEXTS = frozenset({"VARCHAR2", "NVARCHAR2", "CHAR", "NCHAR", "CLOB", "NCLOB"})
_BYTES = frozenset({"RAW", "BLOB"})
_LONG = frozenset({"CLOB", "NCLOB", "BLOB"})
# What takes each value as it is, or refuses it. The others round, pad, or write question marks.
_EXACT = frozenset({"VARCHAR2", "NVARCHAR2", "CLOB", "RAW", "BLOB", "BINARY_FLOAT", "BINARY_DOUBLE"})


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type that comes back; text where there is no exact one, as of what has parts."""
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_boolean(kind) or (pa.types.is_integer(kind) and kind != pa.uint64()):
        return pa.int64()
    if kind == pa.uint64():
        return pa.decimal128(20, 0)
    if pa.types.is_decimal(kind):
        return _decimal(kind) if kind.precision <= MAX_DIGITS and 0 <= kind.scale <= kind.precision else _TEXT
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns" if kind.unit == "ns" else "us", "UTC" if kind.tz else None)
    if pa.types.is_date(kind):
        return pa.timestamp("us")
    if pa.types.is_float16(kind):
        return pa.float32()
    binary = (pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    if any(test(kind) for test in binary):
        return pa.binary()
    return kind if kind in _DECLARED else _TEXT


_TEXT = pa.string()


def declaration(kind: pa.DataType, *, short: bool = False) -> str:
    """The DDL of a stored type; `short` of what is compared or in a key."""
    if pa.types.is_decimal(kind):
        found = _decimal(kind) if kind.precision <= MAX_DIGITS else _TEXT
        if found != _TEXT:
            return f"NUMBER({found.precision},{found.scale})"
        kind = found
    declared = _DECLARED[kind]
    return _SHORT.get(declared, declared) if short else declared


def holds_key(kinds: Sequence[pa.DataType]) -> bool:
    """Whether an index can hold these columns whole: one text fits into a block, and no time with a zone."""
    long = [kind for kind in kinds if declaration(kind) in _SHORT]
    zoned = any(pa.types.is_timestamp(kind) and kind.tz for kind in kinds)
    return len(kinds) <= MAX_KEY_COLUMNS and len(long) <= 1 and not zoned


def grows(before: pa.DataType, after: pa.DataType) -> bool:
    """Whether a column with rows can become this one: a number of more digits, a time of more."""
    if pa.types.is_timestamp(before) and pa.types.is_timestamp(after):
        return bool(before.tz == after.tz)
    if not all(declaration(kind).startswith("NUMBER(") for kind in (before, after)):
        return False
    (digits, scale), (more, longer) = _digits(before), _digits(after)
    return longer >= scale and more - longer >= digits - scale


def _digits(kind: pa.DataType) -> tuple[int, int]:
    return (kind.precision, kind.scale) if pa.types.is_decimal(kind) else (_WHOLE.precision, _WHOLE.scale)


def _decimal(kind: pa.DataType) -> pa.DataType:
    """A NUMBER of these digits, of more where it would be read as an integer."""
    digits = 20 if (kind.precision, kind.scale) == (_WHOLE.precision, _WHOLE.scale) else kind.precision
    return pa.decimal128(digits, kind.scale)


class KeptColumn(Struct, frozen=True):
    """A table's column as the dictionary has it."""

    name: str
    kind: str  # `VARCHAR2`, `TIMESTAMP(6)`
    bytes: int
    characters: int | None  # of a text whose length counts them
    precision: int | None
    scale: int | None
    collation: str | None
    nullable: bool
    given: bool  # whether the server gives its values: virtual, IDENTITY

    @property
    def native(self) -> str:
        return native_type(self.kind, self.bytes, self.characters, self.precision, self.scale)

    @property
    def type(self) -> pa.DataType:
        """What the column's values read as in Arrow."""
        if self.kind == "NUMBER" and self.scale is not None:
            digits = self.precision or MAX_DIGITS
            found = pa.decimal128(digits, self.scale) if 0 <= self.scale <= digits else pa.string()
            return pa.int64() if found == _WHOLE else found
        if self.kind == "DATE":
            return pa.timestamp("us")
        if self.kind.startswith("TIMESTAMP"):
            zone = "UTC" if "TIME ZONE" in self.kind else None
            return pa.timestamp("ns" if digits_of(self.kind) > 6 else "us", zone)
        if self.kind in _BYTES:
            return pa.binary()
        return {"BINARY_FLOAT": pa.float32(), "BINARY_DOUBLE": pa.float64()}.get(self.kind, pa.string())

    @property
    def is_exact(self) -> bool:
        """Whether it takes each value of its type as it is, or refuses it."""
        if self.kind.startswith("TIMESTAMP"):
            return digits_of(self.kind) >= 6
        if self.kind == "NUMBER":
            return self.scale is not None and self.type != pa.string()
        is_binary = self.collation in (None, "BINARY", "USING_NLS_COMP")
        return self.kind in _EXACT and (is_binary or self.kind not in _TEXTS)

    @property
    def is_long(self) -> bool:
        """Whether it cannot be compared."""
        return self.kind in _LONG

    @property
    def declared(self) -> str:
        """The type as a stage has it."""
        if self.kind == "VARCHAR2":
            length = f"{self.bytes} BYTE" if self.characters is None else f"{self.characters} CHAR"
            return f"VARCHAR2({length})"
        return self.native
