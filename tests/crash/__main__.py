"""The long version: `python -m tests.crash --kills 200` kills so many syncs into every destination.

Half of them are killed at times spread over their load and over their whole run, as measured; half at named
points: both sides of everything that commits, then before the steps of a load, evenly chosen. A sync that
ends before its kill is not one of them. The report goes to standard output as Markdown, and with
`--json FILE` to a file. The exit code is 1 where anything was lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.crash.harness import (
    AFTER,
    BEFORE,
    ENDED,
    Disturbance,
    Harness,
    Moment,
    around_commits,
    every_step,
)
from tests.crash.sources import MySQLSource, PostgresSource, Source, SqliteSource
from tests.crash.targets import EMBEDDED, SERVERS, MySQLTarget, PostgresTarget, Target, embedded
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe

ROWS, BURST, TOGETHER = 5000, 2000, 10
# A burst is committed in several windows, of a batch each.
WINDOW, BATCH_BYTES = {"rows": 200}, "64KiB"


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one destination."""

    destination: str
    disturbed: int
    killed_before: int
    killed_after: int
    ended: int
    comparisons: int
    rows_compared: int
    lost: int
    doubled: int
    findings: list[str]
    seconds: int


def disturbances(kills: int, points: Counter[str], dice: random.Random) -> list[Disturbance]:
    """So many kills in a random order."""
    in_load, anywhere = kills * 4 // 10, kills // 10
    chosen: list[Disturbance] = [Moment((n + dice.random()) / in_load, True) for n in range(in_load)]
    chosen += [Moment((n + dice.random()) / anywhere, False) for n in range(anywhere)]
    left = kills - len(chosen)
    commits, steps = around_commits(points), every_step(points)
    chosen += dice.sample(commits, min(left, len(commits)))
    while (left := kills - len(chosen)) > 0:
        chosen += dice.sample(steps, min(left, len(steps)))
    dice.shuffle(chosen)
    return chosen


class Servers:
    """The servers that are needed, started once, and empty databases in them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._postgres: ServerAddress | None = None
        self._mysql: ServerAddress | None = None

    @contextmanager
    def postgres(self) -> Iterator[ServerAddress]:
        self._postgres = self._postgres or self._stack.enter_context(postgres_recipe.serve())
        with postgres_recipe.fresh_database(self._postgres) as address:
            yield address

    @contextmanager
    def mysql(self) -> Iterator[ServerAddress]:
        self._mysql = self._mysql or self._stack.enter_context(mysql_recipe.serve())
        with mysql_recipe.fresh_database(self._mysql) as address:
            yield address

    def source(self, protocol: str, folder: Path, stack: ExitStack) -> Source:
        match protocol:
            case "postgresql":
                return PostgresSource(stack.enter_context(self.postgres()))
            case "mysql":
                return MySQLSource(stack.enter_context(self.mysql()))
            case _:
                return SqliteSource(folder)

    def target(self, protocol: str, folder: Path, stack: ExitStack) -> Target:
        match protocol:
            case "postgresql":
                return PostgresTarget(stack.enter_context(self.postgres()))
            case "mysql":
                return MySQLTarget(stack.enter_context(self.mysql()))
            case _:
                return embedded(protocol, folder)


def run(servers: Servers, source: str, destination: str, kills: int, seed: int) -> Line:
    """All kills of one destination."""
    began = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="atlas-crash-")))
        project = Project(folder / "project", folder / "home")
        project.folder.mkdir()
        project.home.mkdir()
        crash = Harness(
            project,
            servers.source(source, folder, stack),
            servers.target(destination, folder, stack),
            seed=seed,
            window=WINDOW,
            batch_bytes=BATCH_BYTES,
        )
        crash.source.add(ROWS, crash.dice)
        crash.finish()
        crash.source.add(BURST, crash.dice)
        points, report = crash.points(), crash.report
        while report.kills < kills and not report.findings:
            plan = disturbances(max(kills - report.kills, TOGETHER), points, crash.dice)
            crash.campaign(plan, burst=BURST, together=TOGETHER)
    return Line(
        destination,
        report.runs.total(),
        report.runs[BEFORE],
        report.runs[AFTER],
        report.runs[ENDED],
        report.comparisons,
        report.rows,
        report.lost,
        report.doubled,
        report.findings,
        round(time.monotonic() - began),
    )


def markdown(lines: Sequence[Line]) -> str:
    """The lines as a table."""
    head = (
        "destination", "syncs disturbed", "killed before a commit", "killed after a commit",
        "ended before the kill", "comparisons", "rows at the last", "rows lost", "rows doubled", "seconds",
    )  # fmt: skip
    rows = [[str(value) for name, value in asdict(line).items() if name != "findings"] for line in lines]
    table = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def main() -> int:
    """The exit code."""
    known = (*EMBEDDED, *SERVERS)
    options = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    options.add_argument("--kills", type=int, default=200, help="for each destination")
    options.add_argument("--destinations", nargs="+", choices=known, default=known)
    options.add_argument("--source", choices=("postgresql", "mysql", "sqlite"), default="postgresql")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options.add_argument("--json", type=Path, help="where the report goes, too")
    given = options.parse_args()
    lines = []
    with ExitStack() as stack:
        servers = Servers(stack)
        for destination in given.destinations:
            lines.append(run(servers, given.source, destination, given.kills, given.seed))
            print(f"{destination}: {lines[-1]}", file=sys.stderr, flush=True)
    print(markdown(lines))
    print(f"\nSource {given.source}, seed {given.seed}.")
    if given.json is not None:
        report = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "source": given.source,
            "kills": given.kills,
            "seed": given.seed,
            "machine": {
                "cpus": os.cpu_count(),
                "system": platform.platform(),
                "python": platform.python_version(),
            },
            "destinations": [asdict(line) for line in lines],
        }
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(line.findings for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
