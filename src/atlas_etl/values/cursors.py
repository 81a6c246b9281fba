"""Cursor values: one cell of a column that rows are ordered by, as typed, lossless text."""

from __future__ import annotations

import math
import re
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.errors import ConfigError, SchemaChangeError
from atlas_etl.model import CursorKind, CursorValue
from atlas_etl.values.text import from_text, to_text
from atlas_etl.values.types import UNLIMITED_DECIMAL, type_name

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


def cursor_kind(kind: pa.DataType, *, stream: str, column: str) -> CursorKind:
    """How a column of this type orders rows. Raises ConfigError (`cursor_type`) where it cannot."""
    if pa.types.is_integer(kind):
        return CursorKind.INTEGER
    if pa.types.is_decimal(kind):
        return CursorKind.DECIMAL
    if pa.types.is_floating(kind):
        return CursorKind.FLOAT
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == UNLIMITED_DECIMAL:
        return CursorKind.TEXT
    if pa.types.is_date(kind):
        return CursorKind.DATE
    if pa.types.is_timestamp(kind):
        return CursorKind.TIMESTAMPTZ if kind.tz else CursorKind.TIMESTAMP
    if kind == pa.uuid():
        return CursorKind.UUID
    raise not_ordered(type_name(kind), stream=stream, column=column)


def not_ordered(kind: str, *, stream: str, column: str) -> ConfigError:
    """A column of the type of this name is no cursor."""
    return ConfigError(
        f"column {column!r} of type {kind} cannot be a cursor: its values have no useful order",
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


def comes_before(one: CursorValue, other: CursorValue) -> bool:
    """Whether a value comes before another of its kind, as Arrow has it; NaN is greater than every number."""
    return bool(_order(one) < _order(other))


def _order(value: CursorValue) -> Any:
    text = value.text
    if value.kind is CursorKind.INTEGER:
        return int(text)
    if value.kind is CursorKind.DECIMAL:
        return Decimal(text)
    if value.kind is CursorKind.FLOAT:
        return math.isnan(float(text)), float(text)
    if value.kind in (CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ):
        whole, _, fraction = text.removesuffix("Z").partition(".")
        return whole, fraction.rstrip("0")
    return text
