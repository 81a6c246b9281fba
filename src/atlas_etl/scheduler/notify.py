"""Telling systemd how the daemon is, by the protocol of sd_notify(3); nothing happens without systemd."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress

_PATIENCE = 1.0  # seconds for a supervisor whose queue is full


class ServiceManager:
    """Whoever supervises this process and asked for notices by NOTIFY_SOCKET."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        microseconds = environ.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / 1e6 if microseconds.isdecimal() else None
        """It ends this process if it hears nothing for so long; None: it does not wait for us."""

    def tell(self, *assignments: str) -> None:
        """E.g. `READY=1`. A supervisor that does not listen, or no longer reads, is no failure of ours."""
        if self._address[:1] not in {"/", "@"}:
            return
        # A name in Linux's abstract namespace is written with @ and begins with NUL.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.settimeout(_PATIENCE)
            notices.connect(address)
            notices.sendall("\n".join(assignments).encode())
