"""What remembers how copies compared with their sources."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from atlas_etl.model import Verification


class VerificationStore(Protocol):
    """Results of `connector verify`, counts only. Raises StateError."""

    def record(self, verification: Verification) -> None:
        """Keep one; of each connector the newest thousand stay."""

    def verifications(
        self, connector: str | None = None, *, since: datetime | None = None, limit: int = 20
    ) -> Sequence[Verification]:
        """What was compared, the latest first."""

    def count(self, connector: str | None = None) -> int:
        """How many `verifications` would give without a limit."""

    def latest(self) -> Sequence[Verification]:
        """The latest one of each stream that was ever compared, by connector and stream."""
