"""The session of one load into Oracle: statements with bound texts, and rows as arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress

import pyarrow as pa

from atlas_etl.connectors.sql._dialect import NoneLeftOut
from atlas_etl.connectors.sql._oracle.connection import Server
from atlas_etl.connectors.sql._oracle.rows import insert, refuse_empty, without_empty
from atlas_etl.connectors.sql._oracle.session import Session
from atlas_etl.connectors.sql._placed import placed
from atlas_etl.errors import AtlasError

_WRITING = "ALTER SESSION SET DDL_LOCK_TIMEOUT = 60"  # else a table that others write to cannot be changed
_ROWS = 10_000  # in one call


class LoadConnection(NoneLeftOut):
    """One session that writes (sql._dialect.Connection). A transaction begins with its first statement."""

    def __init__(self, server: Server) -> None:
        self.session = Session(server)
        self._empty_is_null = server.config.empty_text_is_null
        self._compared: frozenset[str] = frozenset()
        self._in_transaction = False
        try:
            self.session.run(_WRITING)
        except BaseException:
            self.close()
            raise

    def keep_apart(self, compared: Collection[str]) -> None:
        """In these columns nothing is NULL that was an empty text."""
        self._compared = frozenset(compared)

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        statement = placed(sql, lambda number: f":{number}") if parameters else sql
        if statement.lstrip().startswith("SELECT"):
            return self.session.rows(statement, parameters)
        self.session.run(statement, parameters)
        if not self._in_transaction:
            self.session.commit()
        return []

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        refuse_empty(batch, self._compared if self._empty_is_null else batch.schema.names)
        rows = insert(table, without_empty(batch))
        for first in range(0, len(rows.rows), _ROWS):
            self.session.insert(rows.sql, rows.rows[first : first + _ROWS], rows.sizes)

    def begin(self) -> None:
        self._in_transaction = True

    def commit(self) -> None:
        self.session.commit()
        self._in_transaction = False

    def rollback(self) -> None:
        self.session.rollback()
        self._in_transaction = False

    def close(self) -> None:
        """Undo what was not committed, so that its locks are gone, and give the connection back."""
        if self._in_transaction:
            with suppress(AtlasError):
                self.rollback()
        self.session.close()
