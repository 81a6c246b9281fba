"""The JSON of `atlas watch`: how it is at one moment."""

from __future__ import annotations

from atlas_etl.model import LiveRun, RunProgress, StreamProgress
from atlas_etl.scheduler.watching import Seen


def document(seen: Seen) -> dict[str, object]:
    """WATCH, as docs/guides/watch.md has it."""
    return {
        "at": seen.at,
        "daemons": [
            {"host": daemon.host, "pid": daemon.pid, "since": daemon.since} for daemon in seen.daemons
        ],
        "running": [_run(live) for live in seen.running],
        "next": [{"connector": slot.connector, "scheduled_at": slot.scheduled_at} for slot in seen.coming],
    }


def _run(live: LiveRun) -> dict[str, object]:
    run = live.run
    return {
        "run_id": run.run_id,
        "connector": run.connector,
        "triggered_by": run.triggered_by,
        "scheduled_at": run.scheduled_at,
        "started_at": run.started_at,
        "destination": run.destination,
        "host": live.host,
        "pid": live.pid,
        "silent_seconds": round(live.silent_seconds, 1),
        "progress": None if live.progress is None else _progress(live.progress),
    }


def _progress(progress: RunProgress) -> dict[str, object]:
    return {
        "streams_total": progress.total,
        "streams_over": progress.over,
        "streams": [_stream(stream) for stream in progress.streams],
        "next_streams": list(progress.waiting),
        "next_connectors": list(progress.then),
    }


def _stream(stream: StreamProgress) -> dict[str, object]:
    return {
        "name": stream.name,
        "state": stream.state,
        "table": stream.table,
        "rows": stream.rows,
        "bytes": stream.bytes,
        "estimated_rows": stream.estimated_rows,
        "rows_committed": stream.rows_committed,
        "keys_compared": stream.keys,
        "rows_per_second": _rounded(stream.rows_per_second),
        "bytes_per_second": _rounded(stream.bytes_per_second),
        "seconds_left": _rounded(stream.seconds_left),
        "slower_side": stream.slower,
        "attempt": stream.attempt,
        "seconds": _rounded(stream.seconds),
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 1)
