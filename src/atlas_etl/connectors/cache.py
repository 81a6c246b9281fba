"""The one thread-safe cache of native clients, keyed by protocol and a hash of the configuration."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from pydantic import SecretStr

from atlas_etl.connectors.base import Adapter, ConnectionConfig


@dataclass(frozen=True, slots=True)
class _Entry:
    client: object
    dispose: Callable[[object], None]


class ClientCache:
    """Clients that scripts share; those of a `thread_bound` adapter are kept per thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Entry] = {}

    def get(self, protocol: str, adapter: Adapter[ConnectionConfig], config: ConnectionConfig) -> object:
        """The client for this configuration, made on first use."""
        thread = threading.get_ident() if adapter.thread_bound else None
        key = (protocol, fingerprint(config), thread)
        with self._lock:
            if key not in self._entries:
                self._entries[key] = _Entry(adapter.client(config), adapter.dispose)
            return self._entries[key].client

    def close(self) -> None:
        """Dispose of every client. The cache can be used again."""
        with self._lock:
            entries, self._entries = list(self._entries.values()), {}
        for entry in entries:
            entry.dispose(entry.client)


def fingerprint(config: ConnectionConfig) -> str:
    """SHA-256 of the configuration, secrets included, as hexadecimal; it does not give them away."""
    revealed = json.dumps(config.model_dump(), default=_reveal, sort_keys=True)
    return hashlib.sha256(revealed.encode()).hexdigest()


def _reveal(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
