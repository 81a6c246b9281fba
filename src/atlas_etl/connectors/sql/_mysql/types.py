"""The columns of a MySQL or MariaDB result as the server describes them, and their exact Arrow types."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct
from pymysql import err
from pymysql.constants import CR, FIELD_TYPE, FLAG

from atlas_etl.model import Hazard

BINARY_CHARSET = 63
"""Collation id of `binary`: it tells BLOB from TEXT and BINARY from CHAR, which share type numbers."""

STRINGS = frozenset({
    FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING, FIELD_TYPE.ENUM, FIELD_TYPE.SET,
    FIELD_TYPE.TINY_BLOB, FIELD_TYPE.BLOB, FIELD_TYPE.MEDIUM_BLOB, FIELD_TYPE.LONG_BLOB,
})  # fmt: skip
DECIMALS = frozenset({FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL})
MOMENTS = frozenset({FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP})
VECTOR = 242  # MySQL 9; not yet in PyMySQL's list

_SIGNED = {
    FIELD_TYPE.TINY: pa.int8(),
    FIELD_TYPE.SHORT: pa.int16(),
    FIELD_TYPE.YEAR: pa.int16(),
    FIELD_TYPE.INT24: pa.int32(),
    FIELD_TYPE.LONG: pa.int32(),
    FIELD_TYPE.LONGLONG: pa.int64(),
}
_UNSIGNED = {
    FIELD_TYPE.TINY: pa.uint8(),
    FIELD_TYPE.SHORT: pa.uint16(),
    FIELD_TYPE.YEAR: pa.int16(),
    FIELD_TYPE.INT24: pa.uint32(),
    FIELD_TYPE.LONG: pa.uint32(),
    FIELD_TYPE.LONGLONG: pa.uint64(),
}
_OTHERS = {
    FIELD_TYPE.FLOAT: pa.float32(),
    FIELD_TYPE.DOUBLE: pa.float64(),
    FIELD_TYPE.DATE: pa.date32(),
    FIELD_TYPE.NEWDATE: pa.date32(),
    FIELD_TYPE.DATETIME: pa.timestamp("us"),
    FIELD_TYPE.TIMESTAMP: pa.timestamp("us", "UTC"),
    FIELD_TYPE.TIME: pa.time64("us"),
    FIELD_TYPE.BIT: pa.string(),
    FIELD_TYPE.JSON: pa.json_(),
    FIELD_TYPE.GEOMETRY: pa.binary(),
    FIELD_TYPE.NULL: pa.null(),
    VECTOR: pa.binary(),
}


class Column(Struct, frozen=True):
    """What the server says about one column of a result.

    `type_code` is one of PyMySQL's FIELD_TYPE, `charset` a collation id, `length` the display width
    in bytes (of a BIT: in bits), `decimals` the digits after the point or of the seconds. Source: MySQL
    source documentation, "Column Definition".
    """

    name: str
    type_code: int
    charset: int
    length: int
    flags: int
    decimals: int
    origin: tuple[str, str, str] = ("", "", "")
    """The database, table and column that its values come from; empty where they are computed."""

    @property
    def unsigned(self) -> bool:
        return bool(self.flags & FLAG.UNSIGNED)

    @property
    def nullable(self) -> bool:
        return not self.flags & FLAG.NOT_NULL

    @property
    def is_text(self) -> bool:
        """Whether its values are characters in the session's character set."""
        return self.type_code in STRINGS and self.charset != BINARY_CHARSET


def arrow_type(column: Column) -> pa.DataType:
    """The exact Arrow type of a result column.

    BIT(n) is text of n digits 0 and 1, as PostgreSQL's bit(n) is written. TIME is a time of day, which is
    what most such columns hold; its other values are hazards. TIMESTAMP is an instant in UTC, which is so
    in a session whose time zone is '+00:00'. Raises NotSupportedError for an unknown type number.
    """
    code = column.type_code
    integers = _UNSIGNED if column.unsigned else _SIGNED
    if code in integers:
        return integers[code]
    if code in DECIMALS:
        # The display width counts the point and the sign. User variables claim more digits than can be.
        digits = column.length - (column.decimals > 0) - (not column.unsigned)
        digits = min(max(digits, column.decimals, 1), 76)
        decimal = pa.decimal128 if digits <= 38 else pa.decimal256
        return decimal(digits, column.decimals)
    if code in STRINGS:
        return pa.string() if column.is_text else pa.binary()
    if code in _OTHERS:
        return _OTHERS[code]
    message = f"column {column.name!r} has a type that Atlas does not know (number {code})"
    raise err.NotSupportedError(CR.CR_UNSUPPORTED_PARAM_TYPE, message)


def possible_hazards(column: Column) -> frozenset[Hazard]:
    """The ways in which a value of this column may have no exact form in `arrow_type`."""
    if column.type_code in MOMENTS:
        return frozenset({Hazard.ZERO_DATE})
    if column.type_code == FIELD_TYPE.TIME:
        return frozenset({Hazard.TIME_RANGE})
    if column.is_text or column.type_code == FIELD_TYPE.JSON:
        return frozenset({Hazard.INVALID_TEXT})
    return frozenset()


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The schema of every batch of a result with these columns; what may be a hazard may become NULL."""
    return pa.schema(
        [
            pa.field(column.name, arrow_type(column), column.nullable or bool(possible_hazards(column)))
            for column in columns
        ]
    )
