"""One session on SQL Server, its settings pinned; every call translates the driver's errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import pymssql

from atlas_etl.connectors.sql._fetching import Batches, gathered, hang_up
from atlas_etl.connectors.sql._mssql.connection import Server, descriptor_of
from atlas_etl.connectors.sql._mssql.errors import meant, translated
from atlas_etl.connectors.sql._mssql.types import decoded, is_unbounded
from atlas_etl.connectors.sql._source import SourceColumn
from atlas_etl.model import BatchLimits

_PIECE_ROWS = 2048
# How texts are compared and read, and what a login's defaults could take away from a result.
_PINNED = (
    "SET LANGUAGE us_english; SET DATEFORMAT ymd; SET TEXTSIZE -1; SET ROWCOUNT 0; "
    "SET IMPLICIT_TRANSACTIONS OFF; SET ANSI_NULLS ON; SET ANSI_PADDING ON; SET ANSI_WARNINGS ON; "
    "SET CONCAT_NULL_YIELDS_NULL ON; "
    "SET QUOTED_IDENTIFIER ON; SET ARITHABORT ON; SET NOCOUNT ON; SET XACT_ABORT OFF; "
    "SET LOCK_TIMEOUT {timeout}"
)

Row = tuple[object, ...]


class Session:
    """A connection to one server, whose failures raise the server's `kind`."""

    def __init__(self, server: Server) -> None:
        self._kind = server.kind
        self._client = server.connected()
        try:
            with translated(self._kind):
                self._descriptor = descriptor_of(self._client)
            self.run(_PINNED.format(timeout=server.config.lock_timeout * 1000))
        except BaseException:
            self.close()
            raise

    def run(self, sql: str) -> None:
        """A statement that gives no rows."""
        with translated(self._kind), self._client.cursor() as cursor:
            cursor.execute(sql)

    def rows(self, sql: str) -> list[Row]:
        """A query and all its rows."""
        with translated(self._kind), self._client.cursor() as cursor:
            cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]

    def stream(self, sql: str, columns: Sequence[SourceColumn], limits: BatchLimits) -> Batches:
        """A query's rows in batches."""
        pieces = (decoded(columns, rows) for rows in self._pieces(sql, columns, limits))
        return gathered(((batch, cells) for batch, cells in pieces), limits)

    def hang_up(self) -> None:
        """End the connection under another thread that may be waiting for rows."""
        if self._descriptor is not None:
            hang_up(self._descriptor)

    def close(self) -> None:
        """Give the connection back; whatever was not committed is undone."""
        with suppress(pymssql.Error):
            self._client.close()

    def _pieces(self, sql: str, columns: Sequence[SourceColumn], limits: BatchLimits) -> Iterator[list[Row]]:
        long = [place for place, column in enumerate(columns) if is_unbounded(column.native)]
        most = min(_PIECE_ROWS, limits.rows)
        held: list[Row] = []
        size = 0
        try:
            with self._client.cursor() as cursor:
                cursor.execute(sql)
                for row in cursor:
                    held.append(row)
                    size += sum(len(cell) for cell in map(row.__getitem__, long) if isinstance(cell, bytes))
                    if len(held) >= most or size >= limits.bytes // 2:
                        yield held
                        held, size = [], 0
                if held:
                    yield held
        except pymssql.Error as failure:
            raise meant(failure, self._kind) from None
