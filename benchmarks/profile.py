"""Where Atlas's time goes on a path, by file: `python -m benchmarks.profile PATH...`

py-spy looks 200 times a second at every thread that runs, into the libraries' own functions, too. A look
counts for the import that it is in, or else for the file of ours that was called last. Looking slows the
process, most of all while it starts.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt
from tests.servers import Unavailable

from benchmarks.contenders import Atlas
from benchmarks.ends import Place, Setting
from benchmarks.environments import Environment
from benchmarks.measure import Command, measure
from benchmarks.paths import PATHS
from benchmarks.paths import Path as Route
from benchmarks.rounds import matching

ROWS = 1_000_000
_PY_SPY = Environment("py-spy", ("py-spy==0.4.1",))
_OURS = re.compile(r"\(atlas_etl/([\w/]+\.py)")
_LEAST_SHARE = 0.03
_ATTEMPTS = 3  # py-spy 0.4.1 fails now and then where the process ends while it looks
IMPORTS, OTHERS = "imports", "no file of ours"


def main(arguments: Sequence[str]) -> int:
    """Print the table for the paths of these names. 1 where py-spy cannot be had."""
    with Place(seed=1) as place:
        try:
            sys.stdout.write(f"{table(matching(arguments), place, ROWS)}\n")
        except Unavailable as reason:
            sys.stderr.write(f"{reason}\n")
            return 1
    return 0


def published(place: Place) -> str:
    """What the page shows: the first loads that have a bar."""
    try:
        return table([path for path in PATHS if path.bar and path.load == "append"], place, ROWS)
    except Unavailable as reason:
        return f"Could not be had: {reason}"


def table(paths: Iterable[Route], place: Place, rows: int) -> str:
    """One line for each path, the files with the largest shares first. Raises tests.servers.Unavailable."""
    _PY_SPY.install()
    lines = ["| path | where the looks were |", "|---|---|"]
    for path in paths:
        lines.append(f"| {path.name} | {_told(path, place, rows)} |")
    return "\n".join(lines)


def _told(path: Route, place: Place, rows: int) -> str:
    looking = Retrying(
        retry=retry_if_exception_type(Unavailable), stop=stop_after_attempt(_ATTEMPTS), reraise=True
    )
    try:
        found = shares(looking(_looks, path, place, rows))
    except Unavailable as reason:
        return f"could not be had: {reason}"
    return ", ".join(f"{file} {share:.0%}" for file, share in found if share >= _LEAST_SHARE)


def shares(looks: Iterable[str]) -> list[tuple[str, float]]:
    """Files and their shares of the looks; in py-spy's raw form these are frames, the outermost first."""
    counted: Counter[str] = Counter()
    for look in looks:
        stack, _, times = look.rpartition(" ")
        files = _OURS.findall(stack)
        counted[IMPORTS if "_find_and_load" in stack else files[-1] if files else OTHERS] += int(times)
    return [(file, times / counted.total()) for file, times in counted.most_common()]


def _looks(path: Route, place: Place, rows: int) -> list[str]:
    atlas = Atlas()
    with (
        path.source.filled(place, rows) as source,
        path.destination.empty(place) as destination,
        place.scratch() as folder,
    ):
        setting = Setting(place, path.table, rows, source, destination, folder)
        for before in atlas.prepare(path, setting):
            measure(before, timeout=600)
        sync = atlas.command(path, setting)
        raw = folder / "looks.txt"
        looking = (
            str(_PY_SPY.programs / "py-spy"), "record", "--native", "--threads", "--rate", "200",
            "--format", "raw", "--output", str(raw), "--",
        )  # fmt: skip
        done = measure(Command((*looking, *sync.arguments), folder, sync.environment), timeout=600)
        if done.exit_code != 0 or not raw.exists():
            raise Unavailable(f"py-spy: {' '.join(done.stderr.split())[-300:]}")
        return _lines(raw)


def _lines(raw: Path) -> list[str]:
    return raw.read_text(encoding="utf-8", errors="replace").splitlines()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["postgres->parquet"]))
