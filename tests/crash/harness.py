"""Two streams under writers: their syncs are killed again and again, then one ends and rows are compared."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from atlas_etl.model import Disposition
from tests import forks
from tests.crash.rows import CURSOR, STREAMS, Difference, Row, compare
from tests.crash.sabotage import Plan, Point
from tests.crash.sources import Source
from tests.crash.targets import CONNECTOR, Target
from tests.project import Finished, Project

ROOT = Path(__file__).parents[2]
SYNC = ("connector", "sync", CONNECTOR)
DEADLINE = 100.0  # for one sync, on the slowest machine


def sabotaged(project: Project, plan: Plan, *command: str, **more: str) -> Finished:
    """A command under this plan, to its end; its environment has `more`."""
    done = forks.runner(more)(
        [plan.text(), *command],
        cwd=project.folder,
        env=project.environment({"PYTHONPATH": str(ROOT), **more}),
        given="",
        timeout=DEADLINE,
        module="tests.crash.sabotage",
    )
    return Finished(done.args, done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a sync that nobody disturbs takes: from its start, and from where its stream begins."""

    run: float
    load: float


# What becomes of a sync that is disturbed.
BEFORE, AFTER, ENDED = "killed before a commit", "killed after a commit", "ended before it was killed"
UNMEASURED = Timing(0, 0)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a sync is killed: at this share of the run's measured time, or of its load's."""

    share: float
    in_load: bool

    def __str__(self) -> str:
        return f"at {self.share:.0%} of the {'load' if self.in_load else 'run'}"


Disturbance = Moment | Point


@dataclass(slots=True)
class Report:
    """What was done to one stream, and what came of it."""

    runs: Counter[str] = field(default_factory=Counter)  # by what became of each disturbed sync
    comparisons: int = 0
    rows: int = 0  # compared the last time
    findings: list[str] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0

    @property
    def kills(self) -> int:
        return self.runs[BEFORE] + self.runs[AFTER]


class Harness:
    """A project with one connector, from a source into a target."""

    def __init__(
        self, project: Project, source: Source, target: Target, *, seed: int, **keys: object
    ) -> None:
        self.project = project
        self.source = source
        self.target = target
        self.report = Report()
        self.dice = random.Random(seed)
        self.attempts = 2  # of a stream in one sync
        self.keys = keys  # more of the connector's definition
        self.deletes: dict[str, object] | None = None  # of the merged stream
        self.define()

    def define(
        self, *, source: dict[str, object] | None = None, destination: dict[str, object] | None = None
    ) -> None:
        """Write atlas.yaml and the connector; either end's connection may lead through something."""
        target = {"protocol": self.target.protocol, **(destination or self.target.connection())}
        self.project.write("atlas.yaml", json.dumps({"destinations": {"d": target}}))
        streams = [
            {"table": table, "cursor": CURSOR, "disposition": disposition.value}
            for table, disposition in STREAMS.items()
        ]
        if self.deletes is not None:
            streams = [
                {**stream, "deletes": self.deletes} if stream["disposition"] == Disposition.MERGE else stream
                for stream in streams
            ]
        if self.target.database is not None:
            streams = [{**stream, "into": f"{self.target.database}.{stream['table']}"} for stream in streams]
        definition = {
            "protocol": self.source.protocol,
            "connection": source or self.source.connection(),
            "streams": streams,
            "destination": "d",
            "retry": {"attempts": self.attempts, "first_wait": "10ms"},
            **self.keys,
        }
        self.project.write(f"connectors.d/{CONNECTOR}.yaml", json.dumps(definition))

    @contextmanager
    def being_written(self) -> Iterator[None]:
        """The source's writers are at work inside the block."""
        with self.source.being_written(self.dice.randrange(2**32)):
            yield

    def sync(self, plan: Plan | None = None, command: Sequence[str] = SYNC) -> Finished:
        """A sync, or another command, that ends by itself, under this plan if there is one."""
        if plan is None:
            return self.project.atlas(*command, timeout=DEADLINE)
        return sabotaged(self.project, plan, *command)

    def start(self, plan: Plan | None = None, command: Sequence[str] = SYNC) -> subprocess.Popen[str]:
        """A sync in a session of its own, to be disturbed; the caller ends it."""
        if plan is None:
            return self.project.start(*command)
        return subprocess.Popen(
            [sys.executable, "-m", "tests.crash.sabotage", plan.text(), *command],
            cwd=self.project.folder,
            env=self.project.environment({"PYTHONPATH": str(ROOT)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )

    def measure(self) -> Timing:
        """The times of one sync that nobody disturbs."""
        began = time.monotonic()
        process = self.start()
        try:
            said = _until_stream_begins(process)
            load_began = time.monotonic()
            _, rest = process.communicate(timeout=DEADLINE)
        finally:
            end(process)
        assert process.returncode == 0, said + rest
        ended = time.monotonic()
        return Timing(ended - began, ended - load_began)

    def points(self) -> Counter[str]:
        """How many points of each kind a sync of now has."""
        counts = self.project.folder / "points.json"
        done = self.sync(Plan(self.target.protocol, counts=str(counts)))
        assert done.returncode == 0, done.stderr
        return Counter(json.loads(counts.read_text()))

    def disturb(self, how: Disturbance, timing: Timing = UNMEASURED, *, broken: str | None = None) -> str:
        """Begin a sync and kill it; gives back, and counts, what became of it."""
        loads = self.target.loads()
        if isinstance(how, Point):
            done = self.sync(Plan(self.target.protocol, how, broken=broken))
        else:
            done = self._killed(how, timing)
        assert done.returncode in (0, -signal.SIGKILL), f"{how}: {done.returncode}\n{done.stderr}"
        became = ENDED
        if done.returncode:
            moved = self.target.loads() > loads
            became = AFTER if moved else BEFORE
        self.report.runs[became] += 1
        self._look_for_doubles(how)
        return became

    def _killed(self, when: Moment, timing: Timing) -> Finished:
        process = self.start()
        try:
            said = _until_stream_begins(process) if when.in_load else ""
            with suppress(subprocess.TimeoutExpired):
                process.wait(when.share * (timing.load if when.in_load else timing.run))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, rest = process.communicate(timeout=DEADLINE)
        finally:
            end(process)
        return Finished(process.args, process.returncode, output, said + rest)

    def finish(self) -> Difference:
        """Let a sync end, with nobody writing, and compare both ways."""
        done = self.sync()
        assert done.returncode == 0, done.stderr
        return self.compare()

    def compare(self) -> Difference:
        """Source and destination as they are, both ways."""
        self.report.comparisons += 1
        self.report.rows = 0
        difference = Difference(Counter[Row](), Counter[Row](), Counter[Row]())
        for stream in STREAMS:
            there = self.source.rows(stream)
            self.report.rows += len(there)
            difference += compare(there, self.target.rows(stream))
        self.report.lost += difference.lost.total()
        self.report.doubled += difference.doubled.total()
        if difference:
            self.report.findings.append(str(difference))
        return difference

    def campaign(self, disturbances: Sequence[Disturbance], *, burst: int, together: int) -> Report:
        """Disturb one sync after another, and compare after each `together` of them.

        Each table of the source gets `burst` rows more before each, so that there is something to load.
        """
        for first in range(0, len(disturbances), together):
            with self.being_written():
                self.source.add(burst, self.dice)
                timing = self.measure()
                for how in disturbances[first : first + together]:
                    self.source.add(burst, self.dice)
                    self.disturb(how, timing)
            self.finish()
        return self.report

    def _look_for_doubles(self, how: Disturbance) -> None:
        """A killed sync may leave rows out, and never has any twice: ids are unique at the source."""
        for stream in STREAMS:
            ids = Counter(self.target.ids(stream))
            twice = [row_id for row_id, count in ids.items() if count > 1]
            if twice:
                self.report.doubled += len(twice)
                found = f"{stream}: {len(twice)} rows twice after a kill {how}, such as id {twice[0]}"
                self.report.findings.append(found)


def around_commits(counts: Counter[str]) -> list[Point]:
    """Both sides of everything that commits, in the destination and in the state store."""
    return [
        Point(kind, number, side)
        for kind in ("commit", "state")
        for number in range(1, counts[kind] + 1)
        for side in ("before", "after")
    ]


def every_step(counts: Counter[str]) -> list[Point]:
    """Before each statement, batch, rename, fsync and delete of the destination."""
    return [Point("step", number, "before") for number in range(1, counts["step"] + 1)]


def end(process: subprocess.Popen[str]) -> None:
    """Kill what is left of a sync and give back its pipes."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _until_stream_begins(process: subprocess.Popen[str]) -> str:
    """Wait for the line that says from where a stream is read; gives back what was said so far."""
    assert process.stderr is not None
    said = ""
    while " into " not in said and (line := process.stderr.readline()):
        said += line
    return said
