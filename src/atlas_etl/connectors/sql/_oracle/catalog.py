"""What Oracle's data dictionary tells of tables and views.

Views: https://docs.oracle.com/en/database/oracle/oracle-database/23/refrn/. They show what the user has any
right on; what belongs to Oracle itself is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from msgspec import Struct
from msgspec.structs import replace

from atlas_etl.connectors.sql._oracle.literals import literal, quoted
from atlas_etl.model import ColumnInfo, StreamInfo

Rows = Sequence[tuple[object, ...]]
Run = Callable[[str], Rows]

_OURS = "owner NOT IN (SELECT username FROM all_users WHERE oracle_maintained = 'Y')"
# A materialized view is a table of its name as well.
_TABLES = """
SELECT owner, table_name, 'TABLE', num_rows FROM all_tables
WHERE nested = 'NO' AND secondary = 'N' AND dropped = 'NO' AND (iot_type IS NULL OR iot_type = 'IOT')
  AND SUBSTR(table_name, 1, 7) <> '_atlas_' AND {where}
UNION ALL
SELECT owner, view_name, 'VIEW', NULL FROM all_views WHERE {view}
ORDER BY 1, 2"""
_COLUMNS = """
SELECT c.owner, c.table_name, c.column_name, c.data_type, c.data_length, c.char_length, c.data_precision,
  c.data_scale, c.nullable, c.identity_column
FROM all_tab_columns c WHERE {where} ORDER BY c.owner, c.table_name, c.column_id"""
_KEYS = """
SELECT k.owner, k.table_name, k.column_name, k.position
FROM all_constraints c JOIN all_cons_columns k
  ON k.owner = c.owner AND k.constraint_name = c.constraint_name AND k.table_name = c.table_name
WHERE c.constraint_type = 'P' AND {where}"""
_LEADING = """
SELECT c.table_owner, c.table_name, c.column_name FROM all_ind_columns c
WHERE c.column_position = 1 AND {where}"""

_SIZED = {
    "VARCHAR2": "char_length",
    "CHAR": "char_length",
    "NVARCHAR2": "char_length",
    "NCHAR": "char_length",
}


class CatalogColumn(Struct, frozen=True):
    """One column of a table."""

    name: str
    native: str  # `NUMBER(12,2)`
    nullable: bool
    counts: bool  # GENERATED AS IDENTITY
    leads: bool = False  # whether an index begins with it


class CatalogTable(Struct, frozen=True):
    """A table or a view; its columns where they were asked for."""

    schema: str
    name: str
    is_view: bool
    estimated_rows: int | None  # as its statistics have it
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
            is_key = column.counts or self.primary_key == (column.name,)
            if column.leads and (_is_time(column) or (is_key and column.native.startswith("NUMBER"))):
                yield column


def _is_time(column: CatalogColumn) -> bool:
    return column.native == "DATE" or column.native.startswith("TIMESTAMP")


def _rank(column: CatalogColumn) -> int:
    """A time that is always there first, then a number given to new rows, then the weaker ones."""
    if _is_time(column):
        return 2 if column.nullable else 0
    return 1


def find_table(run: Run, text: str, default_schema: str) -> CatalogTable | None:
    """The table that a definition names, with its columns and key: `orders` or `hr.orders`.

    A name is taken as it is written, and else as Oracle folds names without quotation marks: `ORDERS`.
    """
    for schema, name in _spellings(text, default_schema):
        owned, called = f"owner = {literal(schema)}", literal(name)
        tables = _tables(run, f"{owned} AND table_name = {called}", f"{owned} AND view_name = {called}")
        if tables:
            where = f"c.owner = {literal(schema)} AND c.table_name = {called}"
            led = f"c.table_owner = {literal(schema)} AND c.table_name = {called}"
            return _with_columns(run, tables, where, led)[0]
    return None


def every_table(run: Run) -> list[CatalogTable]:
    """All that the user has a right on in the database, but Oracle's own."""
    owned, led = f"c.{_OURS}", f"c.table_{_OURS}"
    return _with_columns(run, _tables(run, _OURS, _OURS), owned, led)


def table_names(run: Run, default_schema: str) -> list[str]:
    """What may be meant by a name that is not found."""
    return [table.called(default_schema) for table in _tables(run, _OURS, _OURS)]


def native_type(
    kind: str, length: int | None, characters: int | None, precision: int | None, scale: int | None
) -> str:
    """A type as a declaration writes it; lengths of texts in characters, of RAW in bytes."""
    if kind == "NUMBER":
        if precision is None:
            return "NUMBER" if scale is None else f"NUMBER(38,{scale})"
        return f"NUMBER({precision},{scale or 0})"
    if kind == "FLOAT":
        return f"FLOAT({precision or 126})"
    if kind in _SIZED:
        return f"{kind}({characters})" if characters else kind
    return f"RAW({length})" if kind == "RAW" else kind


def _tables(run: Run, where: str, view: str) -> list[CatalogTable]:
    return [
        CatalogTable(str(owner), str(name), kind == "VIEW", _number(rows))
        for owner, name, kind, rows in run(_TABLES.format(where=where, view=view))
    ]


def _with_columns(run: Run, tables: Sequence[CatalogTable], where: str, led: str) -> list[CatalogTable]:
    columns: defaultdict[tuple[str, str], list[CatalogColumn]] = defaultdict(list)
    keys: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    leading = {(str(owner), str(table), str(name)) for owner, table, name in run(_LEADING.format(where=led))}
    for owner, table, name, kind, length, chars, precision, scale, nullable, counts in run(
        _COLUMNS.format(where=where)
    ):
        native = native_type(str(kind), _number(length), _number(chars), _number(precision), _number(scale))
        of = str(owner), str(table)
        columns[of].append(
            CatalogColumn(str(name), native, nullable == "Y", counts == "YES", (*of, str(name)) in leading)
        )
    for owner, table, name, place in run(_KEYS.format(where=where)):
        keys[str(owner), str(table)].append((_number(place) or 0, str(name)))
    return [
        replace(
            table,
            columns=tuple(columns[table.schema, table.name]),
            primary_key=tuple(name for _, name in sorted(keys[table.schema, table.name], key=itemgetter(0))),
        )
        for table in tables
    ]


def _number(cell: object) -> int | None:
    return None if cell is None else int(str(cell))


def _spellings(text: str, default_schema: str) -> Iterator[tuple[str, str]]:
    """The schemas and names that a text can mean, the most literal first."""
    found = [(default_schema, text)]
    for place in reversed([place for place, letter in enumerate(text) if letter == "."]):
        found.append((text[:place], text[place + 1 :]))
    folded = [
        (schema if schema == default_schema else schema.upper(), name.upper()) for schema, name in found
    ]
    yield from dict.fromkeys((*found, *folded))
