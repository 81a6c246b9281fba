"""What PostgreSQL's catalog says of tables and their columns, in as few statements as possible.

Catalogs: https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import pyarrow as pa
from msgspec import Struct

from atlas_etl.connectors.sql._postgresql.errors import quoted
from atlas_etl.connectors.sql._postgresql.types import ServerType, arrow_type, source_column
from atlas_etl.connectors.sql._source import Relation
from atlas_etl.model import ColumnInfo, StreamInfo, TableName

Rows = Sequence[tuple[object, ...]]
Run = Callable[[str, Sequence[object]], Rows]

# Every domain with the base type it comes down to; a domain may be made of another one.
_BASES = """
domains(domain, base, typmod) AS (
  SELECT oid, typbasetype, typtypmod FROM pg_catalog.pg_type WHERE typtype = 'd'
  UNION ALL
  SELECT d.domain, t.typbasetype, CASE d.typmod WHEN -1 THEN t.typtypmod ELSE d.typmod END
  FROM domains d JOIN pg_catalog.pg_type t ON t.oid = d.base AND t.typtype = 'd'),
bases AS (
  SELECT d.* FROM domains d JOIN pg_catalog.pg_type t ON t.oid = d.base AND t.typtype <> 'd')"""
# int2vector and oidvector are no arrays, although the catalog files them as such.
_TYPES = """
LEFT JOIN bases b ON b.domain = a.atttypid
LEFT JOIN pg_catalog.pg_type t ON t.oid = coalesce(b.base, a.atttypid)
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND t.oid NOT IN (22, 30)
LEFT JOIN bases eb ON eb.domain = e.oid
LEFT JOIN pg_catalog.pg_type x ON x.oid = coalesce(eb.base, e.oid)"""
_TYPE = """
t.oid, coalesce(eb.typmod, b.typmod, a.atttypmod), format_type(t.oid, coalesce(b.typmod, a.atttypmod)),
t.typtype = 'e', x.oid, format_type(x.oid, NULL), x.typtype = 'e', x.oid <> e.oid"""

_WRITTEN_ELSEWHERE = {
    "m": "what a materialized view had not seen comes with its next refresh, and is missed where its cursor "
    "lies before the tail (set a `lag` that is longer than refreshes are apart)",
    "f": "a foreign table's server has transactions of its own, and rows that are committed there later than "
    "others with a greater cursor are missed (set a `lag`)",
}
_KINDS = "('r', 'p', 'v', 'm', 'f')"  # tables, partitioned ones, views, materialised ones, foreign tables
_OURS = """n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND left(c.relname, 7) <> '_atlas_'
  AND NOT c.relispartition
  AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')"""

_FOUND = f"""
found AS (
  SELECT c.oid FROM wanted w JOIN pg_catalog.pg_class c ON c.relname = w.name
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN {_KINDS} AND (n.nspname = w.schema OR w.schema IS NULL AND pg_table_is_visible(c.oid))
  ORDER BY w.rank LIMIT 1)"""
_EVERY = f"""
found AS (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN {_KINDS} AND {_OURS})"""
_TABLES = f"""
SELECT n.nspname, c.relname, pg_table_is_visible(c.oid), has_schema_privilege(n.oid, 'USAGE'),
  has_any_column_privilege(c.oid, 'SELECT'),
  CASE c.relkind WHEN 'v' THEN NULL WHEN 'p' THEN (
    SELECT sum(l.reltuples) FROM pg_partition_tree(c.oid) p JOIN pg_catalog.pg_class l ON l.oid = p.relid
    WHERE p.isleaf AND l.reltuples >= 0)
  WHEN 'r' THEN (SELECT c.reltuples WHERE c.reltuples > 0 OR c.reltuples = 0 AND c.relpages > 0)
  ELSE nullif(greatest(c.reltuples, 0), 0) END,
  NOT (c.relkind = 'r' AND c.relhassubclass), c.relkind::text,
  a.attname, NOT a.attnotnull, {_TYPE},
  (SELECT k.place FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, place)
   WHERE i.indrelid = c.oid AND i.indisprimary AND k.attnum = a.attnum AND k.place <= i.indnkeyatts),
  EXISTS (SELECT FROM pg_catalog.pg_index i
          WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indpred IS NULL),
  a.attidentity <> '' OR EXISTS (
    SELECT FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum = a.attnum
    AND starts_with(pg_get_expr(d.adbin, d.adrelid), 'nextval('))
FROM found f JOIN pg_catalog.pg_class c ON c.oid = f.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
{_TYPES}
ORDER BY n.nspname, c.relname, a.attnum"""

