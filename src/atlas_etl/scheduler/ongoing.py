"""What goes on elsewhere, one thing for each connector at most: how long it may, and ending what must."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from enum import Enum, auto
from typing import Generic, TypeVar

from msgspec import Struct

from atlas_etl.scheduler.processes import Execution

KILL_AFTER = 10.0
"""Seconds between asking something to end and killing it."""


class Ending(Enum):
    """Why something was ended from outside."""

    TIMEOUT = auto()
    SHUTDOWN = auto()


class Ongoing(Struct, kw_only=True):
    """Something that was begun here. Times are seconds of the monotonic clock."""

    connector: str
    execution: Execution
    began: float
    deadline: float | None
    ending: Ending | None = None
    kill_at: float | None = None
    code: int = 0

    def end(self, why: Ending, now: float, kill_after: float) -> None:
        """Ask it to end, and have it killed if it does not."""
        self.ending = why
        self.kill_at = now + kill_after
        self.execution.interrupt()


Each = TypeVar("Each", bound=Ongoing)


class OngoingByConnector(Generic[Each]):
    """At most one of each connector."""

    def __init__(self) -> None:
        self._each: dict[str, Each] = {}

    def __len__(self) -> int:
        return len(self._each)

    def __iter__(self) -> Iterator[Each]:
        return iter(self._each.values())

    def names(self) -> Collection[str]:
        return self._each.keys()

    def add(self, begun: Each) -> None:
        self._each[begun.connector] = begun

    def ended(self) -> list[Each]:
        """Those whose execution is over, taken out."""
        found = []
        for each in list(self._each.values()):
            code = each.execution.poll()
            if code is not None:
                each.code = code
                found.append(self._each.pop(each.connector))
        return found

    def enforce(self, now: float) -> None:
        """End what took too long, and kill what did not end when it was asked to."""
        for each in self._each.values():
            if each.ending is None and each.deadline is not None and now >= each.deadline:
                each.end(Ending.TIMEOUT, now, KILL_AFTER)
            elif each.kill_at is not None and now >= each.kill_at:
                each.kill_at = None
                each.execution.kill()

    def next_at(self) -> float | None:
        """When `enforce` has something to do again."""
        times = [each.kill_at if each.ending else each.deadline for each in self._each.values()]
        return min((at for at in times if at is not None), default=None)
