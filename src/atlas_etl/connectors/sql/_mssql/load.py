"""The session of one load into SQL Server: statements with their values in them, and rows as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa

from atlas_etl.connectors.sql._dialect import NoneLeftOut
from atlas_etl.connectors.sql._mssql.connection import Server
from atlas_etl.connectors.sql._mssql.literals import literal
from atlas_etl.connectors.sql._mssql.rows import inserts
from atlas_etl.connectors.sql._mssql.session import Session
from atlas_etl.connectors.sql._placed import placed
from atlas_etl.errors import AtlasError

# An error undoes the whole transaction, so that no statement after it can become a load without the others:
# https://learn.microsoft.com/sql/t-sql/statements/set-xact-abort-transact-sql.
_WRITING = "SET XACT_ABORT ON; SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


class LoadConnection(NoneLeftOut):
    """One session that writes (sql._dialect.Connection)."""

    def __init__(self, server: Server) -> None:
        self.session = Session(server)
        self._in_transaction = False
        try:
            self.session.run(_WRITING)
        except BaseException:
            self.close()
            raise

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        statement = bound(sql, parameters)
        if statement.lstrip().startswith("SELECT"):
            return self.session.rows(statement)
        self.session.run(statement)
        return []

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        for statement in inserts(table, batch):
            self.session.run(statement)

    def begin(self) -> None:
        self._in_transaction = True
        self.session.run("BEGIN TRANSACTION")

    def commit(self) -> None:
        self.session.run("COMMIT TRANSACTION")
        self._in_transaction = False

    def rollback(self) -> None:
        self.session.run("IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION")
        self._in_transaction = False

    def close(self) -> None:
        """Undo what was not committed, so that its locks are gone, and give the connection back."""
        if self._in_transaction:
            with suppress(AtlasError):
                self.rollback()
        self.session.close()


def bound(sql: str, parameters: Sequence[object]) -> str:
    """The statement with its parameters in it: the driver would put them there as well, and knows less."""
    if not parameters:
        return sql
    return placed(sql, lambda number: _literal(parameters[number - 1]))


def _literal(value: object) -> str:
    match value:
        case None:
            return "NULL"
        case bytes():
            return f"0x{value.hex()}"
        case int():
            return str(int(value))
        case _:
            return literal(str(value))
