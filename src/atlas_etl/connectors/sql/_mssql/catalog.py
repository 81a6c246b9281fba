"""What SQL Server's catalog tells of tables and views, and how it describes what a query gives.

Views: https://learn.microsoft.com/sql/relational-databases/system-catalog-views.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from msgspec import Struct

from atlas_etl.connectors.sql._mssql.literals import literal, quoted
from atlas_etl.connectors.sql._mssql.types import Described
from atlas_etl.errors import SourceError
from atlas_etl.model import ColumnInfo, StreamInfo

Rows = Sequence[tuple[object, ...]]
Run = Callable[[str], Rows]

_TABLES = """
SELECT s.name, o.name, RTRIM(o.type), o.object_id,
  (SELECT SUM(p.rows) FROM sys.partitions AS p WHERE p.object_id = o.object_id AND p.index_id IN (0, 1))
FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id
WHERE o.type IN ('U', 'V') AND o.is_ms_shipped = 0 AND LEFT(o.name, 7) <> '_atlas_'
  AND HAS_PERMS_BY_NAME(QUOTENAME(s.name) + '.' + QUOTENAME(o.name), 'OBJECT', 'SELECT') = 1{more}
ORDER BY s.name, o.name"""
_COLUMNS = """
SELECT c.object_id, c.name, COALESCE(b.name, t.name), c.max_length, c.precision, c.scale,
  CAST(c.is_nullable AS int), CAST(c.is_identity AS int),
  (SELECT MAX(k.key_ordinal) FROM sys.index_columns AS k
   JOIN sys.indexes AS i ON i.object_id = k.object_id AND i.index_id = k.index_id
   WHERE i.is_primary_key = 1 AND k.object_id = c.object_id AND k.column_id = c.column_id),
  (SELECT COUNT(*) FROM sys.index_columns AS k
   WHERE k.object_id = c.object_id AND k.column_id = c.column_id AND k.key_ordinal = 1)
FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id
LEFT JOIN sys.types AS b ON b.user_type_id = t.system_type_id
WHERE {where}
ORDER BY c.object_id, c.column_id"""
_EVERY = "c.object_id IN (SELECT object_id FROM sys.objects WHERE type IN ('U', 'V') AND is_ms_shipped = 0)"
_DESCRIBED = """
SELECT name, COALESCE(system_type_name, user_type_name), CAST(is_nullable AS int), collation_name,
  error_message
