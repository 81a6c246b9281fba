"""One COPY FROM STDIN in binary format, open over many batches."""

from __future__ import annotations

import select
from collections.abc import Sequence
from contextlib import ExitStack

import psycopg
import pyarrow as pa
from psycopg.abc import Buffer

from atlas_etl.connectors.sql._pgcopy.encode import RowEncoder
from atlas_etl.connectors.sql._pgcopy.types import HEADER, TRAILER, PgType
from atlas_etl.connectors.sql._postgresql.session import Session, given_up, rendered
from atlas_etl.connectors.sql._postgresql.waits import told_of_waits

_PIECE_BYTES = 1024 * 1024  # encoded at once: what a processor's cache holds, so that the server never waits
_WRITE_BYTES = 128 * 1024  # more at once makes libpq slow (psycopg's MAX_BUFFER_SIZE)


class CopyIn:
    """A COPY into these columns of a table; the session is its own until `end` or `abandon`.

    Raises psycopg.Error, and the encoder's errors, where a batch cannot be written.
    """

    def __init__(self, session: Session, table: str, names: str) -> None:
        self.into = (table, names)
        self.left_out = 0  # rows that the table did not take, without an error; known at the end
        self._sent = 0
        self._session = session
        statement = rendered(session, f"COPY {table} ({names}) FROM STDIN (FORMAT binary)")
        with ExitStack() as stack:  # the driver locks the session until the COPY is left
            self._cursor = session.cursor()
            self._copy = stack.enter_context(self._cursor.copy(statement.encode()))
            self._copy.write(HEADER)
            self._stack = stack.pop_all()

    def write(self, batch: pa.RecordBatch, types: Sequence[PgType]) -> None:
        """The batch's rows, encoded for columns of these types."""
        encoder = RowEncoder(batch.schema, types)
        rows = max(1, _PIECE_BYTES * batch.num_rows // max(1, batch.nbytes))
        for first in range(0, batch.num_rows, rows):
            piece = batch.slice(first, rows)
            self.write_rows(encoder.encode(piece), piece.num_rows)

    def write_rows(self, rows: Buffer, count: int) -> None:
        """So many rows as they go over the wire."""
        self._sent += count
        with told_of_waits(self._session), given_up(self._session), memoryview(rows) as whole:
            for first in range(0, len(whole), _WRITE_BYTES):
                self._copy.write(whole[first : first + _WRITE_BYTES])

    @property
    def is_answered(self) -> bool:
        """Whether the server says something, which it does in the middle only to refuse a row, or to warn."""
        poll = select.poll()
        poll.register(self._session.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def end(self) -> None:
        """Have every row written. Raises psycopg.Error where the server refuses one."""
        with told_of_waits(self._session), self._stack, given_up(self._session):
            self._copy.write(TRAILER)
        self.left_out = self._sent - self._cursor.rowcount

    def abandon(self) -> None:
        """Have none of them written; the transaction is of no use after that."""
        failure = psycopg.OperationalError("the load is undone")
        self._stack.__exit__(type(failure), failure, None)
