"""Where a read begins: cursors compared by SQLite in the form that the file keeps them in.

Timestamps and dates are text there: with a blank or a `T`, with or without seconds, fractions and a zone.
A bound is cut after its last digit that is not zero, so that it is no greater than any spelling of its
instant and greater than every spelling of an earlier one; an index on the column still serves it. Numbers
and text that is no date mostly sort where no bound would find them: those before every date are asked for
always, so that they are met and named.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.connectors.sql._sqlite.catalog import quote
from atlas_etl.errors import ConfigError
from atlas_etl.model import CursorKind, CursorValue, HazardCells

_MAX_INTEGER = 2**63 - 1
_NO_DATE = "'1000-'"  # numbers, empty text and `0000-00-00` sort before it; '1000' would become a number


class Since(Struct, frozen=True):
    """A timestamp bound: `text` narrows the rows in SQL; of those read, the ones before `at` are left out."""

    text: str
    column: str
    at: pa.Scalar

    def __str__(self) -> str:
        return self.text


def bound(column: SourceColumn, value: CursorValue) -> tuple[str, object]:
    """What follows `column >=`, and its parameter. Raises ConfigError for a NaN, which bounds nothing."""
    c = quote(column.name)
    match value.kind:
        case CursorKind.INTEGER:
            return "?", int(value.text)
        case CursorKind.FLOAT | CursorKind.DECIMAL:
            return "?", _number(value.text, column.name)
        case CursorKind.DATE:
            return f"?1 OR {c} < {_NO_DATE}", _since(column, value, value.text)
        case CursorKind.TIMESTAMP:
            first = _cut(value.text)
            return f"substr(?1, 1, 10) AND {c} >= {_as_spelled(c)} OR {c} < {_NO_DATE}", _since(
                column, value, first
            )
        case CursorKind.TIMESTAMPTZ:
            first = _cut(value.text.removesuffix("Z"))
            elsewhere = f"{c} NOT LIKE '%Z' AND {c} NOT LIKE '%+00:00'"
            sql = f"'{_day_before(first)}' AND ({c} >= {_as_spelled(c)} OR {elsewhere}) OR {c} < {_NO_DATE}"
            return sql, _since(column, value, first)
        case CursorKind.UUID:
            # Capitals sort before small letters, so that the first term keeps every spelling.
            return f"upper(?1) AND lower({c}) >= ?1 OR {c} < '-'", value.text
        case CursorKind.TEXT:
            return "?", value.text


def from_bound(
    batch: pa.RecordBatch, cells: list[HazardCells], since: Since
) -> tuple[pa.RecordBatch, list[HazardCells]]:
    """The rows at or past the bound, and those without a value, with their hazards where they are now."""
    column = batch.column(since.column)
    early = pc.fill_null(pc.less(column, since.at), False).to_numpy(zero_copy_only=False)
    if not early.any():
        return batch, cells
    position = np.cumsum(~early) - 1
    kept: list[HazardCells] = []
    for found in cells:
        pairs = [(row, text) for row, text in zip(found.rows, found.texts, strict=True) if not early[row]]
        if pairs:
            rows = tuple(int(position[row]) for row, _ in pairs)
            kept.append(replace(found, rows=rows, texts=tuple(text for _, text in pairs)))
    return batch.filter(pa.array(~early)), kept


def _as_spelled(c: str) -> str:
    """The parameter with the separator that the column's value has."""
    return f"CASE substr({c}, 11, 1) WHEN 'T' THEN replace(?1, ' ', 'T') ELSE ?1 END"


def _day_before(text: str) -> str:
    """Zones are less than a day from UTC."""
    day = date.fromisoformat(text[:10])
    return str(day - timedelta(days=1)) if day > date.min else ""


def _since(column: SourceColumn, value: CursorValue, text: str) -> Since:
    return Since(text, column.name, values.cursor_scalar(value, column.field.type))


def _number(text: str, column: str) -> int | float:
    if text.lower() == "nan":
        raise ConfigError(
            f"the cursor column {column!r} reached NaN, after which nothing comes",
            hint="choose another cursor, or set an earlier checkpoint",
            code="cursor_type",
            column=column,
        )
    whole, _, fraction = text.partition(".")
    if whole.lstrip("-").isdigit() and not fraction.strip("0") and abs(int(whole)) <= _MAX_INTEGER:
        return int(whole)
    return float(text)


def _cut(text: str) -> str:
    """`2024-03-01T10:00:00.500000` as `2024-03-01 10:00:00.5`; midnight as the date alone."""
    text = text.replace("T", " ")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    for nothing in (":00", ":00", " 00"):
        if not text.endswith(nothing) or (nothing == ":00" and "." in text):
            break
        text = text.removesuffix(nothing)
    return text
