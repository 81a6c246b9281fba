"""PostgreSQL's numeric on the wire: base-10000 digits to and from Arrow decimals, and to exact text.

Layout (numeric.c, numeric_send): int16 ndigits, int16 weight, uint16 sign, uint16 dscale, then int16 digits
of four decimal digits each, the first one worth 10000**weight.

Digits are laid on a grid, one column per value and one line per power of 10000, so that a decimal of
scale s is `grid / 10**shift` with `shift = -s mod 4`. Wide numbers are lists of 32-bit limbs, lowest first.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._pgcopy.cells import Cells, bitmap, gather_bytes
from atlas_etl.connectors.sql._pgcopy.text import numeric_text
from atlas_etl.connectors.sql._pgcopy.types import (
    NUMERIC_MINUS_INFINITY,
    NUMERIC_NAN,
    NUMERIC_NEGATIVE,
    NUMERIC_PLUS_INFINITY,
    NUMERIC_POSITIVE,
    Ints,
    Mask,
)

Words = npt.NDArray[np.uint64]

_LIMB_BITS = np.uint64(32)
_LIMB_MASK = np.uint64(0xFFFFFFFF)
_PAIR = 10**8  # two digits: a limb times this, plus a carry, stays within 64 bits
_TEXT_GROUPS = 12  # digit groups on each side of the point up to which numpy makes the text
_DIGIT_TEXTS = np.array([b"%04d" % digit for digit in range(10_000)], "S4").view(np.uint32)
_DIGIT_WIDTHS = np.array([len(str(digit)) for digit in range(10_000)], np.int64)


class _Header:
    """The four header fields of every value, checked; zeros where NULL."""

    def __init__(self, cells: Cells) -> None:
        fields = cells.gather("=u8").view(">i2").reshape(cells.count, 4)
        self.digits: Ints = fields[:, 0].astype(np.int64)
        self.weight: Ints = fields[:, 1].astype(np.int64)
        sign = fields[:, 2].astype(np.int64) & 0xFFFF
        self.scale: Ints = fields[:, 3].astype(np.int64)
        wrong = (cells.length != 8 + 2 * self.digits) | (self.digits < 0) | (self.scale < 0)
        cells.refuse(wrong if cells.valid is None else wrong & cells.valid, "a numeric has the wrong length")
        self.negative: Mask = sign == NUMERIC_NEGATIVE
        self.special: Mask = sign >= NUMERIC_NAN
        known = np.isin(sign, (NUMERIC_NAN, NUMERIC_PLUS_INFINITY, NUMERIC_MINUS_INFINITY))
        known |= (sign == NUMERIC_POSITIVE) | self.negative
        cells.refuse(~known | (self.special & (self.digits > 0)), "a numeric has an unknown sign")


def decode_decimal(cells: Cells, kind: pa.DataType) -> tuple[pa.Array, Mask, Mask]:
    """Values as decimal128 or decimal256; which are NaN or infinite; which do not fit the type.

    The last two are NULL in the array. Raises PgCopyError where a value is malformed.
    """
    header = _Header(cells)
    groups, shift = _alignment(kind.scale)
    width = (kind.precision - 1 + shift) // 4 + 1
    grid, misfit = _grid(cells, header, groups, width)
    # A digit of the top group may reach beyond the precision, one of the lowest below the scale.
    misfit |= grid[-1] >= 10 ** (kind.precision + shift - 4 * (width - 1))
    if shift:
        misfit |= grid[0] % 10**shift != 0
    if kind.precision + shift <= 18:
        total = grid[-1]
        for group in grid[-2::-1]:
            total = total * 10_000 + group
        limbs = _split((total // 10**shift if shift else total).view(np.uint64))
    else:
        limbs = _unscale(grid, shift)
    hidden = misfit | header.special
    words = _words(limbs, kind.bit_width // 64, header.negative)
    return cells.array(kind, words, hidden if hidden.any() else None), header.special, misfit


def decode_text(cells: Cells) -> pa.Array:
    """Values as numeric_out writes them: every digit of the display scale, `NaN`, `Infinity`."""
    header = _Header(cells)
    narrow = (abs(header.weight) < _TEXT_GROUPS) & (header.scale <= 4 * _TEXT_GROUPS) & ~header.special
    if narrow.all():
        texts = _texts(cells, header)
    else:
        wide = pa.array(
            [numeric_text(cells.payload(row)) for row in np.flatnonzero(~narrow).tolist()], pa.string()
        )
        rest = cells.without(~narrow)
        texts = pc.replace_with_mask(_texts(rest, _Header(rest)), pa.array(~narrow), wide)
    return pa.Array.from_buffers(pa.string(), cells.count, [bitmap(cells.valid), *texts.buffers()[1:]])


def encode_decimal(column: pa.Array) -> tuple[np.dtype[np.void], npt.NDArray[np.void]]:
    """Decimals as numeric_recv reads them; equally long for the whole column, zeros in front included."""
    kind = column.type
    each = kind.bit_width // 64
    words = np.frombuffer(column.buffers()[1], np.uint64, (column.offset + len(column)) * each)
    words = words.reshape(-1, each)[column.offset :]
    negative = words[:, -1].view(np.int64) < 0
    groups, shift = _alignment(kind.scale)
    limbs = _split(*_negated(list(words.T), negative))
    _multiply(limbs, 10**shift, np.zeros(len(column), np.uint64))
    grid = _divide_out(limbs)
    layout = np.dtype(
        [
            ("digits", ">i2"),
            ("weight", ">i2"),
            ("sign", ">u2"),
            ("scale", ">u2"),
            ("grid", ">i2", (len(grid),)),
        ]
    )
    values = np.empty(len(column), layout)
    values["digits"] = len(grid)
    values["weight"] = len(grid) - 1 - groups
    values["sign"] = np.where(negative, NUMERIC_NEGATIVE, NUMERIC_POSITIVE)
    values["scale"] = max(kind.scale, 0)
    for line, digits in enumerate(reversed(grid)):
        values["grid"][:, line] = digits
    return layout, values


def _alignment(scale: int) -> tuple[int, int]:
    """Digit groups after the point, and the decimal places that the last of them has beyond the scale."""
    groups = -(-scale // 4)
    return groups, 4 * groups - scale


def _grid(cells: Cells, header: _Header, groups: int, width: int) -> tuple[npt.NDArray[np.int64], Mask]:
    """Digits by power of 10000, lowest first, and the rows with digits outside of the grid."""
    grid = np.zeros((width, cells.count), np.int64)
    outside = np.zeros(cells.count, np.bool_)
    for index in range(int(header.digits.max())):
        mask = header.digits > index
        digit = cells.gather(">i2", 8 + 2 * index, mask).astype(np.int64)
        cells.refuse((digit < 0) | (digit > 9999), "a numeric has a digit beyond 9999")
        place = header.weight - index + groups
        fits = mask & (place >= 0) & (place < width)
        outside |= ~fits & (digit != 0)
        rows = np.flatnonzero(fits)
        grid[place[rows], rows] = digit[rows]
    return grid, outside


def _unscale(grid: npt.NDArray[np.int64], shift: int) -> list[Words]:
    """The grid divided by 10**shift, exactly, as limbs."""
    digits = grid.view(np.uint64)
    rest = len(digits) - 1
    limbs = [np.zeros(digits.shape[1], np.uint64)]
    if rest % 2:
        limbs = [digits[rest].copy()]
        rest -= 1
    for upper in range(rest, 0, -2):
        _multiply(limbs, _PAIR, digits[upper] * np.uint64(10_000) + digits[upper - 1])
    _multiply(limbs, 10 ** (4 - shift), digits[0] // np.uint64(10**shift))
    return limbs


def _multiply(limbs: list[Words], factor: int, carry: Words) -> None:
    """limbs = limbs * factor + carry, with another limb if there is need for it."""
    for index, limb in enumerate(limbs):
        product = limb * np.uint64(factor) + carry
        limbs[index] = product & _LIMB_MASK
        carry = product >> _LIMB_BITS
    if carry.any():
        limbs.append(carry)


def _divide_out(limbs: list[Words]) -> list[Words]:
    """The base-10000 digits of every number, lowest first; at least one."""
    digits: list[Words] = []
    while limbs or not digits:
        rest = np.zeros_like(limbs[0])
        for index in range(len(limbs) - 1, -1, -1):
            part = rest << _LIMB_BITS | limbs[index]
            limbs[index] = part // np.uint64(_PAIR)
            rest = part - limbs[index] * np.uint64(_PAIR)
        upper = rest // np.uint64(10_000)
        digits += [rest - upper * np.uint64(10_000), upper]
        while limbs and not limbs[-1].any():
            limbs.pop()
    return digits if digits[-1].any() else digits[:-1]


def _split(*words: Words) -> list[Words]:
    """64-bit words as limbs, without the upper ones that are zero everywhere."""
    limbs = [part for word in words for part in (word & _LIMB_MASK, word >> _LIMB_BITS)]
    while len(limbs) > 1 and not limbs[-1].any():
        limbs.pop()
    return limbs


def _words(limbs: list[Words], count: int, negative: Mask) -> npt.NDArray[np.uint64]:
    """Limbs as the little-endian two's complement that Arrow keeps: one row of `count` words per value."""
    zero = np.zeros_like(limbs[0])
    padded = limbs + [zero] * (2 * count - len(limbs))
    pairs = zip(padded[: 2 * count : 2], padded[1 : 2 * count : 2], strict=True)
    words = [lower | upper << _LIMB_BITS for lower, upper in pairs]
    return np.stack(_negated(words, negative), axis=1)


