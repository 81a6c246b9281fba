"""What `atlas watch` tells where no terminal is: a line for each thing that happened since the last look."""

from __future__ import annotations

from collections.abc import Iterator

from atlas_etl.cli import quantities
from atlas_etl.cli.output import iso
from atlas_etl.model import LiveRun, Run, StreamProgress, StreamState
from atlas_etl.scheduler.watching import Seen

SILENT_SECONDS = 20.0
"""Two heartbeats."""
_TOLD_AGAIN = 10.0  # seconds of a stream's own time


class WatchLines:
    """Keeps what it told."""

    def __init__(self) -> None:
        self._runs: set[str] = set()
        self._streams: dict[tuple[str, str], StreamProgress] = {}
        self._silent: set[str] = set()
        self._daemons: set[str] = set()

    def told(self, seen: Seen) -> Iterator[str]:
        """The lines of one look."""
        for daemon in seen.daemons:
            if daemon.daemon_id not in self._daemons:
                self._daemons.add(daemon.daemon_id)
                yield f"a scheduler runs: host {daemon.host}, pid {daemon.pid}"
                yield from (f"next: {slot.connector} at {iso(slot.scheduled_at)}" for slot in seen.coming)
        for live in seen.running:
            if live.run.run_id not in self._runs:
                self._runs.add(live.run.run_id)
                yield f"{live.run.connector}: {began(live)}"
            yield from self._of_streams(live)
            yield from self._of_silence(live)
        for run in seen.ended:
            yield f"{run.connector}: {quantities.ended(run)}"

    def _of_streams(self, live: LiveRun) -> Iterator[str]:
        for stream in live.progress.streams if live.progress is not None else ():
            key = (live.run.run_id, stream.name)
            before = self._streams.get(key)
            if before is not None and _phase(before) == _phase(stream):
                moved = before != stream and stream.seconds - before.seconds >= _TOLD_AGAIN
                if stream.state.is_over or not moved:
                    continue
            self._streams[key] = stream
            yield f"{live.run.connector} {stream.name}: {told_stream(stream)}"

    def _of_silence(self, live: LiveRun) -> Iterator[str]:
        if live.silent_seconds <= SILENT_SECONDS:
            self._silent.discard(live.run.run_id)
        elif live.run.run_id not in self._silent:
            self._silent.add(live.run.run_id)
            yield f"{live.run.connector}: no sign of life for {live.silent_seconds:.0f} s"


def _phase(stream: StreamProgress) -> StreamState:
    """A long load commits again and again, which is told with the rows."""
    return StreamState.LOADING if stream.state is StreamState.COMMITTING else stream.state


def began(live: LiveRun) -> str:
    """Since when and where a run goes on."""
    since = iso(live.run.started_at.replace(microsecond=0))
    return f"running since {since} ({live.run.triggered_by}; host {live.host}, pid {live.pid})"


def told_stream(stream: StreamProgress) -> str:
    """What a stream does, in one line."""
    parts = [told_state(stream), f"{stream.rows:,} rows"]
    if stream.estimated_rows is not None and not stream.state.is_over:
        parts[-1] += f" of about {stream.estimated_rows:,}"
    if stream.state is StreamState.COMPARING:
        parts.append(f"{stream.keys:,} keys")
    if _phase(stream) is StreamState.LOADING:
        parts += [speed(stream)] if stream.rows else []
        parts += [f"about {told_left(stream)} left"] if stream.seconds_left is not None else []
        parts += [f"waits for the {stream.slower}"] if stream.slower is not None else []
    return ", ".join(parts)


def told_state(stream: StreamProgress) -> str:
    return f"{stream.state} (attempt {stream.attempt})" if stream.attempt > 1 else str(stream.state)


def speed(stream: StreamProgress) -> str:
    """Rows and bytes a second since the attempt began."""
    rows, size = stream.rows_per_second or 0.0, stream.bytes_per_second or 0.0
    return f"{rows:,.0f} rows/s, {size / 1e6:,.1f} MB/s"


def told_left(stream: StreamProgress) -> str:
    """How long it takes by the estimate, to the second; empty without one."""
    left = stream.seconds_left
    if left is None:
        return ""
    return f"{left:.0f} s" if left < 60 else quantities.took(left)


def last_line(run: Run) -> str:
    """The run before, for whoever finds nothing running."""
    at = iso((run.completed_at or run.started_at).replace(microsecond=0))
    return f"last run: {run.connector} {quantities.ended(run)} ({at})"
