"""Arrow types under the names of people and of sources."""

from __future__ import annotations

import pyarrow as pa

_SOURCE_TYPE = b"atlas.source_type"


def with_source_type(field: pa.Field, source_type: str) -> pa.Field:
    """The field, knowing its type in the source's own words, e.g. `numeric(60,5)` or `inet`."""
    return field.with_metadata({**(field.metadata or {}), _SOURCE_TYPE: source_type.encode()})


def source_type(field: pa.Field) -> str | None:
    """What `with_source_type` put there."""
    found = (field.metadata or {}).get(_SOURCE_TYPE)
    return found.decode() if found is not None else None


def type_name(kind: pa.DataType) -> str:
    """A type as messages and `plan` name it: `int64`, `decimal(12,2)`, `timestamp with time zone`."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        unit = "" if kind.unit == "us" else f"({kind.unit})"
        return f"timestamp{unit} with time zone" if kind.tz else f"timestamp{unit}"
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name).removeprefix("arrow.")
    if pa.types.is_list(kind):
        return f"{type_name(kind.value_type)}[]"
    names = {
        pa.string(): "text",
        pa.large_string(): "text",
        pa.float64(): "double",
        pa.float32(): "float",
        pa.bool_(): "boolean",
        pa.date32(): "date",
        pa.time64("us"): "time",
        pa.month_day_nano_interval(): "interval",
    }
    return names.get(kind, str(kind))
