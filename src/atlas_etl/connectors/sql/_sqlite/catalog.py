"""What a SQLite file says it holds: tables, views, columns, keys, indexes and rough sizes."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Protocol

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.sql._sqlite.types import arrow_type, base_name

_OWN = ("sqlite_", "_atlas_")
_NEVER = 9
_SAMPLED = 1000  # rows, which are counted
_TIME_LIKE = re.compile(r"(_at|_on|_time|_date|time|date|modified|updated|created)$", re.IGNORECASE)


class Queries(Protocol):
    """A connection that the catalog can be asked through."""

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """One statement; its rows."""


class Entry(Struct, frozen=True):
    """A table or view of the file's own schema, `main`."""

    name: str
    is_view: bool
    has_rowid: bool


class CatalogColumn(Struct, frozen=True):
    """A column as declared; `key` is its place in the primary key, from 1, or 0."""

    name: str
    declared: str
    required: bool
    key: int


def quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def entries(driver: Queries) -> list[Entry]:
    """Every table and view, but SQLite's and Atlas's own."""
    rows = driver.execute(
        "SELECT name, type, wr FROM pragma_table_list "
        "WHERE schema = 'main' AND type IN ('table', 'view', 'virtual') ORDER BY name"
    )
    return [
        Entry(str(name), kind == "view", kind == "table" and not without_rowid)
        for name, kind, without_rowid in rows
        if not str(name).startswith(_OWN)
    ]


def columns(driver: Queries, name: str, *, schema: str = "main") -> tuple[CatalogColumn, ...]:
    """The columns of a table or view, generated ones too (https://www.sqlite.org/pragma.html#pragma_table_xinfo)."""
    rows = driver.execute(
        'SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?, ?) WHERE hidden <> 1 ORDER BY cid',
        (name, schema),
    )
    return tuple(CatalogColumn(str(c), str(kind), bool(must), int(str(pk))) for c, kind, must, pk in rows)


def primary_key(found: Sequence[CatalogColumn]) -> tuple[str, ...]:
    return tuple(column.name for column in sorted(found, key=lambda c: c.key) if column.key)


def is_rowid(driver: Queries, entry: Entry, column: CatalogColumn, key: Sequence[str]) -> bool:
    """Whether a column is another name of the rowid, which is never NULL: INTEGER PRIMARY KEY."""
    if not entry.has_rowid or tuple(key) != (column.name,) or base_name(column.declared) != "INTEGER":
        return False
    return not driver.execute("SELECT 1 FROM pragma_index_list(?) WHERE origin = 'pk'", (entry.name,))


def rowid(entry: Entry, found: Sequence[CatalogColumn]) -> str | None:
    """A name of the rowid; None where there is none, or columns have all of its names."""
    taken = {column.name.lower() for column in found}
    names = ("rowid", "_rowid_", "oid") if entry.has_rowid else ()
    return next((name for name in names if name not in taken), None)


def estimated_rows(driver: Queries, entry: Entry, found: Sequence[CatalogColumn]) -> int | None:
    """What ANALYZE counted, else as many as there are if the others lie as close as the first rowids do."""
    if driver.execute("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_stat1'"):
        counted = driver.execute(
            "SELECT max(CAST(stat AS INTEGER)) FROM main.sqlite_stat1 WHERE tbl = ?", (entry.name,)
        )[0][0]
        if counted is not None:
            return int(str(counted))
    name, table = rowid(entry, found), quote(entry.name)
    if name is None:
        return None
    sample = f"SELECT {name} AS place FROM main.{table} ORDER BY {name} LIMIT {_SAMPLED}"
    counted, *places = driver.execute(
        f"SELECT count(*), min(place), max(place), (SELECT max({name}) FROM main.{table}) FROM ({sample})"
    )[0]
    rows = int(str(counted))
    if rows < _SAMPLED:
        return rows
    first, last, greatest = (int(str(place)) for place in places)
    return 1 + (greatest - first) * (rows - 1) // (last - first)


def indexed(driver: Queries, entry: Entry, key: Sequence[str]) -> frozenset[str]:
    """The columns that lead an index, or are the key."""
    rows = driver.execute(
        "SELECT DISTINCT i.name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i "
        "WHERE i.seqno = 0 AND NOT l.partial AND i.name IS NOT NULL",
        (entry.name,),
    )
    return frozenset({str(row[0]) for row in rows} | set(key if len(key) == 1 else ()))


def cursor_candidates(
    found: Sequence[CatalogColumn], key: Sequence[str], leading: Collection[str]
) -> tuple[str, ...]:
    """Those of the `leading` columns that grow: times first, then dates, then whole numbers."""
    ranked = ((_rank(column, column.name in key), n, column.name) for n, column in enumerate(found))
    return tuple(name for rank, _, name in sorted(ranked) if rank != _NEVER and name in leading)


def _rank(column: CatalogColumn, is_key: bool) -> int:
    kind = arrow_type(column.declared)
    if kind is None:
        return _NEVER
    if pa.types.is_timestamp(kind):
        return 0
    if pa.types.is_date(kind):
        return 1
    if kind in (pa.string(), pa.int64(), pa.float64()) and _TIME_LIKE.search(column.name):
        return 2
    if kind == pa.int64():
        return 3 if is_key else 4
    return _NEVER
