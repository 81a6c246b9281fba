"""Arrow's JSON parser for records whose members and kinds are known: no Python object of a value is made.

It refuses records that would have widened a column, so that who calls it reads those exactly.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.json
from msgspec import Struct
from pyarrow import compute as pc

from atlas_etl import values
from atlas_etl.connectors.infer import Date, Timestamp
from atlas_etl.connectors.json_texts import JsonColumn, text_column, typed

_UNPARSED = re.compile(r'["\\\x00-\x1f]')  # in names: msgspec has no members of such names
_ABSENT = msgspec.Raw(b"")

Others = Literal["refused", "ignored"]


def has_parser(names: Collection[str]) -> bool:
    """Whether members of these names can be parsed."""
    return not any(map(_UNPARSED.search, names))


class Kind(Struct, frozen=True):
    """A column for the parser; one that is not plain is read by its text."""

    type: pa.DataType
    is_plain: bool


class RecordParser:
    """Arrow's JSON parser for records of these members and kinds."""

    def __init__(self, kinds: Mapping[str, Kind], *, others: Others) -> None:
        """`others` says what becomes of members that are none of these."""
        self._kinds = kinds
        plain = {name: _parsed_as(kind.type) for name, kind in kinds.items() if kind.is_plain}
        self._empty = [name for name, kind in kinds.items() if pa.types.is_null(kind.type)]
        self.by_text = tuple(name for name in kinds if name not in plain)
        self._names = {name: f"f{index}" for index, name in enumerate(kinds)}
        self._options = pyarrow.json.ParseOptions(
            explicit_schema=pa.schema(list(plain.items())),
            unexpected_field_behavior="ignore" if self.by_text or others == "ignored" else "error",
        )
        self._decoder: msgspec.json.Decoder[msgspec.Struct] | None = None
        # Arrow takes a string for a decimal, and what is read by its text would be an unexpected field to it.
        if self.by_text or any(pa.types.is_decimal(kind) for kind in plain.values()):
            self._decoder = self._checked_decoder(exhaustive=bool(self.by_text) and others == "refused")

    def parse(self, content: bytes, count: int, wanted: pa.Schema) -> pa.RecordBatch | None:
        """So many JSON lines in these columns; None where they are not of these members, kinds and types."""
        if not count:
            return values.no_rows(wanted)
        cells = self.cells(content, count, [name for name in wanted.names if name in self._kinds])
        if cells is None:
            return None
        try:
            columns = [self._column(cells.get(field.name), field, count) for field in wanted]
        except (pa.ArrowException, ValueError):
            return None
        if any(column is None or len(column) != count for column in columns):
            return None
        return pa.RecordBatch.from_arrays(columns, schema=wanted)

    def cells(self, content: bytes, count: int, names: Iterable[str]) -> dict[str, pa.Array] | None:
        """These members of lines, at least one: plain ones as they are parsed, others as JSON texts.

        None as above; who calls it compares the cells' number with `count`.
        """
        try:
            return self._cells(content, count, names)
        except (pa.ArrowException, msgspec.DecodeError, ValueError):
            return None

    def _cells(self, content: bytes, count: int, names: Iterable[str]) -> dict[str, pa.Array] | None:
        reading = pyarrow.json.ReadOptions(use_threads=False, block_size=len(content) + 1)
        table = pyarrow.json.read_json(pa.BufferReader(content), reading, self._options)
        if any(table.column(name).null_count != count for name in self._empty):
            return None
        table.validate(full=True)  # text may be no UTF-8
        checked: list[msgspec.Struct] = []
        if self._decoder is not None and (self.by_text or not _has_strings_as_text_only(table, content)):
            checked = self._decoder.decode_lines(content)
        found: dict[str, pa.Array] = {}
        for name in names:
            if self._kinds[name].is_plain:
                found[name] = table.column(name).combine_chunks()
            else:
                member = self._names[name]
                found[name] = text_column([getattr(record, member) for record in checked])
        return found

    def _column(self, cells: pa.Array | None, field: pa.Field, count: int) -> pa.Array | None:
        if cells is None:  # no record had it, and none has it here
            return pa.nulls(count, field.type)
        kind = self._kinds[field.name]
        return _converted(cells, kind) if kind.type == field.type else None

    def _checked_decoder(self, *, exhaustive: bool) -> msgspec.json.Decoder[msgspec.Struct]:
        fields: list[tuple[str, object, object]] = []
        for name, kind in self._kinds.items():
            if kind.is_plain and pa.types.is_decimal(kind.type):
                fields.append((self._names[name], float | None, None))
            elif exhaustive or not kind.is_plain:
                fields.append((self._names[name], msgspec.Raw, _ABSENT))
        rename = {self._names[name]: name for name in self._kinds}
        record = msgspec.defstruct(
            "Record", fields, rename=rename, forbid_unknown_fields=exhaustive, gc=False
        )
        return msgspec.json.Decoder(record)


def _has_strings_as_text_only(table: pa.Table, content: bytes) -> bool:
    """Whether each of these records has each member, and a string in columns of text only; False: perhaps.

    It is counted. A member has one colon and two quotes, a string two more quotes; colons in texts are
    known, and a quote that is escaped in a text is one too many.
    """
    if any(":" in name for name in table.column_names):
        return False
    texts = [chunk for column in table.columns if pa.types.is_string(column.type) for chunk in column.chunks]
    strings: int = sum(len(text) - text.null_count for text in texts)
    in_texts: int = sum(_count(text.buffers()[2] or b"", b":") for text in texts)
    members: int = table.num_rows * table.num_columns
    is_whole = _count(content, b":") - in_texts == members
    return is_whole and _count(content, b'"') == 2 * (members + strings)


def _count(content: bytes | pa.Buffer, sign: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == sign[0]))


def _parsed_as(kind: pa.DataType) -> pa.DataType:
    """What the parser reads a column as.

    Times are text to it, for it takes more forms of them than we do, and nulls, whose values it would drop.
    """
    is_text = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_null)
    return pa.string() if any(test(kind) for test in is_text) else kind


def _converted(column: pa.Array, kind: Kind) -> pa.Array | None:
    """The column in its type; None where a cell is not what the type was inferred from."""
    if pa.types.is_date(kind.type) or pa.types.is_timestamp(kind.type):
        if not kind.is_plain:
            return typed(column, kind.type)
        zone = None if pa.types.is_date(kind.type) else kind.type.tz
        form = Date() if pa.types.is_date(kind.type) else Timestamp(zone)
        cells = column.drop_null()
        if len(cells) and not form.takes(cells):
            return None
        if isinstance(form, Timestamp) and form.type.unit == "ns" and kind.type.unit != "ns":
            return None
        return pc.cast(column, kind.type)
    if kind.is_plain:
        return column
    if kind.type == pa.float64():
        seen = JsonColumn(kind.type)
        seen.see(column)
        if seen.type != kind.type:
            return None
    return typed(column, kind.type)
