"""The last runs as a line of bars, one for each: how much, how long, and which failed."""

from __future__ import annotations

from collections.abc import Sequence

from atlas_etl.model import Run, RunStatus

_BARS = "▁▂▃▄▅▆▇█"
FAILED = "×"
SKIPPED = "·"


def sparkline(runs: Sequence[Run], amounts: Sequence[float]) -> str:
    """A sign for each run, in the order given: a bar up to the greatest amount, or how it failed."""
    greatest = max(amounts, default=0)
    return "".join(_sign(run.status, amount, greatest) for run, amount in zip(runs, amounts, strict=True))


def _sign(status: RunStatus, amount: float, greatest: float) -> str:
    if status.is_failure:
        return FAILED
    if status is RunStatus.SKIPPED:
        return SKIPPED
    return _BARS[min(int(amount / greatest * len(_BARS)), len(_BARS) - 1)] if greatest else _BARS[0]


def history_lines(runs: Sequence[Run]) -> list[tuple[str, str, str]]:
    """For each connector: its name, its runs' rows and their durations, the latest last."""
    lines = []
    for name in sorted({run.connector for run in runs}):
        own = [run for run in reversed(runs) if run.connector == name]
        rows = sparkline(own, [run.rows_processed for run in own])
        took = sparkline(own, [run.duration_seconds or 0.0 for run in own])
        lines.append((name, rows, took))
    return lines
