"""Sizes, speeds and lengths of time, and what a run did, in a few words."""

from __future__ import annotations

from datetime import datetime, timedelta

from atlas_etl.cli.output import iso
from atlas_etl.model import Run


def size(number: float) -> str:
    """Bytes in their largest decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def age(length: timedelta) -> str:
    """Roughly how long, in its largest unit."""
    seconds = length.total_seconds()
    for unit, count in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= count:
            return f"{seconds / count:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def took(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def counted(number: int, what: str) -> str:
    """`1 load`, `2 loads`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def ended(run: Run, next_slot: datetime | None = None) -> str:
    """How a run ended and what it did; what there was none of is left out."""
    seconds = run.duration_seconds
    loads = sum(stream.loads for stream in run.streams)
    changes = sum(len(stream.schema_changes) for stream in run.streams)
    deleted = sum(stream.rows_deleted for stream in run.streams)
    refused = sum(stream.rows_quarantined for stream in run.streams)
    left_out = sum(stream.rows_left_out for stream in run.streams)
    failed = sum(stream.error is not None for stream in run.streams)
    parts = [
        counted(run.rows_processed, "row") + (f" in {_exactly(seconds)}" if seconds is not None else ""),
        size(run.bytes_processed) if run.bytes_processed else "",
        counted(loads, "load") if loads else "",
        counted(changes, "schema change") if changes else "",
        f"{counted(deleted, 'row')} deleted" if deleted else "",
        f"{counted(refused, 'row')} in quarantine" if refused else "",
        f"{counted(left_out, 'row')} left out" if left_out else "",
        f"{failed} of {counted(len(run.streams), 'stream')} failed" if failed else "",
        f"next at {iso(next_slot)}" if next_slot is not None else "",
    ]
    return f"{run.status}: {', '.join(part for part in parts if part)}"


def _exactly(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 60 else took(seconds)
