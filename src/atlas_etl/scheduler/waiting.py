"""The slots that wait for a free job, pure: one connector after another, whoever ran least recently first."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from datetime import datetime
from heapq import heapify, heappop, heappush


class WaitingSlots:
    """A queue in which no connector has a second turn before every other that waits had one."""

    def __init__(self) -> None:
        self._slots: dict[str, deque[datetime]] = {}
        self._order: list[tuple[int, datetime, str]] = []  # a heap: each connector's last turn, its slot
        self._turn: dict[str, int] = {}
        self._turns = 0

    def __len__(self) -> int:
        return sum(len(slots) for slots in self._slots.values())

    def add(self, connector: str, scheduled_at: datetime) -> None:
        slots = self._slots.setdefault(connector, deque())
        if not slots:
            self._line_up(connector, scheduled_at)
        if scheduled_at not in slots:
            slots.append(scheduled_at)

    def replace(self, connector: str, scheduled_at: datetime) -> list[datetime]:
        """Have this slot alone wait for its connector; gives back those that did."""
        before = [at for at in self._slots.get(connector, ()) if at != scheduled_at]
        if connector not in self._slots:
            self._line_up(connector, scheduled_at)
        self._slots[connector] = deque([scheduled_at])
        return before

    def take(self, busy: Collection[str]) -> tuple[str, datetime] | None:
        """The next slot of a connector that is not busy; its connector's next turn is after all others."""
        passed_over = []
        found = None
        while self._order and found is None:
            place = heappop(self._order)
            if place[2] in busy:
                passed_over.append(place)
            else:
                found = place[2]
        for place in passed_over:
            heappush(self._order, place)
        if found is None:
            return None
        self._turns += 1
        self._turn[found] = self._turns
        slots = self._slots[found]
        slot = slots.popleft()
        if slots:
            self._line_up(found, slots[0])
        else:
            del self._slots[found]
        return found, slot

    def keep(self, connectors: Collection[str]) -> None:
        """Forget every other connector."""
        self._slots = {name: slots for name, slots in self._slots.items() if name in connectors}
        self._turn = {name: turn for name, turn in self._turn.items() if name in connectors}
        self._order = [place for place in self._order if place[2] in connectors]
        heapify(self._order)

    def clear(self) -> None:
        self.keep(())

    def _line_up(self, connector: str, scheduled_at: datetime) -> None:
        heappush(self._order, (self._turn.get(connector, 0), scheduled_at, connector))
