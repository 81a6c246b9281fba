"""Calls of drivers that know no deadline of their own: they are left to themselves when it passes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Made = TypeVar("Made")


class _Attempt(Generic[Made]):
    """A call in a thread of its own, and what it made; `give_back` gets what nobody waits for any more."""

    def __init__(self, make: Callable[[], Made], give_back: Callable[[Made], None]) -> None:
        self._make = make
        self._give_back = give_back
        self._lock = threading.Lock()
        self._left = False
        self._made: list[Made] = []
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def result(self, seconds: float) -> Made:
        self._thread.start()
        try:
            self._thread.join(seconds)
        finally:
            with self._lock:
                self._left = True
                found, self._made = self._made, []
        if self._failure is not None:
            raise self._failure
        if not found:
            raise TimeoutError(f"nothing after {seconds:g} seconds")
        return found[0]

    def _run(self) -> None:
        try:
            made = self._make()
        except BaseException as failure:
            self._failure = failure
            return
        with self._lock:
            if not self._left:
                self._made.append(made)
                return
        self._give_back(made)


def within(seconds: float, make: Callable[[], Made], give_back: Callable[[Made], None]) -> Made:
    """What `make` gives, in so many seconds. Raises TimeoutError, and whatever `make` raises.

    A call that does not end goes on in a thread, until the process ends; what it makes later is given back.
    """
    return _Attempt(make, give_back).result(seconds)
