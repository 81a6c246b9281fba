"""The one thread-safe cache of native clients, keyed by protocol and a hash of the configuration."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TypeAlias

from msgspec import Struct
from pydantic import SecretBytes, SecretStr

from atlas_etl.connectors.base import Adapter, ConnectionConfig


class _Entry(Struct, frozen=True):
    client: object
    dispose: Callable[[object], None]


_Key: TypeAlias = tuple[str, str, threading.Thread | None]


class ClientCache:
    """Clients that scripts share; those of a `thread_bound` adapter are kept while their thread lives."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a client may be made of another one
        self._entries: dict[_Key, _Entry] = {}

    def get(self, protocol: str, adapter: Adapter[ConnectionConfig], config: ConnectionConfig) -> object:
        """The client for this configuration, made on first use."""
        # The thread itself and not its number, which the system gives to another one later.
        thread = threading.current_thread() if adapter.thread_bound else None
        key = (protocol, fingerprint(config), thread)
        with self._lock:
            self._forget_ended_threads()
            if key not in self._entries:
                self._entries[key] = _Entry(adapter.client(config), adapter.dispose)
            return self._entries[key].client

    def close(self) -> None:
        """Dispose of every client, though one of them may refuse. The cache can be used again."""
        with self._lock:
            entries, self._entries = list(self._entries.values()), {}
        with ExitStack() as closing:
            for entry in entries:
                closing.callback(entry.dispose, entry.client)

    def _forget_ended_threads(self) -> None:
        ended = [key for key in self._entries if key[2] is not None and not key[2].is_alive()]
        for key in ended:
            entry = self._entries.pop(key)
            with suppress(Exception):  # whoever used it is gone, and nobody else is to blame
                entry.dispose(entry.client)


def fingerprint(config: ConnectionConfig) -> str:
    """SHA-256 of the configuration, secrets included, as hexadecimal; it does not give them away."""
    revealed = json.dumps(config.model_dump(), default=_reveal, sort_keys=True)
    return hashlib.sha256(revealed.encode()).hexdigest()


def _reveal(value: object) -> str:
    return str(value.get_secret_value() if isinstance(value, SecretStr | SecretBytes) else value)
