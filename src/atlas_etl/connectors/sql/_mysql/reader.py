"""Reading MySQL and MariaDB: the dialect of its SELECTs, and the connector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal

import pyarrow as pa

from atlas_etl.connectors.examined import told
from atlas_etl.connectors.sql._checksums import CellText, form_of
from atlas_etl.connectors.sql._mysql.catalog import (
    CatalogTable,
)
from atlas_etl.connectors.sql._mysql.columns import bound_as
from atlas_etl.connectors.sql._mysql.connection import MySQLConnection, Server
from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.connectors.sql._mysql.examined import MySQLLook, bound, open_transactions
from atlas_etl.connectors.sql._mysql.open_writers import WriterProbe
from atlas_etl.connectors.sql._mysql.parameters import Parameter
from atlas_etl.connectors.sql._mysql.session import READING, Session
from atlas_etl.connectors.sql._mysql.snapshot import MySQLSnapshot
from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._source import (
    SourceColumn,
)
from atlas_etl.errors import SourceError
from atlas_etl.model import (
    ConnectionStatus,
    CursorKind,
    CursorValue,
    Severity,
    StreamInfo,
)


class MySQLChecksums:
    """A row longer than max_allowed_packet has no checksum; neither have FLOAT and DOUBLE an exact text."""

    def cell(self, select: str, native: str, kind: pa.DataType) -> CellText | None:
        form = form_of(kind)
        if form is None or pa.types.is_floating(kind) or native.startswith("bit"):
            return None
        if pa.types.is_timestamp(kind):
            # An instant is stored as a DATETIME in UTC, as which the session shows a TIMESTAMP.
            return CellText("timestamp", f"DATE_FORMAT({select}, '%Y-%m-%d %H:%i:%s.%f')")
        if pa.types.is_time(kind):
            return CellText(form, f"TIME_FORMAT({select}, '%H:%i:%s.%f')")
        if pa.types.is_binary(kind):
            return CellText(form, f"HEX({select})")
        return CellText(form, f"CONVERT({select} USING utf8mb4)")

    def select(self, cells: Sequence[str], rows: str) -> str:
        text = ", ".join(f"COALESCE(CONCAT(CHAR_LENGTH({cell}), ':', {cell}), '-')" for cell in cells)
        return (
            "SELECT LEFT(m, 3) AS bucket, CAST(COUNT(*) AS CHAR) AS n, "
            "CAST(SUM(CAST(CONV(RIGHT(m, 16), 16, 10) AS DECIMAL(20, 0))) AS CHAR) AS total "
            f"FROM (SELECT MD5(CONCAT({text})) AS m FROM {rows}) AS hashed GROUP BY LEFT(m, 3)"
        )


class ReaderDialect:
    """How MySQL writes a SELECT."""

    checksums = MySQLChecksums()
    subqueries_keep_names = True

    def quote(self, identifier: str) -> str:
        return quoted(identifier)

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        parameter: Parameter = value.text
        if value.kind is CursorKind.INTEGER:
            parameter = int(value.text)
        elif value.kind is CursorKind.FLOAT:
            parameter = float(value.text)
        elif value.kind is CursorKind.DECIMAL:
            parameter = Decimal(value.text)
        elif value.kind in (CursorKind.TIMESTAMP, CursorKind.TIMESTAMPTZ):
            parameter = value.text.removesuffix("Z").replace("T", " ")
        return bound_as(column), parameter

    def in_order(self, sql: str, column: SourceColumn) -> str:
        return f"{sql} ORDER BY {self.quote(column.name)}"

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} LIMIT {rows}"


class MySQLConnector(SqlConnector[MySQLConnection]):
    """Reads a MySQL or MariaDB server."""

    dialect = ReaderDialect()

    def __init__(self, config: MySQLConnection, *, protocol: str) -> None:
        super().__init__(config, protocol=protocol)
        self._server = Server(config, SourceError)
        self._probe = WriterProbe()

    @contextmanager
    def snapshot(self) -> Iterator[MySQLSnapshot]:
        with session_of(self._server) as session:
            writers = self._probe.writers(session)
            snapshot = MySQLSnapshot(session, self._server, writers)
            try:
                yield snapshot
            finally:
                snapshot.end()

    def look(self, *, first: bool) -> AbstractContextManager[MySQLSnapshot] | None:
        # InnoDB's list of writers would have to be read for each look, which it renews too seldom for that.
        return self._look() if first else None

    @contextmanager
    def _look(self) -> Iterator[MySQLSnapshot]:
        with session_of(self._server) as session:
            yield MySQLSnapshot(session, self._server)
        self._probe.forget()  # who writes has to be looked for after this

    @contextmanager
    def looking(self) -> Iterator[MySQLLook]:
        with session_of(self._server) as session:
            writers = self._probe.writers(session)
            bound(session)
            snapshot = MySQLSnapshot(session, self._server, writers)
            yield MySQLLook(session, self.dialect, snapshot.relation, writers)

    def test(self) -> ConnectionStatus:
        with session_of(self._server) as session:
            writers = self._probe.writers(session)
            tables = MySQLSnapshot(session, self._server, writers).tables()
            transactional = {
                str(name)
                for (name,) in session.rows(
                    "SELECT ENGINE FROM information_schema.ENGINES WHERE TRANSACTIONS = 'YES'"
                )
            }
            ((account,),) = session.rows("SELECT CURRENT_USER()")
            seen = open_transactions(writers, str(account))
            doubts = [told(seen)] if seen.severity is Severity.WARNING else []
            warnings = [*doubts, *_no_snapshot(tables, transactional)]
            return ConnectionStatus(
                f"{len(tables)} tables and views can be read{self.config.way}",
                session.version,
                tuple(warnings),
            )

    def discover(self) -> Sequence[StreamInfo]:
        with self.snapshot() as snapshot:
            return [table.stream_info(self.config.database) for table in snapshot.tables()]

    def close(self) -> None:
        """Snapshots close their own connections."""
        self._server.close()


@contextmanager
def session_of(server: Server) -> Iterator[Session]:
    """A session that reads, closed when the block is left."""
    session = Session(server, sql_mode=READING)
    try:
        yield session
    finally:
        session.close()


def _no_snapshot(tables: Sequence[CatalogTable], transactional: set[str]) -> Iterator[str]:
    found = [table for table in tables if not table.is_view and table.engine not in transactional]
    if found:
        names = ", ".join(f"{table.name} ({table.engine})" for table in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        yield f"no snapshot can be taken of {names}{more}: rows that change during a sync may be missed"
