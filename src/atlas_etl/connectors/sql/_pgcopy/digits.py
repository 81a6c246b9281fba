"""Numbers of any digits (values.UNLIMITED_DECIMAL) as PostgreSQL's numeric on the wire.

The layout is that of _pgcopy.numeric. Zeros in front and behind may be sent: numeric_recv takes them away,
and the display scale keeps those behind the point.
"""

from __future__ import annotations

import re
import struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._pgcopy.types import (
    NUMERIC_MINUS_INFINITY,
    NUMERIC_NAN,
    NUMERIC_NEGATIVE,
    NUMERIC_PLUS_INFINITY,
    NUMERIC_POSITIVE,
    Ints,
    UnrepresentableError,
)

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?")
_PLAIN = r"^-?[0-9]{1,48}(\.[0-9]{1,48})?$"  # what numpy lays on a grid
_SPECIAL = {"NaN": NUMERIC_NAN, "Infinity": NUMERIC_PLUS_INFINITY, "-Infinity": NUMERIC_MINUS_INFINITY}
_WORTH = np.array([1000, 100, 10, 1], np.int16)


def encode_digits(column: pa.Array, scale: int | None) -> pa.Array:
    """The values of a string array as large_binary; `scale` is what a column declares.

    Raises UnrepresentableError for texts that are no number, and for digits that the scale would round.
    """
    plain = np.asarray(pc.fill_null(pc.match_substring_regex(column, _PLAIN), True))
    if scale is None and plain.all():
        if not column.null_count:
            return _encoded(column)
        return pc.if_else(column.is_valid(), _encoded(column.fill_null("0")), None)
    texts = column.to_pylist()
    encoded = [None if text is None else _payload(text, scale) for text in texts]
    wrong = [row for row, text in enumerate(texts) if text is not None and encoded[row] is None]
    if wrong:
        raise UnrepresentableError("no number that the column holds exactly", wrong)
    return pa.array(encoded, pa.large_binary())


def _payload(text: str, scale: int | None) -> bytes | None:
    """One value; None where there is no exact one."""
    if text in _SPECIAL:
        return struct.pack(">hhHH", 0, 0, _SPECIAL[text], 0)
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    minus, whole, fraction = found[1], found[2], found[3] or ""
    if scale is not None and len(fraction.rstrip("0")) > scale:
        return None
    groups = -(-len(whole) // 4)
    digits = whole.zfill(4 * groups) + fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    cut = len(digits) - len(digits.lstrip("0"))
    first = cut // 4
    kept = [int(digits[place : place + 4]) for place in range(4 * first, len(digits), 4)]
    while kept and not kept[-1]:
        kept.pop()
    sign = NUMERIC_NEGATIVE if minus else NUMERIC_POSITIVE
    return struct.pack(f">hhHH{len(kept)}h", len(kept), groups - 1 - first, sign, len(fraction), *kept)


def _encoded(column: pa.Array) -> pa.Array:
    """Plain texts, without NULLs: each with as many digit groups on both sides as the widest one needs."""
    _, offsets, content = column.buffers()
    places = np.frombuffer(offsets, np.int32, len(column) + 1, 4 * column.offset).astype(np.int64)
    data = np.frombuffer(content, np.uint8)
    start, end = places[:-1], places[1:]
    negative = data[start] == ord("-")
    point = np.asarray(pc.find_substring(column, ".")).astype(np.int64)
    point = np.where(point < 0, end, start + point)
    fraction = np.maximum(end - point - 1, 0)
    before, behind = (-(-int(most) // 4) for most in ((point - start - negative).max(), fraction.max()))
    lines = np.full((len(column), 4 * (before + behind)), ord("0"), np.uint8)
    _lay(lines[:, 4 * before - 1 :: -1], data, point - 1, -1, point - start - negative)
    _lay(lines[:, 4 * before :], data, point + 1, 1, fraction)
    record = np.empty(
        len(column),
        [
            ("digits", ">i2"),
            ("weight", ">i2"),
            ("sign", ">u2"),
            ("scale", ">u2"),
            ("grid", ">i2", (before + behind,)),
        ],
    )
    record["digits"] = before + behind
    record["weight"] = before - 1
    record["sign"] = np.where(negative, NUMERIC_NEGATIVE, NUMERIC_POSITIVE)
    record["scale"] = fraction
    digits = (lines - np.uint8(ord("0"))).reshape(len(column), -1, 4)
    record["grid"] = (digits * _WORTH).sum(axis=2, dtype=np.int16)
    ends = np.arange(len(column) + 1, dtype=np.int64) * record.itemsize
    return pa.Array.from_buffers(
        pa.large_binary(), len(column), [None, pa.py_buffer(ends), pa.py_buffer(record)]
    )


def _lay(lines: np.ndarray, data: np.ndarray, first: Ints, step: int, count: Ints) -> None:
    """Copy this many characters of each text, from `first` on, into the columns of the lines in order."""
    for place in range(int(count.max())):
        rows = np.flatnonzero(count > place)
        lines[rows, place] = data[first[rows] + step * place]
