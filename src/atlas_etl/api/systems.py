"""The systems that several runs of one process use: each is opened once, and closed by the last of them.

Opening costs more than a sync that finds nothing: a server's login, the catalog of a DuckDB file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, Protocol, TypeVar

from msgspec import Struct, field

from atlas_etl.api.prepared import PreparedConnector, PreparedDestination
from atlas_etl.contracts import Connector, Destination


class _Closable(Protocol):
    def close(self) -> None: ...


Opened = TypeVar("Opened", bound=_Closable)


class _System(Struct, Generic[Opened]):
    """One connector or destination, for all runs that want one of this protocol and configuration."""

    prepared: PreparedConnector | PreparedDestination
    opening: Callable[[], Opened]
    users: int = 0
    opened: Opened | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serves(self, prepared: PreparedConnector | PreparedDestination) -> bool:
        adapter = self.prepared.adapter
        return adapter.shared and adapter is prepared.adapter and self.prepared.config == prepared.config

    def open(self) -> Opened:
        with self.lock:
            if self.opened is None:
                self.opened = self.opening()
            return self.opened

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
        if self.users == 0:
            self.close()

    def close(self) -> None:
        with self.lock:
            opened, self.opened = self.opened, None
        if opened is not None:
            opened.close()


class Ends(Struct, frozen=True):
    """Both ends of one run, opened when they are asked for."""

    source: _System[Connector]
    destination: _System[Destination]

    @property
    def shared(self) -> bool:
        """Whether both may serve several threads at once."""
        return self.source.prepared.adapter.shared and self.destination.prepared.adapter.shared

    def open(self) -> tuple[Connector, Destination]:
        """Raises AtlasError."""
        return self.source.open(), self.destination.open()

    def close(self) -> None:
        """Leave both, once, to the runs that still need them."""
        try:
            self.source.leave()
        finally:
            self.destination.leave()


@contextmanager
def ends_of(pairs: Sequence[tuple[PreparedConnector, PreparedDestination]]) -> Iterator[list[Ends]]:
    """The ends of these runs, in their order. Whatever no run closed is closed when the block is left."""
    sources: list[_System[Connector]] = []
    destinations: list[_System[Destination]] = []
    try:
        yield [
            Ends(
                _among(sources, connector, connector.open),
                _among(destinations, destination, destination.open),
            )
            for connector, destination in pairs
        ]
    finally:
        with ExitStack() as closing_all:
            for source in sources:
                closing_all.callback(source.close)
            for destination in destinations:
                closing_all.callback(destination.close)


def _among(
    known: list[_System[Opened]],
    prepared: PreparedConnector | PreparedDestination,
    opening: Callable[[], Opened],
) -> _System[Opened]:
    found = next((system for system in known if system.serves(prepared)), None)
    if found is None:
        found = _System(prepared, opening)
        known.append(found)
    found.users += 1
    return found
