"""Looking into a SQLite file: its catalog, and samples of its tables.

The driver cannot end a statement (ADBC_STATUS_NOT_IMPLEMENTED), so none is begun that may take long: a sample
of a table ends by itself, and a view or a query may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atlas_etl.connectors.sql._look import TOO_LONG, Index
from atlas_etl.connectors.sql._source import Dialect, Relation, SourceColumn
from atlas_etl.connectors.sql._sqlite.catalog import quote
from atlas_etl.connectors.sql._sqlite.driver import Driver
from atlas_etl.connectors.sql._sqlite.snapshot import SqliteSnapshot
from atlas_etl.errors import SourceError
from atlas_etl.model import Finding, Stream, TableName

_INDEXES = """
SELECT l.name, l."unique" AND NOT l.partial, i.name FROM pragma_index_list(?) AS l,
  pragma_index_info(l.name) AS i
WHERE NOT l.partial ORDER BY l.name, i.seqno"""
_TABLE = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE"


class SqliteLook:
    """A file that is read (_look.Look). Its clock is this machine's, and nobody logs in."""

    needs_index = True

    def __init__(self, driver: Driver, snapshot: SqliteSnapshot, dialect: Dialect) -> None:
        self.dialect = dialect
        self._driver = driver
        self._snapshot = snapshot

    def relation(self, stream: Stream) -> Relation:
        if stream.table is None or stream.table in self._views():
            raise SourceError(
                "SQLite cannot end a statement that takes long, so none is begun on a view or a query",
                code=TOO_LONG,
            )
        return self._snapshot.relation(stream)

    def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        return self._driver.execute(sql)

    def indexes(self, table: TableName) -> Sequence[Index] | None:
        if not self._driver.execute(_TABLE, (table.name,)):
            return None
        found: dict[str, list[str]] = {}
        unique: dict[str, bool] = {}
        for index, is_unique, column in self._driver.execute(_INDEXES, (table.name,)):
            found.setdefault(str(index), []).append("" if column is None else str(column))
            unique[str(index)] = bool(is_unique)
        made = [Index(tuple(columns), unique[name]) for name, columns in found.items()]
        key = self._rowid(table)
        return [*made, Index((key,), unique=True)] if key is not None else made

    def zone(self) -> str | None:
        return None

    def system(self, sessions: int) -> Iterator[Finding]:  # noqa: ARG002
        yield from ()

    def create_index(self, relation: Relation, columns: Sequence[str], *, unique: bool) -> str:
        table = relation.table.name if relation.table is not None else ""
        name = quote("_".join((table, *columns)))
        kind = "UNIQUE INDEX" if unique else "INDEX"
        return f"CREATE {kind} {name} ON {quote(table)} ({', '.join(map(quote, columns))})"

    def require(self, relation: Relation, column: SourceColumn) -> None:
        """A table would have to be made anew."""

    def _views(self) -> set[str]:
        return {entry.name for entry in self._snapshot.entries() if entry.is_view}

    def _rowid(self, table: TableName) -> str | None:
        """The column that is the rowid, by which the table itself is ordered."""
        rows = self._driver.execute(
            "SELECT name, upper(type) FROM pragma_table_info(?) WHERE pk", (table.name,)
        )
        return str(rows[0][0]) if len(rows) == 1 and rows[0][1] == "INTEGER" else None
