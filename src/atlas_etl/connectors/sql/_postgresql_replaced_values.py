"""Values that a table's columns would round or cut without a word: refused before they are sent.

Sources: https://www.postgresql.org/docs/current/datatype-datetime.html (digits of a second) and
.../datatype-character.html (blanks beyond the length are cut off).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._meaning import does_not_fit
from atlas_etl.connectors.sql._postgresql_catalog import CatalogColumn
from atlas_etl.connectors.sql._postgresql_types import ServerType

_VARCHAR, _INTERVAL = 1043, 1186
_MOMENTS = (1083, 1114, 1184)  # time, timestamp, timestamptz
_HEADER = 4  # by which the length in a varchar's typmod is greater
_INTERVALS = np.dtype([("months", "i4"), ("days", "i4"), ("nanoseconds", "i8")])
_MOST_DIGITS = 6

_Integers: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"


def may_replace(type_: ServerType) -> bool:
    """Whether a column of this type keeps another value in the place of some."""
    return _length(type_) is not None or _digits(type_) is not None


def refuse_replaced(batch: pa.RecordBatch, columns: Sequence[CatalogColumn]) -> None:
    """Raise RefusedRowError for the first column that would keep another value; `columns` are the table's."""
    for column, cells in zip(columns, batch.columns, strict=True):
        length, digits, native = _length(column.type), _digits(column.type), column.type.native
        if length is not None and pa.types.is_string(cells.type):
            if pc.any(pc.greater(pc.utf8_length(cells), length)).as_py():
                raise does_not_fit(column.name, f"has a text that is longer than {native} holds")
        elif digits is not None and np.any(_nanoseconds(cells) % 10 ** (9 - digits)):
            raise does_not_fit(column.name, f"has a time with more digits of a second than {native} has")


def _length(type_: ServerType) -> int | None:
    """How many characters a varchar holds, where it has a limit."""
    return type_.typmod - _HEADER if type_.oid == _VARCHAR and type_.typmod >= _HEADER else None


def _digits(type_: ServerType) -> int | None:
    """To how many digits of a second a column rounds, where it does (AdjustIntervalForTypmod)."""
    if type_.typmod < 0 or type_.oid not in (*_MOMENTS, _INTERVAL):
        return None
    digits = type_.typmod & 0xFFFF if type_.oid == _INTERVAL else type_.typmod
    return digits if digits < _MOST_DIGITS else None


def _nanoseconds(cells: pa.Array) -> _Integers:
    """Of the second that each value is in; an interval's are all of its time."""
    present = cells.drop_null()
    if present.type == pa.month_day_nano_interval():
        whole = np.frombuffer(present.buffers()[1], _INTERVALS)[present.offset :][: len(present)]
        return cast(_Integers, whole["nanoseconds"])
    return cast(_Integers, present.view(pa.int64()).to_numpy() % 1_000_000 * 1000)
