"""What the scheduler's tests of connections found: each of them, and how a connector is because of them."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from atlas_etl.model.run import RunError


class ConnectionTest(Struct, frozen=True):
    """One `connector test` that the scheduler began at `tested_at`; without an `error` it succeeded."""

    connector: str
    tested_at: datetime
    seconds: float
    message: str = ""
    server_version: str | None = None
    warnings: tuple[str, ...] = ()
    error: RunError | None = None


class ConnectorHealth(Struct, frozen=True):
    """How a connector is: as its last test found it, and so did every test since `since`."""

    connector: str
    since: datetime
    last: ConnectionTest

    @property
    def is_healthy(self) -> bool:
        return self.last.error is None

    @property
    def has_changed(self) -> bool:
        """Whether the last test is the first that found it so."""
        return self.since == self.last.tested_at
