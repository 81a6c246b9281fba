"""The SELECTs that read one stream: its rows within bounds, its greatest cursor, its tail and its NULLs."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.connectors.sql._checksums import NAMES, CellText, Checksums
from atlas_etl.connectors.sql._source import Dialect, Relation, Select, SourceColumn
from atlas_etl.model import CursorValue, NullCursor, ReadRequest, Stream

Condition = tuple[str, tuple[object, ...]]  # a WHERE, or nothing, and its parameters
EVERY_ROW: Condition = ("", ())


class StreamSelects(Struct, frozen=True):
    """How one dialect selects from one relation; `columns` and `cursor` are what the stream wants of it."""

    dialect: Dialect
    relation: Relation
    stream: Stream
    columns: tuple[SourceColumn, ...]
    cursor: SourceColumn | None
    beside: tuple[str, ...] | None = None  # as a Select's, of the stream's rows

    def rows(self, condition: Condition, limit: int | None) -> Select:
        """The stream's rows, at most so many."""
        where, parameters = condition
        sql = f"{self._cells(self.columns)}{where}"
        if limit is not None:
            sql = self.dialect.limit(sql, limit)
        return Select(sql, parameters, self.columns, is_stream=True, beside=self.beside)

    def in_ranges(self, whole: Select, condition: Condition) -> Select | None:
        """The rows of `whole`, which has this condition, by the relation's ranges; None without ranges."""
        if not self.relation.ranges:
            return None
        where, parameters = condition
        begin = f" WHERE ({where.removeprefix(' WHERE ')}) AND" if where else " WHERE"
        ranges = (self.rows((f"{begin} ({given})", parameters), None) for given in self.relation.ranges)
        return replace(whole, ranges=tuple(ranges))

    def within(self, request: ReadRequest, *, upper_bounds: bool) -> Condition:
        """The rows that a request asks for, or those and the rows past its upper bounds."""
        cursor, nulls = self.cursor, self.stream.null_cursor
        if cursor is None:
            return EVERY_ROW
        name = self.dialect.quote(cursor.name)
        bounds = {">=": request.since}
        if upper_bounds:
            bounds |= {"<=": request.until, ">": request.after}
        given = [(sign, self.dialect.bound(cursor, bound)) for sign, bound in bounds.items() if bound]
        if not given:
            excluded = cursor.nullable and nulls is NullCursor.EXCLUDE
            return (f" WHERE {name} IS NOT NULL", ()) if excluded else EVERY_ROW
        terms = [f"{name} {sign} {placeholder}" for sign, (placeholder, _) in given]
        where = terms[0] if len(terms) == 1 else " AND ".join(f"({term})" for term in terms)
        with_nulls = cursor.nullable and nulls is NullCursor.INCLUDE and request.after is None
        or_null = f" OR {name} IS NULL" if with_nulls else ""
        return f" WHERE {where}{or_null}", tuple(parameter for _, (_, parameter) in given)

    def null_count(self, column: SourceColumn) -> Select:
        """How many rows have no value in a column."""
        count = SourceColumn("n", "bigint", False, pa.field("n", pa.int64()), "n", "n")
        name = self.dialect.quote(column.name)
        sql = f"SELECT count(*) AS n FROM {self.relation.sql} WHERE {name} IS NULL"
        return Select(sql, (), (count,))

    def maximum(self, column: SourceColumn, condition: Condition) -> Select:
        """A column's greatest value, as the source compares them; NULL without rows."""
        where, parameters = condition
        name = self.dialect.quote(column.name)
        sql = f"SELECT max({name}) AS {name} FROM {self.relation.sql}{where}"
        if self.dialect.subqueries_keep_names:  # under the column's own name its select expression fits
            sql = f"SELECT {column.select} AS {name} FROM ({sql}) atlas_high"
        return Select(sql, parameters, (replace(column, nullable=True),))

    def tail(self, column: SourceColumn, tail_from: CursorValue) -> Select:
        """The values of a column from this one on."""
        placeholder, parameter = self.dialect.bound(column, tail_from)
        sql = f"{self._cells((column,))} WHERE {self.dialect.quote(column.name)} >= {placeholder}"
        return Select(sql, (parameter,), (column,))

    def buckets(self, checksums: Checksums, cells: Sequence[CellText], condition: Condition) -> Select:
        """The checksums of rows of these cells (_checksums.read_buckets reads them)."""
        where, parameters = condition
        sql = checksums.select([cell.sql for cell in cells], f"{self.relation.sql}{where}")
        texts = tuple(SourceColumn(n, "text", True, pa.field(n, pa.string()), n, n) for n in NAMES)
        return Select(sql, parameters, texts, is_stream=True)

    def _cells(self, columns: Sequence[SourceColumn]) -> str:
        cells = ", ".join(f"{column.select} AS {self.dialect.quote(column.name)}" for column in columns)
        return f"SELECT {cells} FROM {self.relation.sql}"
