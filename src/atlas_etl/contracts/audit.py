"""What remembers who changed what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from atlas_etl.model import AuditEntry, AuditKind, Change, Settings


class AuditLog(Protocol):
    """Changes by people and programs, told once and never altered or deleted. Raises StateError.

    Changes of what the state store keeps (checkpoints, breakers, dead letters) are recorded by it, in the
    transaction that makes them. What is in files is recorded after it was written.
    """

    def record(self, changes: Collection[Change]) -> None:
        """Write down what this process did to something that the state store does not keep."""

    def define(self, name: str, before: Settings | None, after: Settings | None) -> None:
        """This process changed a definition (None: there is none). What it was before it may be news, too."""

    def notice(self, seen: Mapping[str, Settings], *, gone_without: Collection[str] | None = None) -> None:
        """These are the definitions, by name; what differs from what was known was changed outside of Atlas.

        With `gone_without`, those that are neither seen nor in it were removed.
        """

    def entries(
        self,
        *,
        connector: str | None = None,
        kinds: Collection[AuditKind] = (),
        since: datetime | None = None,
        limit: int = 50,
    ) -> Sequence[AuditEntry]:
        """The changes, the latest first; of all connectors and kinds without these."""

    def count(
        self,
        *,
        connector: str | None = None,
        kinds: Collection[AuditKind] = (),
        since: datetime | None = None,
    ) -> int:
        """How many `entries` would give without a limit."""
