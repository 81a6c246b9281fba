"""Reading PostgreSQL: the dialect of its SELECTs, and the connector."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager

import pyarrow as pa

from atlas_etl.connectors.examined import told
from atlas_etl.connectors.sql._checksums import CellText, form_of
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._postgresql.errors import quoted
from atlas_etl.connectors.sql._postgresql.examined import (
    PostgresLook,
    bounded,
    open_transactions,
    prepared_transactions,
)
from atlas_etl.connectors.sql._postgresql.session import ENDS, SessionPool, given_up
from atlas_etl.connectors.sql._postgresql.snapshot import PostgresSnapshot
from atlas_etl.connectors.sql._reader import SqlConnector
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.errors import SourceError
from atlas_etl.model import ConnectionStatus, CursorKind, CursorValue, Severity, StreamInfo

# A literal of exactly these types lets an index be used; a type with a modifier would round it.
_BOUND_AS = {
    CursorKind.DECIMAL: "numeric",
    CursorKind.FLOAT: "double precision",
    CursorKind.DATE: "date",
    CursorKind.TIMESTAMP: "timestamp",
    CursorKind.TIMESTAMPTZ: "timestamptz",
    CursorKind.UUID: "uuid",
}


class PostgresChecksums:
    """Texts are compared in UTF-8, whatever the database's encoding."""

    def cell(self, select: str, native: str, kind: pa.DataType) -> CellText | None:
        form = form_of(kind)
        # A cast of char(n) to text takes away the blanks at its end.
        is_padded = native == "bpchar" or native.removesuffix(")").split("(")[0] == "character"
        text = f"textin(bpcharout({select}))" if is_padded else f"({select})::text"
        return CellText(form, text) if form else None

    def select(self, cells: Sequence[str], rows: str) -> str:
        text = " || ".join(f"coalesce(length({cell})::text || ':' || {cell}, '-')" for cell in cells)
        return (
            "SELECT left(m, 3) AS bucket, count(*)::text AS n, "
            "sum(('x' || right(m, 16))::bit(64)::bigint)::text AS total "
            f"FROM (SELECT md5(convert_to({text}, 'UTF8')) AS m FROM {rows}) AS hashed GROUP BY left(m, 3)"
        )


class ReaderDialect:
    """How PostgreSQL writes a SELECT; the driver reads `%s` as a parameter and `%%` as `%`."""

    checksums = PostgresChecksums()
    subqueries_keep_names = True

    def quote(self, identifier: str) -> str:
        return quoted(identifier).replace("%", "%%")

    def bound(self, column: SourceColumn, value: CursorValue) -> tuple[str, object]:
        kind = _BOUND_AS.get(value.kind) or column.native.replace("%", "%%")
        return f"%s::{kind}", value.text

    def in_order(self, sql: str, column: SourceColumn) -> str:
        return f"{sql} ORDER BY {self.quote(column.name)}"

    def limit(self, sql: str, rows: int) -> str:
        return f"{sql} LIMIT {rows}"


class PostgresConnector(SqlConnector[PostgresConnection]):
    """Reads a PostgreSQL database."""

    dialect = ReaderDialect()

    def __init__(self, config: PostgresConnection, *, protocol: str) -> None:
        super().__init__(config, protocol=protocol)
        self._pool = SessionPool(config, SourceError)

    @contextmanager
    def snapshot(self) -> Iterator[PostgresSnapshot]:
        with (
            self._pool.session() as session,
            closing(PostgresSnapshot(session, self._pool)) as snapshot,
            given_up(session, ENDS),
        ):
            yield snapshot

    def look(self, *, first: bool) -> AbstractContextManager[PostgresSnapshot]:  # noqa: ARG002
        return self.snapshot()

    @contextmanager
    def looking(self) -> Iterator[PostgresLook]:
        with closing(PostgresConnector(bounded(self.config), protocol=self.protocol)) as connector:
            yield PostgresLook(connector.snapshot, self.dialect)

    def test(self) -> ConnectionStatus:
        with self.snapshot() as snapshot:
            count = len(snapshot.tables())
            writers = snapshot.writers
            ((version, role),) = snapshot.run("SELECT current_setting('server_version'), current_user")
        seen = open_transactions(writers, str(role))
        doubts = [seen] if seen.severity is Severity.WARNING else []
        warnings = [told(each) for each in (*doubts, *prepared_transactions(writers))]
        return ConnectionStatus(
            f"{count} tables and views can be read{self.config.way}", f"PostgreSQL {version}", tuple(warnings)
        )

    def discover(self) -> Sequence[StreamInfo]:
        with self.snapshot() as snapshot:
            return [table.stream_info() for table in snapshot.tables()]

    def close(self) -> None:
        self._pool.close()
