"""Columns and cursors as Arrow holds them: text forms, type names, source types and sizes.

Conventions that every reader and every destination keeps:

- exact numbers: int8..int64, uint8..uint64, decimal128 up to 38 digits, decimal256 up to 76; a number
  without a declared scale, or with more digits, is its text form (a string whose source type says so);
- timestamps are microseconds unless the source counts nanoseconds; `tz="UTC"` where an instant is meant,
  no zone where the source knows none;
- uuid and JSON are Arrow's canonical extension types `arrow.uuid` and `arrow.json`
  (https://arrow.apache.org/docs/format/CanonicalExtensions.html);
- intervals are month_day_nano_interval, one-dimensional arrays are lists;
- anything else is its source's text form, and the field's metadata names the source's type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.errors import ConfigError, SchemaChangeError
from atlas_etl.model import BatchLimits, CursorKind, CursorValue

_UUID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
_DIGITS = r"^[+-]?0*(?P<whole>\d*)(?:\.(?P<fraction>\d*))?$"
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


def cursor_kind(kind: pa.DataType, *, stream: str, column: str) -> CursorKind:
    """How a column of this type orders rows. Raises ConfigError (`cursor_type`) where it cannot."""
    if pa.types.is_integer(kind):
        return CursorKind.INTEGER
    if pa.types.is_decimal(kind):
        return CursorKind.DECIMAL
    if pa.types.is_floating(kind):
        return CursorKind.FLOAT
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return CursorKind.TEXT
    if pa.types.is_date(kind):
        return CursorKind.DATE
    if pa.types.is_timestamp(kind):
        return CursorKind.TIMESTAMPTZ if kind.tz else CursorKind.TIMESTAMP
    if kind == pa.uuid():
        return CursorKind.UUID
    raise ConfigError(
        f"column {column!r} of type {type_name(kind)} cannot be a cursor: its values have no useful order",
        hint="choose a column that grows: a timestamp, a number, a date or a sortable text",
        code="cursor_type",
        stream=stream,
        column=column,
    )


def cursor_value(scalar: pa.Scalar, *, stream: str, column: str) -> CursorValue:
    """One non-null cell of a cursor column as typed, lossless text."""
    kind = cursor_kind(scalar.type, stream=stream, column=column)
    if kind is CursorKind.FLOAT:
        return CursorValue(kind, repr(float(scalar.as_py())))
    text = to_text(pa.array([scalar], type=scalar.type))[0].as_py()
    return CursorValue(kind, text)


def cursor_scalar(value: CursorValue, kind: pa.DataType) -> pa.Scalar:
    """The cell of this type that a CursorValue names; the inverse of `cursor_value`.

    Raises SchemaChangeError where the value does not fit the type, because the column's type changed.
    """
    try:
        return from_text(pa.array([value.text], pa.string()), kind)[0]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as failure:
        raise SchemaChangeError(
            f"the committed cursor value is a {value.kind}, but the column is now {type_name(kind)}",
            hint="run with --full-refresh to read the stream again from its beginning",
        ) from failure


_ZONE = re.compile(r":.*(Z|[+-]\d\d(:?\d\d)?)$")
_CURSOR_TYPES = {
    CursorKind.DECIMAL: pa.decimal256(76, 38),
    CursorKind.FLOAT: pa.float64(),
    CursorKind.TEXT: pa.string(),
    CursorKind.DATE: pa.date32(),
    CursorKind.TIMESTAMP: pa.timestamp("us"),
    CursorKind.TIMESTAMPTZ: pa.timestamp("us", "UTC"),
    CursorKind.UUID: pa.uuid(),
}


def parse_cursor(kind: CursorKind, text: str) -> CursorValue:
    """A cursor value that a person wrote, in its canonical text. Raises pa.ArrowInvalid."""
    if kind is CursorKind.INTEGER:
        return CursorValue(kind, str(pc.cast(pa.scalar(text.strip()), pa.decimal128(38, 0)).as_py()))
    if kind in (CursorKind.TEXT, CursorKind.DECIMAL, CursorKind.FLOAT, CursorKind.UUID):
        from_text(pa.array([text]), _CURSOR_TYPES[kind])
        return CursorValue(kind, text)
    cell = pa.array([text.strip()])
    if kind is CursorKind.TIMESTAMPTZ and not _ZONE.search(text):
        cell = pc.assume_timezone(pc.cast(cell, pa.timestamp("us")), "UTC")
    return CursorValue(kind, to_text(pc.cast(cell, _CURSOR_TYPES[kind]))[0].as_py())


def earlier(value: CursorValue, lag: timedelta) -> CursorValue:
    """The cursor this much time before; rounded down to the cursor's own unit, never up.

    Raises ConfigError (`lag`) for cursors that are no times.
    """
    if value.kind is CursorKind.DATE:
        moment = date.fromisoformat(value.text) - timedelta(days=math.ceil(lag / timedelta(days=1)))
        return CursorValue(value.kind, moment.isoformat())
    if value.kind not in (CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ):
        raise ConfigError(
            f"lag is a length of time, but the cursor is a {value.kind}",
            hint="remove lag, or choose a timestamp as the cursor",
            code="lag",
        )
    nanoseconds = (
        pa.timestamp("ns") if len(value.text.rstrip("Z").partition(".")[2]) > 6 else pa.timestamp("us")
    )
    moment = pc.cast(pa.scalar(value.text.rstrip("Z")), nanoseconds)
    shifted = pc.subtract(moment, pc.cast(pa.scalar(lag), pa.duration(nanoseconds.unit)))
    text = to_text(pa.array([shifted], nanoseconds))[0].as_py()
    return CursorValue(value.kind, text + ("Z" if value.kind is CursorKind.TIMESTAMPTZ else ""))


def storage(column: pa.Array) -> pa.Array:
    """The column without its extension type."""
    return column.storage if isinstance(column.type, pa.BaseExtensionType) else column


def to_text(column: pa.Array) -> pa.Array:
    """The canonical text form of every cell (a string array, NULL stays NULL).

    Numbers are plain digits (never an exponent for integers and decimals), doubles the shortest text that
    reads back equal, times ISO 8601 with `T` and `Z`, bytes lower-case hexadecimal, uuids 8-4-4-4-12,
    intervals ISO 8601 durations, lists, structs and maps JSON.
    """
    kind = column.type
    if pa.types.is_string(kind):
        return column
    if kind == pa.uuid():
        return _uuid_text(column.storage)
    if isinstance(kind, pa.BaseExtensionType):
        return to_text(column.storage)
    if pa.types.is_timestamp(kind):
        plain = pc.cast(pc.cast(column, pa.timestamp(kind.unit)), pa.string())
        iso = pc.replace_substring(plain, " ", "T")
        return pc.binary_join_element_wise(iso, "Z", "") if kind.tz else iso
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return hexadecimal(column).cast(pa.string())
    if pa.types.is_interval(kind):
        return pa.array([_duration_text(cell) for cell in column.to_pylist()], pa.string())
    if pa.types.is_nested(kind):
        return pa.array([_json_text(cell) for cell in column], pa.string())
    if pa.types.is_decimal(kind) and not 0 <= kind.scale <= 6:  # Arrow writes 1E-8, as BigDecimal does
        return pa.array(
            [format(cell, "f") if cell is not None else None for cell in column.to_pylist()], pa.string()
        )
    return pc.cast(column, pa.string())


def from_text(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The cells that `to_text` wrote, in their type again. Raises pa.ArrowInvalid where one does not fit."""
    if kind == pa.uuid():
        plain = pc.replace_substring(column, "-", "")
        raw = pa.array(
            [bytes.fromhex(cell) if cell is not None else None for cell in plain.to_pylist()], pa.binary(16)
        )
        return pa.ExtensionArray.from_storage(kind, raw)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, from_text(column, kind.storage_type))
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return pc.cast(column, pa.timestamp(kind.unit))
    if pa.types.is_decimal(kind):
        _refuse_long_decimals(column, kind)
    if pa.types.is_time(kind):  # Arrow parses timestamps, but no times of day
        moments = pc.binary_join_element_wise("1970-01-01T", column, "")
        return pc.cast(pc.cast(moments, pa.timestamp(kind.unit)), kind)
    if pa.types.is_binary(kind):
        return pa.array(
            [bytes.fromhex(cell) if cell is not None else None for cell in column.to_pylist()], kind
        )
    return pc.cast(column, kind)


