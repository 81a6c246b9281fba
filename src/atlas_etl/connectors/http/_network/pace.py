"""How fast requests go out, and how many of them may be tries again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Turns:
    """When each request may be sent, whichever thread sends it."""

    def __init__(self, interval: float, pause: Callable[[float, str], None]) -> None:
        """`interval`: seconds between the beginnings of two requests."""
        self._interval = interval
        self._pause = pause
        self._lock = threading.Lock()
        self._not_before = 0.0  # of the monotonic clock
        self._why = ""  # whoever waits first tells it

    def wait(self) -> None:
        """Wait for the next turn."""
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._not_before)
            self._not_before = begin + self._interval
            why, self._why = self._why, ""
        if begin > now:
            self._pause(begin - now, why)

    def hold_back(self, wait: float, why: str) -> None:
        """Give no turn for so many seconds."""
        with self._lock:
            until = time.monotonic() + wait
            if until > self._not_before:
                self._not_before, self._why = until, why


_GIVEN_UP = 3  # times in a row: as often as a stream is tried


class RetryBudget:
    """Tries again that are left: each takes one, each answer that is none of a failure gives one back.

    So an API that fails for good is given up soon, however many requests would have tries left, and one that
    asks for patience now and then is not: the token bucket of Finagle's and of AWS's clients
    (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html). Where requests were given
    up in a row, or one whose tries took all the time that they had, those that follow are tried once, until
    one is answered.
    """

    def __init__(self, whole: int) -> None:
        self._whole = self._left = whole
        self._given_up = 0
        self._last_given_up = 0.0  # of the monotonic clock
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there was one more."""
        with self._lock:
            if self._left == 0 or self._given_up >= _GIVEN_UP:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        with self._lock:
            self._given_up = 0
            self._left = min(self._whole, self._left + 1)

    def give_up(self, began: float, *, was_slow: bool = False) -> None:
        """A request got no answer by all its tries; those that were tried at the same time count as one.

        `was_slow`: its tries took all the time that they had.
        """
        with self._lock:
            if began >= self._last_given_up or was_slow:
                self._given_up = _GIVEN_UP if was_slow else self._given_up + 1
                self._last_given_up = time.monotonic()
