"""Prepared queries on an open PyMySQL connection, their binary results read from the socket in large pieces.

PyMySQL connects, authenticates, encrypts and frames commands; this room speaks COM_STMT_PREPARE, _EXECUTE
and _CLOSE on its connection and takes the rows past its packet reader, which makes Python objects per row.
Rules: MySQL source documentation, "Prepared Statements" and "MySQL Packets"
(https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html). The compressed protocol is not
spoken, because PyMySQL cannot negotiate it, nor are OK packets in the place of EOF (CLIENT_DEPRECATE_EOF).

Private members of PyMySQL that are used, present since 0.10: see `_Channel`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BufferedReader
from socket import socket
from types import TracebackType
from typing import Any, Protocol, Self, cast

import pyarrow as pa
import pymysql
from pymysql import err
from pymysql.charset import charset_by_id
from pymysql.constants import COMMAND, CR, SERVER_STATUS
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket, OKPacketWrapper

from atlas_etl.connectors.sql._fetching import hang_up
from atlas_etl.connectors.sql._mysql_decode import decode_rows
from atlas_etl.connectors.sql._mysql_packets import Packets
from atlas_etl.connectors.sql._mysql_parameters import Parameter, encode_parameters
from atlas_etl.connectors.sql._mysql_types import Column, arrow_schema
from atlas_etl.model import BatchLimits, HazardCells

__all__ = [
    "Parameter", "QueryResult", "describe_query", "execute_statement", "hang_up_client", "stream_query",
]  # fmt: skip


def describe_query(connection: pymysql.Connection[Any], sql: str) -> tuple[Column, ...]:
    """The columns that a query will give, from preparing it only; no row is read and nothing locked.

    Raises pymysql.err.MySQLError as `stream_query` does.
    """
    channel = cast(_Channel, connection)
    with _exchange(channel):
        statement, _, columns = _prepare_query(channel, sql)
        _close_statement(channel, statement)
    return columns


def execute_statement(
    connection: pymysql.Connection[Any], sql: str, parameters: Sequence[Parameter]
) -> tuple[int, int]:
    """Prepare and execute a statement that gives no rows: how many rows it changed, and its warnings.

    Parameters are bound as `stream_query` does. Raises pymysql.err.MySQLError.
    """
    channel = cast(_Channel, connection)
    bound = encode_parameters(parameters, channel.encoding)
    with _exchange(channel):
        statement, expected, columns = _prepare(channel, sql)
        try:
            _require_parameters(parameters, expected)
            if columns:
                raise err.ProgrammingError(CR.CR_COMMANDS_OUT_OF_SYNC, "the statement gives rows")
            channel._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", statement, 0, 1) + bound)
            answer = channel._read_ok_packet()
        finally:
            _close_statement(channel, statement)
    return answer.affected_rows, answer.warning_count


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
    channel = cast(_Channel, connection)
    bound = encode_parameters(parameters, channel.encoding)
    with _exchange(channel):
        statement, expected, _ = _prepare_query(channel, sql)
        try:
            _require_parameters(parameters, expected)
            # No cursor, one iteration: the server sends all rows, as fast as they are taken.
            channel._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", statement, 0, 1) + bound)
            columns = _definitions(channel, int(channel._read_packet().read_length_encoded_integer() or 0))
        except err.MySQLError:
            _close_statement(channel, statement)
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
        self, channel: _Channel, statement: int, columns: tuple[Column, ...], limits: BatchLimits
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
        _close_statement(self._channel, self._statement)
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


class _Channel(Protocol):
    """What of a PyMySQL connection is used here beyond its public interface."""

    encoding: str
    _sock: socket | None
    _rfile: BufferedReader
    _next_seq_id: int
    _result: object | None

    def _execute_command(self, command: int, sql: bytes) -> None:
        """Refuse if a result is unread; frame and send a command. Raises err.Error."""

    def _read_packet(self, packet_type: type[MysqlPacket] = ...) -> MysqlPacket:
        """One whole packet. Raises the server's error if that is what it is."""

    def _read_ok_packet(self) -> OKPacketWrapper:
        """The answer to a statement that gives no rows. Raises the server's error."""

    def _force_close(self) -> None:
        """Close the socket, without a word to the server."""


class _Definition(Protocol):
    """PyMySQL's FieldDescriptorPacket, as its type stubs do not show it."""

    db: bytes
    org_table: str
    name: str
    org_name: str
    type_code: int
    charsetnr: int
    length: int
    flags: int
    scale: int


class _Named(Protocol):
    name: str


@contextmanager
def _exchange(channel: _Channel) -> Iterator[None]:
    """A command and its answer; an interruption between them leaves no connection that is out of step.

    After one of its own errors PyMySQL has either read the server's whole answer or closed the connection.
    """
    try:
        yield
    except err.MySQLError:
        raise
    except BaseException:
        channel._force_close()
        raise


def _prepare(channel: _Channel, sql: str) -> tuple[int, int, tuple[Column, ...]]:
    """A statement's number, how many parameters it takes, and the columns it gives."""
    channel._execute_command(COMMAND.COM_STMT_PREPARE, sql.encode(channel.encoding))
    statement, columns, parameters = channel._read_packet().read_struct("<xIHH")
    _definitions(channel, parameters)
    return statement, parameters, _definitions(channel, columns)


def _prepare_query(channel: _Channel, sql: str) -> tuple[int, int, tuple[Column, ...]]:
    """As `_prepare`, for statements that give rows only."""
    statement, parameters, columns = _prepare(channel, sql)
    if not columns:
        _close_statement(channel, statement)
        raise err.ProgrammingError(CR.CR_NO_RESULT_SET, "the statement is not a query: it gives no rows")
    return statement, parameters, columns


def _require_parameters(parameters: Sequence[Parameter], expected: int) -> None:
    if len(parameters) != expected:
        raise err.ProgrammingError(
            CR.CR_INVALID_PARAMETER_NO,
            f"the statement has {expected} parameters, {len(parameters)} were given",
        )


def _definitions(channel: _Channel, count: int) -> tuple[Column, ...]:
    if not count:
        return ()
    packets = [cast(_Definition, channel._read_packet(FieldDescriptorPacket)) for _ in range(count)]
    if not channel._read_packet().is_eof_packet():
        channel._force_close()
        raise err.InternalError(CR.CR_MALFORMED_PACKET, "column definitions do not end where they should")
    return tuple(
        Column(
            field.name,
            field.type_code,
            field.charsetnr,
            field.length,
            field.flags,
            field.scale,
            origin=(field.db.decode(channel.encoding), field.org_table, field.org_name),
        )
        for field in packets
    )


def hang_up_client(client: pymysql.Connection[Any]) -> None:
    """End the connection under a thread that may be waiting on it."""
    channel = cast(_Channel, client)
    if channel._sock is not None:
        hang_up(channel._sock.fileno())


def _close_statement(channel: _Channel, statement: int) -> None:
    """Let the server forget the statement; it does not answer. A lost connection has forgotten it already."""
    if channel._sock is not None:
        with suppress(err.Error):
            channel._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", statement))


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
