"""The runs that go on: how long each may, and ending those that must."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from atlas_etl.model import Slot
from atlas_etl.scheduler.agenda import Scheduled
from atlas_etl.scheduler.processes import Execution

KILL_AFTER = 10.0
"""Seconds between asking a run to end and killing it."""


class Ending(Enum):
    """Why a run was ended from outside."""

    TIMEOUT = auto()
    SHUTDOWN = auto()


@dataclass(slots=True)
class Running:
    """A slot whose run was begun here. Times are seconds of the monotonic clock."""

    slot: Slot
    rules: Scheduled
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


class RunningRuns:
    """At most one run of each connector."""

    def __init__(self) -> None:
        self._runs: dict[str, Running] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Running]:
        return iter(self._runs.values())

    def names(self) -> Collection[str]:
        return self._runs.keys()

    def add(self, run: Running) -> None:
        self._runs[run.slot.connector] = run

    def ended(self) -> list[Running]:
        """Those whose execution is over, taken out."""
        found = []
        for run in list(self._runs.values()):
            code = run.execution.poll()
            if code is not None:
                run.code = code
                found.append(self._runs.pop(run.slot.connector))
        return found

    def enforce(self, now: float) -> None:
        """End what ran too long, and kill what did not end when it was asked to."""
        for run in self._runs.values():
            if run.ending is None and run.deadline is not None and now >= run.deadline:
                run.end(Ending.TIMEOUT, now, KILL_AFTER)
            elif run.kill_at is not None and now >= run.kill_at:
                run.kill_at = None
                run.execution.kill()

    def next_at(self) -> float | None:
        """When `enforce` has something to do again."""
        times = [run.kill_at if run.ending else run.deadline for run in self._runs.values()]
        return min((at for at in times if at is not None), default=None)
