"""What is there of a table before a load: its columns, its unique keys, and who refers to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec import Struct

from atlas_etl.connectors.sql._checkpoint_line import CHECKPOINTS
from atlas_etl.connectors.sql._loads import LOADS
from atlas_etl.connectors.sql._meaning import computes
from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.connectors.sql._mysql.stored import KeptColumn
from atlas_etl.connectors.sql._quarantine import QUARANTINE
from atlas_etl.connectors.sql._referenced import refuse_cascading_load
from atlas_etl.errors import DestinationError
from atlas_etl.model import LoadPlan, TableName

Execute = Callable[[str, Sequence[object]], Sequence[tuple[object, ...]]]

_ONE = "TABLE_SCHEMA = ? AND TABLE_NAME = ?"
_COLUMNS = f"""
SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, COALESCE(NUMERIC_PRECISION, 0), COALESCE(NUMERIC_SCALE, 0),
  COALESCE(DATETIME_PRECISION, 0), COALESCE(COLLATION_NAME, ''), COLUMN_COMMENT,
  IS_NULLABLE = 'YES',
  IS_NULLABLE = 'NO' AND (DATA_TYPE = 'timestamp' OR EXTRA LIKE '%auto_increment%'),
  EXTRA LIKE '%STORED GENERATED%' OR EXTRA LIKE '%VIRTUAL GENERATED%',
  COALESCE(COLUMN_DEFAULT, 'NULL') <> 'NULL' OR EXTRA LIKE '%auto_increment%' OR EXTRA LIKE '%on update%'
FROM information_schema.COLUMNS WHERE {_ONE} ORDER BY ORDINAL_POSITION"""
_KEY = f"""
SELECT COLUMN_NAME FROM information_schema.COLUMNS
WHERE {_ONE} AND COLUMN_KEY = 'PRI' AND COLUMN_DEFAULT IS NULL AND EXTRA NOT LIKE '%auto_increment%'"""
_KEYS = f"""
SELECT INDEX_NAME, NON_UNIQUE, COALESCE(COLUMN_NAME, ''), SUB_PART IS NOT NULL
FROM information_schema.STATISTICS WHERE {_ONE} ORDER BY INDEX_NAME, SEQ_IN_INDEX"""
_REFERENCES = """
SELECT CONSTRAINT_NAME, DELETE_RULE FROM information_schema.REFERENTIAL_CONSTRAINTS
WHERE UNIQUE_CONSTRAINT_SCHEMA = ? AND REFERENCED_TABLE_NAME = ? ORDER BY CONSTRAINT_NAME"""
_THERE = """
SELECT (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?),
  (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME IN (?, ?, ?))"""


class Target(Struct, frozen=True):
    """A table that rows are about to be written to."""

    table: TableName
    engine: str  # empty: a view
    columns: tuple[KeptColumn, ...]
    indexes: dict[str, tuple[str, ...]]
    unique: tuple[frozenset[str], ...]
    references: tuple[tuple[str, str], ...]  # foreign keys that point here, and what they do on delete

    def is_keyed(self, primary_key: Sequence[str]) -> bool:
        """Whether these columns are its one unique key, so that an upsert cannot hit another row."""
        return self.unique == (frozenset(primary_key),)

    @property
    def cascades(self) -> tuple[str, ...]:
        """The foreign keys of other tables that do more than refuse when a row is deleted."""
        return tuple(name for name, rule in self.references if rule in ("CASCADE", "SET NULL", "SET DEFAULT"))

    def refuse(self, plan: LoadPlan) -> None:
        """Raise DestinationError where the load cannot be undone, or changes others, or is passed over."""
        if self.engine.lower() != "innodb":
            made = (
                f"ALTER TABLE {quoted(str(self.table.schema))}.{quoted(self.table.name)} ENGINE=InnoDB, or "
            )
            raise DestinationError(
                f"{self.table} is {f'a table of {self.engine}' if self.engine else 'a view'}, "
                "in which a load cannot be undone",
                hint=f"{made if self.engine else ''}choose another table with `into`",
                code="not_transactional",
                stream=plan.stream,
            )
        for column in self.columns:
            # LOAD DATA would pass over its values.
            if column.is_computed and column.name in plan.schema.names:
                raise computes(self.table, column.name)
        refuse_cascading_load(plan, self.cascades, keyed=self.is_keyed(plan.primary_key))


def look_at(execute: Execute, table: TableName) -> Target:
    """The table as it is now, which must be there."""
    name = (table.schema, table.name)
    ((engine,),) = execute(f"SELECT COALESCE(ENGINE, '') FROM information_schema.TABLES WHERE {_ONE}", name)
    indexes: defaultdict[str, list[str]] = defaultdict(list)
    unique: set[str] = set()
    partial: set[str] = set()
    for index, non_unique, column, is_prefix in execute(_KEYS, name):
        indexes[str(index)].append(str(column))
        if not non_unique:
            unique.add(str(index))
        if is_prefix:
            partial.add(str(index))
    # Of a unique prefix, no column is the key.
    keys = (frozenset(() if index in partial else indexes[index]) for index in sorted(unique))
    references = ((str(key), str(rule)) for key, rule in execute(_REFERENCES, name))
    return Target(
        table, str(engine), kept_columns(execute, table),
        {index: tuple(columns) for index, columns in indexes.items()}, tuple(keys), tuple(references),
    )  # fmt: skip


def kept_columns(execute: Execute, table: TableName) -> tuple[KeptColumn, ...]:
    """The table's columns; none where there is no such table."""
    return tuple(
        KeptColumn(
            str(name), str(data_type).lower(), str(native), int(str(precision)), int(str(scale)),
            int(str(fraction)), str(collation), str(comment), bool(nullable), bool(replaces_null),
            bool(is_computed), bool(gives_itself),
        )
        for (
            name, data_type, native, precision, scale, fraction, collation, comment, nullable, replaces_null,
            is_computed, gives_itself,
        ) in execute(_COLUMNS, (table.schema, table.name))
    )  # fmt: skip


def key_to_bring(execute: Execute, table: TableName) -> frozenset[str]:
    """The columns of the primary key that give themselves no value."""
    return frozenset(str(name) for (name,) in execute(_KEY, (table.schema, table.name)))


def ledger_there(execute: Execute, schema: str) -> tuple[bool, bool]:
    """Whether the database is there, and whether the ledger is."""
    ((schemas, tables),) = execute(_THERE, (schema, schema, CHECKPOINTS, LOADS, QUARANTINE))
    return bool(schemas), tables == 3
