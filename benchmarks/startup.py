"""How long a command takes to say something: the help and completion, beside other programs' version."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from tests.servers import Unavailable

from benchmarks.environments import Environment

_PEERS = {"dlt": "dlt==1.31.0", "meltano": "meltano==4.4.1"}


@dataclass(frozen=True, slots=True)
class Command:
    """A command line; `name` is what the table calls it."""

    name: str
    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one process."""

    cpu: float
    wall: float


def cost(command: Command) -> Cost:
    """Of one run, whose output nobody sees. Raises CalledProcessError."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    environ = {**os.environ, **command.environ}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(
        command.arguments, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    wall, after = perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def least(commands: Sequence[Command], repeats: int) -> list[Cost]:
    """The least of so many runs, of which each command has one in turn; a first one is not counted."""
    runs = [[cost(command) for command in commands] for _ in range(repeats + 1)][1:]
    return [
        Cost(min(run.cpu for run in each), min(run.wall for run in each)) for each in zip(*runs, strict=True)
    ]


def own_commands(programs: Path) -> list[Command]:
    """Of the `atlas` in this folder."""
    atlas = str(programs / "atlas")
    return [
        Command("python -c pass", (str(programs / "python"), "-c", "pass")),
        Command("atlas --version", (atlas, "--version")),
        Command("atlas --help", (atlas, "--help")),
        Command("atlas connector sync --help", (atlas, "connector", "sync", "--help")),
        *(
            Command(f"{line}<TAB> ({what})", (atlas,), _completing(line))
            for line, what in (
                ("atlas connector s", "a command"),
                ("atlas connector sync --f", "an option"),
                ("atlas connector sync ", "a connector"),
                ("atlas connector sync airports --stream ", "a stream"),
            )
        ),
    ]


def _completing(line: str) -> dict[str, str]:
    """As bash asks a program for what may follow; the last word may be empty."""
    place = len(line.split(" ")) - 1
    return {"_ATLAS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(place)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(prog="benchmarks/startup", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help="of each (default 20)")
    parser.add_argument("--alone", action="store_true", help="without other programs")
    options = parser.parse_args(arguments)
    commands = own_commands(Path(sys.executable).parent)
    for name, requirement in {} if options.alone else _PEERS.items():
        environment = Environment(name, (requirement,))
        try:
            environment.install()
        except Unavailable as missing:
            sys.stderr.write(f"{requirement} is left out: {missing}\n")
            continue
        commands.append(
            Command(f"{name} --version ({requirement})", (str(environment.programs / name), "--version"))
        )
    sys.stdout.write("| command | CPU s | wall s |\n|---|--:|--:|\n")
    for command, found in zip(commands, least(commands, options.repeats), strict=True):
        sys.stdout.write(f"| `{command.name}` | {found.cpu:.3f} | {found.wall:.3f} |\n")


if __name__ == "__main__":
    main()
