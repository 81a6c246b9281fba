"""Types that a definition declares by name: `int64`, `decimal(12,2)`, `timestamptz`."""

from __future__ import annotations

import re

import pyarrow as pa

from atlas_etl.connectors.infer import decimal
from atlas_etl.errors import ConfigError, nearest

_INTEGERS = (
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
)
_WIDE_DIGITS = 76  # of decimal256

_NAMED: dict[str, pa.DataType] = {
    **{str(kind): kind for kind in _INTEGERS},
    "integer": pa.int64(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "float": pa.float32(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "string": pa.string(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamp(ns)": pa.timestamp("ns"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "timestamptz(ns)": pa.timestamp("ns", "UTC"),
    "uuid": pa.uuid(),
    "json": pa.json_(),
    "hex": pa.binary(),
}


def declared(name: str) -> pa.DataType:
    """The type that a connection's `types` names, e.g. `int64` or `decimal(12,2)`. Raises ConfigError."""
    plain = name.strip().lower().replace(" ", "")
    if found := re.fullmatch(r"(?:decimal|numeric)\((\d+)(?:,(\d+))?\)", plain):
        digits, scale = int(found[1]), int(found[2] or 0)
        if 1 <= digits <= _WIDE_DIGITS and scale <= digits:
            return decimal(digits, scale)
    elif plain in _NAMED:
        return _NAMED[plain]
    raise ConfigError(
        f"there is no type {name!r}",
        hint=nearest(plain, _NAMED) or f"the types are {', '.join(_NAMED)} and decimal(digits,scale)",
        code="unknown_type",
    )


def known_types(types: dict[str, str]) -> dict[str, str]:
    """The same, for pydantic. Raises ValueError for a name that `declared` does not know."""
    for name in types.values():
        try:
            declared(name)
        except ConfigError as failure:
            raise ValueError(f"{failure.message}; {failure.hint}") from None
    return types
