"""What is there of a table before a load: its columns, its unique keys, and who refers to it.

Views: https://learn.microsoft.com/sql/relational-databases/system-catalog-views.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec import Struct

from atlas_etl.connectors.sql._checkpoint_line import CHECKPOINTS
from atlas_etl.connectors.sql._inexact import refuse_inexact
from atlas_etl.connectors.sql._loads import LOADS
from atlas_etl.connectors.sql._mssql.catalog import native
from atlas_etl.connectors.sql._mssql.literals import literal, quoted
from atlas_etl.connectors.sql._mssql.stored import KeptColumn
from atlas_etl.connectors.sql._quarantine import QUARANTINE
from atlas_etl.connectors.sql._referenced import refuse_cascading_load
from atlas_etl.model import LoadPlan, TableName

Execute = Callable[[str], Sequence[tuple[object, ...]]]

_EXACT = "nvarchar, varbinary, datetime2(6), datetimeoffset(6) or time(6)"
_COLUMNS = """
SELECT c.name, COALESCE(b.name, t.name), c.max_length, c.precision, c.scale, c.collation_name,
  CAST(c.is_nullable AS int), CAST(c.is_computed AS int) + CAST(c.is_identity AS int)
FROM sys.columns AS c JOIN sys.types AS t ON t.user_type_id = c.user_type_id
LEFT JOIN sys.types AS b ON b.user_type_id = t.system_type_id
WHERE c.object_id = OBJECT_ID({table}) ORDER BY c.column_id"""
_KEYS = """
SELECT i.name, CAST(i.is_primary_key AS int), c.name
FROM sys.indexes AS i
JOIN sys.index_columns AS k ON k.object_id = i.object_id AND k.index_id = i.index_id
JOIN sys.columns AS c ON c.object_id = k.object_id AND c.column_id = k.column_id
WHERE i.object_id = OBJECT_ID({table}) AND i.is_unique = 1 AND i.is_disabled = 0
  AND i.has_filter = 0 AND k.is_included_column = 0
ORDER BY i.index_id, k.key_ordinal"""
_REFERENCES = """
SELECT f.name, f.delete_referential_action FROM sys.foreign_keys AS f
WHERE f.referenced_object_id = OBJECT_ID({table}) ORDER BY f.name"""
_THERE = "SELECT CASE WHEN {tests} THEN 1 ELSE 0 END AS n"
_SCHEMAS = """
SELECT s.name FROM sys.objects AS o JOIN sys.schemas AS s ON s.schema_id = o.schema_id
WHERE o.name = {table} AND o.type = 'U'
  AND HAS_PERMS_BY_NAME(QUOTENAME(s.name) + '.' + QUOTENAME(o.name), 'OBJECT', 'SELECT') = 1
ORDER BY s.name"""


class UniqueKey(Struct, frozen=True):
    """A unique index, which may be the primary key."""

    name: str
    is_primary: bool
    columns: tuple[str, ...]


class Target(Struct, frozen=True):
    """A table that rows are about to be written to."""

    table: TableName
    columns: tuple[KeptColumn, ...]
    keys: tuple[UniqueKey, ...]
    cascades: tuple[str, ...]  # foreign keys of others that do more than refuse when a row is deleted

    def is_keyed(self, primary_key: Sequence[str]) -> bool:
        """Whether these columns are its one unique key, so that an update cannot hit another row."""
        return [set(key.columns) for key in self.keys] == [set(primary_key)]

    def refuse(self, plan: LoadPlan) -> None:
        """Raise DestinationError where values would change on the way in, or rows of other tables."""
        refuse_inexact(plan, self.columns, _EXACT)
        refuse_cascading_load(plan, self.cascades, keyed=self.is_keyed(plan.primary_key))


def look_at(execute: Execute, table: TableName) -> Target:
    """The table as it is now."""
    columns: defaultdict[tuple[str, bool], list[str]] = defaultdict(list)
    for index, is_primary, column in execute(_KEYS.format(table=_named(table))):
        columns[str(index), bool(is_primary)].append(str(column))
    keys = (UniqueKey(*index, tuple(names)) for index, names in columns.items())
    references = execute(_REFERENCES.format(table=_named(table)))
    cascades = (str(name) for name, action in references if int(str(action)))
    return Target(table, kept_columns(execute, table), tuple(keys), tuple(cascades))


def kept_columns(execute: Execute, table: TableName) -> tuple[KeptColumn, ...]:
    """The table's columns; none where there is no such table."""
    return tuple(
        KeptColumn(
            str(name), str(kind), native(str(kind), int(str(length)), int(str(precision)), int(str(scale))),
            int(str(precision)), int(str(scale)), None if collation is None else str(collation),
            bool(nullable), bool(given) or kind in ("timestamp", "rowversion"),
        )
        for name, kind, length, precision, scale, collation, nullable, given in execute(
            _COLUMNS.format(table=_named(table))
        )
    )  # fmt: skip


def ledger_there(execute: Execute, schema: str) -> bool:
    """Whether the schema and the whole ledger are there."""
    tables = (TableName(name, schema) for name in (CHECKPOINTS, LOADS, QUARANTINE))
    tests = (f"OBJECT_ID({_named(table)}, N'U') IS NOT NULL" for table in tables)
    ((there,),) = execute(_THERE.format(tests=" AND ".join(tests)))
    return bool(there)


def ledger_schemas(execute: Execute) -> list[str | None]:
    """The schemas with a ledger that the login may read."""
    return [str(name) for (name,) in execute(_SCHEMAS.format(table=literal(CHECKPOINTS)))]


def _named(table: TableName) -> str:
    return literal(f"{quoted(str(table.schema))}.{quoted(table.name)}")
