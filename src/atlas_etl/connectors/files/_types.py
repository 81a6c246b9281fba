"""Arrow types of files: as Atlas holds them, and widened over files."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.infer import decimal

_SIGNED = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_UNSIGNED = (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())
_DIGITS = dict(zip((*_SIGNED, *_UNSIGNED), (3, 5, 10, 19, 3, 5, 10, 20), strict=True))
_WIDE_DIGITS = 76  # of decimal256
_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def held(kind: pa.DataType) -> pa.DataType:
    """How Atlas holds a column of a file's type (the conventions of values); an exact form of each."""
    if isinstance(kind, pa.BaseExtensionType):
        if kind == pa.uuid():
            return kind
        if kind == pa.bool8():
            return pa.bool_()
        return pa.json_() if kind.extension_name == "arrow.json" else held(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return held(kind.value_type)
    if pa.types.is_decimal(kind):
        scale = max(kind.scale, 0)
        return decimal(kind.precision + scale - kind.scale, scale)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("ns" if kind.unit == "ns" else "us", "UTC" if kind.tz else None)
    if pa.types.is_time(kind):
        return pa.string() if kind.unit == "ns" else pa.time64("us")
    if _is_list(kind):
        item = held(kind.value_type)
        flat = not (isinstance(item, pa.BaseExtensionType) or pa.types.is_nested(item))
        return pa.list_(item) if flat and not pa.types.is_interval(item) else pa.json_()
    if pa.types.is_nested(kind):
        return pa.json_()
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    simple = {
        pa.large_string(): pa.string(),
        pa.string_view(): pa.string(),
        pa.large_binary(): pa.binary(),
        pa.binary_view(): pa.binary(),
        pa.float16(): pa.float32(),
        pa.date64(): pa.date32(),
        pa.null(): pa.string(),
    }
    return pa.month_day_nano_interval() if pa.types.is_duration(kind) else simple.get(kind, kind)


def held_in_text(kind: pa.DataType) -> pa.DataType:
    """How a format of plain text holds it: lists as JSON, intervals as their text."""
    kept = held(kind)
    if pa.types.is_list(kept):
        return pa.json_()
    return pa.string() if pa.types.is_interval(kept) else kept


def as_held(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A column in a type that `held` or `wider` gave. Raises ArrowInvalid where a value would change."""
    if column.type == kind:
        return column
    if pa.types.is_run_end_encoded(column.type):
        return as_held(pc.run_end_decode(column), kind)
    if pa.types.is_dictionary(column.type):
        return as_held(column.dictionary_decode(), kind)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), kind)
    if pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type):
        # Arrow 26 loses items when it casts these.
        return as_held(pa.array(column.to_pylist(), pa.list_(column.type.value_type)), kind)
    if pa.types.is_duration(column.type):
        factor = _NANOSECONDS[column.type.unit]
        counts = column.cast(pa.int64()).to_pylist()
        try:
            return pa.array(
                [None if n is None else pa.MonthDayNano([0, 0, n * factor]) for n in counts], kind
            )
        except OverflowError as failure:
            raise pa.ArrowInvalid("a duration is too long for nanoseconds") from failure
    return values.convert(column, kind)


def wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type of a column that two files hold in these types, both as Atlas holds them; None: there is none.

    Unlike a table's evolution, text never takes numbers in: two files that differ so are two things.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    for family in (_SIGNED, _UNSIGNED):
        if one in family and other in family:
            return max(one, other, key=family.index)
    if _is_exact(one) and _is_exact(other):
        scale = max(_scale(one), _scale(other))
        digits = max(_digits(one) - _scale(one), _digits(other) - _scale(other)) + scale
        return decimal(digits, scale) if digits <= _WIDE_DIGITS else None
    if {one, other} <= {pa.float32(), pa.float64(), *_SIGNED[:3], *_UNSIGNED[:3]}:
        return pa.float64()  # integers of 32 bits fit a double's 53
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other) and one.tz == other.tz:
        return pa.timestamp("ns", one.tz)
    if pa.types.is_list(one) and pa.types.is_list(other):
        item = wider(one.value_type, other.value_type)
        return pa.list_(item) if item is not None else None
    return None


def _is_list(kind: pa.DataType) -> bool:
    of_kind = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return any(test(kind) for test in of_kind)


def _is_exact(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _digits(kind: pa.DataType) -> int:
    return _DIGITS[kind] if kind in _DIGITS else int(kind.precision)


def _scale(kind: pa.DataType) -> int:
    return 0 if kind in _DIGITS else int(kind.scale)
