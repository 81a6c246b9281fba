"""What is there of a table before a load: its columns, its unique keys, and who refers to it.

Views: https://docs.oracle.com/en/database/oracle/oracle-database/23/refrn/.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from msgspec import Struct

from atlas_etl.connectors.sql._checkpoint_line import CHECKPOINTS
from atlas_etl.connectors.sql._inexact import refuse_inexact
from atlas_etl.connectors.sql._loads import LOADS
from atlas_etl.connectors.sql._oracle.literals import literal
from atlas_etl.connectors.sql._oracle.stored import KeptColumn
from atlas_etl.connectors.sql._quarantine import QUARANTINE
from atlas_etl.connectors.sql._referenced import refuse_cascading_load
from atlas_etl.errors import DestinationError
from atlas_etl.model import LoadPlan, TableName

Execute = Callable[[str], Sequence[tuple[object, ...]]]

_EXACT = "VARCHAR2, CLOB, RAW, BLOB, TIMESTAMP(6) or a NUMBER with its digits"
_COLUMNS = """
SELECT c.column_name, c.data_type, c.data_length, CASE WHEN c.char_used = 'C' THEN c.char_length END,
  c.data_precision, c.data_scale, c.collation, c.nullable, c.virtual_column, c.identity_column
FROM all_tab_cols c WHERE c.owner = {owner} AND c.table_name = {name} AND c.hidden_column = 'NO'
ORDER BY c.column_id"""
# The index of a LOB is unique as well, and has no columns.
_KEYS = """
SELECT i.index_name, c.column_name FROM all_indexes i
JOIN all_ind_columns c ON c.index_owner = i.owner AND c.index_name = i.index_name
WHERE i.table_owner = {owner} AND i.table_name = {name} AND i.uniqueness = 'UNIQUE'
ORDER BY i.index_name, c.column_position"""
_REFERENCES = """
SELECT r.constraint_name, r.delete_rule FROM all_constraints r
JOIN all_constraints k ON k.owner = r.r_owner AND k.constraint_name = r.r_constraint_name
WHERE r.constraint_type = 'R' AND k.owner = {owner} AND k.table_name = {name} ORDER BY 1"""
_THERE = """
SELECT COUNT(*) FROM all_tables t WHERE t.owner = {owner} AND t.table_name IN ({names})"""
_SCHEMAS = "SELECT t.owner FROM all_tables t WHERE t.table_name = {name} ORDER BY t.owner"


class Target(Struct, frozen=True):
    """A table that rows are about to be written to."""

    table: TableName
    columns: tuple[KeptColumn, ...]
    keys: tuple[frozenset[str], ...]  # of its unique indexes
    references: tuple[tuple[str, str], ...]  # foreign keys that point here, and what they do on delete

    def is_keyed(self, primary_key: Sequence[str]) -> bool:
        """Whether these columns are its one unique key, so that an update cannot hit another row."""
        return self.keys == (frozenset(primary_key),)

    @property
    def cascades(self) -> tuple[str, ...]:
        """The foreign keys of other tables that do more than refuse when a row is deleted."""
        return tuple(name for name, rule in self.references if rule in ("CASCADE", "SET NULL"))

    def refuse(self, plan: LoadPlan) -> None:
        """Raise DestinationError where values would change on the way in, or rows of other tables."""
        refuse_inexact(plan, self.columns, _EXACT)
        merged = plan.primary_key if plan.merges else ()
        self.refuse_long({*merged, *((plan.cursor,) if plan.cursor else ())}, plan.stream)
        refuse_cascading_load(plan, self.cascades, keyed=self.is_keyed(plan.primary_key))

    def refuse_long(self, compared: Collection[str], stream: str) -> None:
        """Raise DestinationError where a key or a cursor is a LOB, which Oracle cannot compare."""
        for column in self.columns:
            if column.name in compared and column.is_long:
                raise DestinationError(
                    f"column {column.name!r} of {self.table} is a {column.kind}, which Oracle does not "
                    "compare: it is no key and no cursor",
                    hint="drop the table and sync with --full-refresh, which makes it VARCHAR2(4000)",
                    code="long_key",
                    stream=stream,
                    column=column.name,
                )


def look_at(execute: Execute, table: TableName) -> Target:
    """The table as it is now."""
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for index, column in execute(_KEYS.format(**_named(table))):
        keys[str(index)].add(str(column))
    references = execute(_REFERENCES.format(**_named(table)))
    return Target(
        table,
        kept_columns(execute, table),
        tuple(frozenset(columns) for _, columns in sorted(keys.items())),
        tuple((str(name), str(rule)) for name, rule in references),
    )


def kept_columns(execute: Execute, table: TableName) -> tuple[KeptColumn, ...]:
    """The table's columns; none where there is no such table."""
    return tuple(
        KeptColumn(
            str(name), str(kind), _number(length) or 0, _number(characters), _number(precision),
            _number(scale), None if collation is None else str(collation), nullable == "Y",
            virtual == "YES" or counts == "YES",
        )
        for name, kind, length, characters, precision, scale, collation, nullable, virtual, counts in execute(
            _COLUMNS.format(**_named(table))
        )
    )  # fmt: skip


def ledger_there(execute: Execute, schema: str) -> bool:
    """Whether the whole ledger is there."""
    names = ", ".join(map(literal, (CHECKPOINTS, LOADS, QUARANTINE)))
    ((tables,),) = execute(_THERE.format(owner=literal(schema), names=names))
    return int(str(tables)) == 3


def ledger_schemas(execute: Execute) -> list[str | None]:
    """The schemas with a ledger that the user may read."""
    return [str(owner) for (owner,) in execute(_SCHEMAS.format(name=literal(CHECKPOINTS)))]


def _named(table: TableName) -> dict[str, str]:
    return {"owner": literal(str(table.schema)), "name": literal(table.name)}


def _number(cell: object) -> int | None:
    return None if cell is None else int(str(cell))
