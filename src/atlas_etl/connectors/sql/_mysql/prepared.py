"""Statements prepared on an open PyMySQL connection, described and executed.

PyMySQL connects, authenticates, encrypts and frames commands. Rules: MySQL source documentation, "Prepared
Statements" (https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html). Private members of PyMySQL
that are used, present since 0.10: see `Channel`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from socket import socket
from typing import Any, Protocol, cast

import pymysql
from pymysql import err
from pymysql.constants import COMMAND, CR
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket, OKPacketWrapper

from atlas_etl.connectors.sql._fetching import hang_up
from atlas_etl.connectors.sql._mysql.parameters import Parameter, encode_parameters
from atlas_etl.connectors.sql._mysql.types import Column


def describe_query(connection: pymysql.Connection[Any], sql: str) -> tuple[Column, ...]:
    """The columns that a query will give, from preparing it only; no row is read and nothing locked.

    Raises the pymysql.err class that PyMySQL itself would, e.g. ProgrammingError for SQL that gives no rows.
    """
    channel = cast(Channel, connection)
    with exchange(channel):
        statement, _, columns = prepare_query(channel, sql)
        close_statement(channel, statement)
    return columns


def execute_statement(
    connection: pymysql.Connection[Any], sql: str, parameters: Sequence[Parameter]
) -> tuple[int, int]:
    """Prepare and execute a statement that gives no rows: how many rows it changed, and its warnings.

    Parameters are bound as `_mysql.wire.stream_query` does. Raises pymysql.err.MySQLError.
    """
    channel = cast(Channel, connection)
    bound = encode_parameters(parameters, channel.encoding)
    with exchange(channel):
        statement, expected, columns = prepare(channel, sql)
        try:
            require_parameters(parameters, expected)
            if columns:
                raise err.ProgrammingError(CR.CR_COMMANDS_OUT_OF_SYNC, "the statement gives rows")
            channel._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", statement, 0, 1) + bound)
            answer = channel._read_ok_packet()
        finally:
            close_statement(channel, statement)
    return answer.affected_rows, answer.warning_count


def hang_up_client(client: pymysql.Connection[Any]) -> None:
    """End the connection under a thread that may be waiting on it."""
    channel = cast(Channel, client)
    if channel._sock is not None:
        hang_up(channel._sock.fileno())


class Channel(Protocol):
    """What of a PyMySQL connection is used here beyond its public interface."""

    encoding: str
    _sock: socket | None
    _rfile: BufferedReader
    _next_seq_id: int
    _result: object | None

    def _execute_command(self, command: int, sql: bytes) -> None:
        """Refuse if a result is unread; frame and send a command. Raises err.Error."""

    def write_packet(self, payload: bytes) -> None:
        """Frame and send more of what a command began. Raises err.Error."""

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


@contextmanager
def exchange(channel: Channel) -> Iterator[None]:
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


def prepare(channel: Channel, sql: str) -> tuple[int, int, tuple[Column, ...]]:
    """A statement's number, how many parameters it takes, and the columns it gives."""
    channel._execute_command(COMMAND.COM_STMT_PREPARE, sql.encode(channel.encoding))
    statement, columns, parameters = channel._read_packet().read_struct("<xIHH")
    definitions(channel, parameters)
    return statement, parameters, definitions(channel, columns)


def prepare_query(channel: Channel, sql: str) -> tuple[int, int, tuple[Column, ...]]:
    """As `prepare`, for statements that give rows only."""
    statement, parameters, columns = prepare(channel, sql)
    if not columns:
        close_statement(channel, statement)
        raise err.ProgrammingError(CR.CR_NO_RESULT_SET, "the statement is not a query: it gives no rows")
    return statement, parameters, columns


def require_parameters(parameters: Sequence[Parameter], expected: int) -> None:
    if len(parameters) != expected:
        raise err.ProgrammingError(
            CR.CR_INVALID_PARAMETER_NO,
            f"the statement has {expected} parameters, {len(parameters)} were given",
        )


def definitions(channel: Channel, count: int) -> tuple[Column, ...]:
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


def close_statement(channel: Channel, statement: int) -> None:
    """Let the server forget the statement; it does not answer. A lost connection has forgotten it already."""
    if channel._sock is not None:
        with suppress(err.Error):
            channel._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", statement))
