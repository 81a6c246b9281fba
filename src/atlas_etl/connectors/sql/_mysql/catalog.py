"""What information_schema says of tables, their columns and keys, in one statement.

Tables: https://dev.mysql.com/doc/refman/8.4/en/information-schema.html and
https://mariadb.com/kb/en/information-schema-tables/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter

from msgspec import Struct

from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.model import ColumnInfo, StreamInfo

Rows = Sequence[tuple[object, ...]]
Run = Callable[[str, Sequence[str]], Rows]

SYSTEM_DATABASES = ("information_schema", "performance_schema", "mysql", "sys")
_TABLES = """
SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES
WHERE {where} AND TABLE_TYPE <> 'SEQUENCE' ORDER BY TABLE_SCHEMA, TABLE_NAME"""
# Columns that the account may not select are left out, as those are on which it has no right at all.
_CATALOG = """
SELECT 'table' AS kind, TABLE_SCHEMA AS table_schema, TABLE_NAME AS table_name, TABLE_TYPE AS name,
  COALESCE(ENGINE, '') AS a, '' AS b, '' AS c, TABLE_ROWS AS n, 0 AS place, 0 AS flag
FROM information_schema.TABLES WHERE {where} AND TABLE_TYPE <> 'SEQUENCE'
UNION ALL SELECT 'column', TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, COLUMN_COMMENT,
  IS_NULLABLE = 'YES', ORDINAL_POSITION, EXTRA LIKE '%auto_increment%'
FROM information_schema.COLUMNS WHERE {where} AND FIND_IN_SET('select', PRIVILEGES)
UNION ALL SELECT 'key', TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, INDEX_NAME, '', '', 0, SEQ_IN_INDEX, 0
FROM information_schema.STATISTICS WHERE {where} AND COLUMN_NAME IS NOT NULL
ORDER BY table_schema, table_name, kind, a, place"""
# MariaDB's JSON is longtext with a constraint, which has the column's name.
_JSON = """
SELECT CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS
WHERE CONSTRAINT_SCHEMA = ? AND TABLE_NAME = ? AND LEVEL = 'Column'"""
_ONE = "TABLE_SCHEMA = ? AND TABLE_NAME = ?"

INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})
_TIMES = frozenset({"timestamp", "datetime"})


class CatalogColumn(Struct, frozen=True):
    """One column of a table."""

    name: str
    data_type: str  # `bigint`
    native: str  # `bigint(20) unsigned`
    nullable: bool
    counts: bool  # AUTO_INCREMENT
    comment: str


class CatalogTable(Struct, frozen=True):
    """A table or a view."""

    schema: str
    name: str
    is_view: bool
    engine: str
    estimated_rows: int | None
    columns: tuple[CatalogColumn, ...]
    primary_key: tuple[str, ...]
    leading: frozenset[str]  # columns that an index begins with

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    def stream_info(self, database: str | None) -> StreamInfo:
        """The table under the shortest name that finds it again."""
        return StreamInfo(
            self.name if self.schema == database else f"{self.schema}.{self.name}",
            tuple(ColumnInfo(column.name, column.native, column.nullable) for column in self.columns),
            self.primary_key,
            tuple(column.name for column in sorted(self._cursors(), key=_rank)),
            self.estimated_rows,
            self.leading,
        )

    def _cursors(self) -> Iterator[CatalogColumn]:
        for column in self.columns:
            counts = column.data_type in INTEGERS and (column.counts or self.primary_key == (column.name,))
            if column.name in self.leading and (column.data_type in (*_TIMES, "date") or counts):
                yield column


def _rank(column: CatalogColumn) -> int:
    """A time that changes with each update first, then a number given to new rows, then the weaker ones."""
    if column.data_type in _TIMES:
        return 2 if column.nullable else 0
    return 1 if column.data_type in INTEGERS else 3


def find_table(run: Run, text: str, database: str | None, *, folds_case: bool) -> CatalogTable | None:
    """The table that a definition names: `orders` in the connection's database, or `shop.orders`."""
    for schema, name in _spellings(text, database):
        found = _catalog(run, _ONE, (schema, name))
        exact = [table for table in found if (table.schema, table.name) == (schema, name)]
        if exact or (folds_case and found):
            return (exact or found)[0]
    return None


def every_table(run: Run, database: str | None) -> list[CatalogTable]:
    """All that the account can see of the connection's database, or of all but the system's."""
    ours = " AND LEFT(TABLE_NAME, 7) <> '_atlas_'"
    if database is None:
        return _catalog(run, f"TABLE_SCHEMA NOT IN {SYSTEM_DATABASES}{ours}", ())
    return _catalog(run, f"TABLE_SCHEMA = ?{ours}", (database,))


def table_names(run: Run, database: str | None) -> list[str]:
    """What may be meant by a name that is not found."""
    rows = run(_TABLES.format(where=f"TABLE_SCHEMA NOT IN {SYSTEM_DATABASES}"), ())
    return [str(name) if schema == database else f"{schema}.{name}" for schema, name in rows]


def json_columns(run: Run, table: CatalogTable) -> frozenset[str]:
    """MariaDB's columns that are declared JSON."""
    if not any(column.data_type == "longtext" for column in table.columns):
        return frozenset()
    found = run(_JSON, (table.schema, table.name))
    return frozenset(str(name) for name, clause in found if clause == f"json_valid({quoted(str(name))})")


def _catalog(run: Run, where: str, parameters: Sequence[str]) -> list[CatalogTable]:
    found: defaultdict[tuple[str, str], defaultdict[str, list[tuple[object, ...]]]]
    found = defaultdict(lambda: defaultdict(list))
    for kind, schema, table, *more in run(_CATALOG.format(where=where), (*parameters,) * 3):
        found[str(schema), str(table)][str(kind)].append(tuple(more))
    return [_table(name, parts) for name, parts in found.items() if "table" in parts]


def _table(called: tuple[str, str], parts: Mapping[str, Rows]) -> CatalogTable:
    ((kind, engine, _, _, rows, _, _),) = parts["table"]
    columns = [
        (int(str(place)), CatalogColumn(
            str(name), str(data_type).lower(), str(native), bool(nullable), bool(counts), str(comment)
        ))
        for name, data_type, native, comment, nullable, place, counts in parts.get("column", ())
    ]  # fmt: skip
    keys = [(str(index), str(name), place) for name, index, _, _, _, place, _ in parts.get("key", ())]
    return CatalogTable(
        *called, kind in ("VIEW", "SYSTEM VIEW"), str(engine), None if rows is None else int(str(rows)),
        tuple(column for _, column in sorted(columns, key=itemgetter(0))),
        tuple(name for index, name, _ in keys if index == "PRIMARY"),
        frozenset(name for _, name, place in keys if place == 1),
    )  # fmt: skip


def _spellings(text: str, database: str | None) -> Iterator[tuple[str, str]]:
    """The databases and names that a text can mean, the most literal first."""
    if database is not None:
        yield database, text
    for place in reversed([place for place, letter in enumerate(text) if letter == "."]):
        yield text[:place], text[place + 1 :]
