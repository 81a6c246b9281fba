"""What the runs of some time come to, in values whose size does not depend on how many runs there were."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from atlas_etl.model.run import Run, StreamRun


class Span(Struct, frozen=True):
    """The runs of one connector that started from `begins` on and before `ends`. `longest` is in seconds."""

    begins: datetime
    ends: datetime
    runs: int = 0
    failed: int = 0
    rows: int = 0
    bytes: int = 0
    longest: float = 0.0


class StreamTotal(Struct, frozen=True):
    """One stream over all runs, and as its last run left it."""

    last: StreamRun
    rows: int
    quarantined: int


class SchemaChanged(Struct, frozen=True):
    """What became of a table, and in which run."""

    at: datetime
    stream: str
    change: str


class RunSummary(Struct, frozen=True):
    """One connector's runs of some time: the last one, what went wrong, what changed, and its streams."""

    last: Run | None = None
    seconds: float | None = None  # of the middle one of the newest thousand that completed
    streams: tuple[StreamTotal, ...] = ()
    failures: tuple[Run, ...] = ()  # the latest first
    changes: tuple[SchemaChanged, ...] = ()  # the latest first
