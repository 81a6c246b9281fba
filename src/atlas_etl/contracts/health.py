"""What remembers of the tests of connections: whose turn it is, and what each found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from atlas_etl.model import ConnectionTest, ConnectorHealth


class HealthStore(Protocol):
    """Tests of connections; any number of processes and hosts may share them. Raises StateError.

    `now` is always the caller's clock, as in ScheduleStore.
    """

    def begin(self, connector: str, slot: datetime, *, now: datetime, limit: timedelta) -> bool:
        """Take the turn to test this connector for this slot, for at most so long; whether it may be had.

        Not where somebody tests it, tested it for this slot or a later one, or runs it: two at once might
        both renew a token that can be renewed once.
        """

    def finish(self, slot: datetime, test: ConnectionTest) -> ConnectorHealth | None:
        """Record what a test found, and give the turn back; gives back how the connector was before."""

    def give_back(self, connector: str, slot: datetime) -> None:
        """A test that did not come to its end: as if it had not begun."""

    def tested_slots(self) -> Mapping[str, datetime]:
        """By connector, the last slot that it was tested for."""

    def health(self) -> Mapping[str, ConnectorHealth]:
        """By connector, of those that were ever tested."""

    def tests(self, connector: str | None = None, *, limit: int = 20) -> Sequence[ConnectionTest]:
        """Tests, the latest first. Of each connector the newest thousand are kept."""

    def count_tests(self, connector: str | None = None) -> int:
        """How many tests `tests` would give without a limit."""

    def forget(self, connectors: Collection[str]) -> None:
        """These are tested no more: they are as if they never were, but for the history."""
