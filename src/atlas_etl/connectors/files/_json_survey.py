"""The columns of JSON lines, found over all objects: each has the type that all of its values have."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from atlas_etl.connectors.files._failures import reading
from atlas_etl.connectors.files._json_rows import Block
from atlas_etl.connectors.json_texts import JsonColumn, names_of, texts
from atlas_etl.connectors.known import Known
from atlas_etl.connectors.record_parser import Kind, RecordParser, has_parser


class SeenColumns:
    """The columns of the objects that were seen so far.

    Arrow parses objects whose members and kinds are those of the ones before; of others each member is
    looked at in its own text, as numbers with a point and documents always are.
    """

    def __init__(self, declared: Collection[str], known: Known) -> None:
        """Of `declared` columns, `see` gives the texts."""
        self._declared = declared
        self._known = known
        self._columns: dict[str, JsonColumn] = {}
        self._kinds: dict[str, Kind] = {}
        self._parser: RecordParser | None = None
        self.rows = 0

    def see(self, block: Block) -> Mapping[str, pa.Array]:
        """Take more objects; gives the JSON texts of the members that were looked at. Raises SourceError."""
        found = self._parsed(block)
        if found is None:
            found = self._looked_at(block)
        kinds = {name: self._kind(name, column) for name, column in self._columns.items()}
        if kinds != self._kinds:
            self._kinds = kinds
            self._parser = RecordParser(kinds, others="refused") if has_parser(kinds) else None
        return found

    def types(self) -> dict[str, pa.DataType]:
        return {
            name: column.type if column.valid else self._known.type_of(name) or column.type
            for name, column in self._columns.items()
        }

    def nulls(self) -> dict[str, int]:
        return {name: self.rows - column.valid for name, column in self._columns.items()}

    def _parsed(self, block: Block) -> dict[str, pa.Array] | None:
        cells = self._parser.cells(block.content, block.lines, self._kinds) if self._parser else None
        if cells is None or any(len(column) != block.lines for column in cells.values()):
            return None
        self.rows += block.lines
        for name, kind in self._kinds.items():
            if kind.is_plain:
                self._columns[name].see_parsed(cells.pop(name))
            else:
                self._columns[name].see(cells[name])
        return cells

    def _looked_at(self, block: Block) -> dict[str, pa.Array]:
        rows = block.rows()
        self.rows += len(rows)
        with reading(block.path):
            cells = {name: texts(rows, name) for name in names_of(rows)}
        for name, column in cells.items():
            if name not in self._columns:
                self._columns[name] = JsonColumn(self._known.settled_type(name))
            self._columns[name].see(column)
        return cells

    def _kind(self, name: str, column: JsonColumn) -> Kind:
        kind = column.type if column.valid else pa.null()
        is_number = pa.types.is_decimal(kind) or pa.types.is_floating(kind)
        is_plain = not (is_number or kind == pa.json_() or column.is_spelled or name in self._declared)
        return Kind(kind, is_plain)
