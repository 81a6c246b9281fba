"""The narrowest exact type of a column of text, found over all of its cells and never over the first ones.

A column is a number, a boolean, a date or a timestamp only where every cell is written as one: `007`, `+1`,
`.5` and `1,000` are text, and so is a mixture. What a narrowed value reads as is what was written: digits
are kept (a decimal, not a double), and doubles are inferred only where an exponent is used and nothing
would be rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values

_DOCUMENTS = msgspec.json.Decoder(msgspec.Raw)
_PLAIN = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
_EXPONENT = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?"
_ZONE = r"(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_BOOLEANS = pa.array(["true", "false", "True", "False", "TRUE", "FALSE"])
_HEADROOM = (
    18  # decimals have at least so many digits: the next file rarely needs more, and 64 bits hold them
)
_EXACT_DIGITS = 15  # every decimal of so many digits survives a double (IEEE 754, DBL_DIG)
_WIDEST = 76
_SHORT_EXPONENT = r"[eE][+-]?[0-9]{1,3}$"
_YEAR_10000 = 253_402_300_800_000_000  # microseconds
_NANOSECONDS_END = 2**63 // 1000  # microseconds from 1970 that int64 nanoseconds reach
_LEAST_NORMAL = 2.2250738585072014e-308  # below it doubles have fewer digits, and at zero none


class Number:
    """Integers, decimals or doubles: whatever all cells so far are."""

    def __init__(self, known: pa.DataType | None = None) -> None:
        """`known` is the type of numbers before these.

        Where they were doubles, these are, too. Beside integers and decimals, those with exponents are
        spelled out, for a double may be none of those before.
        """
        self._whole, self._scale = 0, known.scale if known is not None and pa.types.is_decimal(known) else 0
        self._beyond_int64, self._exponents = False, known == pa.float64()
        self._spells_out = known is not None and (pa.types.is_integer(known) or pa.types.is_decimal(known))
        self._exact_doubles = True
        self._known = known
        self._least = self._greatest = 0  # of the integers

    def takes(self, cells: pa.Array) -> bool:
        """Whether every cell is a number that can still be told exactly together with those before."""
        if self._integers(cells):
            return self.type is not None
        if _all(pc.match_substring_regex(cells, _PLAIN)):
            self._decimals(cells)
        elif _all(pc.match_substring_regex(cells, _EXPONENT)):
            if self._spells_out:
                plain = spelled_out(cells)
                return plain is not None and self.takes(plain)
            self._exponents = True
            self._exact_doubles = self._exact_doubles and _doubles_are_exact(cells)
        else:
            return False
        return self.type is not None

    @property
    def type(self) -> pa.DataType | None:
        if self._exponents:
            return pa.float64() if self._exact_doubles else None
        if self._known is not None and self._fits(self._known):
            return self._known
        if not (self._scale or self._beyond_int64):
            return pa.int64()
        digits = self._whole + self._scale
        return decimal(max(digits, _HEADROOM), self._scale) if digits <= _WIDEST else None

    def _integers(self, cells: pa.Array) -> bool:
        try:
            numbers = pc.cast(cells, pa.int64())
        except pa.ArrowInvalid:
            return False
        if not _all(pc.equal(pc.cast(numbers, pa.string()), cells)):
            return False
        edges = pc.min_max(numbers).as_py()
        self._least, self._greatest = min(self._least, edges["min"]), max(self._greatest, edges["max"])
        self._see(max(len(str(abs(edge))) for edge in edges.values()), 0, cells)
        return True

    def _fits(self, known: pa.DataType) -> bool:
        """Whether a column of this exact type holds all of the numbers."""
        if pa.types.is_decimal(known):
            return bool(self._scale <= known.scale and self._whole <= known.precision - known.scale)
        if not pa.types.is_integer(known) or self._scale or self._beyond_int64:
            return False
        half = 2 ** (known.bit_width - 1)
        least, end = (-half, half) if pa.types.is_signed_integer(known) else (0, 2 * half)
        return bool(least <= self._least and self._greatest < end)

    def _decimals(self, cells: pa.Array) -> None:
        signs = pc.cast(pc.starts_with(cells, "-"), pa.int32())
        points = pc.find_substring(cells, ".")
        sizes = pc.binary_length(cells)
        fractions = pc.if_else(pc.less(points, 0), 0, pc.subtract(pc.subtract(sizes, points), 1))
        wholes = pc.subtract(pc.if_else(pc.less(points, 0), sizes, points), signs)
        scale = pc.max(fractions).as_py()
        self._beyond_int64 |= scale == 0  # integers, but not all of them in 64 bits
        self._see(pc.max(wholes).as_py(), scale, cells)

    def _see(self, whole: int, scale: int, cells: pa.Array) -> None:
        self._whole, self._scale = max(self._whole, whole), max(self._scale, scale)
        if whole + scale > _EXACT_DIGITS and self._exact_doubles:
            self._exact_doubles = _doubles_are_exact(cells)


class Boolean:
    """`true` and `false`, in lower or upper case or capitalised; 0 and 1 are integers."""

    type = pa.bool_()

    def takes(self, cells: pa.Array) -> bool:
        return _all(pc.is_in(cells, _BOOLEANS))


class Date:
    """`2026-03-01`, years 0001 to 9999."""

    type = pa.date32()

    def takes(self, cells: pa.Array) -> bool:
        try:
            days = pc.cast(cells, pa.date32())
        except pa.ArrowInvalid:
            return False
        return _all(pc.equal(pc.cast(days, pa.string()), cells)) and not _has_year_zero(cells)


class Timestamp:
    """ISO 8601 with `T` or a blank, all with a zone or all without; nanoseconds where one needs them."""

    def __init__(self, zone: str | None) -> None:
        self._zone = zone
        self._pattern = _MOMENT + (_ZONE if zone else "$")
        self._unit = "us"
        self._beyond_nanoseconds = False

    @property
    def type(self) -> pa.DataType:
        return pa.timestamp(self._unit, self._zone)

    def takes(self, cells: pa.Array) -> bool:
        if not _all(pc.match_substring_regex(cells, self._pattern)) or _has_year_zero(cells):
            return False
        moments = self._parse(cells)
        if moments is None and self._unit == "us":
            self._unit = "ns"
            moments = self._parse(cells)
        if moments is None:
            return False
        if self._unit == "us":
            edges = pc.cast(_edges(moments), pa.int64()).to_pylist()
            if max(edges) >= _YEAR_10000:  # written as 9999, but so far west that UTC is in the next year
                return False
            self._beyond_nanoseconds |= max(map(abs, edges)) >= _NANOSECONDS_END
        return not (self._unit == "ns" and self._beyond_nanoseconds)

    def _parse(self, cells: pa.Array) -> pa.Array | None:
        try:
            return pc.cast(cells, self.type)
        except pa.ArrowInvalid:
            return None


class Uuid:
    """Uuids in a column of them: no text is inferred as one."""

    type = pa.uuid()

    def takes(self, cells: pa.Array) -> bool:
        try:
            texts = values.to_text(values.from_text(cells, self.type))
        except (pa.ArrowInvalid, ValueError):
            return False
        return _all(pc.equal(texts, pc.utf8_lower(cells)))


class TimeOfDay:
    """`08:00:00` in a column of times of day, as fine as that: no text is inferred as one."""

    def __init__(self, known: pa.DataType) -> None:
        self.type = known

    def takes(self, cells: pa.Array) -> bool:
        try:
            values.from_text(cells, self.type)
        except pa.ArrowInvalid:
            return False
        return True


class Document:
    """JSON, in a column of documents."""

    type = pa.json_()

    def takes(self, cells: pa.Array) -> bool:
        try:
            for cell in cells.to_pylist():
                _DOCUMENTS.decode(cell)
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


Candidate = Number | Boolean | Date | Timestamp | Uuid | TimeOfDay | Document


class TextColumn:
    """One column being inferred; an empty cell is a value of text, and none of anything else."""

    def __init__(self, known: pa.DataType | None = None) -> None:
        """`known` is the type of the column's values before these, which count as well."""
        self._alive = _candidates(known)
        self._cells = 0
        self.nulls = 0
        self._empty = 0

    def see(self, cells: pa.Array) -> None:
        """Take one batch of the column, in any order."""
        self.nulls += cells.null_count
        valid = cells.drop_null()
        filled = valid.filter(pc.not_equal(valid, ""))
        self._empty += len(valid) - len(filled)
        self._cells += len(filled)
        if len(filled):
            self._alive = [candidate for candidate in self._alive if candidate.takes(filled)]

    @property
    def is_filled(self) -> bool:
        """Whether a cell was filled: without one there is nothing to tell a type by."""
        return self._cells > 0

    @property
    def type(self) -> pa.DataType:
        """Text where no cell was filled."""
        return (self._alive[0].type if self.is_filled and self._alive else None) or pa.string()

    def missing_as(self, kind: pa.DataType) -> int:
        """Cells that are NULL when the column is read in this type."""
        has_empty = pa.types.is_string(kind) or pa.types.is_binary(kind)
        return self.nulls + (0 if has_empty else self._empty)


