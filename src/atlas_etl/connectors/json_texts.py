"""JSON texts by column: the type that all cells have, and strings with and without their quotes.

A member is kept as the text it was written in: so no number becomes a double on its way, and a nested
document stays as it is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from typing import cast
from uuid import UUID

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas_etl import values
from atlas_etl.connectors.infer import Date, Number, TimeOfDay, Timestamp, Uuid, plain_numbers
from atlas_etl.errors import SourceError

StringForm = Date | Timestamp | Uuid | TimeOfDay
Row = dict[str, msgspec.Raw]  # a member's name and its text

_ABSENT = msgspec.Raw(b"")
_KINDS = {b'"': "text", b"{": "document", b"[": "document", b"t": "boolean", b"f": "boolean"}


class JsonColumn:
    """The kind of one member, over all objects."""

    def __init__(self, known: pa.DataType | None = None) -> None:
        """`known` is the type that the member had before: its values count, whatever comes now."""
        self._kinds, self._strings = _seen_in(known)
        self._is_document = known in (None, pa.json_())  # whether one makes documents of the others
        self._numbers = [Number(known)]
        self.valid = 0

    def see(self, cells: pa.Array) -> None:
        """Take the JSON texts of more objects."""
        cells = cells.filter(pc.not_equal(cells, "null"))  # and what is missing
        self.valid += len(cells)
        heads = pc.unique(pc.binary_slice(cells.cast(pa.binary()), 0, 1)).to_pylist()
        found = {_KINDS.get(head, "number") for head in heads}
        self._kinds |= found
        if found == {"number"}:
            self._numbers = [number for number in self._numbers if number.takes(cells)]
        elif found == {"text"} and self._strings:
            self._see_strings(unquoted(cells))

    def see_parsed(self, cells: pa.Array) -> None:
        """The same of integers, booleans or strings that were parsed."""
        if not pa.types.is_string(cells.type):
            self.see(cells.cast(pa.string()))
        elif cells.null_count < len(cells):
            strings = cells.drop_null()
            self.valid += len(strings)
            self._kinds.add("text")
            self._see_strings(strings)

    def _see_strings(self, strings: pa.Array) -> None:
        self._strings = [candidate for candidate in self._strings if candidate.takes(strings)]

    @property
    def is_spelled(self) -> bool:
        """Whether this is text although not all cells are strings, so that each keeps its spelling."""
        return bool(self._kinds - {"text"}) and self.type == pa.string()

    @property
    def type(self) -> pa.DataType:
        """Text where the kinds differ, or where there are only nulls.

        What was a text, a number or another single value becomes text with documents: a string's spelling
        must be the same in each run, and what is there is no document.
        """
        if "document" in self._kinds:
            return pa.json_() if self._is_document else pa.string()
        if self._kinds == {"boolean"}:
            return pa.bool_()
        alive: list[Number] | list[StringForm] = []
        if self._kinds == {"number"}:
            alive = self._numbers
        elif self._kinds == {"text"}:
            alive = self._strings
        return (alive[0].type if alive else None) or pa.string()


def _seen_in(known: pa.DataType | None) -> tuple[set[str], list[StringForm]]:
    """The kinds that a column of this type has seen, and what its strings may still be."""
    if known is None:
        return set(), [Date(), Timestamp(None), Timestamp("UTC")]
    if pa.types.is_date(known):
        return {"text"}, [Date()]
    if pa.types.is_timestamp(known):
        return {"text"}, [Timestamp(known.tz)]
    if known == pa.uuid():
        return {"text"}, [Uuid()]
    if pa.types.is_time(known):
        return {"text"}, [TimeOfDay(known)]
    if known == pa.json_():
        return {"document"}, []
    if pa.types.is_boolean(known):
        return {"boolean"}, []
    is_number = pa.types.is_integer(known) or pa.types.is_decimal(known) or pa.types.is_floating(known)
    return {"number" if is_number else "text"}, []


def row_of(record: Mapping[str, object]) -> Row:
    """A record of Python's own values as JSON texts; those that are JSON texts stay as they are.

    Floats are written with an exponent, and so stay doubles. Raises ValueError for what has no exact form:
    bytes, infinity, not-a-number, halves of characters, decimals inside of documents.
    """
    row: Row = {}
    for name, value in record.items():
        try:
            row[name] = value if isinstance(value, msgspec.Raw) else msgspec.Raw(_json_text(value).encode())
        except (TypeError, ValueError) as failure:
            raise ValueError(f"{name!r}: {failure}") from failure
    return row


def _json_text(value: object) -> str:
    if isinstance(value, bool | str | list | tuple | dict) or value is None:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise ValueError(f"{value} is no number of JSON")
    if isinstance(value, float):
        text = repr(float(value))
        return text if "e" in text else f"{text}e0"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime | date | time):
        return f'"{value.isoformat()}"'
    if isinstance(value, UUID):
        return f'"{value}"'
    raise TypeError(f"a value of type {type(value).__name__} has no exact form")


def names_of(rows: Sequence[Row]) -> list[str]:
    """Every member's name, in the order in which they appear."""
    return list(dict.fromkeys(chain.from_iterable(rows)))


