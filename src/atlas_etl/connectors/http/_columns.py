"""Records as columns: types inferred over all that was seen, and each page decoded in them.

Two ways lead to the same columns. Arrow's JSON parser reads whole pages where each record has the members
and kinds that were seen before; it makes no Python object of a value, and refuses a page that differs. Such
a page takes the exact way, by which types are found as well: each member is the text it was written in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
import pyarrow as pa

from atlas_etl import values
from atlas_etl.connectors.http._documents.records import SEPARATOR
from atlas_etl.connectors.http._documents.repeated_members import refuse_repeated, repeated_member
from atlas_etl.connectors.http._lines import Lines
from atlas_etl.connectors.infer import first_misfit
from atlas_etl.connectors.json_texts import JsonColumn, Row, names_of, texts_of, typed
from atlas_etl.connectors.known import Known
from atlas_etl.connectors.record_parser import Kind, RecordParser, has_parser
from atlas_etl.errors import SourceError
from atlas_etl.model import KnownColumns

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
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
        self._parser: RecordParser | None = None
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
        if not self._flatten and has_parser(self._columns):
            if self._parser is None:
                self._parser = self._new_parser()
            found = self._parser.parse(records.content, records.count, wanted)
            if found is not None and not _has_repeated(records, self._parser.by_text):
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

    def _new_parser(self) -> RecordParser:
        kinds: dict[str, Kind] = {}
        for name, column in self._columns.items():
            kind = self._type(name)
            is_plain = name not in self._declared and not column.is_spelled and kind != pa.json_()
            kinds[name] = Kind(kind or pa.null(), is_plain and kind != pa.float64())
        return RecordParser(kinds, others="refused")


def _has_repeated(records: Lines, by_text: Collection[str]) -> bool:
    """Whether a member stands twice in a record, of those that Arrow's parser does not look at."""
    content = records.content
    return any(content.count(b'"%b"' % name.encode()) > records.count for name in by_text) and (
        repeated_member(_listed(records), _MEMBERS.decode_lines(content)) is not None
    )


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
