"""Columns and cursors as Arrow holds them: text forms, type names, source types and sizes.

Conventions that every reader and every destination keeps:

- exact numbers: int8..int64, uint8..uint64, decimal128 up to 38 digits, decimal256 up to 76;
  UNLIMITED_DECIMAL, an extension type of texts, where a source sets no bound to the digits, or a wider one.
  A destination that has no such type holds the text;
- timestamps are microseconds unless the source counts nanoseconds; `tz="UTC"` where an instant is meant,
  no zone where the source knows none;
- uuid and JSON are Arrow's canonical extension types `arrow.uuid` and `arrow.json`
  (https://arrow.apache.org/docs/format/CanonicalExtensions.html);
- intervals are month_day_nano_interval, one-dimensional arrays are lists;
- anything else is its source's text form, and the field's metadata names the source's type.
"""

from __future__ import annotations

from atlas_etl.values.conversion import comparable, convert, storage
from atlas_etl.values.cursors import (
    comes_before,
    cursor_kind,
    cursor_scalar,
    cursor_value,
    earlier,
    not_ordered,
    parse_cursor,
)
from atlas_etl.values.rows import json_rows, no_rows, split
from atlas_etl.values.text import from_text, hexadecimal, to_text
from atlas_etl.values.types import (
    UNLIMITED_DECIMAL,
    inferred,
    is_inferred,
    source_type,
    type_name,
    with_source_type,
)
from atlas_etl.values.wire import wire_batch, wire_bytes, wire_format

__all__ = [
    "UNLIMITED_DECIMAL",
    "comes_before",
    "comparable",
    "convert",
    "cursor_kind",
    "cursor_scalar",
    "cursor_value",
    "earlier",
    "from_text",
    "hexadecimal",
    "inferred",
    "is_inferred",
    "json_rows",
    "no_rows",
    "not_ordered",
    "parse_cursor",
    "source_type",
    "split",
    "storage",
    "to_text",
    "type_name",
    "wire_batch",
    "wire_bytes",
    "wire_format",
    "with_source_type",
]
