"""Records as columns: types inferred over all that was seen, and each page decoded in them.

Two ways lead to the same columns. Arrow's JSON parser reads whole pages where each record has the members
and kinds that were seen before; it makes no Python object of a value, and refuses a page that differs. Such
a page takes the exact way, by which types are found as well: each member is the text it was written in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.json
from pyarrow import compute as pc

from atlas_etl import values
from atlas_etl.connectors.http._lines import Lines
from atlas_etl.connectors.http._records import SEPARATOR
from atlas_etl.connectors.http._repeated_members import refuse_repeated, repeated_member
from atlas_etl.connectors.infer import Date, Timestamp, first_misfit
from atlas_etl.connectors.json_texts import JsonColumn, Row, names_of, text_column, texts_of, typed
from atlas_etl.connectors.known import Known
from atlas_etl.errors import SourceError
from atlas_etl.model import KnownColumns

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_UNPARSED = re.compile(r'["\\\x00-\x1f]')  # in names: msgspec has no members of such names
_ABSENT = msgspec.Raw(b"")
_OBJECT = 0x7B  # {


class Columns:
    """The columns of one stream, as far as records were seen."""

    def __init__(
        self,
        where: str,
        *,
        declared: Mapping[str, pa.DataType],
        known: KnownColumns | None,
        asked: Collection[str],
        flatten: bool,
    ) -> None:
        """A column that only has nulls now is of the type that it had; `asked` are there in any case."""
        self._where = where
        self._declared = declared
        self._known = Known(known)
        self._asked = frozenset(asked)
        self._flatten = flatten
        self._columns: dict[str, JsonColumn] = {}
        self._parser: _Parser | None = None
        self.rows = 0

    @property
    def schema(self) -> pa.Schema:
        """The columns that have a value in some record, and those that had one earlier.

        A member that is null in every record has no type yet, and becomes a column with its first value.
        """
        return self._known.schema({name: self._type(name) for name in self._columns})

    def nulls(self, name: str) -> int:
        """Records so far without a value in this column."""
        found = self._columns.get(name)
        return self.rows - (found.valid if found is not None else 0)

    def see(self, records: Lines) -> None:
        """Take note of more records. Raises SourceError (`not_objects`, `invalid_text`)."""
        self._see(self._objects(records))

    def decode(self, records: Lines, wanted: pa.Schema) -> pa.RecordBatch | None:
        """Records in the wanted columns; None where the columns have become wider. Raises SourceError."""
        if not self._flatten and not any(map(_UNPARSED.search, self._columns)):
            if self._parser is None:
                self._parser = self._new_parser()
            found = self._parser.parse(records, wanted)
            if found is not None:
                return found
        before = self.schema
        rows = self._objects(records)
        self._see(rows)
        if not self.schema.equals(before):
            return None
        return pa.RecordBatch.from_arrays([self._typed(rows, field) for field in wanted], schema=wanted)

    def _type(self, name: str) -> pa.DataType | None:
        column = self._columns[name]
        if name in self._declared:
            return self._declared[name]
        if column.valid:
            return column.type
        return self._known.type_of(name) or (pa.string() if name in self._asked else None)

    def _see(self, rows: Sequence[Row]) -> None:
        for name in names_of(rows):
            if name not in self._columns:
                self._columns[name] = JsonColumn(self._known.settled_type(name))
            self._columns[name].see(texts_of(rows, name, self._where))
        self.rows += len(rows)
        self._parser = None

    def _objects(self, records: Lines) -> list[Row]:
        try:
            rows = _MEMBERS.decode_lines(records.content)
            refuse_repeated(_listed(records), rows, self._where)
        except (msgspec.DecodeError, RecursionError):
            raise SourceError(
                f"{self._where} has records that are no JSON objects",
                hint="set `records` to a list of objects, or `value_column` where they are plain values; "
                "with [*] behind its path, nulls in it are left out",
                code="not_objects",
            ) from None
        return [self._flat(row) for row in rows] if self._flatten else rows

    def _flat(self, row: Row) -> Row:
        members = _flattened(row, self._where)
        flat = dict(members)
        if len(flat) < len(members):
            raise SourceError(
                f"{self._where} has records in which two members would be one column when they are flattened",
                hint="set `nested: json` on the resource",
                code="flattened_twice",
            )
        return flat

    def _typed(self, rows: Sequence[Row], field: pa.Field) -> pa.Array:
        cells = texts_of(rows, field.name, self._where)
        try:
            return typed(cells, field.type)
        except (pa.ArrowInvalid, ValueError):
            index = first_misfit(cells, lambda some: typed(some, field.type))
        raise SourceError(
            f"{self._where}: {cells[index].as_py()[:80]} in {field.name!r} "
            f"is no {values.type_name(field.type)}",
            hint="declare another type in `types`, or remove it to have the type inferred",
            code="value_type",
            column=field.name,
        )

    def _new_parser(self) -> _Parser:
        kinds: dict[str, _Kind] = {}
        for name, column in self._columns.items():
            kind = self._type(name)
            is_plain = name not in self._declared and not column.is_spelled and kind != pa.json_()
            kinds[name] = _Kind(kind or pa.null(), is_plain and kind != pa.float64())
        return _Parser(kinds)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A column for the parser; one that is not plain is read by its text."""

    type: pa.DataType
    is_plain: bool