def _negated(words: list[Words], rows: Mask) -> list[Words]:
    if not rows.any():
        return words
    carry = np.ones(rows.size, np.bool_)
    found: list[Words] = []
    for word in words:
        inverse = ~word + carry
        carry &= inverse == 0
        found.append(np.where(rows, inverse, word))
    return found


def _texts(cells: Cells, header: _Header) -> pa.Array:
    """The text of every value, an empty one where NULL: cut out of lines as wide as the widest value."""
    whole = max(int(header.weight.max()), 0) + 1
    fraction = -(-int(header.scale.max()) // 4)
    grid, _beyond_scale = _grid(cells, header, fraction, whole + fraction)
    texts = _DIGIT_TEXTS[np.ascontiguousarray(grid[::-1].T)].view(np.uint8).reshape(cells.count, -1)
    point = 1 + 4 * whole  # behind the sign and the integer part
    lines = np.empty((cells.count, point + 1 + 4 * fraction), np.uint8)
    lines[:, 1:point] = texts[:, : point - 1]
    lines[:, point] = ord(".")
    lines[:, point + 1 :] = texts[:, point - 1 :]
    width = np.ones(cells.count, np.int64)  # of the integer part, without zeros in front
    for group in range(whole):
        digit = grid[fraction + group]
        width = np.where(digit > 0, 4 * group + _DIGIT_WIDTHS[digit], width)
    first = point - width - header.negative
    rows = np.flatnonzero(header.negative)
    lines[rows, first[rows]] = ord("-")
    end = point + np.where(header.scale > 0, 1 + header.scale, 0)
    if cells.valid is not None:
        end = np.where(cells.valid, end, first)
    begin = np.arange(cells.count) * lines.shape[1]
    return gather_bytes(lines.reshape(-1), begin + first, end - first).cast(pa.string())
