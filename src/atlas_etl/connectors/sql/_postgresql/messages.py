"""The messages of one COPY TO STDOUT, a row each, as PostgreSQL sends them.

Two ways lead to them. `SocketMessages` asks and reads on the session's own socket, in large pieces, where
nothing is encrypted: the driver's library is idle meanwhile and never sees this statement. `LibpqMessages`
takes them from that library one by one, encrypted or not, at four times the cost.

Sources: https://www.postgresql.org/docs/current/protocol-flow.html (COPY Operations),
https://www.postgresql.org/docs/current/protocol-message-formats.html and
https://www.postgresql.org/docs/current/libpq-copy.html.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol

import numpy as np
import psycopg
from psycopg import errors, pq
from psycopg.abc import Buffer

from atlas_etl.connectors.sql._pgcopy.cells import numbers_at
from atlas_etl.connectors.sql._pgcopy.decode import Payloads
from atlas_etl.connectors.sql._pgcopy.types import Bytes, Ints
from atlas_etl.connectors.sql._postgresql.session import Session, given_up

_PIECE_BYTES = 1024 * 1024  # about what a processor's cache holds: larger pieces are decoded more slowly
_LONGEST_WAIT_SECONDS = 10.0**8  # a timeout keeps the socket from blocking, as the library left it
_HEAD = struct.Struct(">Bi")  # a message: its kind, and how long it is without the kind
_LENGTH_BYTES = 4
_DATA, _ERROR, _READY = b"dEZ"
_READY_MESSAGE, _READY_BYTES = b"Z\x00\x00\x00\x05", 6
_NONE: Ints = np.empty(0, np.int64)


class CopyMessages(Protocol):
    """One COPY, being read."""

    def read(self) -> Payloads | None:
        """The next messages, about a MiB; None at the statement's end. Raises psycopg.Error.

        They are valid until those after them are read.
        """


def copy_messages(session: Session, statement: bytes) -> AbstractContextManager[CopyMessages]:
    """Begin a COPY TO STDOUT; leaving it in its middle cancels it. Raises psycopg.Error."""
    return _by_libpq(session, statement) if _is_encrypted(session) else _by_socket(session, statement)


def _is_encrypted(session: Session) -> bool:
    try:
        return session.pgconn.ssl_in_use or bool(session.pgconn.used_gssapi)
    except psycopg.NotSupportedError:  # a library that is too old to tell
        return True


@contextmanager
def _by_libpq(session: Session, statement: bytes) -> Iterator[CopyMessages]:
    with (
        session.cursor().copy(statement) as copy,
        given_up(session),
        closing(LibpqMessages(copy)) as messages,
    ):
        yield messages


@contextmanager
def _by_socket(session: Session, statement: bytes) -> Iterator[CopyMessages]:
    with given_up(session), closing(SocketMessages(session, statement)) as messages:
        yield messages


class LibpqMessages:
    """Messages from the driver's library, which holds a few and waits for more (CopyMessages)."""

    def __init__(self, copy: psycopg.Copy) -> None:
        self._copy = copy
        self._pgconn = copy.connection.pgconn
        self._ended = False

    def read(self) -> Payloads | None:
        held = self._pgconn.get_copy_data
        messages: list[bytes] = []
        size = 0
        while size < _PIECE_BYTES and not self._ended:
            message: Buffer
            # What the library already holds is taken directly: half the cost of the driver's own iteration.
            length, message = held(1)
            if length < 0:
                self._ended = True
                self._raise_failure()
                break
            if length == 0:
                message = self._copy.read()
                length = len(message)
                if length == 0:
                    self._ended = True
                    break
            messages.append(bytes(message))  # a memoryview is one more object for the garbage collector
            size += length
        return Payloads.joined(messages) if messages else None

    def close(self) -> None:
        """Have the server end what it has not ended."""
        if not self._ended:
            self._copy.finish(GeneratorExit())

    def _raise_failure(self) -> None:
        """The stream broke off before its end: the results tell why."""
        failures = [
            errors.error_from_result(result)
            for result in iter(self._pgconn.get_result, None)
            if result.status != pq.ExecStatus.COMMAND_OK
        ]
        if failures:
            raise failures[0]


