"""Waiting for a state by asking for it: a sleep may be too short, and a long deadline costs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 90.0
"""How long to wait for what takes a moment: less than a test may take, so that the failure says what for."""


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once the condition holds; `AssertionError` that says what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:g} s: {what}"
        time.sleep(0.02)
