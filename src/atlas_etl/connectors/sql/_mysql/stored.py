"""How MySQL and MariaDB keep columns: which Arrow types come back, their declarations, and back again.

What their types do not tell stands in the column's comment (`atlas:...`): DATETIME knows no zone, and
TIMESTAMP, which does, ends in 2038; BOOLEAN is a number; MySQL's JSON changes the text, so LONGTEXT holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa
from msgspec import Struct

# Exact comparisons: neither case nor accents nor blanks at the end are ignored. Each server reads its own
# comment (https://mariadb.com/kb/en/comment-syntax/).
EXACT_TEXT = "CHARACTER SET utf8mb4 /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */"
LONG_TEXT = f"LONGTEXT {EXACT_TEXT}"
INSTANT = pa.timestamp("us", "UTC")

MAX_DIGITS, MAX_SCALE = 65, 30
_KEY_BYTES = 3072  # of an InnoDB index, for all of its columns
_KEY_COLUMNS = 16
_FIXED_KEY_BYTES = 40  # no less than any column takes that is not text or bytes
_PREFIX = 191  # characters of a text that an index holds at most

_LENGTH = re.compile(r"(?:(?:var)?(?:char|binary)\((\d+)\)|(?:medium|long)?(?:text|blob))")

_DECLARED: dict[pa.DataType, str] = {
    pa.bool_(): "TINYINT(1) COMMENT 'atlas:boolean'",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.uint8(): "TINYINT UNSIGNED",
    pa.uint16(): "SMALLINT UNSIGNED",
    pa.uint32(): "INT UNSIGNED",
    pa.uint64(): "BIGINT UNSIGNED",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): LONG_TEXT,
    pa.binary(): "LONGBLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME(6)",
    pa.timestamp("us"): "DATETIME(6)",
    INSTANT: "DATETIME(6) COMMENT 'atlas:timestamp with time zone'",
    pa.uuid(): "CHAR(36) CHARACTER SET ascii COLLATE ascii_bin COMMENT 'atlas:uuid'",
    pa.json_(): f"{LONG_TEXT} COMMENT 'atlas:json'",
}
_MARKS: dict[str, pa.DataType] = {
    declared.rpartition("COMMENT '")[2].rstrip("'"): kind
    for kind, declared in _DECLARED.items()
    if "COMMENT" in declared
}
_KEPT: dict[str, tuple[pa.DataType, pa.DataType]] = {  # signed, unsigned
    "tinyint": (pa.int8(), pa.uint8()),
    "smallint": (pa.int16(), pa.uint16()),
    "mediumint": (pa.int32(), pa.uint32()),
    "int": (pa.int32(), pa.uint32()),
    "bigint": (pa.int64(), pa.uint64()),
}
_KEPT_OTHERS: dict[str, pa.DataType] = {
    "year": pa.int16(),
    "float": pa.float32(),
    "double": pa.float64(),
    "date": pa.date32(),
    "json": pa.json_(),
    "uuid": pa.uuid(),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), pa.binary()),
    **dict.fromkeys(("bit", "geometry", "vector"), pa.binary()),  # no text may get there
}


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type that comes back; text where there is no exact one, JSON for what has parts.

    Whole doubles of minus zero come back as zero: the servers have no other.
    """
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_decimal(kind):
        exact = kind.precision <= MAX_DIGITS and 0 <= kind.scale <= min(MAX_SCALE, kind.precision)
        return _decimal(kind.precision, kind.scale) if exact else pa.string()
    if pa.types.is_timestamp(kind):
        return pa.string() if kind.unit == "ns" else pa.timestamp("us", "UTC" if kind.tz else None)
    if kind in _DECLARED:
        return kind
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_date(kind):
        return pa.date32()
    if pa.types.is_time32(kind):
        return pa.time64("us")
    if any(
        test(kind)
        for test in (pa.types.is_large_binary, pa.types.is_fixed_size_binary, pa.types.is_binary_view)
    ):
        return pa.binary()
    return pa.json_() if pa.types.is_nested(kind) else pa.string()


def declaration(kind: pa.DataType) -> str:
    """The DDL of a stored type."""
    return f"DECIMAL({kind.precision},{kind.scale})" if pa.types.is_decimal(kind) else _DECLARED[kind]


class KeptColumn(Struct, frozen=True):
    """A table's column as information_schema has it."""

    name: str
    data_type: str
    native: str  # COLUMN_TYPE
    precision: int
    scale: int
    fraction: int  # digits of a second
    collation: str
    comment: str
    nullable: bool
    replaces_null: bool  # by the time or the next number
    is_computed: bool  # by the table itself
    gives_itself: bool  # a value, where an INSERT has none or another column changes

    @property
    def type(self) -> pa.DataType:
        """What the column's values read as in Arrow."""
        if self.data_type in _KEPT and self.comment not in _MARKS:
            return _KEPT[self.data_type]["unsigned" in self.native]
        if self.data_type == "decimal":
            return _decimal(self.precision, self.scale)
        if self.data_type in ("datetime", "timestamp"):
            zone = "UTC" if self.data_type == "timestamp" or self.comment in _MARKS else None
            return pa.timestamp(self._unit, zone)
        if self.data_type == "time":
            return pa.time64("us") if self._unit == "us" else pa.time32(self._unit)
        return _KEPT_OTHERS.get(self.data_type) or _MARKS.get(self.comment, pa.string())

    @property
    def _unit(self) -> str:
        """The unit of which the column loses nothing."""
        return "us" if self.fraction == 6 else "ms" if self.fraction >= 3 else "s"

    @property
    def declared(self) -> str:
        """The type as a stage has it."""
        return f"{self.native} COLLATE {self.collation}" if self.collation else self.native


def marked_type(read: pa.DataType, comment: str) -> pa.DataType:
    """What a column of a result is, by the comment of the column that it comes from."""
    meant = _MARKS.get(comment)
    possible = {pa.bool_(): pa.int8(), INSTANT: pa.timestamp("us")}
    return meant if meant is not None and possible.get(meant, pa.string()) == read else read


def is_long(kind: pa.DataType) -> bool:
    """Whether values of a stored type have no greatest length, so that no index holds them whole."""
    return kind in (pa.string(), pa.json_(), pa.binary())


def key_parts(key: dict[str, pa.DataType]) -> tuple[bool, dict[str, int | None]]:
    """Whether a key can be unique, and how many characters of each column its index holds (None: all).

    Text and bytes have no greatest length, so that only their beginning is indexed, and not unique.
    """
    long = [name for name, kind in key.items() if is_long(kind)]
    if not long and len(key) <= _KEY_COLUMNS:
        return True, dict.fromkeys(key)
    first = list(key)[:_KEY_COLUMNS]
    texts = [name for name in first if name in long]
    room = (_KEY_BYTES - _FIXED_KEY_BYTES * (len(first) - len(texts))) // (4 * max(1, len(texts)))
    return False, {name: min(_PREFIX, room) if name in texts else None for name in first}


def index_parts(declared: Mapping[str, str]) -> dict[str, int | None]:
    """How much of columns of these SQL types an index holds, which need not be unique (None: all)."""
    first = list(declared)[:_KEY_COLUMNS]
    most = min(_PREFIX, _KEY_BYTES // len(first) // 4)
    parts: dict[str, int | None] = {}
    for name in first:
        length = _LENGTH.match(declared[name].lower())
        is_long = length is not None and (length[1] is None or int(length[1]) > most)
        parts[name] = most if is_long else None
    return parts


def _decimal(digits: int, scale: int) -> pa.DataType:
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)