class SocketMessages:
    """Messages from the socket, which is this statement's until its end (CopyMessages)."""

    def __init__(self, session: Session, statement: bytes) -> None:
        self._session = session
        self._socket = socket.socket(fileno=os.dup(session.fileno()))
        self._socket.settimeout(_LONGEST_WAIT_SECONDS)
        self._buffer = bytearray(_PIECE_BYTES)
        self._walked = self._filled = 0  # the buffer's whole messages, and its bytes, end here
        self._failure: psycopg.Error | None = None
        self._is_ready = False  # the server waits for the next statement
        query = statement + b"\0"
        with _as_lost():
            self._socket.sendall(_HEAD.pack(ord("Q"), _LENGTH_BYTES + len(query)) + query)

    def read(self) -> Payloads | None:
        self._make_room()
        while not self._is_ready:
            if self._filled == len(self._buffer):  # with the beginning of a large message
                self._make_room(self._next_bytes())
            self._receive()
            while self._filled < _PIECE_BYTES // 2 and not self._may_be_the_end():
                self._receive()
            starts, ends = self._walk()
            if starts.size:
                return Payloads(self._buffer, starts, ends)
        if self._failure is not None:
            raise self._failure
        return None

    def close(self) -> None:
        """Have the server end what it has not ended, and leave the socket to the library."""
        with closing(self._socket):
            try:
                if not self._is_ready:
                    self._session.pgconn.get_cancel().cancel()
                while not self._is_ready:
                    self._make_room()
                    self._receive()
                    self._walk()
            except (psycopg.Error, MemoryError):
                self._session.close()

    def _make_room(self, least: int = 0) -> None:
        """Keep only the message that is not whole yet, at the beginning of `least` bytes."""
        rest = self._buffer[self._walked : self._filled]
        if least > len(self._buffer):
            self._buffer = bytearray(least)
        self._buffer[: len(rest)] = rest
        self._walked, self._filled = 0, len(rest)

    def _next_bytes(self) -> int:
        return 1 + int(_HEAD.unpack_from(self._buffer, self._walked)[1])

    def _receive(self) -> None:
        with _as_lost(), memoryview(self._buffer) as whole, whole[self._filled :] as room:
            count = self._socket.recv_into(room)
            if not count:
                raise ConnectionResetError("server closed the connection unexpectedly")
            self._filled += count

    def _may_be_the_end(self) -> bool:
        return self._buffer.startswith(_READY_MESSAGE, max(self._filled - _READY_BYTES, 0), self._filled)

    def _walk(self) -> tuple[Ints, Ints]:
        """Where rows lie among the messages that are whole by now; the others are taken in."""
        buffer, filled = self._buffer, self._filled
        begins, stops = _even_rows(np.frombuffer(buffer, np.uint8, filled), self._walked)
        starts: list[int] = []
        ends: list[int] = []
        at = int(stops[-1]) if stops.size else self._walked
        head, size = _HEAD.unpack_from, _HEAD.size
        while filled - at >= size:
            kind, length = head(buffer, at)
            end = at + 1 + length
            if end > filled:
                break
            if kind == _DATA:
                starts.append(at + size)
                ends.append(end)
            elif kind == _ERROR:
                self._failure = _failure(bytes(buffer[at + size : end]))
            elif kind == _READY:
                self._is_ready = True
            # Notices and the like are nobody's here; what CopyOutResponse says of the formats is known.
            at = end
        self._walked = at
        return np.append(begins, np.array(starts, np.int64)), np.append(stops, np.array(ends, np.int64))


def _even_rows(data: Bytes, at: int) -> tuple[Ints, Ints]:
    """Rows that follow each other from here on, each in a message of its own; perhaps not all that do.

    Where a message might begin is guessed for all bytes at once, by its kind and its row's count of fields.
    What proves it is that each ends where the next one begins.
    """
    size, count = _HEAD.size, data[at + _HEAD.size : at + _HEAD.size + 2]
    heads = at + np.flatnonzero(data[at : 1 - size - 2] == _DATA)
    if not heads.size or heads[0] != at:
        return _NONE, _NONE
    heads = heads[(data[heads + size] == count[0]) & (data[heads + size + 1] == count[1])]
    ends = heads + 1 + numbers_at(data, ">i4")[heads + 1]
    broken = np.flatnonzero(ends[:-1] != heads[1:])
    if broken.size:
        heads, ends = heads[: broken[0] + 1], ends[: broken[0] + 1]
    if ends[-1] > data.size:
        heads, ends = heads[:-1], ends[:-1]
    return heads + size, ends


@contextmanager
def _as_lost() -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise psycopg.OperationalError(str(failure)) from failure


def _failure(content: bytes) -> psycopg.Error:
    """An ErrorResponse, as the driver would raise it: fields of a code's byte and a text each."""
    fields = {field[0]: bytes(field[1:]) for field in content.split(b"\0") if field}
    state = fields.get(pq.DiagnosticField.SQLSTATE, b"").decode()
    text = fields.get(pq.DiagnosticField.MESSAGE_PRIMARY, b"").decode(errors="replace")
    try:
        kind = errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(text, info={int(code): value for code, value in fields.items()})