class _Parser:
    """Arrow's JSON parser for records of these members and kinds, and no others."""

    def __init__(self, kinds: Mapping[str, _Kind]) -> None:
        self._kinds = kinds
        plain = {name: _parsed_as(kind.type) for name, kind in kinds.items() if kind.is_plain}
        self._empty = [name for name, kind in kinds.items() if pa.types.is_null(kind.type)]
        by_text = [name for name in kinds if name not in plain]
        self._ignored = [b'"%b"' % name.encode() for name in by_text]
        self._names = {name: f"f{index}" for index, name in enumerate(kinds)}
        self._options = pyarrow.json.ParseOptions(
            explicit_schema=pa.schema(list(plain.items())),
            unexpected_field_behavior="ignore" if by_text else "error",
        )
        self._decoder: msgspec.json.Decoder[msgspec.Struct] | None = None
        # Arrow takes a string for a decimal, and what is read by its text would be an unexpected field to it.
        if by_text or any(pa.types.is_decimal(kind) for kind in plain.values()):
            self._decoder = self._checked_decoder(exhaustive=bool(by_text))

    def parse(self, records: Lines, wanted: pa.Schema) -> pa.RecordBatch | None:
        """The records in these columns; None where they are not of these members, kinds and types."""
        if not records.count:
            return pa.RecordBatch.from_pylist([], schema=wanted)
        try:
            return self._parse(records, wanted)
        except (pa.ArrowException, msgspec.DecodeError, ValueError):
            return None

    def _parse(self, records: Lines, wanted: pa.Schema) -> pa.RecordBatch | None:
        content = records.content
        reading = pyarrow.json.ReadOptions(use_threads=False, block_size=len(content) + 1)
        table = pyarrow.json.read_json(pa.BufferReader(content), reading, self._options)
        if any(table.column(name).null_count != records.count for name in self._empty):
            return None
        table.validate(full=True)  # text may be no UTF-8
        if self._has_repeated(records):
            return None
        checked: list[msgspec.Struct] = []
        if self._decoder is not None and (self._ignored or not _has_strings_as_text_only(table, content)):
            checked = self._decoder.decode_lines(content)
        columns: list[pa.Array] = []
        for field in wanted:
            kind = self._kinds.get(field.name)
            if kind is None:  # no record had it, and none has it here
                columns.append(pa.nulls(records.count, field.type))
                continue
            if kind.is_plain:
                column = table.column(field.name).combine_chunks()
            else:
                name = self._names[field.name]
                column = text_column([getattr(record, name) for record in checked])
            found = _converted(column, kind) if kind.type == field.type else None
            if found is None or len(found) != records.count:
                return None
            columns.append(found)
        return pa.RecordBatch.from_arrays(columns, schema=wanted)

    def _has_repeated(self, records: Lines) -> bool:
        """Whether a member stands twice in a record, of those that Arrow's parser does not look at."""
        content = records.content
        return any(content.count(name) > records.count for name in self._ignored) and (
            repeated_member(_listed(records), _MEMBERS.decode_lines(content)) is not None
        )

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


def _converted(column: pa.Array, kind: _Kind) -> pa.Array | None:
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


def _listed(records: Lines) -> bytes:
    return b"[%b]" % records.content.replace(b"\n", b",")


def _flattened(row: Row, where: str, prefix: str = "") -> list[tuple[str, msgspec.Raw]]:
    """The members of an object, those of objects in it as `a__b`."""
    found: list[tuple[str, msgspec.Raw]] = []
    for name, value in row.items():
        if memoryview(value)[0] == _OBJECT and (inside := _MEMBERS.decode(value)):
            refuse_repeated(bytes(value), inside, where)
            found += _flattened(inside, where, f"{prefix}{name}{SEPARATOR}")
        else:
            found.append((f"{prefix}{name}", value))
    return found
