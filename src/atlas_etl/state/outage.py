"""A failure that lasts: told when it begins, now and then after that, and when it is over."""

from __future__ import annotations

STILL_SECONDS = 60.0
"""Between two times that a failure which lasts is told."""


class Outage:
    """Whether something fails now, and since when, by a clock that its caller reads."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told_at = 0.0

    def failed(self, now: float) -> float | None:
        """Once more: for how many seconds, where that is to be told now."""
        if self._since is None:
            self._since = self._told_at = now
            return 0.0
        if now - self._told_at < STILL_SECONDS:
            return None
        self._told_at = now
        return now - self._since

    def over(self, now: float) -> float | None:
        """It does not fail: how many seconds it had, where it had."""
        since, self._since = self._since, None
        return None if since is None else now - since
