"""What `atlas watch` shows on a terminal, as the parts of one screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from atlas_etl.cli import quantities, render
from atlas_etl.cli.output import iso
from atlas_etl.cli.watch_lines import SILENT_SECONDS, began, told_left, told_state
from atlas_etl.model import LiveRun, Run, StreamProgress, StreamState
from atlas_etl.scheduler.watching import Seen

if TYPE_CHECKING:
    from rich.table import Table

_MOST_OVER = 5  # streams that are done
_NUMERIC = ("rows", "rows/s", "MB/s", "left")
_COLUMNS = ("  stream", "", "rows", "", "rows/s", "MB/s", "left", "waits for")


def parts(seen: Seen, ended: Sequence[Run]) -> list[str | Table]:
    """One look, with the last runs that ended while this command watched."""
    shown: list[str | Table] = [_heading(seen)]
    for live in seen.running:
        shown += _run(seen, live)
    if ended:
        shown.append("ended:")
        shown += [f"  {render.safe(run.connector)}: {quantities.ended(run)}" for run in ended]
    if seen.coming:
        shown.append("next by schedule:")
        shown += [f"  {slot.connector} at {iso(slot.scheduled_at)}" for slot in seen.coming]
    return shown


def _heading(seen: Seen) -> str:
    now = iso(seen.at.replace(microsecond=0))
    daemons = ", ".join(f"host {daemon.host}, pid {daemon.pid}" for daemon in seen.daemons)
    scheduler = f"; the scheduler is alive ({daemons})" if daemons else ""
    return f"{now}: {quantities.counted(len(seen.running), 'run')} now{scheduler}"


def _run(seen: Seen, live: LiveRun) -> list[str | Table]:
    elapsed = max((seen.at - live.run.started_at).total_seconds(), 0.0)
    shown: list[str | Table] = [
        "",
        f"{render.safe(live.run.connector)}: {quantities.took(elapsed)}, {render.safe(began(live))}",
    ]
    if live.silent_seconds > SILENT_SECONDS:
        shown.append(f"  no sign of life for {live.silent_seconds:.0f} s; if it died, that shows soon")
    progress = live.progress
    if progress is None:
        return shown
    going = [stream for stream in progress.streams if not stream.state.is_over]
    over = [stream for stream in progress.streams if stream.state.is_over]
    if progress.streams:
        shown.append(
            render.grid(_COLUMNS, [_row(stream) for stream in (*over[-_MOST_OVER:], *going)], _NUMERIC)
        )
    left = progress.total - progress.over - len(going)
    shown.append(f"  {progress.over} of {quantities.counted(progress.total, 'stream')} done")
    if left:
        more = f" and {left - len(progress.waiting)} more" if left > len(progress.waiting) else ""
        shown.append(f"  next: {render.safe(', '.join(progress.waiting))}{more}")
    if progress.then:
        shown.append(f"  then: {render.safe(', '.join(progress.then))}")
    return shown


def _row(stream: StreamProgress) -> tuple[object, ...]:
    counts = f"{stream.rows:,}"
    if stream.state is StreamState.COMPARING:
        counts = f"{stream.keys:,} keys"
    elif stream.estimated_rows is not None and not stream.state.is_over:
        counts += f" / ~{stream.estimated_rows:,}"
    rows, size = stream.rows_per_second, stream.bytes_per_second
    return (
        f"  {stream.name}",
        told_state(stream),
        counts,
        _bar(stream),
        f"{rows:,.0f}" if rows is not None else "",
        f"{size / 1e6:,.1f}" if size is not None else "",
        told_left(stream),
        stream.slower or "",
    )


def _bar(stream: StreamProgress) -> object:
    if stream.state.is_over or not stream.estimated_rows:
        return ""
    return render.bar(min(stream.rows / stream.estimated_rows, 1.0))
