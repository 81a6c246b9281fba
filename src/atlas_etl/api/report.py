"""What a report shows of each connector: its runs summed over equal spans of time, and what went wrong.

Pure: runs and instants in, values out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from atlas_etl.model import Run, RunStatus, StreamRun

SPANS = 60
_MOST_LISTED = 50


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of each chart: the runs that started in it. `longest` is in seconds."""

    begins: datetime
    ends: datetime
    runs: int = 0
    failed: int = 0
    rows: int = 0
    longest: float = 0.0


@dataclass(frozen=True, slots=True)
class StreamTotal:
    """One stream over all runs, and as its last run left it."""

    last: StreamRun
    rows: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class SchemaChanged:
    """What became of a table, and in which run."""

    at: datetime
    stream: str
    change: str


@dataclass(frozen=True, slots=True)
class ConnectorReport:
    """One connector from `since` to `until`. `last_success` may lie before."""

    name: str
    runs: int
    failed: int
    rows: int
    bytes: int
    seconds: float | None  # of the middle one of the completed runs
    last: Run | None
    last_success: datetime | None
    spans: tuple[Span, ...]
    streams: tuple[StreamTotal, ...]
    failures: tuple[Run, ...]  # the latest first
    changes: tuple[SchemaChanged, ...]  # the latest first


def connector_report(
    name: str, runs: Sequence[Run], last_success: datetime | None, since: datetime, until: datetime
) -> ConnectorReport:
    """Sum the runs that started from `since` on, given with the latest first."""
    within = [run for run in runs if since <= run.started_at <= until]
    took = [
        run.duration_seconds
        for run in within
        if run.status is RunStatus.COMPLETED and run.duration_seconds is not None
    ]
    failures = [run for run in within if run.status.is_failure]
    changes = [
        SchemaChanged(run.started_at, stream.name, change)
        for run in within
        for stream in run.streams
        for change in stream.schema_changes
    ]
    return ConnectorReport(
        name,
        runs=len(within),
        failed=len(failures),
        rows=sum(run.rows_processed for run in within),
        bytes=sum(run.bytes_processed for run in within),
        seconds=median(took) if took else None,
        last=within[0] if within else None,
        last_success=last_success,
        spans=_spans(within, since, until),
        streams=_totals(within),
        failures=tuple(failures[:_MOST_LISTED]),
        changes=tuple(changes[:_MOST_LISTED]),
    )


def _spans(runs: Sequence[Run], since: datetime, until: datetime) -> tuple[Span, ...]:
    width = (until - since) / SPANS
    within: list[list[Run]] = [[] for _ in range(SPANS)]
    for run in runs:
        within[min(int((run.started_at - since) / width), SPANS - 1)].append(run)
    return tuple(
        Span(
            since + place * width,
            since + (place + 1) * width,
            runs=len(own),
            failed=sum(run.status.is_failure for run in own),
            rows=sum(run.rows_processed for run in own),
            longest=max((run.duration_seconds or 0.0 for run in own), default=0.0),
        )
        for place, own in enumerate(within)
    )


def _totals(runs: Sequence[Run]) -> tuple[StreamTotal, ...]:
    by_name: dict[str, list[StreamRun]] = {}
    for run in runs:
        for stream in run.streams:
            by_name.setdefault(stream.name, []).append(stream)
    return tuple(
        StreamTotal(own[0], sum(each.rows_loaded for each in own), sum(each.rows_quarantined for each in own))
        for _, own in sorted(by_name.items())
    )


def in_order(found: Mapping[str, Sequence[Run]]) -> list[str]:
    """Connectors in the order of a report: those whose last run failed first, then by name."""
    return sorted(found, key=lambda name: (not found[name] or not found[name][0].status.is_failure, name))
