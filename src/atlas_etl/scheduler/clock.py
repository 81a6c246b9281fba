"""Time and signals as the daemon sees them: what a test replaces to make years pass, or clocks jump."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import Enum, auto
from types import FrameType
from typing import Protocol, Self


class Wish(Enum):
    """What a signal asks of the daemon."""

    STOP = auto()
    RELOAD = auto()


_WISHES = {signal.SIGTERM: Wish.STOP, signal.SIGINT: Wish.STOP, signal.SIGHUP: Wish.RELOAD}


class Clock(Protocol):
    """What time it is, and waiting."""

    def now(self) -> datetime:
        """The wall clock, in UTC; it may jump."""

    def monotonic(self) -> float:
        """Seconds that only ever grow."""

    def sleep(self, seconds: float) -> Sequence[Wish]:
        """Wait so long, or until a signal comes or a child ends; what was wished for meanwhile."""


class SystemClock:
    """The machine's clock; between `with` and its end, signals end a sleep instead of the process.

    Use it in the main thread: only there does Python take signals.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._pipe = (-1, -1)

    def __enter__(self) -> Self:
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
            self._stack.callback(os.close, end)
        before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._stack.callback(signal.set_wakeup_fd, before)
        for number in (*_WISHES, signal.SIGCHLD):
            self._stack.callback(signal.signal, number, signal.signal(number, _noted))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> Sequence[Wish]:
        select.select([self._pipe[0]], [], [], max(seconds, 0.0))
        try:
            received = os.read(self._pipe[0], 4096)
        except BlockingIOError:
            return []
        wishes = (_WISHES.get(signal.Signals(number)) for number in received)
        return [wish for wish in wishes if wish is not None]


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The number is in the pipe, which ends the sleep."""