_RULES = """
SELECT array_agg(a.attname::text), NULL, NULL, false FROM pg_catalog.pg_index i
CROSS JOIN unnest(i.indkey) WITH ORDINALITY k(attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass(%s) AND k.place <= i.indnkeyatts AND i.indisunique AND i.indisvalid
  AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
GROUP BY i.indexrelid
UNION ALL
SELECT NULL, conname || ' of ' || conrelid::regclass::text, NULL, false FROM pg_catalog.pg_constraint
WHERE confrelid = to_regclass(%s) AND contype = 'f' AND confdeltype IN ('c', 'n', 'd')
UNION ALL
SELECT NULL, NULL, 'the trigger ' || tgname, false FROM pg_catalog.pg_trigger
WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & 11 = 11
UNION ALL
SELECT NULL, NULL, 'the rule ' || rulename, false FROM pg_catalog.pg_rewrite
WHERE ev_class = to_regclass(%s) AND ev_type = '4' AND is_instead AND ev_enabled <> 'D'
UNION ALL
SELECT NULL, NULL, NULL, true WHERE row_security_active(to_regclass(%s))"""  # 11: BEFORE DELETE, of rows


class WritingRules(Struct, frozen=True):
    """What decides how a table may be written.

    `keys`: the columns of each unique index that ON CONFLICT can use. `cascades`: the foreign keys of other
    tables that do more than refuse when a row is deleted. `keepers`: what may keep rows from being deleted,
    without an error. `has_policies`: row level security holds for the role.
    """

    keys: tuple[frozenset[str], ...]
    cascades: tuple[str, ...]
    keepers: tuple[str, ...]
    has_policies: bool


class CatalogColumn(Struct, frozen=True):
    """One column of a table."""

    name: str
    nullable: bool
    type: ServerType
    key_place: int | None  # from 1, in the primary key
    leads_index: bool
    counts: bool  # an identity or serial column


class CatalogTable(Struct, frozen=True):
    """A table, a view or a foreign table."""

    schema: str
    name: str
    on_search_path: bool
    usable: bool  # whether the role may use the schema
    readable: bool  # whether the role may read at least one column
    estimated_rows: int | None
    key_is_unique: bool  # no other table, whose rows are read as this one's, inherits from it
    written_elsewhere: str | None  # why open transactions here do not tell which rows may still come
    columns: tuple[CatalogColumn, ...]

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"

    @property
    def primary_key(self) -> tuple[str, ...]:
        places = {column.key_place: column.name for column in self.columns if column.key_place is not None}
        return tuple(places[place] for place in sorted(places))

    def relation(self) -> Relation:
        columns = tuple(source_column(column.name, column.nullable, column.type) for column in self.columns)
        return Relation(
            self.sql.replace("%", "%%"),
            columns,
            self.primary_key,
            key_is_unique=self.key_is_unique,
            estimated_rows=self.estimated_rows,
            table=TableName(self.name, self.schema),
            late=self.written_elsewhere,
        )

    def stream_info(self) -> StreamInfo:
        """The table under the shortest name that finds it again."""
        return StreamInfo(
            self.name if self.on_search_path else f"{self.schema}.{self.name}",
            tuple(ColumnInfo(column.name, column.type.native, column.nullable) for column in self.columns),
            self.primary_key,
            tuple(column.name for column in sorted(self._cursors(), key=self._rank)),
            self.estimated_rows,
            frozenset(column.name for column in self.columns if column.leads_index),
        )

    def _cursors(self) -> Iterator[CatalogColumn]:
        for column in self.columns:
            kind = arrow_type(column.type)
            moves = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
            counts = pa.types.is_integer(kind) and (column.counts or self.primary_key == (column.name,))
            if column.leads_index and (moves or counts):
                yield column

    def _rank(self, column: CatalogColumn) -> int:
        """A time that updates change comes first, then a number given to new rows, then weaker ones."""
        kind = arrow_type(column.type)
        if pa.types.is_timestamp(kind):
            return 2 if column.nullable else 0
        return 1 if pa.types.is_integer(kind) else 3