def texts(rows: Sequence[Row], name: str) -> pa.Array:
    """One member of every object as JSON text; NULL where an object lacks it. Raises pa.ArrowInvalid."""
    return text_column([row.get(name, _ABSENT) for row in rows])


def texts_of(rows: Sequence[Row], name: str, where: str) -> pa.Array:
    """The same of records from `where`. Raises SourceError (`invalid_text`)."""
    try:
        return texts(rows, name)
    except pa.ArrowInvalid:
        raise SourceError(
            f"{where} holds bytes that are not UTF-8 text", code="invalid_text", column=name
        ) from None


def text_column(found: Sequence[msgspec.Raw]) -> pa.Array:
    """Cells as JSON text; NULL where there is nothing, not even `null`. Raises pa.ArrowInvalid."""
    sizes = np.fromiter(map(len, found), np.int32, len(found))
    offsets = np.zeros(len(found) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    content = pa.py_buffer(b"".join(cast(list[bytes], found)))
    valid = pa.array(sizes > 0).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), len(found), [valid, pa.py_buffer(offsets), content]).cast(
        pa.string()
    )


def unquoted(cells: pa.Array) -> pa.Array:
    """JSON texts as plain text: strings without quotes and escapes, everything else as it is spelled."""
    is_string = pc.fill_null(pc.starts_with(cells, '"'), False)
    if not pc.any(is_string).as_py():
        return cells
    inner = pc.binary_slice(cells.cast(pa.binary()), 1, -1).cast(pa.string())
    plain = pc.if_else(is_string, inner, cells)
    escaped = pc.fill_null(pc.and_(is_string, pc.match_substring(cells, "\\")), False)
    if not pc.any(escaped).as_py():
        return plain
    decoded = [msgspec.json.decode(cell, type=str) for cell in cells.filter(escaped).to_pylist()]
    return pc.replace_with_mask(plain, escaped, pa.array(decoded, pa.string()))


def typed(cells: pa.Array, kind: pa.DataType, *, null_document: str | None = None) -> pa.Array:
    """JSON texts in a column's type. Raises pa.ArrowInvalid and ValueError where one has no such form.

    `null_document` is what an explicit `null` means in a column of documents; in others it is NULL.
    """
    is_null = pc.equal(cells, "null")
    if kind == pa.json_():
        documents = pc.if_else(is_null, pa.scalar(null_document, pa.string()), cells)
        return pa.ExtensionArray.from_storage(kind, documents)
    plain = pc.if_else(is_null, pa.scalar(None, pa.string()), unquoted(cells))
    return values.from_text(plain_numbers(plain, kind), kind)


def quoted(cells: pa.Array) -> pa.Array:
    """Plain text as JSON strings."""
    whole = pc.binary_join_element_wise('"', cells, '"', "")
    special = pc.fill_null(pc.match_substring_regex(cells, r'["\\\x00-\x1f]'), False)
    if not pc.any(special).as_py():
        return whole
    encoded = [msgspec.json.encode(cell).decode() for cell in cells.filter(special).to_pylist()]
    return pc.replace_with_mask(whole, special, pa.array(encoded, pa.string()))
