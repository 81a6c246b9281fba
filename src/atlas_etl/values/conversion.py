"""Columns in another type: exactly, or so that DuckDB compares them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.values.text import from_text, to_text


def storage(column: pa.Array) -> pa.Array:
    """The column without its extension type."""
    return column.storage if isinstance(column.type, pa.BaseExtensionType) else column


def convert(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column in another type, every value exact. Raises pa.ArrowInvalid where one would change."""
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type):
        return convert(column.dictionary_decode(), kind)
    if pa.types.is_string(kind):
        return to_text(column)
    if isinstance(kind, pa.BaseExtensionType):
        text = pa.types.is_string(kind.storage_type) or pa.types.is_string(storage(column).type)
        return (
            from_text(to_text(column), kind)
            if text
            else pa.ExtensionArray.from_storage(kind, storage(column))
        )
    if pa.types.is_string(column.type):
        return from_text(column, kind)
    return pc.cast(storage(column), kind)


def comparable(column: pa.Array) -> pa.Array:
    """The column in a type that DuckDB holds, compares exactly, and orders as Arrow does."""
    kind, plain = column.type, storage(column)
    if pa.types.is_timestamp(kind):
        return pc.cast(plain, pa.int64())
    if pa.types.is_decimal256(kind):
        return pa.array([_ordered_bytes(cell) for cell in column], pa.binary())
    if pa.types.is_string(plain.type) or pa.types.is_fixed_size_binary(plain.type):
        return pc.cast(plain, pa.binary())
    scalar = pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_binary(kind)
    return plain if scalar and not pa.types.is_interval(kind) else pc.cast(to_text(column), pa.binary())


def _ordered_bytes(cell: pa.Scalar) -> bytes | None:
    """A number of more digits than DuckDB has, as bytes in the same order."""
    if not cell.is_valid:
        return None
    unscaled = int(format(cell.as_py(), "f").replace(".", ""))
    return (unscaled + 10**76).to_bytes(33, "big")