def _candidates(known: pa.DataType | None) -> list[Candidate]:
    """What cells may be beside values of this type; none where all of them are text."""
    if known is None:
        return [Number(), Boolean(), Date(), Timestamp(None), Timestamp("UTC")]
    if pa.types.is_boolean(known):
        return [Boolean()]
    if pa.types.is_date(known):
        return [Date()]
    if pa.types.is_timestamp(known):
        return [Timestamp(known.tz)]
    if known == pa.json_():
        return [Document()]
    if known == pa.uuid():
        return [Uuid()]
    if pa.types.is_time(known):
        return [TimeOfDay(known)]
    is_number = pa.types.is_integer(known) or pa.types.is_decimal(known) or pa.types.is_floating(known)
    return [Number(known)] if is_number else []


def decimal(digits: int, scale: int) -> pa.DataType:
    """The decimal type of so many digits (up to 76), `scale` of them after the point."""
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)


def plain_numbers(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cells that are to be integers or decimals, without exponents; those of other kinds as they are."""
    spelled = spelled_out(cells) if pa.types.is_integer(kind) or pa.types.is_decimal(kind) else None
    return cells if spelled is None else spelled


def spelled_out(cells: pa.Array) -> pa.Array | None:
    """Numbers in plain digits, as `0.00001` for `1e-05`; None where an exponent has four digits or more."""
    has_exponent = pc.fill_null(pc.match_substring_regex(cells, "[eE]"), False)
    if not pc.any(has_exponent).as_py():
        return cells
    written = cells.filter(has_exponent)
    if not _all(pc.match_substring_regex(written, _SHORT_EXPONENT)):
        return None
    plain = pa.array([format(Decimal(text), "f") for text in written.to_pylist()], pa.string())
    return pc.replace_with_mask(cells, has_exponent, plain)


def first_misfit(cells: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> int:
    """The index of the first cell that `convert` refuses; there must be one."""
    start, size = 0, len(cells)
    while size > 1:
        half = size // 2
        try:
            convert(cells.slice(start, half))
            start, size = start + half, size - half
        except (pa.ArrowInvalid, ValueError):
            size = half
    return start


def _all(mask: pa.Array) -> bool:
    return bool(pc.all(mask).as_py())


def _has_year_zero(cells: pa.Array) -> bool:
    return bool(pc.any(pc.starts_with(cells, "0000")).as_py())


def _edges(column: pa.Array) -> pa.Array:
    """The least and the greatest value."""
    found = pc.min_max(column)
    return pa.array([found["min"], found["max"]], column.type)


def _doubles_are_exact(cells: pa.Array) -> bool:
    """Whether each cell has the digits of the double that it reads as, or so few that none is lost."""
    try:
        doubles = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:
        return False
    if not _all(pc.is_finite(doubles)):
        return False
    digits = pc.binary_length(pc.replace_substring_regex(cells, r"[eE].*$|^-?0*\.?0*|[.-]", ""))
    few = pc.and_(pc.less_equal(digits, _EXACT_DIGITS), pc.greater_equal(pc.abs(doubles), _LEAST_NORMAL))
    shortest = pc.equal(pc.cast(doubles, pa.string()), cells)
    doubtful = cells.filter(pc.invert(pc.or_(few, shortest)))
    return all(Decimal(text) == Decimal(repr(float(text))) for text in doubtful.to_pylist())
