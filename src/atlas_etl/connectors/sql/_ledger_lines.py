"""Which lines of the ledger are a stream's, and which of one table: the conditions of its SQL."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from atlas_etl.connectors.sql._dialect import WriterDialect
from atlas_etl.model import TableName

KEY = ("connector", "stream")


class StreamLines(Struct, frozen=True):
    """The lines of one stream of a connector, as far as they are of one table."""

    dialect: WriterDialect
    connector: str
    stream: str
    table: TableName

    def of_stream(self) -> tuple[str, tuple[str, ...]]:
        """A WHERE for the stream's lines of all tables, and its parameters."""
        quote, mark = self.dialect.quote, self.dialect.placeholder
        return f" WHERE {' AND '.join(f'{quote(name)} = {mark}' for name in KEY)}", (
            self.connector,
            self.stream,
        )

    def of_table(self) -> tuple[str, tuple[str, ...]]:
        """A WHERE for the stream's lines of this table, and its parameters."""
        where, parameters = self.of_stream()
        same_table, of_table = self.same_table()
        return f"{where} AND {same_table}", (*parameters, *of_table)

    def same_table(self) -> tuple[str, Sequence[str]]:
        """The condition of lines of this table, whoever's they are, and its parameters."""
        return self.dialect.same_table(self.dialect.quote("table_name"), self.table.name)
