"""Four streams of one connector, one after another and side by side: `python -m benchmarks.streams`.

Each is a first load of the whole wide table, into an empty destination.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from statistics import median

from tests.servers import Unavailable

from benchmarks import machine
from benchmarks.ends import Destination, DuckDBDestination, End, ParquetDestination, Place, PostgresSource
from benchmarks.measure import Command, Measured, measure

_STREAMS, _JOBS = 4, (1, 2, 4)
_TIMEOUT_SECONDS = 3600
_PASSWORD = "ATLAS_STREAMS_PASSWORD"
_DESTINATIONS: tuple[Destination, ...] = (DuckDBDestination(), ParquetDestination())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, interleaved, and print medians; 1 without PostgreSQL."""
    options = _parser().parse_args(arguments)
    lines = []
    with Place(seed=1) as place:
        try:
            with PostgresSource().filled(place, options.rows) as source:
                for destination in _DESTINATIONS:
                    runs = [
                        [_run(source, destination, place, jobs) for jobs in _JOBS]
                        for _ in range(options.repeats)
                    ]
                    cells = " | ".join(map(_cell, zip(*runs, strict=True)))
                    lines.append(f"| postgres->{destination.name} | {cells} |\n")
        except Unavailable as missing:
            sys.stderr.write(f"skipped: {missing}\n")
            return 1
    columns = " | ".join(f"--jobs {jobs}" for jobs in _JOBS)
    sys.stdout.write(
        f"{machine.in_words(machine.facts())}\n\n{_STREAMS} streams of {options.rows:,} rows: "
        f"CPU (wall) seconds, medians of {options.repeats}, and peak memory\n\n"
        f"| path | {columns} |\n|---|{'---:|' * len(_JOBS)}\n{''.join(lines)}"
    )
    return 0


def _cell(runs: Sequence[Measured]) -> str:
    cpu, wall = median(run.cpu_seconds for run in runs), median(run.wall_seconds for run in runs)
    return f"{cpu:.2f} ({wall:.2f}), {max(run.peak_bytes for run in runs) / 1e6:.0f} MB"


def _run(source: End, destination: Destination, place: Place, jobs: int) -> Measured:
    with destination.empty(place) as target, place.scratch() as folder:
        (folder / "connectors.d").mkdir()
        definition = {
            "protocol": source.protocol,
            "connection": {**source.connection, "password": f"${{env:{_PASSWORD}}}"},
            "streams": [{**source.stream, "name": f"wide{number}"} for number in range(_STREAMS)],
        }
        # JSON is YAML.
        (folder / "connectors.d" / "shop.yaml").write_text(json.dumps(definition), encoding="utf-8")
        warehouse = {"protocol": target.protocol, **target.connection}
        settings = json.dumps({"destinations": {"warehouse": warehouse}})
        (folder / "atlas.yaml").write_text(settings, encoding="utf-8")
        sync = (sys.executable, "-m", "atlas_etl", "-q", "connector", "sync", "shop", "--jobs", str(jobs))
        command = Command(sync, folder, {_PASSWORD: str(source.connection["password"])})
        done = measure(command, timeout=_TIMEOUT_SECONDS)
    if done.exit_code != 0:
        raise RuntimeError(f"exit {done.exit_code}: {done.stderr}")
    sys.stderr.write(
        f"{destination.name} --jobs {jobs}: {done.cpu_seconds:.2f} s CPU, {done.wall_seconds:.2f} s\n"
    )
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="of each stream (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="default %(default)s")
    return parser


if __name__ == "__main__":
    sys.exit(main())
