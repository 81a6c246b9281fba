"""Whose certificate a session with Oracle takes, where the driver's own comparison has another host."""

from __future__ import annotations

import socket
import ssl
from typing import Any, Self


class NamedContext(ssl.SSLContext):
    """A context that compares the certificate with a name of its own, whatever the driver asks for.

    The driver switches that comparison off and makes its own, with the host that it was told.
    """

    _name: str | None = None
    _trusts_all = False

    @classmethod
    def of(cls, name: str | None, authorities: str) -> Self:
        """`authorities` is a file. Raises OSError where it cannot be read."""
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(authorities)
        context._name = name
        return context

    def trust_all(self) -> None:
        self._trusts_all = True

    def wrap_socket(self, sock: socket.socket, *given: Any, **more: Any) -> ssl.SSLSocket:
        self.check_hostname = False
        if self._trusts_all:
            self.verify_mode = ssl.CERT_NONE
        elif self._name is not None:
            self.check_hostname = True
            more["server_hostname"] = self._name
        return super().wrap_socket(sock, *given, **more)