def _refuse_long_decimals(column: pa.Array, kind: pa.DataType) -> None:
    """Raise pa.ArrowInvalid for what Arrow 26 would read as another number: its cast overflows silently."""
    parts = pc.extract_regex(column, _DIGITS)
    if parts.null_count > column.null_count:
        raise pa.ArrowInvalid("a text is no plain decimal number")
    whole, fraction = (pc.binary_length(pc.struct_field(parts, name)) for name in ("whole", "fraction"))
    long = pc.or_(pc.greater(whole, kind.precision - kind.scale), pc.greater(fraction, kind.scale))
    if pc.any(long).as_py():
        raise pa.ArrowInvalid(f"a text has more digits than {type_name(kind)} holds")


def convert(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column in another type, every value exact. Raises pa.ArrowInvalid where one would change."""
    if column.type == kind:
        return column
    if pa.types.is_dictionary(column.type):
        return convert(column.dictionary_decode(), kind)
    if pa.types.is_string(kind):
        return to_text(column)
    if isinstance(kind, pa.BaseExtensionType):
        text = kind == pa.json_() or pa.types.is_string(storage(column).type)
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


def split(batch: pa.RecordBatch, limits: BatchLimits) -> Iterator[pa.RecordBatch]:
    """The batch in slices within the limits; a single row may still be larger than `limits.bytes`."""
    if batch.num_rows <= limits.rows and (batch.nbytes <= limits.bytes or batch.num_rows == 1):
        if batch.num_rows:
            yield batch
        return
    half = batch.num_rows // 2
    yield from split(batch.slice(0, half), limits)
    yield from split(batch.slice(half), limits)


def hexadecimal(column: pa.Array) -> pa.Array:
    """The cells' bytes in lower-case digits (large strings): of all of them at once, two digits a byte."""
    cells = column.cast(pa.large_binary())
    _, offsets, data = cells.buffers()
    if offsets is None or data is None:
        return cells.cast(pa.large_string())  # without a byte
    places = np.frombuffer(offsets, np.int64)[cells.offset : cells.offset + len(cells) + 1]
    digits = bytes(memoryview(data)[places[0] : places[-1]]).hex().encode()
    buffers = [None, pa.py_buffer(2 * (places - places[0])), pa.py_buffer(digits)]
    texts = pa.Array.from_buffers(pa.large_string(), len(cells), buffers)
    return pc.if_else(pc.is_valid(cells), texts, pa.scalar(None, texts.type)) if cells.null_count else texts


def _uuid_text(raw: pa.Array) -> pa.Array:
    digits = hexadecimal(raw)
    parts = [pc.utf8_slice_codeunits(digits, *part) for part in _UUID_PARTS]
    return pc.binary_join_element_wise(*parts, pa.scalar("-", digits.type)).cast(pa.string())


def _duration_text(cell: pa.MonthDayNano | None) -> str | None:
    """ISO 8601-2 duration with signed parts: `P1M3DT4H5M6.789S`, `P-1MT-0.5S`, `PT0S`."""
    if cell is None:
        return None
    months, days, nanoseconds = cell
    seconds = Decimal(nanoseconds).scaleb(-9)
    date = (f"{months}M" if months else "") + (f"{days}D" if days else "")
    if not seconds and date:
        return f"P{date}"
    text = format(seconds, "f")
    return f"P{date}T{text.rstrip('0').rstrip('.') if '.' in text else text}S"


def _json_text(cell: pa.Scalar) -> str | None:
    if not cell.is_valid:
        return None
    return json.dumps(_json_value(cell), ensure_ascii=False, separators=(",", ":"))


def _json_value(cell: pa.Scalar) -> object:
    """Numbers and booleans as JSON's own, everything else (and what JSON cannot hold) as text."""
    if not cell.is_valid:
        return None
    if isinstance(cell, pa.MapScalar) and pa.types.is_string(cell.type.key_type):
        entries = [(entry["key"].as_py(), _json_value(entry["value"])) for entry in cell.values]
        if len(found := dict(entries)) == len(entries):
            return found
    if isinstance(cell, pa.ListScalar | pa.LargeListScalar):
        return [_json_value(item) for item in cell.values]
    if isinstance(cell, pa.StructScalar):
        return {name: _json_value(cell[name]) for name in cell}
    if pa.types.is_boolean(cell.type) or pa.types.is_integer(cell.type):
        return cell.as_py()
    if pa.types.is_floating(cell.type) and math.isfinite(cell.as_py()):
        return cell.as_py()
    return to_text(pa.array([cell], type=cell.type))[0].as_py()


def json_rows(batch: pa.RecordBatch) -> list[list[object]]:
    """The rows as JSON can hold them: numbers and booleans as they are, everything else as text.

    Integers past 2**53 and decimals are text too: many JSON readers would round them.
    """
    columns = [_json_column(column) for column in batch.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _json_column(column: pa.Array) -> list[object]:
    kind = column.type
    if pa.types.is_boolean(kind):
        return list(column.to_pylist())
    if pa.types.is_integer(kind):
        return [cell if cell is None or abs(cell) <= 2**53 else str(cell) for cell in column.to_pylist()]
    if pa.types.is_floating(kind):
        return [cell if cell is None or math.isfinite(cell) else str(cell) for cell in column.to_pylist()]
    return list(to_text(column).to_pylist())
