"""PostgreSQL's types and Arrow's: how a column is selected, decoded, declared and encoded."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from msgspec import Struct

from atlas_etl import values
from atlas_etl.connectors.sql._pgcopy.types import PgType, Wire, array_type, builtin_type, text_type
from atlas_etl.connectors.sql._postgresql.errors import quoted
from atlas_etl.connectors.sql._source import SourceColumn

_NAME, _TEXT, _XML, _INET = 19, 25, 142, 869
_MAX_DIGITS = 76


class ServerType(Struct, frozen=True):
    """A column's type in the catalog, domains followed down to their base."""

    oid: int
    typmod: int
    native: str  # format_type(oid, typmod)
    is_enum: bool = False
    element: int | None = None  # of an array: what it holds
    element_native: str | None = None
    element_is_enum: bool = False
    element_is_domain: bool = False

    def wire(self) -> PgType | None:
        """What binary COPY expects for a column of this type; None where only its text can be given."""
        if self.is_enum:
            return text_type(self.oid)
        if self.element is not None:
            if self.element_is_enum:
                return array_type(text_type(self.element), self.oid)
            if self.element_is_domain:
                return None
        return builtin_type(self.oid, self.typmod)


def source_column(name: str, nullable: bool, type_: ServerType) -> SourceColumn:
    """The column as it is selected: in its own type where that has an exact Arrow form, else as text."""
    column = quoted(name).replace("%", "%%")
    text = f"{column}::text"
    kind, form = _form(type_)
    field = values.with_source_type(pa.field(name, kind, nullable), type_.native)
    hazards = wire_type(kind).hazards()
    select = form.replace("?", column)
    wire = type_.wire()
    passed = wire_form(wire) if wire and form == "?" else None
    return SourceColumn(name, type_.native, nullable, field, select, text, hazards, passed)


def wire_form(type_: PgType) -> str:
    """What values of a type are on the wire: where it is the same for two columns, so are equal values."""
    if type_.element is not None:
        # An array names its element's type, and is refused where the column's has another one.
        told = type_.element.oid if type_.element.wire is Wire.TEXT else 0
        return f"{wire_form(type_.element)}{told if told not in (0, _TEXT) else ''}[]"
    scale = type_.numeric_scale()
    return f"postgresql {type_.wire}{scale or ''}"


def declared_form(field: pa.Field) -> str:
    """The same of a column that is declared for a field of a stored type (`declared_type`)."""
    is_jsonb = declared_type(field) == "jsonb"
    return wire_form(PgType(Wire.JSONB, 0) if is_jsonb else wire_type(field.type))


def column_type(column: SourceColumn) -> PgType:
    """How a column arrives, because `source_column` selects it so."""
    is_jsonb = column.wire == wire_form(PgType(Wire.JSONB, 0))
    return PgType(Wire.JSONB, 0) if is_jsonb else wire_type(column.field.type)


def arrow_type(type_: ServerType) -> pa.DataType:
    """What a column of this type reads as."""
    return _form(type_)[0]


def wire_type(kind: pa.DataType) -> PgType:
    """How a column of this Arrow type arrives, because `source_column` selects it so."""
    if pa.types.is_list(kind):
        return array_type(wire_type(kind.value_type))
    if pa.types.is_decimal(kind):
        return PgType(Wire.NUMERIC, 0, (kind.precision << 16 | kind.scale) + 4)
    return PgType(_WIRES[kind], 0)


def _form(type_: ServerType) -> tuple[pa.DataType, str]:
    """The Arrow type, and the SQL that brings a value `?` into the form that this type is decoded from."""
    if type_.element is None:
        return _scalar_form(type_.oid, type_.typmod)
    kind, form = _scalar_form(type_.element, type_.typmod)
    if kind == values.UNLIMITED_DECIMAL:
        kind, form = pa.string(), "?::text"
    if form != "?" or kind == pa.json_():
        return pa.list_(kind), "?::text::text[]"  # through the array's own text, which is its elements' own
    return pa.list_(kind), f"?::{type_.element_native}[]" if type_.element_is_domain else "?"


def _scalar_form(oid: int, typmod: int) -> tuple[pa.DataType, str]:
    wire = builtin_type(oid, typmod)
    if wire is None or wire.element is not None:
        # As text an inet has its mask even where it does not show one.
        return pa.string(), "abbrev(?)" if oid == _INET else "?::text"
    kind = wire.arrow_type()
    as_text = wire.wire is Wire.CHAR or oid in (_NAME, _XML)
    return kind, "?::text" if as_text else "?"


_WIRES: Mapping[pa.DataType, Wire] = {
    pa.bool_(): Wire.BOOL,
    pa.int16(): Wire.INT2,
    pa.int32(): Wire.INT4,
    pa.int64(): Wire.INT8,
    pa.uint32(): Wire.OID,
    pa.float32(): Wire.FLOAT4,
    pa.float64(): Wire.FLOAT8,
    pa.string(): Wire.TEXT,
    pa.binary(): Wire.BYTEA,
    pa.date32(): Wire.DATE,
    pa.time64("us"): Wire.TIME,
    pa.timestamp("us"): Wire.TIMESTAMP,
    pa.timestamp("us", "UTC"): Wire.TIMESTAMPTZ,
    pa.month_day_nano_interval(): Wire.INTERVAL,
    pa.uuid(): Wire.UUID,
    pa.json_(): Wire.JSON,
    values.UNLIMITED_DECIMAL: Wire.NUMERIC,
}

# What a destination's columns are declared as.
_NAMES: Mapping[pa.DataType, str] = {
    pa.bool_(): "boolean",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.binary(): "bytea",
    pa.date32(): "date",
    pa.time64("us"): "time",
    pa.timestamp("us"): "timestamp",
    pa.timestamp("us", "UTC"): "timestamptz",
    pa.month_day_nano_interval(): "interval",
    pa.uuid(): "uuid",
    pa.json_(): "json",
    values.UNLIMITED_DECIMAL: "numeric",
}
_WIDENED: Mapping[pa.DataType, pa.DataType] = {
    pa.int8(): pa.int16(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.time32("s"): pa.time64("us"),
    pa.time32("ms"): pa.time64("us"),
}


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type that a column reads back as after being stored; text where none is exact."""
    if kind in _NAMES:
        return kind
    if pa.types.is_decimal(kind):
        return _stored_decimal(kind.precision, kind.scale)
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = kind.value_type
        return pa.json_() if pa.types.is_nested(item) else pa.list_(stored_type(item))
    if pa.types.is_nested(kind):
        return pa.json_()
    return _WIDENED.get(kind, pa.string())


def _stored_decimal(precision: int, scale: int) -> pa.DataType:
    digits = max(precision - min(scale, 0), scale)
    if digits > _MAX_DIGITS:
        return values.UNLIMITED_DECIMAL
    return pa.decimal128(digits, max(scale, 0)) if digits <= 38 else pa.decimal256(digits, max(scale, 0))


def declared_type(field: pa.Field) -> str:
    """The DDL type of a field whose type is a stored one.

    JSON is `json`, which keeps a document's every character; only what came from `jsonb` is that again.
    """
    kind = field.type
    if pa.types.is_list(kind):
        return f"{declared_type(pa.field('item', kind.value_type))}[]"
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if kind == pa.json_() and values.source_type(field) == "jsonb":
        return "jsonb"
    return _NAMES[kind]
