"""What a reader selects of a column: its exact Arrow type, its hazards, and its text form."""

from __future__ import annotations

import pyarrow as pa
from pymysql.constants import FIELD_TYPE, FLAG

from atlas_etl import values
from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.connectors.sql._mysql.types import DECIMALS, Column, arrow_type, possible_hazards
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.model import Hazard

_NAMES = {
    FIELD_TYPE.TINY: "tinyint", FIELD_TYPE.SHORT: "smallint", FIELD_TYPE.INT24: "mediumint",
    FIELD_TYPE.LONG: "int", FIELD_TYPE.LONGLONG: "bigint", FIELD_TYPE.YEAR: "year",
    FIELD_TYPE.FLOAT: "float", FIELD_TYPE.DOUBLE: "double", FIELD_TYPE.DATE: "date",
    FIELD_TYPE.NEWDATE: "date", FIELD_TYPE.DATETIME: "datetime", FIELD_TYPE.TIMESTAMP: "timestamp",
    FIELD_TYPE.TIME: "time", FIELD_TYPE.JSON: "json", FIELD_TYPE.GEOMETRY: "geometry",
    FIELD_TYPE.NULL: "null",
}  # fmt: skip


def native_name(column: Column) -> str:
    """The type of a query's column in MySQL's words, as far as the result tells it."""
    if column.type_code in DECIMALS:
        kind = arrow_type(column)
        return f"decimal({kind.precision},{kind.scale})"
    if column.type_code == FIELD_TYPE.BIT:
        return f"bit({column.length})"
    if column.flags & (FLAG.ENUM | FLAG.SET):
        return "enum" if column.flags & FLAG.ENUM else "set"
    name = _NAMES.get(column.type_code) or ("text" if column.is_text else "blob")
    return f"{name} unsigned" if column.unsigned and name.endswith("int") else name


def source_column(column: Column, native: str, nullable: bool, *, is_json: bool = False) -> SourceColumn:
    """A column as the reader selects it. `native` is its type in MySQL's words.

    tinyint(1) is an 8-bit number, for it may hold 2; geometry is the server's own bytes: four of the SRID,
    then WKB. MariaDB's uuid is text, for the server does not order it by its bytes, as cursors must be.
    `is_json` tells MariaDB's JSON, which is a longtext with a constraint.
    """
    name = quoted(column.name)
    kind = pa.json_() if is_json else arrow_type(column)
    hazards = possible_hazards(column)
    field = values.with_source_type(pa.field(column.name, kind, nullable or bool(hazards)), native)
    # Of what is no text, the bytes are.
    text = f"LOWER(HEX({name}))" if Hazard.INVALID_TEXT in hazards else f"CAST({name} AS CHAR)"
    return SourceColumn(column.name, native, nullable, field, name, text, hazards)


def bound_as(column: SourceColumn) -> str:
    """The placeholder of a cursor's value, so that it is compared as the column's own type is."""
    kind = column.field.type
    if pa.types.is_timestamp(kind):
        return "CAST(? AS DATETIME(6))"
    if pa.types.is_date(kind):
        return "CAST(? AS DATE)"
    if column.native.startswith("bit"):
        return "CAST(CONV(?, 2, 10) AS UNSIGNED)"
    return "?"  # text takes the column's own collation
