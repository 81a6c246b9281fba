"""The canonical text form of every value, and back."""

from __future__ import annotations

import json
import math
from binascii import hexlify
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.values.types import type_name

_UUID_PARTS = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
_NO_TIME = "<value"  # as Arrow writes what no calendar or clock has, and goes on
_DIGITS = r"^[+-]?0*(?P<whole>\d*)(?:\.(?P<fraction>\d*))?$"


def to_text(column: pa.Array) -> pa.Array:
    """The canonical text form of every cell (a string array, NULL stays NULL).

    Numbers are plain digits (never an exponent for integers and decimals), doubles the shortest text that
    reads back equal, times ISO 8601 with `T` and `Z`, bytes lower-case hexadecimal, uuids 8-4-4-4-12,
    intervals ISO 8601 durations, lists, structs and maps JSON. Raises pa.ArrowInvalid for a date or time
    within one of these that is none, as 24:00.
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


def _refuse_long_decimals(column: pa.Array, kind: pa.DataType) -> None:
    """Raise pa.ArrowInvalid for what Arrow 26 would read as another number: its cast overflows silently."""
    parts = pc.extract_regex(column, _DIGITS)
    if parts.null_count > column.null_count:
        raise pa.ArrowInvalid("a text is no plain decimal number")
    whole, fraction = (pc.binary_length(pc.struct_field(parts, name)) for name in ("whole", "fraction"))
    long = pc.or_(pc.greater(whole, kind.precision - kind.scale), pc.greater(fraction, kind.scale))
    if pc.any(long).as_py():
        raise pa.ArrowInvalid(f"a text has more digits than {type_name(kind)} holds")


def _uuid_text(raw: pa.Array) -> pa.Array:
    rows = len(raw)
    content = np.frombuffer(raw.buffers()[1] or b"", np.uint8)[16 * raw.offset : 16 * (raw.offset + rows)]
    digits = np.frombuffer(hexlify(content.data), np.uint8).reshape(rows, 32)
    written = np.full((rows, 36), ord("-"), np.uint8)
    for place, (start, end) in enumerate(_UUID_PARTS):
        written[:, start + place : end + place] = digits[:, start:end]
    places = np.arange(rows + 1, dtype=np.int32) * 36
    texts = pa.Array.from_buffers(pa.string(), rows, [None, pa.py_buffer(places), pa.py_buffer(written)])
    return pc.if_else(pc.is_valid(raw), texts, pa.scalar(None, pa.string())) if raw.null_count else texts


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
    text = to_text(pa.array([cell], type=cell.type))[0].as_py()
    if pa.types.is_temporal(cell.type) and text.startswith(_NO_TIME):
        raise pa.ArrowInvalid(f"{type_name(cell.type)}: {text}")
    return text
