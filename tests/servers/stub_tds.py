"""The wire of the stand-in for SQL Server: packets, TLS and tokens of TDS 7.4, as much as the driver needs.

Protocol: https://learn.microsoft.com/openspecs/windows_protocols/ms-tds.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Sequence

PASSWORD = "stub's pässword"


class Refused(Exception):
    """An error of the server: its number and its words."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number
        self.text = text


PRELOGIN, LOGIN, BATCH, ATTENTION, ANSWER = 0x12, 0x10, 0x01, 0x06, 0x04
_LAST = 1
DONE, DONE_COUNT, DONE_ERROR, DONE_ATTENTION = 0, 0x10, 0x02, 0x20


class Wire:
    """Packets over a socket, within TLS once that is agreed on."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()

    def receive(self) -> tuple[int, bytes]:
        """One message, of as many packets as it takes."""
        body = b""
        while True:
            kind, status, length = struct.unpack(">BBH4x", self._read(8))
            body += self._read(length - 8)
            if status & _LAST:
                return kind, body

    def send(self, body: bytes, kind: int = ANSWER) -> None:
        pieces = [body[start : start + 4000] for start in range(0, len(body), 4000)] or [b""]
        for number, piece in enumerate(pieces, 1):
            status = _LAST if number == len(pieces) else 0
            self._write(struct.pack(">BBHHBB", kind, status, len(piece) + 8, 0, number % 256, 0) + piece)

    def encrypt(self, context: ssl.SSLContext) -> None:
        """The handshake, whose pieces are packets of their own."""
        tls = context.wrap_bio(self._in, self._out, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush_handshake()
                self._in.write(self.receive()[1])
                continue
            self._flush_handshake()
            break
        self._tls = tls

    def _flush_handshake(self) -> None:
        if self._out.pending:
            self.send(self._out.read(), PRELOGIN)

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            if self._tls is None:
                piece = self._socket.recv(size - len(found))
                if not piece:
                    raise EOFError
                found += piece
                continue
            try:
                found += self._tls.read(size - len(found))
            except ssl.SSLWantReadError:
                piece = self._socket.recv(65536)
                if not piece:
                    raise EOFError from None
                self._in.write(piece)
        return found

    def _write(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            data = self._out.read()
        self._socket.sendall(data)


def prelogin(encryption: int) -> bytes:
    options = [(0, bytes([16, 0, 0, 1, 0, 0])), (1, bytes([encryption])), (2, b"\0"), (3, b""), (4, b"\0")]
    place, heads, data = 5 * len(options) + 1, b"", b""
    for token, value in options:
        heads += struct.pack(">BHH", token, place + len(data), len(value))
        data += value
    return heads + b"\xff" + data


def logged_in(body: bytes) -> str:
    """The database that a login names."""

    def text(at: int) -> bytes:
        place, length = struct.unpack_from("<HH", body, at)
        return body[place : place + 2 * length]

    user, database = text(40).decode("utf-16-le"), text(68).decode("utf-16-le")
    password = bytes(((b ^ 0xA5) << 4 | (b ^ 0xA5) >> 4) & 0xFF for b in text(44)).decode("utf-16-le")
    if password != PASSWORD:
        raise Refused(18456, f"Login failed for user '{user}'.")
    return database


def _text(text: str, size: str) -> bytes:
    data = text.encode("utf-16-le")
    return struct.pack(size, len(data) // 2) + data


def _token(kind: int, body: bytes) -> bytes:
    return struct.pack("<BH", kind, len(body)) + body


def done(status: int, rows: int = 0) -> bytes:
    return struct.pack("<BHHQ", 0xFD, status, 0, rows)


def error(refused: Refused) -> bytes:
    body = struct.pack("<IBB", refused.number, 1, 16) + _text(refused.text, "<H") + _text("STUB", "<B")
    return _token(0xAA, body + _text("", "<B") + struct.pack("<I", 1))


LOGGED_IN = _token(0xAD, b"\x01\x74\x00\x00\x04" + _text("Stub", "<B") + bytes([16, 0, 0, 1]))
_LONGEST = 128  # characters of a name
_COLLATED = bytes([0x09, 0x04, 0xD0, 0x00, 0x34])


def answer(names: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    if not names:
        return done(DONE)
    kinds = [_kind([row[place] for row in rows]) for place in range(len(names))]
    columns = zip(names, kinds, strict=True)
    head = b"".join(b"\0\0\0\0\x09\0" + kind[0] + _text(name[:_LONGEST], "<B") for name, kind in columns)
    found = [struct.pack("<BH", 0x81, len(names)), head]
    for row in rows:
        found.append(b"\xd1" + b"".join(kind[1](cell) for kind, cell in zip(kinds, row, strict=True)))
    return b"".join([*found, done(DONE_COUNT, len(rows))])


def _kind(cells: Sequence[object]) -> tuple[bytes, Callable[[object], bytes]]:
    """A column's type on the wire, and how its cells are written."""
    given = {type(cell) for cell in cells} - {type(None)}
    if given == {bytes}:
        return b"\xa5\xff\xff", _long  # varbinary(max)
    if given == {bool}:
        return b"\x68\x01", lambda cell: b"\0" if cell is None else struct.pack("<BB", 1, cell)
    if given == {int}:
        return b"\x26\x08", lambda cell: b"\0" if cell is None else struct.pack("<Bq", 8, cell)
    if given == {float}:
        return b"\x6d\x08", lambda cell: b"\0" if cell is None else struct.pack("<Bd", 8, cell)
    if any(isinstance(cell, str) and len(cell) > 2000 for cell in cells):
        return b"\xe7\xff\xff" + _COLLATED, lambda cell: _long(
            cell.encode("utf-16-le") if isinstance(cell, str) else None
        )
    return (
        b"\xe7\x40\x1f" + _COLLATED,
        lambda cell: b"\xff\xff" if cell is None else _counted(str(cell).encode("utf-16-le")),
    )


def _counted(data: bytes) -> bytes:
    return struct.pack("<H", len(data)) + data


def _long(cell: object) -> bytes:
    if cell is None:
        return b"\xff" * 8
    assert isinstance(cell, bytes)
    piece = struct.pack("<I", len(cell)) + cell if cell else b""
    return struct.pack("<Q", len(cell)) + piece + struct.pack("<I", 0)