FROM sys.dm_exec_describe_first_result_set({query}, NULL, 0) ORDER BY column_ordinal"""

_INTEGERS = frozenset({"int", "bigint"})
_TIMES = frozenset({"datetime2", "datetimeoffset", "datetime", "smalldatetime"})
_VERSIONS = frozenset({"timestamp", "rowversion"})
_SIZED = frozenset({"binary", "varbinary", "char", "varchar"})
_SCALED = frozenset({"datetime2", "datetimeoffset", "time"})


class CatalogColumn(Struct, frozen=True):
    """One column of a table."""

    name: str
    kind: str  # `decimal`
    native: str  # `decimal(12,2)`
    nullable: bool
    counts: bool  # IDENTITY
    leads: bool  # whether an index begins with it


class CatalogTable(Struct, frozen=True):
    """A table or a view; its columns where they were asked for."""

    schema: str
    name: str
    is_view: bool
    number: int  # object_id
    estimated_rows: int | None
    columns: tuple[CatalogColumn, ...] = ()
    primary_key: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def called(self, default_schema: str) -> str:
        """The shortest name that finds it again."""
        return self.name if self.schema == default_schema else f"{self.schema}.{self.name}"

    def stream_info(self, default_schema: str) -> StreamInfo:
        return StreamInfo(
            self.called(default_schema),
            tuple(ColumnInfo(column.name, column.native, column.nullable) for column in self.columns),
            self.primary_key,
            tuple(column.name for column in sorted(self._cursors(), key=_rank)),
            self.estimated_rows,
            frozenset(column.name for column in self.columns if column.leads),
        )

    def _cursors(self) -> Iterator[CatalogColumn]:
        for column in self.columns:
            counts = column.kind in _INTEGERS and (column.counts or self.primary_key == (column.name,))
            timed = column.kind in (*_TIMES, "date")
            if column.kind in _VERSIONS or (column.leads and (timed or counts)):
                yield column


def _rank(column: CatalogColumn) -> int:
    """What changes with each update first, then a number given to new rows, then the weaker ones."""
    if column.kind in _VERSIONS:
        return 0
    if column.kind in _TIMES:
        return 3 if column.nullable else 1
    return 2 if column.kind in _INTEGERS else 4


def find_table(run: Run, text: str, default_schema: str) -> CatalogTable | None:
    """The table that a definition names: `orders` in the default schema, or `sales.orders`."""
    for schema, name in _spellings(text, default_schema):
        more = f" AND s.name = {literal(schema)} AND o.name = {literal(name)}"
        found = _tables(run, more)
        if found:
            return _with_columns(found, run(_COLUMNS.format(where=f"c.object_id = {found[0].number}")))[0]
    return None


def every_table(run: Run) -> list[CatalogTable]:
    """All that the login may select from in the database."""
    return _with_columns(_tables(run, ""), run(_COLUMNS.format(where=_EVERY)))


def table_names(run: Run, default_schema: str) -> list[str]:
    """What may be meant by a name that is not found."""
    return [table.called(default_schema) for table in _tables(run, "")]


def described(run: Run, query: str, stream: str) -> tuple[Described, ...]:
    """The columns that a query would give; nothing is run. Raises SourceError (`sql`) where it is none."""
    found = run(_DESCRIBED.format(query=literal(query)))
    for name, _, _, _, failure in found:
        if failure is not None or name is None:
            why = str(failure) if failure is not None else "a column of it has no name"
            hint = "write one SELECT, without ORDER BY and WITH, and give each of its columns a name with AS"
            raise SourceError(f"the query cannot be read: {why}", hint=hint, code="sql", stream=stream)
    return tuple(
        Described(str(name), str(kind), bool(nullable), str(collation) if collation else None)
        for name, kind, nullable, collation, _ in found
    )


def _tables(run: Run, more: str) -> list[CatalogTable]:
    return [
        CatalogTable(
            str(schema), str(name), kind == "V", int(str(number)), None if rows is None else int(str(rows))
        )
        for schema, name, kind, number, rows in run(_TABLES.format(more=more))
    ]


def _with_columns(tables: Sequence[CatalogTable], rows: Rows) -> list[CatalogTable]:
    columns: defaultdict[int, list[CatalogColumn]] = defaultdict(list)
    keys: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    for number, name, kind, length, precision, scale, nullable, counts, in_key, leads in rows:
        table = int(str(number))
        declared = native(str(kind), int(str(length)), int(str(precision)), int(str(scale)))
        columns[table].append(
            CatalogColumn(str(name), str(kind), declared, bool(nullable), bool(counts), bool(leads))
        )
        if in_key:
            keys[table].append((int(str(in_key)), str(name)))
    return [
        CatalogTable(
            table.schema, table.name, table.is_view, table.number, table.estimated_rows,
            tuple(columns[table.number]),
            tuple(name for _, name in sorted(keys[table.number], key=itemgetter(0))),
        )
        for table in tables
    ]  # fmt: skip


def native(kind: str, length: int, precision: int, scale: int) -> str:
    """The type as a declaration writes it. `length` is in bytes, -1 for max."""
    if kind in ("decimal", "numeric"):
        return f"{kind}({precision},{scale})"
    if kind in _SCALED:
        return f"{kind}({scale})"
    if kind in _SIZED:
        return f"{kind}({'max' if length < 0 else length})"
    if kind in ("nchar", "nvarchar"):
        return f"{kind}({'max' if length < 0 else length // 2})"
    return kind


def _spellings(text: str, default_schema: str) -> Iterator[tuple[str, str]]:
    """The schemas and names that a text can mean, the most literal first."""
    yield default_schema, text
    for place in reversed([place for place, letter in enumerate(text) if letter == "."]):
        yield text[:place], text[place + 1 :]
