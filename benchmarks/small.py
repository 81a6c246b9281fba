"""Syncs that find nothing new, one alone and a hundred in one process: `python -m benchmarks.small`.

Each connector reads a thousand rows of the wide table by its timestamp, and has loaded all of them before.
Beside it stands the floor: a process that imports the same drivers, connects nowhere and ends. Python's
compiled files are there, as an installer or a first run leaves them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.servers import Unavailable

from benchmarks import machine
from benchmarks.ends import (
    Destination,
    DuckDBDestination,
    End,
    MySQLSource,
    ParquetDestination,
    Place,
    PostgresDestination,
    PostgresSource,
    Source,
    SQLiteSource,
)
from benchmarks.measure import Command, Measured, measure
from benchmarks.wide import WIDE

_ROWS = 1000
_TIMEOUT_SECONDS = 600
_COMPILED = {"PYTHONDONTWRITEBYTECODE": ""}
_PASSWORDS = {"source": "ATLAS_SMALL_SOURCE_PASSWORD", "destination": "ATLAS_SMALL_DESTINATION_PASSWORD"}


@dataclass(frozen=True, slots=True)
class Pair:
    """One source and one destination, and the packages that a process needs for the two."""

    source: Source
    destination: Destination
    drivers: str

    @property
    def name(self) -> str:
        return f"{self.source.name}->{self.destination.name}"


PAIRS = (
    Pair(PostgresSource(), DuckDBDestination(), "psycopg, duckdb, pyarrow, numpy"),
    Pair(PostgresSource(), PostgresDestination(), "psycopg, pyarrow, numpy"),
    Pair(SQLiteSource(), DuckDBDestination(), "adbc_driver_sqlite.dbapi, duckdb, pyarrow, numpy"),
    Pair(MySQLSource(), ParquetDestination(), "pymysql, pyarrow.parquet, numpy"),
)


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with as many connectors as are wanted, each synced once."""

    folder: Path
    environment: dict[str, str]

    def atlas(self, *arguments: str) -> Measured:
        """`atlas ARGUMENTS`, measured. Raises RuntimeError where it does not end with 0."""
        command = Command((sys.executable, "-m", "atlas_etl", *arguments), self.folder, self.environment)
        done = measure(command, timeout=_TIMEOUT_SECONDS)
        if done.exit_code != 0:
            raise RuntimeError(f"atlas {' '.join(arguments)}: exit {done.exit_code}: {done.stderr}")
        return done


@contextmanager
def project(pair: Pair, connectors: int, place: Place) -> Iterator[Project]:
    """Raises tests.servers.Unavailable."""
    with (
        pair.source.filled(place, _ROWS) as source,
        pair.destination.empty(place) as destination,
        place.scratch() as folder,
    ):
        (folder / "connectors.d").mkdir()
        stream = {**source.stream, "cursor": WIDE.cursor}
        definition = {
            "protocol": source.protocol,
            "connection": _referring(source, "source"),
            "streams": [stream],
        }
        for number in range(connectors):
            text = json.dumps(definition)  # JSON is YAML
            (folder / "connectors.d" / f"shop{number:03}.yaml").write_text(text, encoding="utf-8")
        target = {"protocol": destination.protocol, **_referring(destination, "destination")}
        settings = {"destinations": {"warehouse": target}}
        (folder / "atlas.yaml").write_text(json.dumps(settings), encoding="utf-8")
        environment = _COMPILED | {
            _PASSWORDS[which]: str(end.connection["password"])
            for which, end in (("source", source), ("destination", destination))
            if "password" in end.connection
        }
        made = Project(folder, environment)
        made.atlas("connector", "sync", "--all", "--json")
        yield made


def _referring(end: End, which: str) -> dict[str, object]:
    reference = f"${{env:{_PASSWORDS[which]}}}"
    return {key: reference if key == "password" else value for key, value in end.connection.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each pair whose servers are here; 1 where there is none."""
    options = _parser().parse_args(arguments)
    lines = []
    with Place(seed=1) as place:
        for pair in PAIRS:
            if options.pair and pair.name not in options.pair:
                continue
            try:
                lines.append(_measured(pair, options.connectors, options.repeats, place))
            except Unavailable as missing:
                sys.stderr.write(f"skipped {pair.name}: {missing}\n")
    many = f"{options.connectors} by --jobs 4"
    sys.stdout.write(
        f"{machine.in_words(machine.facts())}\n\nCPU (wall) seconds, medians of {options.repeats}:\n\n"
        f"| path | drivers alone | one | {many} |\n|---|---:|---:|---:|\n{''.join(lines)}"
    )
    return 0 if lines else 1


def _measured(pair: Pair, connectors: int, repeats: int, place: Place) -> str:
    floors, alone, together = [], [], []
    with project(pair, 1, place) as one:
        for _ in range(repeats):
            floor = Command((sys.executable, "-c", f"import {pair.drivers}"), one.folder, _COMPILED)
            floors.append(measure(floor, timeout=_TIMEOUT_SECONDS))
            alone.append(one.atlas("connector", "sync", "shop000"))
    with project(pair, connectors, place) as many:
        for _ in range(repeats):
            together.append(many.atlas("connector", "sync", "--all", "--jobs", "4", "--json"))
    line = f"| {pair.name} | {' | '.join(map(_median, (floors, alone, together)))} |\n"
    sys.stderr.write(line)
    return line


def _median(runs: Sequence[Measured]) -> str:
    cpu, wall = median(run.cpu_seconds for run in runs), median(run.wall_seconds for run in runs)
    return f"{cpu:.2f} ({wall:.2f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.small", description="Syncs that find nothing new."
    )
    parser.add_argument("--connectors", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pair", nargs="*", help=", ".join(pair.name for pair in PAIRS))
    return parser


if __name__ == "__main__":
    sys.exit(main())
