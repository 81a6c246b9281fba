"""Values that a table's columns would round or cut without a word: they are refused.

Another spelling of a value (an inet's, a macaddr's, a tsvector's or a jsonb document's) is the same value.

Sources: https://www.postgresql.org/docs/current/datatype-datetime.html (digits of a second, fields of an
interval), .../datatype-character.html (blanks at the end), .../datatype-bit.html and .../datatype-money.html.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.sql._meaning import does_not_fit
from atlas_etl.connectors.sql._postgresql.catalog import CatalogColumn
from atlas_etl.connectors.sql._postgresql.types import ServerType

_CHAR, _VARCHAR, _INTERVAL = 1042, 1043, 1186
_MOMENTS = (1083, 1114, 1184)  # time, timestamp, timestamptz
_HEADER = 4  # by which the length in a text's typmod is greater
_INTERVALS = np.dtype([("months", "i4"), ("days", "i4"), ("nanoseconds", "i8")])
_MOST_DIGITS = 6
_PADDED = re.compile(r"(?:n?char|character|bpchar)(?:\(|\[|$)", re.IGNORECASE)  # a source's types

_Integers: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"
_Steps = tuple[int, int, int]  # what months, days and nanoseconds are multiples of; 0: there are none

_ANY: _Steps = (1, 1, 1)
_SECOND, _MINUTE = 10**9, 60 * 10**9
_BY_FIELD: Mapping[int, _Steps] = {  # by the bit of an interval's finest field (AdjustIntervalForTypmod)
    1 << 12: _ANY,
    1 << 11: (1, 1, _MINUTE),
    1 << 10: (1, 1, 60 * _MINUTE),
    1 << 3: (1, 1, 0),
    1 << 1: (1, 0, 0),
    1 << 2: (12, 0, 0),
}

_WHOLE = {1266: "timetz", 1560: "varbit", 1562: "varbit"}  # timetz, bit and varbit without their limits
_MONEY = 790
_DIGITS = "btrim(regexp_replace({}, '[^0-9]', '', 'g'), '0')"


def may_replace(type_: ServerType) -> bool:
    """Whether a column of this type keeps another value in the place of some that come in binary form."""
    return _length(type_) is not None or _steps(type_) != _ANY


def refuse_replaced(batch: pa.RecordBatch, columns: Sequence[CatalogColumn]) -> None:
    """Raise RefusedRowError for the first column that would keep another value; `columns` are the table's."""
    for field, column, came in zip(batch.schema, columns, batch.columns, strict=True):
        cells = came.flatten() if pa.types.is_list(came.type) else came
        length, steps, native = _length(column.type), _steps(column.type), column.type.native
        if length is not None and pa.types.is_string(cells.type):
            is_char = _kind(column.type) == _CHAR
            texts = pc.utf8_rtrim(cells, " ") if is_char and _is_padded(field) else cells
            if pc.any(pc.greater(pc.utf8_length(texts), length)).as_py():
                raise does_not_fit(column.name, f"has a text that is longer than {native} holds")
            is_short = pc.less(pc.utf8_length(texts), length)  # the others come back as they are
            if is_char and pc.any(pc.and_(is_short, pc.ends_with(texts, " "))).as_py():
                raise does_not_fit(
                    column.name, f"has a text with a blank at its end, which {native} does not keep"
                )
        elif steps != _ANY and any(map(_has_rest, _parts(cells), steps)):
            raise does_not_fit(column.name, f"has a time or interval that is finer than {native} holds")


def cut_text(name: str, type_: ServerType) -> str | None:
    """The SQL of whether a text, given as SQL, is cut or rounded where it is cast to this type.

    Of an array it is a text of each element. None where the server refuses such a text itself.
    """
    if type_.element is not None:
        cut = _cut("cell", type_.element, type_.typmod, type_.native.removesuffix("[]"))
        return cut and f"EXISTS (SELECT FROM unnest({name}) AS each (cell) WHERE {cut})"
    return _cut(name, type_.oid, type_.typmod, type_.native)


def _cut(name: str, oid: int, typmod: int, native: str) -> str | None:
    if oid == _MONEY:
        return f"{_DIGITS.format(name)} <> {_DIGITS.format(f'{name}::money::text')}"
    if oid in _WHOLE and typmod >= 0:
        return f"{name}::{_WHOLE[oid]} <> {name}::{native}::{_WHOLE[oid]}"
    return None


def _kind(type_: ServerType) -> int:
    """Of a value, also within an array."""
    return type_.oid if type_.element is None else type_.element


def _length(type_: ServerType) -> int | None:
    """How many characters a text holds, where it has a limit."""
    limited = _kind(type_) in (_CHAR, _VARCHAR) and type_.typmod >= _HEADER
    return type_.typmod - _HEADER if limited else None


def _is_padded(field: pa.Field) -> bool:
    """Whether the source has a CHAR here, too, whose blanks at the end mean nothing."""
    return _PADDED.match(values.source_type(field) or "") is not None


def _steps(type_: ServerType) -> _Steps:
    """In which steps a column counts, to which it rounds or cuts; those of a microsecond are `_ANY`."""
    kind, typmod = _kind(type_), type_.typmod
    if typmod < 0 or kind not in (*_MOMENTS, _INTERVAL):
        return _ANY
    fields, digits = (typmod >> 16, typmod & 0xFFFF) if kind == _INTERVAL else (1 << 12, typmod)
    months, days, nanoseconds = next(steps for bit, steps in _BY_FIELD.items() if fields & bit)
    return months, days, 10 ** (9 - digits) if nanoseconds == 1 and digits < _MOST_DIGITS else nanoseconds


def _parts(cells: pa.Array) -> tuple[_Integers, ...]:
    """Months, days and nanoseconds of each value; of what is no interval, the nanoseconds of its second."""
    present = cells.drop_null()
    if present.type == pa.month_day_nano_interval():
        whole = np.frombuffer(present.buffers()[1], _INTERVALS)[present.offset :][: len(present)]
        return whole["months"], whole["days"], whole["nanoseconds"]
    none = np.zeros(0, np.int64)
    return none, none, cast(_Integers, present.view(pa.int64()).to_numpy() % 1_000_000 * 1000)


def _has_rest(numbers: _Integers, step: int) -> bool:
    return bool(np.any(numbers % step if step else numbers))
