"""The end of a daemon: what goes on has its grace, then it is asked to end, then it is killed."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from atlas_etl.scheduler.ongoing import Ending, Ongoing

_LAST_WORDS = 0.25  # of the grace, for what was asked to end


class Shutdown(Struct):
    """Seconds of the monotonic clock: `stop_at` is the end of the grace, or when a second signal came."""

    grace: float
    stop_at: float

    def enforce(self, ticks: float, ongoing: Collection[Ongoing]) -> None:
        """Ask these to end while there is time left for their last words; then end them."""
        if ticks >= self.stop_at - self.grace * _LAST_WORDS:
            for each in ongoing:
                if each.ending is None:
                    each.end(Ending.SHUTDOWN, ticks, max(self.stop_at - ticks, 0.0))
        if ticks >= self.stop_at:
            for each in ongoing:
                each.execution.kill()

    def gives_up(self, ticks: float, after: float) -> bool:
        """Whether even what was killed had its time."""
        return ticks >= self.stop_at + after

    def next_at(self, ticks: float) -> float:
        """When there is something to do again."""
        last_words = self.stop_at - self.grace * _LAST_WORDS
        return last_words if ticks < last_words else max(self.stop_at, ticks + 0.1)
