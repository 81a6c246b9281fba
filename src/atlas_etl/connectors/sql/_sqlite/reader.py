"""Reading SQLite: the dialect of its SELECTs, and the connector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.connectors.sql._sqlite import catalog
from atlas_etl.connectors.sql._sqlite.bounds import bound
from atlas_etl.connectors.sql._sqlite.connection import SqliteConnection, open_to_read
from atlas_etl.connectors.sql._sqlite.examined import SqliteLook
from atlas_etl.connectors.sql._sqlite.ranges import Siblings
from atlas_etl.connectors.sql._sqlite.snapshot import SqliteSnapshot
from atlas_etl.errors import SourceError
from atlas_etl.model import (
    ConnectionStatus,
    CursorValue,
    StreamInfo,
)


class ReaderDialect:
    """How SQLite writes a SELECT."""

    checksums = None  # it has no such function
    subqueries_keep_names = False  # of one named `true` it makes `column1`

    def quote(self, identifier: str) -> str:
        return catalog.quote(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        return bound(column, value)

    def in_order(self, sql: str, column: SourceColumn) -> str:
        return f"{sql} ORDER BY {self.quote(column.name)} LIMIT -1"  # keeps it in a subquery

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} LIMIT {rows}"


class SqliteConnector(SqlConnector[SqliteConnection]):
    """Reads a SQLite file, which it opens read-only and never makes."""

    dialect = ReaderDialect()

    @contextmanager
    def snapshot(self) -> Iterator[SqliteSnapshot]:
        siblings = Siblings(self.config)  # of the file that is there before it is opened
        with closing(open_to_read(self.config, SourceError)) as driver:
            snapshot = SqliteSnapshot(driver, siblings)
            try:
                yield snapshot
            finally:
                snapshot.end()

    @contextmanager
    def looking(self) -> Iterator[SqliteLook]:
        with closing(open_to_read(self.config, SourceError)) as driver:
            yield SqliteLook(driver, SqliteSnapshot(driver), self.dialect)

    def test(self) -> ConnectionStatus:
        with self.snapshot() as snapshot:
            return ConnectionStatus(
                f"{len(snapshot.entries())} tables and views", server_version=snapshot.version
            )

    def discover(self) -> Sequence[StreamInfo]:
        with self.snapshot() as snapshot:
            return snapshot.discover()

    def close(self) -> None:
        """Snapshots close their own connections."""
