"""Connections that give an answer up at its deadline, however slowly its bytes go on coming.

A socket's own timeout begins anew with each byte, and http.client reads a header until it is whole. So what
reads the socket has the deadline: that of its answer, or of the page that it is for, however many it takes.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

_UNTIL: ContextVar[float] = ContextVar("until", default=float("inf"))  # by the monotonic clock

_BEFORE_THE_ANSWER = frozenset({100, 102, 103})  # of which a server may send any number

Admit: TypeAlias = Callable[[str], None]


class PastDeadlineError(TimeoutError):
    """An answer was not whole by its deadline."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """All answers that this thread waits for inside the block have to be whole by then."""
    token = _UNTIL.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _UNTIL.reset(token)


def is_past_deadline(failure: BaseException | None) -> bool:
    """Whether a deadline is what a client's error came of."""
    while failure is not None and not isinstance(failure, PastDeadlineError):
        failure = failure.__cause__ or failure.__context__
    return failure is not None


class DeadlineAdapter(HTTPAdapter):
    """Answers that have to be whole within so many seconds of their first being waited for."""

    def __init__(self, seconds: float, admit: Admit | None = None) -> None:
        """`admit` is told the IP address of each server that is connected to, no proxy's, and may raise."""
        self._pools = _pools(seconds, admit)
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _pools(seconds: float, admit: Admit | None) -> dict[str, type[HTTPConnectionPool]]:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            until = min(time.monotonic() + seconds, _UNTIL.get())
            self.fp = io.BufferedReader(_Timed(self.fp.detach(), until))

        def begin(self) -> None:
            """Informational answers go before the one that counts (RFC 9110, section 15.2).

            http.client passes over 100 alone, and would take a 103 for the answer.
            """
            super().begin()
            while self.status in _BEFORE_THE_ANSWER:
                self.headers = None  # type: ignore[assignment]  # so that it begins anew
                super().begin()

    class Plain(HTTPConnection):
        response_class = Response

        def _new_conn(self) -> socket.socket:
            return _admitted(super()._new_conn(), None if self.proxy else admit)

    class Secured(HTTPSConnection):
        response_class = Response

        def _new_conn(self) -> socket.socket:
            return _admitted(super()._new_conn(), None if self.proxy else admit)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecuredPool(HTTPSConnectionPool):
        ConnectionCls = Secured

    return {"http": PlainPool, "https": SecuredPool}


def _admitted(connected: socket.socket, admit: Admit | None) -> socket.socket:
    """Whoever it is that a name led to: nothing was sent to him yet."""
    try:
        if admit is not None:
            admit(str(connected.getpeername()[0]))
    except BaseException:
        connected.close()
        raise
    return connected


class _Timed(io.RawIOBase):
    """A socket's stream until a moment of the monotonic clock; then reads raise PastDeadlineError."""

    def __init__(self, raw: io.RawIOBase, until: float) -> None:
        self._raw = raw
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() > self._until:
            raise PastDeadlineError("the answer is not whole by its deadline")
        return self._raw.readinto(buffer)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()
        super().close()
