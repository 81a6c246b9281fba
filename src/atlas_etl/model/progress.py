"""How far a run is while it goes on, as it publishes it: names and counts, never a value of a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from msgspec import Struct

from atlas_etl.model.run import Run, Side


class StreamState(StrEnum):
    """What a stream of a run does now; `comparing` looks for rows that the source deleted."""

    LOADING = "loading"
    COMMITTING = "committing"
    COMPARING = "comparing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        return self in (StreamState.COMPLETED, StreamState.FAILED)


@dataclass(frozen=True, slots=True)
class StreamProgress:
    """One stream that began. `rows` and `bytes` were read since its last attempt began, `seconds` ago."""

    name: str
    state: StreamState
    table: str | None = None
    rows: int = 0
    bytes: int = 0
    estimated_rows: int | None = None
    rows_committed: int = 0  # of all attempts
    keys: int = 0  # compared
    slower: Side | None = None
    attempt: int = 1
    seconds: float = field(default=0.0, compare=False)  # goes on where nothing else does

    @property
    def rows_per_second(self) -> float | None:
        return self.rows / self.seconds if self.seconds > 0 else None

    @property
    def bytes_per_second(self) -> float | None:
        return self.bytes / self.seconds if self.seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """By the source's estimate and the speed so far; None without either, or past the estimate."""
        speed = self.rows_per_second
        if self.state is not StreamState.LOADING or not speed or self.estimated_rows is None:
            return None
        left = self.estimated_rows - self.rows
        return left / speed if left > 0 else None


class RunProgress(Struct, frozen=True):
    """A run's streams: those that began, in that order, and those that come next.

    Of very many the newest and the next are here; the counts are of all. `then` are the connectors that the
    same command runs afterwards.
    """

    total: int
    over: int
    streams: tuple[StreamProgress, ...] = ()
    waiting: tuple[str, ...] = ()
    then: tuple[str, ...] = ()


class LiveRun(Struct, frozen=True):
    """A run that goes on, where, and what it last published; `silent_seconds` since it gave a sign of life.

    `progress` is None in a run's first second, and for runs of versions that publish none.
    """

    run: Run
    host: str
    pid: int
    silent_seconds: float
    progress: RunProgress | None = None
