"""How fast requests go out, and how many of them may be tries again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Turns:
    """When each request may be sent, whichever thread sends it."""

    def __init__(self, interval: float, pause: Callable[[float], None]) -> None:
        """`interval`: seconds between the beginnings of two requests."""
        self._interval = interval
        self._pause = pause
        self._lock = threading.Lock()
        self._not_before = 0.0  # of the monotonic clock

    def wait(self) -> None:
        """Wait for the next turn."""
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._not_before)
            self._not_before = begin + self._interval
        if begin > now:
            self._pause(begin - now)

    def hold_back(self, wait: float) -> None:
        """Give no turn for so many seconds."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + wait)


_BEFORE_ANY = 20


class RetryBudget:
    """Tries again that are left: each takes one, each answer that is none of a failure gives one back.

    So an API that fails for good is given up soon, however many requests would have tries left, sooner still
    where it never answered, and one that asks for patience now and then is not: the token bucket of Finagle's
    and of AWS's clients (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html).
    """

    def __init__(self, whole: int) -> None:
        self._whole = whole
        self._left = min(whole, _BEFORE_ANY)
        self._has_answered = False
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Whether there was one more."""
        with self._lock:
            if self._left == 0:
                return False
            self._left -= 1
            return True

    def give_back(self) -> None:
        with self._lock:
            if not self._has_answered:
                self._has_answered = True
                self._left += self._whole - min(self._whole, _BEFORE_ANY)
            self._left = min(self._whole, self._left + 1)