def find_table(run: Run, text: str) -> CatalogTable | None:
    """The table that a definition names: `orders` on the search path, `sales.orders`, `"Mixed".orders`."""
    spellings = list(dict.fromkeys(_spellings(text)))
    wanted = ", ".join(f"({rank}, %s::text, %s::text)" for rank in range(len(spellings)))
    parameters = [part for spelling in spellings for part in spelling]
    tables = _tables(run, f"wanted(rank, schema, name) AS (VALUES {wanted}), {_FOUND}", parameters)
    return tables[0] if tables else None


def every_table(run: Run) -> list[CatalogTable]:
    """All that the role can read, outside the system's schemas and Atlas's own tables."""
    return _tables(run, _EVERY, ())


def table_called(run: Run, sql: str) -> CatalogTable | None:
    """The table of this quoted name."""
    found = (
        "found AS (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = to_regclass(%s) AND c.relkind IN "
    )
    tables = _tables(run, f"{found}{_KINDS})", (sql,))
    return tables[0] if tables else None


def writing_rules(run: Run, sql: str) -> WritingRules:
    """Of the table of this quoted name."""
    rows = run(_RULES, (sql,) * 5)
    return WritingRules(
        tuple(frozenset(map(str, names)) for names, *_ in rows if isinstance(names, list)),
        tuple(str(reference) for _, reference, *_ in rows if reference is not None),
        tuple(str(keeper) for *_, keeper, _ in rows if keeper is not None),
        any(has_policies for *_, has_policies in rows),
    )


def described_types(run: Run, types: Sequence[tuple[int, int]]) -> list[ServerType]:
    """The types of these object ids and modifiers, in their order."""
    rows = ", ".join(
        f"({place}, {int(oid)}::oid, {int(typmod)})" for place, (oid, typmod) in enumerate(types)
    )
    found = run(
        f"WITH RECURSIVE {_BASES} SELECT {_TYPE} "
        f"FROM (VALUES {rows}) a(place, atttypid, atttypmod) {_TYPES} ORDER BY a.place",
        (),
    )
    return [_server_type(row) for row in found]


def _tables(run: Run, found: str, parameters: Sequence[object]) -> list[CatalogTable]:
    rows = run(f"WITH RECURSIVE {_BASES}, {found} {_TABLES}", parameters)
    return [_table(key, list(group)) for key, group in groupby(rows, key=lambda row: row[:8])]


def _table(key: tuple[object, ...], rows: Rows) -> CatalogTable:
    schema, name, on_search_path, usable, readable, estimated, has_no_heirs, kind = key
    return CatalogTable(
        str(schema), str(name), bool(on_search_path), bool(usable), bool(readable),
        None if estimated is None else int(float(str(estimated))), bool(has_no_heirs),
        _WRITTEN_ELSEWHERE.get(str(kind)), tuple(_column(row[8:]) for row in rows if row[8] is not None),
    )  # fmt: skip


def _column(row: tuple[object, ...]) -> CatalogColumn:
    place, leads_index, counts = row[10:]
    return CatalogColumn(
        str(row[0]), bool(row[1]), _server_type(row[2:10]),
        None if place is None else int(str(place)), bool(leads_index), bool(counts),
    )  # fmt: skip


def _server_type(row: tuple[object, ...]) -> ServerType:
    oid, typmod, native, is_enum, element, element_native, element_is_enum, element_is_domain = row
    return ServerType(
        int(str(oid)), int(str(typmod)), str(native), bool(is_enum),
        None if element is None else int(str(element)), None if element is None else str(element_native),
        bool(element_is_enum), bool(element_is_domain),
    )  # fmt: skip


_PART = re.compile(r'"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^".]+)')


def _spellings(text: str) -> Iterator[tuple[str | None, str]]:
    """The schemas and names that a text can mean, the most literal first."""
    yield from _splits(text)
    parts: list[str] = []
    at = 0
    while found := _PART.match(text, at):
        parts.append((found["quoted"] or "").replace('""', '"') or found["plain"].lower())
        at = found.end() + 1
        if found.end() == len(text) or text[found.end()] != ".":
            break
    if parts and at > len(text) and len(parts) <= 2:
        yield (parts[0] if len(parts) == 2 else None, parts[-1])


def _splits(text: str) -> Iterator[tuple[str | None, str]]:
    yield None, text
    for place in reversed([place for place, letter in enumerate(text) if letter == "."]):
        yield text[:place], text[place + 1 :]
