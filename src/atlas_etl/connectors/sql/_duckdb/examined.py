"""Looking into a DuckDB file: its catalog, and statements that are ended after a few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from atlas_etl.connectors.sql._duckdb.database import HERE, quote
from atlas_etl.connectors.sql._look import SECONDS, Index, within
from atlas_etl.connectors.sql._source import Dialect, Relation, Snapshot, SourceColumn
from atlas_etl.model import Finding, Stream, TableName


class Readable(Snapshot, Protocol):
    """A snapshot that takes any statement that reads."""

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """A statement and its rows."""


Snapshots = Callable[[], AbstractContextManager[Readable]]


class DuckDBLook:
    """A file that is read (_look.Look). Its clock is this machine's, and nobody logs in."""

    needs_index = False  # it keeps the least and greatest value of each piece of a column

    def __init__(self, snapshots: Snapshots, dialect: Dialect) -> None:
        """A statement that is ended takes its snapshot along, so each has its own."""
        self.dialect = dialect
        self._snapshots = snapshots

    def relation(self, stream: Stream) -> Relation:
        with self._snapshots() as snapshot, within(SECONDS, snapshot.interrupt):
            return snapshot.relation(stream)

    def rows(self, sql: str) -> Sequence[tuple[object, ...]]:
        return self._run(sql)

    def indexes(self, table: TableName) -> Sequence[Index] | None:
        name = (table.schema, table.name)
        if not self._run(f"SELECT 1 FROM duckdb_tables() {HERE}", name):
            return None
        found = self._run(
            f"SELECT constraint_column_names FROM duckdb_constraints() {HERE} "
            "AND constraint_type IN ('UNIQUE', 'PRIMARY KEY')",
            name,
        )
        return [Index(tuple(columns), unique=True) for (columns,) in found if isinstance(columns, list)]

    def _run(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with self._snapshots() as snapshot, within(SECONDS, snapshot.interrupt):
            return snapshot.rows(sql, parameters)

    def zone(self) -> str | None:
        return None

    def system(self, sessions: int) -> Iterator[Finding]:  # noqa: ARG002
        yield from ()

    def create_index(self, relation: Relation, columns: Sequence[str], *, unique: bool) -> str:
        kind, names = "UNIQUE INDEX" if unique else "INDEX", ", ".join(map(quote, columns))
        table = relation.table.name if relation.table is not None else ""
        return f"CREATE {kind} {quote('_'.join((table, *columns)))} ON {relation.sql} ({names})"

    def require(self, relation: Relation, column: SourceColumn) -> str:
        return f"ALTER TABLE {relation.sql} ALTER COLUMN {quote(column.name)} SET NOT NULL"
