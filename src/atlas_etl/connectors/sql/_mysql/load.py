"""The session of one load into MySQL or MariaDB: statements, rows in large inserts, and what was refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import cast

import numpy as np
import pyarrow as pa

from atlas_etl.connectors.sql._dialect import NoneLeftOut
from atlas_etl.connectors.sql._meaning import commit_unknown
from atlas_etl.connectors.sql._mysql.connection import Server
from atlas_etl.connectors.sql._mysql.errors import quoted, refused_load, refused_value
from atlas_etl.connectors.sql._mysql.literals import row_texts
from atlas_etl.connectors.sql._mysql.load_data import field_texts, load_statement
from atlas_etl.connectors.sql._mysql.parameters import Parameter
from atlas_etl.connectors.sql._mysql.replaced_values import refuse_replaced
from atlas_etl.connectors.sql._mysql.session import WRITING, Session
from atlas_etl.connectors.sql._mysql.stored import KeptColumn
from atlas_etl.errors import AtlasError, DestinationError

_STATEMENT_BYTES = 1024 * 1024  # larger ones gain nothing
_MARGIN = 1024  # of max_allowed_packet


class LoadConnection(NoneLeftOut):
    """One session that writes (sql._dialect.Connection)."""

    def __init__(self, server: Server) -> None:
        self.session = Session(server, sql_mode=WRITING)
        self._insert = self._load_data if server.config.local_infile else self._insert_values
        self._in_transaction = False
        self._kept: Mapping[str, KeptColumn] = {}
        try:
            ((packet,),) = self.session.rows("SELECT @@max_allowed_packet")
            self._most = int(str(packet)) - _MARGIN
            # Without gap locks two loads of one schema do not wait for each other; where statements are
            # replicated as their text, the server allows it only with them.
            found = self.session.rows("SHOW VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format')")
            if {str(value) for _, value in found} != {"ON", "STATEMENT"}:
                self.session.run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        except BaseException:
            self.close()
            raise

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        bound = cast(Sequence[Parameter], parameters)
        if sql.lstrip().startswith("SELECT"):
            return self.session.rows(sql, bound)
        self.session.run(sql, bound)
        return []

    def go_into(self, columns: Sequence[KeptColumn]) -> None:
        """From here on, rows are for a table with these columns, or for a stage that is like it."""
        self._kept = {column.name: column for column in columns}
        if any(column.data_type == "year" for column in columns):
            self._insert = self._insert_values  # LOAD DATA would make 2000 of the year 0

    def ingest(self, table: str, batch: pa.RecordBatch) -> None:
        """Add the rows as they are. Raises RefusedRowError where the table does not take one so."""
        refuse_replaced(batch, self._kept)
        self._insert(table, batch)

    def _load_data(self, table: str, batch: pa.RecordBatch) -> None:
        """By LOAD DATA LOCAL, to which a row that is left out is a warning."""
        statement, texts = load_statement(table, batch.schema), field_texts(batch)
        added, warnings = self.session.load(statement, texts, self._most)
        if warnings or added != batch.num_rows:
            raise refused_load(self.session.warnings())

    def _insert_values(self, table: str, batch: pa.RecordBatch) -> None:
        """By INSERTs with their values in the statement, as many as fit."""
        names = ", ".join(map(quoted, batch.schema.names))
        head = f"INSERT INTO {table} ({names}) VALUES ".encode()
        room = self._most - len(head)
        for texts, places in row_texts(batch):
            for first, last in _pieces(places, min(_STATEMENT_BYTES, room)):
                size = last - first
                if size > room:
                    raise DestinationError(
                        f"a row of {size} bytes is more than the server's max_allowed_packet takes",
                        hint="raise max_allowed_packet on the server, at most to 1 GiB",
                        code="packet_too_large",
                    )
                if self.session.insert(head + texts[first : last - 1]):
                    self._refuse_changed_values()

    def begin(self) -> None:
        self._in_transaction = True
        self.execute("START TRANSACTION")

    def commit(self) -> None:
        try:
            self.execute("COMMIT")
        except DestinationError as failure:
            if failure.code != "server_gone":
                raise
            raise commit_unknown() from failure
        self._in_transaction = False

    def rollback(self) -> None:
        self.execute("ROLLBACK")
        self._in_transaction = False

    def close(self) -> None:
        """Undo what was not committed, so that its locks are gone, and give the connection back."""
        if self._in_transaction:
            with suppress(AtlasError):
                self.rollback()
        self.session.close()

    def _refuse_changed_values(self) -> None:
        """Strict modes let some values be cut with a note only."""
        for number, text in self.session.warnings():
            refused = refused_value(number, text)
            if refused is not None:
                raise refused


def _pieces(places: np.ndarray[tuple[int], np.dtype[np.int64]], most: int) -> Iterator[tuple[int, int]]:
    """Where rows begin and end that together take no more than this; a longer row comes alone."""
    row, rows = 0, len(places) - 1
    while row < rows:
        after = max(row + 1, int(np.searchsorted(places, places[row] + most, side="right")) - 1)
        yield int(places[row]), int(places[after])
        row = after
