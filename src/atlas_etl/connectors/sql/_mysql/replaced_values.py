"""Values in whose place a table's columns would keep others without a word: refused before they are sent.

Strict modes refuse most of what does not fit, and none of these. Sources:
https://dev.mysql.com/doc/refman/8.4/en/timestamp-initialization.html, .../example-auto-increment.html,
.../enum.html, .../set.html, .../char.html, .../binary-varbinary.html, .../year.html and
.../floating-point-types.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl.connectors.sql._meaning import does_not_fit
from atlas_etl.connectors.sql._mysql.stored import KeptColumn

_MEMBER = re.compile(r"'((?:[^'\\]|''|\\.)*)'")  # as COLUMN_TYPE spells them
_ESCAPED = re.compile(r"''|\\(.)")
_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
_NUMBERS = re.compile(r"\((\d+)(?:,(\d+))?\)")


def refuse_replaced(batch: pa.RecordBatch, kept: Mapping[str, KeptColumn]) -> None:
    """Raise RefusedRowError for the first column that would keep another value; `kept` are the table's."""
    for name, cells in zip(batch.schema.names, batch.columns, strict=True):
        column = kept.get(name)
        if column is not None and (why := _why(column, cells)):
            raise does_not_fit(name, why)


def _why(column: KeptColumn, cells: pa.Array) -> str | None:
    if column.replaces_null and cells.null_count:
        return "cannot be NULL: the server would put a value of its own there"
    rule = _RULES.get(column.data_type)
    return rule(column, cells) if rule is not None else None


def _member(column: KeptColumn, cells: pa.Array) -> str | None:
    """A number counts members, case and blanks at the end are ignored, and a SET has an order."""
    members = [_unescaped(found[1]) for found in _MEMBER.finditer(column.native)]
    for text in pc.unique(cells).to_pylist():
        parts = text.split(",") if column.data_type == "set" and text else [text]
        if text is not None and parts != [member for member in members if member in parts] and text != "":
            return f"has a text that is not spelled as the {column.data_type.upper()} of the table has it"
    return None


def _unescaped(member: str) -> str:
    return _ESCAPED.sub(lambda found: _LETTERS.get(found[1], found[1]) if found[1] else "'", member)


def _blank_at_the_end(column: KeptColumn, cells: pa.Array) -> str | None:  # noqa: ARG001
    if not pa.types.is_string(cells.type) or not pc.any(pc.ends_with(cells, " ")).as_py():
        return None
    return "has a text with a blank at its end, which CHAR does not keep; VARCHAR does"


def _shorter(column: KeptColumn, cells: pa.Array) -> str | None:
    size, _ = _numbers(column.native)
    if not pa.types.is_binary(cells.type) or not pc.any(pc.less(pc.binary_length(cells), size)).as_py():
        return None
    return f"has fewer bytes than {column.native.upper()} has, which fills them up"


def _short_year(column: KeptColumn, cells: pa.Array) -> str | None:  # noqa: ARG001
    if not pa.types.is_integer(cells.type):
        return None
    if not pc.any(pc.and_(pc.greater(cells, 0), pc.less(cells, 100))).as_py():
        return None
    return "has a year below 100, which YEAR takes for one of another century"


def _rounded(column: KeptColumn, cells: pa.Array) -> str | None:
    _, scale = _numbers(column.native)
    if scale is None or not pa.types.is_floating(cells.type):
        return None
    kind = np.float32 if column.data_type == "float" else np.float64
    came = cells.drop_null().to_numpy(zero_copy_only=False).astype(np.float64)
    whole, factor = np.floor(came), 10.0**scale
    with np.errstate(invalid="ignore"):  # of infinities
        kept = whole + np.rint((came - whole) * factor) / factor  # Field_real::truncate_double of the servers
    if np.array_equal(kept.astype(kind), came.astype(kind)):
        return None
    return f"has a number that {column.native.upper()} rounds; without digits it does not"


def _numbers(native: str) -> tuple[int, int | None]:
    """Those of a type, such as `binary(4)` and `double(10,2)`; without any, one byte or digit."""
    found = _NUMBERS.search(native)
    return (int(found[1]), int(found[2]) if found[2] else None) if found else (1, None)


_RULES: Mapping[str, Callable[[KeptColumn, pa.Array], str | None]] = {
    "enum": _member,
    "set": _member,
    "char": _blank_at_the_end,
    "binary": _shorter,
    "year": _short_year,
    "float": _rounded,
    "double": _rounded,
}
