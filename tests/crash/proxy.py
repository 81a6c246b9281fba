"""A TCP proxy that mistreats what goes through it, as networks and servers do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

_CHUNK = 65536
_LINGER_NONE = struct.pack("ii", 1, 0)  # closing sends a reset (socket(7), SO_LINGER)


class Reset(Exception):
    """Both ends of the connection are to be reset now."""


class Abandon(Exception):
    """The end that spoke is to be reset; the other one hears nothing of it."""


Forward = Callable[[bytes], None]


class Fault:
    """What happens to the bytes of all connections; without change they are counted and forwarded.

    `up` gets what the client says and `down` what the server answers; both may raise Reset.
    """

    def __init__(self) -> None:
        self.sent_up = self.sent_down = 0
        self.resets = 0

    def reset(self) -> NoReturn:
        self.resets += 1
        raise Reset

    def up(self, data: bytes, forward: Forward) -> None:
        self.sent_up += len(data)
        forward(data)

    def down(self, data: bytes, forward: Forward) -> None:
        self.sent_down += len(data)
        forward(data)


class ResetAfter(Fault):
    """Connections are reset once this many bytes went one way; with `once`, later ones are left alone."""

    def __init__(self, *, up: int | None = None, down: int | None = None, once: bool) -> None:
        super().__init__()
        self._most_up, self._most_down = up, down
        self._once = once

    def up(self, data: bytes, forward: Forward) -> None:
        self._forward(data, super().up, self.sent_up, self._most_up, forward)

    def down(self, data: bytes, forward: Forward) -> None:
        self._forward(data, super().down, self.sent_down, self._most_down, forward)

    def _forward(
        self, data: bytes, on: Callable[[bytes, Forward], None], sent: int, most: int | None, forward: Forward
    ) -> None:
        if most is None or sent + len(data) < most or (self._once and self.resets):
            on(data, forward)
            return
        on(data[: max(0, most - sent)], forward)
        self.reset()


class StallAfter(Fault):
    """After so many bytes down nothing comes any more, until `go_on` is set."""

    def __init__(self, down: int) -> None:
        super().__init__()
        self._most = down
        self.stalled, self.go_on = threading.Event(), threading.Event()

    def down(self, data: bytes, forward: Forward) -> None:
        if self.sent_down + len(data) > self._most:
            self.stalled.set()
            self.go_on.wait()
        super().down(data, forward)


class Drip(Fault):
    """Everything comes in pieces that end in the middle of messages, numbers and characters."""

    def __init__(self, piece: int) -> None:
        super().__init__()
        self._piece = piece

    def up(self, data: bytes, forward: Forward) -> None:
        for first in range(0, len(data), self._piece):
            super().up(data[first : first + self._piece], forward)

    def down(self, data: bytes, forward: Forward) -> None:
        for first in range(0, len(data), self._piece):
            super().down(data[first : first + self._piece], forward)


class LostCommit(Fault):
    """The connection is reset at a COMMIT: before the server hears of it, or before its answer comes back."""

    # A query message is Q, its length, and its text with a NUL; other messages do not end so.
    # https://www.postgresql.org/docs/current/protocol-message-formats.html
    POSTGRESQL = b"Q\x00\x00\x00\x0bCOMMIT\x00"
    MSSQL = "COMMIT TRANSACTION".encode("utf-16-le")  # how a packet of TDS ends

    def __init__(self, number: int, *, heard: bool, commit: bytes = POSTGRESQL) -> None:
        super().__init__()
        self._commit = commit
        self._number = number
        self._heard = heard
        self._pending = False

    def up(self, data: bytes, forward: Forward) -> None:
        if data.endswith(self._commit):
            self._number -= 1
            if self._number == 0:
                if not self._heard:
                    self.reset()
                self._pending = True
        super().up(data, forward)

    def down(self, data: bytes, forward: Forward) -> None:
        if self._pending:
            self._pending = False
            self.reset()
        super().down(data, forward)


class LateCommit(LostCommit):
    """The client is reset at a COMMIT that is still on its way: `deliver` lets the server have it."""

    def __init__(self, number: int) -> None:
        super().__init__(number, heard=False)
        self.deliver: Callable[[], None] | None = None

    def up(self, data: bytes, forward: Forward) -> None:
        try:
            super().up(data, forward)
        except Reset:
            self.deliver = lambda: forward(data)
            raise Abandon from None


@contextmanager
def proxy(host: str, port: int, fault: Fault) -> Iterator[int]:
    """A port of this machine that leads to another one through a fault, until the block is left."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ends: list[socket.socket] = []
        accepting = threading.Thread(target=_accept, args=(listening, (host, port), fault, ends), daemon=True)
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for end in ends:
                _reset(end)


def _accept(
    listening: socket.socket, address: tuple[str, int], fault: Fault, ends: list[socket.socket]
) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:  # the proxy was closed
            return
        server = socket.create_connection(address)
        ends += (client, server)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for one, other, through in ((client, server, fault.up), (server, client, fault.down)):
            threading.Thread(target=_pump, args=(one, other, through), daemon=True).start()


def _pump(one: socket.socket, other: socket.socket, through: Callable[[bytes, Forward], None]) -> None:
    try:
        while data := one.recv(_CHUNK):
            through(data, other.sendall)
        other.shutdown(socket.SHUT_WR)
    except Reset:
        _reset(one)
        _reset(other)
    except Abandon:
        _reset(one)
    except OSError:  # the other direction ended the connection
        pass


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    # Another thread may wait in recv, and closing alone would not wake it.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RD)
    end.close()
