"""Dates and times of a MySQL or MariaDB binary result, decoded column by column into Arrow.

Trailing parts of zero are left out on the wire. What no calendar or clock has is a hazard, told as the server
writes it. Layouts: see `_mysql.cells`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from atlas_etl.connectors.sql._mysql.cells import Bools, Ints, Nulls, Rows, malformed, primitive
from atlas_etl.connectors.sql._mysql.types import Column
from atlas_etl.model import Hazard, HazardCells

# `size` says how many bytes follow it.
_MOMENT = np.dtype([
    ("size", "u1"), ("year", "<u2"), ("month", "u1"), ("day", "u1"),
    ("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("micros", "<u4"),
])  # fmt: skip
_TIME = np.dtype([
    ("size", "u1"), ("negative", "u1"), ("days", "<u4"),
    ("hour", "u1"), ("minute", "u1"), ("second", "u1"), ("micros", "<u4"),
])  # fmt: skip
_MICROSECONDS_PER_DAY = 86_400_000_000
_FIRST_DAYS = np.arange("0000-01", "10000-02", dtype="M8[M]").astype("M8[D]").astype(np.int64)
"""Of every month since year 0, the day on which it begins, counted from 1970-01-01."""
_MONTH_LENGTHS = np.diff(_FIRST_DAYS)

_Decoded = tuple[pa.Array, tuple[HazardCells, ...]]


def moments(rows: Rows, column: Column, kind: pa.DataType, nulls: Nulls) -> _Decoded:
    """DATE, DATETIME and TIMESTAMP; a day that no calendar has is a hazard."""
    cells = _Cells(rows, _MOMENT, (0, 4, 7, 11), nulls)
    year, month, day = (cells.part(name, 4) for name in ("year", "month", "day"))
    known = (year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12)
    index = np.where(known, year * 12 + month - 1, 0)
    bad = cells.without_nulls(~(known & (day >= 1) & (day <= _MONTH_LENGTHS[index])))
    days = _FIRST_DAYS[index] + day - 1
    if pa.types.is_date(kind):
        array = primitive(kind, days.astype(np.int32), cells.missing(bad))
    else:
        clock = cells.clock(cells.part("hour", 7), 7, 11)
        array = primitive(kind, days * _MICROSECONDS_PER_DAY + clock, cells.missing(bad))
    if not bad.any():
        return array, ()
    dates = [f"{y:04d}-{m:02d}-{d:02d}" for y, m, d in _tuples(bad, year, month, day)]
    if pa.types.is_date(kind):
        return array, _hazards(column, Hazard.ZERO_DATE, bad, dates)
    clocks = _clock_texts(column, bad, clock)
    texts = [f"{date} {clock}" for date, clock in zip(dates, clocks, strict=True)]
    return array, _hazards(column, Hazard.ZERO_DATE, bad, texts)


def times(rows: Rows, column: Column, kind: pa.DataType, nulls: Nulls) -> _Decoded:
    """TIME, which goes from -838:59:59 to 838:59:59; what is no time of day is a hazard."""
    cells = _Cells(rows, _TIME, (0, 8, 12), nulls)
    hours = cells.part("days", 8) * 24 + cells.part("hour", 8)
    clock = cells.clock(hours, 8, 12)
    negative = cells.part("negative", 8)
    bad = cells.without_nulls((negative != 0) | (hours >= 24))
    array = primitive(kind, clock.copy(), cells.missing(bad))
    if not bad.any():
        return array, ()
    signs = ["-" if sign else "" for (sign,) in _tuples(bad, negative)]
    texts = [sign + text for sign, text in zip(signs, _clock_texts(column, bad, clock), strict=True)]
    return array, _hazards(column, Hazard.TIME_RANGE, bad, texts)


class _Cells:
    """A column's dates or times in parts. Cells that are NULL hold anything."""

    def __init__(self, rows: Rows, layout: np.dtype[Any], allowed: tuple[int, ...], nulls: Nulls) -> None:
        self._cells = rows.read(layout)
        self._nulls = nulls
        self._sizes = self._cells["size"]
        there = self._sizes if nulls is None else self._sizes[~nulls]
        possible = np.zeros(256, np.bool_)
        possible[list(allowed)] = True
        if not possible[there].all():
            raise malformed("a date or time has an impossible length")
        self._least, self._most = int(there.min(initial=255)), int(there.max(initial=0))
        rows.skip(self._sizes + np.int64(1), nulls)

    def part(self, name: str, size: int) -> Ints:
        """A part that cells of at least this size have; 0 in the others."""
        if self._most < size:
            return np.zeros(len(self._cells), np.int64)
        part: Ints = self._cells[name].astype(np.int64)
        return part if self._least >= size else np.where(self._sizes >= size, part, 0)

    def clock(self, hours: Ints, seconds_from: int, micros_from: int) -> Ints:
        """Microseconds since midnight."""
        minutes = hours * 60 + self.part("minute", seconds_from)
        seconds = minutes * 60 + self.part("second", seconds_from)
        return seconds * 1_000_000 + self.part("micros", micros_from)

    def without_nulls(self, bad: Bools) -> Bools:
        return bad if self._nulls is None else bad & ~self._nulls

    def missing(self, bad: Bools) -> Nulls:
        """Which cells an array has none for."""
        if self._nulls is not None:
            return self._nulls | bad
        return bad if bad.any() else None


def _tuples(chosen: Bools, *parts: Ints) -> zip[tuple[int, ...]]:
    return zip(*(part[chosen].tolist() for part in parts), strict=True)


def _clock_texts(column: Column, chosen: Bools, clock: Ints) -> list[str]:
    """As the server writes them: hours past 99 in as many digits, and the column's own number of decimals."""
    texts = []
    for (total,) in _tuples(chosen, clock):
        seconds, micros = divmod(total, 1_000_000)
        fraction = f".{micros:06d}"[: 1 + column.decimals] if column.decimals else ""
        texts.append(f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}")
    return texts


def _hazards(column: Column, hazard: Hazard, bad: Bools, texts: Sequence[str]) -> tuple[HazardCells, ...]:
    return (HazardCells(column.name, hazard, tuple(np.flatnonzero(bad).tolist()), tuple(texts)),)
