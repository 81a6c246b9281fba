"""Arrow types under the names of people and of sources."""

from __future__ import annotations

import pyarrow as pa

_SOURCE_TYPE = b"atlas.source_type"
_INFERRED = b"atlas.inferred"


class UnlimitedDecimal(pa.ExtensionType):  # type: ignore[misc] # pyarrow has no types
    """Numbers of any digits and scale, of which Arrow's decimals hold 76: the digits as text.

    A cell is plain digits, every one of its scale, as `-1.50`; or `NaN`, `Infinity`, `-Infinity`.
    """

    def __init__(self) -> None:
        super().__init__(pa.string(), "atlas.decimal")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> UnlimitedDecimal:
        return cls()

    def __hash__(self) -> int:
        return hash(self.extension_name)


UNLIMITED_DECIMAL = UnlimitedDecimal()


def with_source_type(field: pa.Field, source_type: str) -> pa.Field:
    """The field, knowing its type in the source's own words, e.g. `numeric(60,5)` or `inet`."""
    return field.with_metadata({**(field.metadata or {}), _SOURCE_TYPE: source_type.encode()})


def source_type(field: pa.Field) -> str | None:
    """What `with_source_type` put there."""
    found = (field.metadata or {}).get(_SOURCE_TYPE)
    return found.decode() if found is not None else None


def inferred(field: pa.Field) -> pa.Field:
    """The field of a source that declares no types: other values may have another one."""
    named = with_source_type(field, type_name(field.type))
    return named.with_metadata({**named.metadata, _INFERRED: b""})


def is_inferred(field: pa.Field) -> bool:
    """Whether `inferred` made it."""
    return _INFERRED in (field.metadata or {})


def type_name(kind: pa.DataType) -> str:
    """A type as messages and `plan` name it: `int64`, `decimal(12,2)`, `timestamp with time zone`."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        unit = "" if kind.unit == "us" else f"({kind.unit})"
        return f"timestamp{unit} with time zone" if kind.tz else f"timestamp{unit}"
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name).removeprefix("arrow.").removeprefix("atlas.")
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
