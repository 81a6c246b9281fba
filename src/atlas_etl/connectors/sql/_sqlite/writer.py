"""How SQLite is written: its dialect, and the connection of a load."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from atlas_etl.connectors.sql._dialect import Connection, WriterDialect
from atlas_etl.connectors.sql._sqlite import catalog
from atlas_etl.connectors.sql._sqlite.declared import is_view, refuse_rebuilding, refuse_replacing
from atlas_etl.connectors.sql._sqlite.driver import Driver
from atlas_etl.connectors.sql._sqlite.encode import converted, decimal_key, encoded, insert
from atlas_etl.connectors.sql._sqlite.replaced_values import numeric_columns, refuse_replaced
from atlas_etl.connectors.sql._sqlite.types import declaration, kept_type, stored_type
from atlas_etl.model import LoadPlan, TableName, WidenColumn

_REBUILT = "_atlas_rebuilt"


class SqliteDialect(WriterDialect):
    """SQLite's SQL. Tables of all connectors stand in one file, so names carry the connector's."""

    key_type = "TEXT"
    has_schemas = False
    fold_case = True

    def column_of(self, table: TableName, name: str) -> str:
        return f"{self.quote(table.name)}.{self.quote(name)}"  # a name alone is a text where no column has it

    def folded_table(self, name: str) -> str:
        return f"lower({name})"  # of ASCII letters alone, as names of tables are compared

    def stored(self, field: pa.Field) -> pa.Field:
        return pa.field(field.name, stored_type(field.type))

    def column_type(self, field: pa.Field) -> str:
        return declaration(stored_type(field.type))

    def parameter(self, scalar: pa.Scalar) -> tuple[str, object]:
        cell = encoded(pa.array([scalar], type=scalar.type))[0].as_py()
        if not pa.types.is_decimal(scalar.type):
            return "?", cell
        return f"(SELECT {decimal_key('bound', scalar.type)} FROM (SELECT ? AS bound))", cell

    def ordered(self, field: pa.Field) -> str:
        name = self.quote(field.name)
        return decimal_key(name, field.type) if pa.types.is_decimal(field.type) else name

    def keepers(self, connection: Connection, plan: LoadPlan) -> Sequence[str]:
        named, name = self.same_table("tbl_name", plan.table.name)
        triggers = connection.execute(
            f"SELECT name FROM main.sqlite_schema WHERE type = 'trigger' AND {named} AND sql LIKE '%delete%'",
            name,
        )
        return [f"the trigger {trigger}" for (trigger,) in triggers]

    def has_key(self, table: str, stage: str, key: Sequence[str]) -> str:  # noqa: ARG002
        """As everywhere, but the keys are looked up in the table, not the table's rows in the stage."""
        keys = self.names(key)
        return f"{f'({keys})' if len(key) > 1 else keys} IN (SELECT {keys} FROM {stage})"

    def lacks_key(self, table: str, stage: str, key: Sequence[str]) -> str:
        return f"({self.has_key(table, stage, key)}) IS NOT 1"  # TRUE may be a column's name


class SqliteWriter:
    """The connection of one load (sql._dialect.Connection)."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._left_out = 0
        self._tells = True
        self._numeric: frozenset[str] = frozenset()

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        return self._driver.execute(sql, parameters)

    def go_into(self, table: TableName) -> None:
        """From here on, rows are for this table, or for a stage of it. Raises DestinationError."""
        refuse_replacing(self, table)
        # What a view's triggers do with its rows is told of no statement.
        self._tells = not is_view(self, table)
        self._numeric = numeric_columns(self, table)

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        refuse_replaced(batch, self._numeric)
        taken = self._driver.change(*insert(table, batch))
        if self._tells:
            self._left_out += batch.num_rows - taken

    def change(self, sql: str, parameters: Sequence[object] = ()) -> int:
        return self._driver.change(sql, [parameters] if parameters else None)

    def left_out(self) -> int:
        left_out, self._left_out = self._left_out, 0
        return left_out

    def begin(self) -> None:
        self._driver.wait_for_turn("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._driver.wait_for_turn("COMMIT")

    def rollback(self) -> None:
        self.execute("ROLLBACK")


def table_schema(connection: Connection, table: TableName) -> pa.Schema | None:
    """The table's columns by their declared types, or None where there is no such table."""
    rows = connection.execute(
        "SELECT name, type FROM pragma_table_xinfo(?, 'main') WHERE hidden = 0 ORDER BY cid", (table.name,)
    )
    return pa.schema([(str(name), kept_type(str(kind))) for name, kind in rows]) if rows else None


def table_key(connection: Connection, table: TableName) -> frozenset[str]:
    """The columns of the table's primary key; none where it is the rowid, which gives itself a value."""
    rows = connection.execute(
        "SELECT name, type FROM pragma_table_info(?, 'main') WHERE pk > 0", (table.name,)
    )
    is_rowid = len(rows) == 1 and str(rows[0][1]).upper() == "INTEGER"
    return frozenset() if is_rowid else frozenset(str(name) for name, _ in rows)


def rebuild(
    driver: Connection, dialect: SqliteDialect, table: TableName, change: WidenColumn
) -> Sequence[str]:
    """What declares a column anew, which ALTER TABLE cannot: a new table takes the old one's place.

    Its columns, key, indexes and triggers stay (https://www.sqlite.org/lang_altertable.html#otheralter).
    Raises DestinationError (`cannot_widen`) where it declares more.
    """
    refuse_rebuilding(driver, table, change.name)
    found = catalog.columns(driver, table.name)
    key = catalog.primary_key(found)
    quote, old, new = dialect.quote, dialect.table(table), dialect.quote(_REBUILT)
    declared = [
        f"{quote(c.name)} {dialect.column_type(change.after) if c.name == change.name else c.declared}"
        for c in found
    ]
    copied = [
        converted(quote(c.name), change.before, change.after.type) if c.name == change.name else quote(c.name)
        for c in found
    ]
    constraint = f", PRIMARY KEY ({dialect.names(key)})" if key else ""
    attached = driver.execute(
        "SELECT sql FROM main.sqlite_schema "
        "WHERE type IN ('index', 'trigger') AND tbl_name = ? AND sql IS NOT NULL",
        (table.name,),
    )
    return (
        f"CREATE TABLE {new} ({', '.join(declared)}{constraint})",
        f"INSERT INTO {new} SELECT {', '.join(copied)} FROM {old}",
        f"DROP TABLE {old}",
        f"ALTER TABLE {new} RENAME TO {quote(table.name)}",
        *(str(row[0]) for row in attached),
    )
