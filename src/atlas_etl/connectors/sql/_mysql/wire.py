"""Rows of a prepared query on an open PyMySQL connection, read from its socket in large pieces.

They are taken past PyMySQL's packet reader, which makes Python objects per row. Rules: MySQL source
documentation, "Prepared Statements" and "MySQL Packets"
(https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html). The compressed protocol is not
spoken, because PyMySQL cannot negotiate it, nor are OK packets in the place of EOF (CLIENT_DEPRECATE_EOF).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self, cast

import pyarrow as pa
import pymysql
from msgspec.structs import replace
from pymysql import err
from pymysql.charset import charset_by_id
from pymysql.constants import COMMAND, CR, SERVER_STATUS

from atlas_etl.connectors.sql._mysql.decode import decode_rows
from atlas_etl.connectors.sql._mysql.packets import Packets
from atlas_etl.connectors.sql._mysql.parameters import Parameter, encode_parameters
from atlas_etl.connectors.sql._mysql.prepared import (
    Channel,
    close_statement,
    definitions,
    exchange,
    prepare_query,
    require_parameters,
)
from atlas_etl.connectors.sql._mysql.types import Column, arrow_schema
from atlas_etl.model import BatchLimits, HazardCells


def stream_query(
    connection: pymysql.Connection[Any], sql: str, parameters: Sequence[Parameter], limits: BatchLimits
) -> QueryResult:
    """Prepare and execute a query (`?` marks its parameters); its rows are read as the result is iterated.

    Parameters are bound, never written into the SQL: int, float, str, bytes and None as themselves,
    Decimal as an exact decimal. The connection must have the character set utf8mb4 and, for TIMESTAMP,
    the session time zone '+00:00'. A consumer slower than the server's `net_write_timeout` (60 s by
    default) per batch is cut off by the server, so that the session should set it high.

    Raises the pymysql.err class that PyMySQL itself would: ProgrammingError for SQL that gives no rows or
    another number of parameters, NotSupportedError for a text that would not arrive as UTF-8.
    """
    channel = cast(Channel, connection)
    bound = encode_parameters(parameters, channel.encoding)
    with exchange(channel):
        statement, expected, _ = prepare_query(channel, sql)
        try:
            require_parameters(parameters, expected)
            # No cursor, one iteration: the server sends all rows, as fast as they are taken.
            channel._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", statement, 0, 1) + bound)
            columns = definitions(channel, int(channel._read_packet().read_length_encoded_integer() or 0))
        except err.MySQLError:
            close_statement(channel, statement)
            raise
    try:
        return QueryResult(channel, statement, columns, limits)
    except BaseException:
        channel._force_close()
        raise


class QueryResult:
    """The rows of one executed query: an iterator of record batches, each with its cells without exact form.

    Until the last batch was given, the connection can do nothing else: its next command raises
    InterfaceError. Leaving the `with` block or calling `close` before that closes the connection, because
    the server cannot be told to stop sending and draining could take hours; a half-read result is
    never mistaken for the next one. A result that was read to its end leaves the connection as it was.

    Iterating raises the server's own error as PyMySQL's class where a query fails after its first rows, and
    OperationalError where the connection ends before the result does.
    """

    def __init__(
        self, channel: Channel, statement: int, columns: tuple[Column, ...], limits: BatchLimits
    ) -> None:
        self.columns = columns
        self.schema: pa.Schema = arrow_schema(columns)
        self.warnings: int | None = None
        """How many warnings the server counted; known after the last batch."""
        _require_utf8(columns)
        self._channel = channel
        self._statement = statement
        self._limits = limits
        # Cells that are NULL take a bit on the wire and their whole width in Arrow.
        self._most_rows = max(1, limits.bytes // _fixed_width(self.schema))
        self._packets = Packets(channel._rfile, channel._next_seq_id, limits)
        self._unread = True
        channel._result = _UnreadResult()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[pa.RecordBatch, tuple[HazardCells, ...]]:
        pieces: list[pa.RecordBatch] = []
        hazards: list[HazardCells] = []
        rows = size = latest = 0
        try:
            while self._unread and rows < self._limits.rows and size + latest <= self._limits.bytes:
                starts, ends, last = self._packets.rows(min(self._limits.rows - rows, self._most_rows))
                if last is not None:
                    self._end(last)
                if len(starts):
                    piece, cells = decode_rows(self._packets.buffer, starts, ends, self.schema, self.columns)
                    hazards += [
                        replace(found, rows=tuple(row + rows for row in found.rows)) for found in cells
                    ]
                    pieces.append(piece)
                    latest = piece.nbytes
                    rows, size = rows + len(starts), size + latest
        except BaseException:
            self.close()
            raise
        if not pieces:
            raise StopIteration
        return pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces), tuple(hazards)

    def close(self) -> None:
        """Give up the rest of the result, and with it the connection; nothing happens where none is left."""
        if self._unread:
            self._unread = False
            self._channel._result = None
            self._channel._force_close()

    def _end(self, packet: bytes) -> None:
        """The packet after the last row: EOF, or the error that ended the query."""
        failed = packet[:1] == b"\xff"
        if packet[:1] == b"\xfe" and len(packet) == 5:
            self.warnings, status = struct.unpack_from("<HH", packet, 1)
            if status & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS:
                raise err.NotSupportedError(CR.CR_NOT_IMPLEMENTED, "the query gives more than one result")
        elif not failed:
            raise err.InternalError(CR.CR_MALFORMED_PACKET, "a packet is no row and not the end of a result")
        self._unread = False
        self._channel._result = None
        if self._packets.out_of_step:
            self._channel._force_close()
        close_statement(self._channel, self._statement)
        if failed:
            err.raise_mysql_exception(packet)


def _fixed_width(schema: pa.Schema) -> int:
    """Bytes of a row in Arrow, apart from its texts; four for an offset where there is one."""
    return sum(
        kind.byte_width if pa.types.is_primitive(kind) or pa.types.is_decimal(kind) else 4
        for kind in schema.types
    )


class _UnreadResult:
    """Stands in PyMySQL's place for the current result, which it asks before every command."""

    has_next = False

    @property
    def unbuffered_active(self) -> bool:
        raise err.InterfaceError(
            CR.CR_COMMANDS_OUT_OF_SYNC, "a result on this connection has not been read to its end"
        )


class _Named(Protocol):
    name: str


def _require_utf8(columns: Sequence[Column]) -> None:
    """Whatever the session's character set cannot express, the server would send as question marks."""
    for column in columns:
        try:
            charset = cast(_Named, charset_by_id(column.charset)).name
        except KeyError:  # a collation newer than PyMySQL; decoding checks the values
            continue
        if column.is_text and charset != "utf8mb4":
            message = f"column {column.name!r} would arrive as {charset}: connect with utf8mb4"
            raise err.NotSupportedError(CR.CR_CANT_READ_CHARSET, message)
