"""Which Arrow type is exact for each of DuckDB's, and how each Arrow type is stored there."""

from __future__ import annotations

import re

import pyarrow as pa

# DuckDB's types with an exact Arrow form (https://duckdb.org/docs/stable/sql/data_types/overview).
_EXACT: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "TIME": pa.time64("us"),
    "INTERVAL": pa.month_day_nano_interval(),
    "UUID": pa.uuid(),
    "JSON": pa.json_(),
}
_BY_ARROW = {kind: name for name, kind in _EXACT.items()}


def arrow_type(native: str) -> pa.DataType | None:
    """The exact Arrow type of a DuckDB type, or None where only its text is exact."""
    if native in _EXACT:
        return _EXACT[native]
    if decimal := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", native):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if native.endswith("[]"):
        item = arrow_type(native.removesuffix("[]"))
        return pa.list_(item) if item is not None and not pa.types.is_list(item) else None
    return None


def stored_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal128(kind) or kind in _BY_ARROW:
        return kind
    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_timestamp(kind):
        nanoseconds = kind.unit == "ns" and kind.tz is None
        return pa.timestamp("ns") if nanoseconds else pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(stored_type(kind.value_type))
    simple = {
        pa.float16(): pa.float32(),
        pa.large_binary(): pa.binary(),
        pa.date64(): pa.date32(),
        pa.time32("s"): pa.time64("us"),
        pa.time32("ms"): pa.time64("us"),
    }
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        return pa.json_()
    return simple.get(kind, pa.string())


def column_type(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_list(kind):
        return f"{column_type(kind.value_type)}[]"
    return _BY_ARROW[kind]
