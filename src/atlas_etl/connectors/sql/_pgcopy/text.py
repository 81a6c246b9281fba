"""One binary value as the text that PostgreSQL would show for it, to report values that Arrow cannot hold.

Follows the `*_out` functions of src/backend/utils/adt with DateStyle ISO, IntervalStyle postgres,
TimeZone UTC and extra_float_digits 1. One Python call per value: for the few, never for a column.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from math import prod

import numpy as np

from atlas_etl.connectors.sql._pgcopy.types import (
    CHAR_TEXTS,
    DAY_MICROSECONDS,
    NUMERIC_MINUS_INFINITY,
    NUMERIC_NAN,
    NUMERIC_NEGATIVE,
    NUMERIC_PLUS_INFINITY,
    PgCopyError,
    PgType,
    Wire,
)

_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_JULIAN_2000 = 2_451_545


def text_form(type_: PgType, payload: bytes) -> str:
    """The value's text. Raises PgCopyError where the bytes are not a value of the type."""
    try:
        if type_.element is not None:
            return _array(type_.element, payload)
        return _FORMS[type_.wire](payload)
    except (struct.error, IndexError, ValueError) as failure:
        raise PgCopyError(f"a value is not a {type_.wire}") from failure


def numeric_text(payload: bytes) -> str:
    """numeric_out: as many digits behind the point as the display scale says."""
    count, weight, sign, scale = struct.unpack_from(">hhHH", payload)
    special = {NUMERIC_NAN: "NaN", NUMERIC_PLUS_INFINITY: "Infinity", NUMERIC_MINUS_INFINITY: "-Infinity"}
    if sign in special:
        return special[sign]
    digits = struct.unpack_from(f">{count}h", payload, 8)
    whole = "".join(f"{digits[i] if i < count else 0:04}" for i in range(weight + 1)).lstrip("0") or "0"
    places = range(weight + 1, weight + 1 + -(-scale // 4))
    fraction = "".join(f"{digits[i] if 0 <= i < count else 0:04}" for i in places)[:scale]
    return ("-" if sign == NUMERIC_NEGATIVE else "") + whole + (f".{fraction}" if scale else "")


def _date(payload: bytes) -> str:
    (days,) = struct.unpack(">i", payload)
    if days in (_INT32, -_INT32 - 1):
        return "infinity" if days > 0 else "-infinity"
    date, era = _calendar(days)
    return date + era


def _timestamp(payload: bytes) -> str:
    return _moment(payload, "")


def _timestamptz(payload: bytes) -> str:
    return _moment(payload, "+00")


def _moment(payload: bytes, zone: str) -> str:
    (microseconds,) = struct.unpack(">q", payload)
    if microseconds in (_INT64, -_INT64 - 1):
        return "infinity" if microseconds > 0 else "-infinity"
    days, rest = divmod(microseconds, DAY_MICROSECONDS)
    date, era = _calendar(days)
    return f"{date} {_clock(rest)}{zone}{era}"


def _calendar(days: int) -> tuple[str, str]:
    """j2date of datetime.c: the proleptic Gregorian calendar, whose year before 1 is 1 BC."""
    shifted = days + _JULIAN_2000 + 32_044
    century, day = divmod(4 * shifted + 3, 146_097)
    year, day = divmod(day // 4 * 4 + 3, 1461)
    month, day = divmod(5 * (day // 4) + 2, 153)
    year = 100 * century + year - 4800 + month // 10
    date = f"{year if year > 0 else 1 - year:04}-{month + 3 - 12 * (month // 10):02}-{day // 5 + 1:02}"
    return date, "" if year > 0 else " BC"


def _time(payload: bytes) -> str:
    (microseconds,) = struct.unpack(">q", payload)
    return _clock(microseconds)


def _clock(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    text = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def _interval(payload: bytes) -> str:
    """EncodeInterval, style postgres: a plus sign only behind a negative part."""
    microseconds, days, months = struct.unpack(">qii", payload)
    if (microseconds, days, months) == (_INT64, _INT32, _INT32):
        return "infinity"  # PostgreSQL 17
    if (microseconds, days, months) == (-_INT64 - 1, -_INT32 - 1, -_INT32 - 1):
        return "-infinity"
    sign = -1 if months < 0 else 1
    years, months = (sign * part for part in divmod(abs(months), 12))
    parts: list[str] = []
    before = False
    for value, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if value:
            parts.append(f"{'+' if before and value > 0 else ''}{value} {unit}{'' if value == 1 else 's'}")
            before = value < 0
    if microseconds or not parts:
        mark = "-" if microseconds < 0 else "+" if before else ""
        parts.append(mark + _clock(abs(microseconds)))
    return " ".join(parts)


def _float4(payload: bytes) -> str:
    return _shortest(np.frombuffer(payload, ">f4")[0].astype(np.float32), 6)


def _float8(payload: bytes) -> str:
    return _shortest(np.frombuffer(payload, ">f8")[0].astype(np.float64), 15)


def _shortest(value: np.floating, digits: int) -> str:
    """float8out: an exponent from 10**digits on, and no more digits than needed (common/d2s.c).

    Needed are those that lie nearer to the value than to its neighbours; unlike in Python, a tie is too far.
    """
    exact = float(value)
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "Infinity" if exact > 0 else "-Infinity"
    if exact == 0:
        return "-0" if np.signbit(value) else "0"
    with np.errstate(all="ignore"):  # the neighbour of the largest is infinity
        towards_zero = float(np.nextafter(value, value.dtype.type(0)))
        beyond = float(np.nextafter(value, value.dtype.type(exact * np.inf)))
    middle = Fraction(exact)
    inner = abs(middle - Fraction(towards_zero)) / 2
    outer = abs(Fraction(beyond) - middle) / 2 if np.isfinite(beyond) else inner
    for places in range(17):
        text = f"{exact:.{places}e}"
        off = (Fraction(text) - middle) * (1 if exact > 0 else -1)
        if -inner < off < outer:
            break
    mantissa, exponent = text.split("e")
    if -4 <= int(exponent) < digits:
        return format(Decimal(text), "f")
    return f"{mantissa}e{int(exponent):+03}"


def _text(payload: bytes) -> str:
    return payload.decode("utf-8")


def _array(element: PgType, payload: bytes) -> str:
    """array_out: nested braces, quotes where needed, bounds in front if any is not 1."""
    dimensions, _flags, _oid = struct.unpack_from(">iiI", payload)
    shape = [struct.unpack_from(">ii", payload, 12 + 8 * i) for i in range(dimensions)]
    if not shape:
        return "{}"
    at = 12 + 8 * dimensions
    items: list[str] = []
    while at < len(payload):
        (length,) = struct.unpack_from(">i", payload, at)
        at += 4
        items.append("NULL" if length < 0 else _quoted(text_form(element, payload[at : at + length])))
        at += max(length, 0)
    if len(items) != prod(size for size, _lower in shape):
        raise PgCopyError("an array's size is malformed")
    for size, _lower in reversed(shape):
        items = ["{" + ",".join(items[i : i + size]) + "}" for i in range(0, len(items), size)]
    if all(lower == 1 for _size, lower in shape):
        return items[0]
    return "".join(f"[{lower}:{lower + size - 1}]" for size, lower in shape) + "=" + items[0]


def _quoted(text: str) -> str:
    if text and text.upper() != "NULL" and not set(text) & set('"\\{}, \t\n\r\v\f'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_FORMS: dict[Wire, Callable[[bytes], str]] = {
    Wire.BOOL: lambda payload: "t" if payload[0] else "f",
    Wire.INT2: lambda payload: str(struct.unpack(">h", payload)[0]),
    Wire.INT4: lambda payload: str(struct.unpack(">i", payload)[0]),
    Wire.INT8: lambda payload: str(struct.unpack(">q", payload)[0]),
    Wire.OID: lambda payload: str(struct.unpack(">I", payload)[0]),
    Wire.FLOAT4: _float4,
    Wire.FLOAT8: _float8,
    Wire.NUMERIC: numeric_text,
    Wire.TEXT: _text,
    Wire.CHAR: lambda payload: str(CHAR_TEXTS[payload[0]].as_py()),
    Wire.BYTEA: lambda payload: f"\\x{payload.hex()}",
    Wire.DATE: _date,
    Wire.TIME: _time,
    Wire.TIMESTAMP: _timestamp,
    Wire.TIMESTAMPTZ: _timestamptz,
    Wire.INTERVAL: _interval,
    Wire.UUID: lambda payload: str(uuid.UUID(bytes=payload)),
    Wire.JSON: _text,
    Wire.JSONB: lambda payload: _text(payload[1:]),
}
