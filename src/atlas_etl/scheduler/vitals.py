"""How a daemon's loop is, for whoever supervises it."""

from __future__ import annotations

from msgspec import Struct

LATEST_BEAT = 60.0
"""Seconds without a turn of the loop after which it hangs; its longest sleep is a sixth of that."""


class Vitals(Struct, frozen=True):
    """How a daemon's loop is."""

    seconds_since_turn: float
    is_ready: bool  # the store answered in the last turn, and runs are begun

    @property
    def is_alive(self) -> bool:
        return self.seconds_since_turn < LATEST_BEAT
