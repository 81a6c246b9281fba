"""The runs of one benchmark: every path by every contender, interleaved so that noise meets all alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.servers import Unavailable

from benchmarks.contenders import Contender, WrongResultError
from benchmarks.ends import End, Place, Setting, Source
from benchmarks.measure import Measured, measure
from benchmarks.paths import Path

_TIMEOUT_SECONDS = 1800
_NOTHING = Measured(0, 0.0, 0.0, 0, "", "")


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows, and how often every path is run with them."""

    rows: int
    repeats: int = 1


@dataclass(frozen=True, slots=True)
class Result:
    """One contender's run of one path. `error` says why the numbers mean nothing."""

    path: str
    contender: str
    rows: int
    repeat: int
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """Paths that cannot be run here."""

    paths: tuple[str, ...]
    reason: str


def run_all(
    paths: Sequence[Path], contenders: Sequence[Contender], sizes: Sequence[Size], place: Place
) -> Iterator[Result | Skipped]:
    """Run everything, source by source; only one source holds rows at a time."""
    for source in dict.fromkeys(path.source for path in paths):
        mine = [path for path in paths if path.source is source]
        try:
            yield from _of_source(source, mine, contenders, sizes, place)
        except Unavailable as missing:
            yield Skipped(tuple(path.name for path in mine), str(missing))


def _of_source(
    source: Source,
    paths: Sequence[Path],
    contenders: Sequence[Contender],
    sizes: Sequence[Size],
    place: Place,
) -> Iterator[Result | Skipped]:
    missing: dict[str, str] = {}
    for size in sizes:
        with source.filled(place, size.rows) as filled:
            for repeat in range(size.repeats):
                for path in paths:
                    if path.name in missing:
                        continue
                    try:
                        for contender in contenders:
                            result = _one(path, contender, filled, size.rows, repeat, place)
                            if result is not None:
                                yield result
                    except Unavailable as unavailable:
                        missing[path.name] = str(unavailable)
    for name, reason in missing.items():
        yield Skipped((name,), reason)


def _one(
    path: Path, contender: Contender, source: End, rows: int, repeat: int, place: Place
) -> Result | None:
    with place.scratch() as folder, path.destination.empty(place) as destination:
        setting = Setting(place, rows, source, destination, folder)
        command = contender.command(path, setting)
        if command is None:
            return None
        error = None
        measured = _NOTHING
        try:
            for before in contender.prepare(path, setting):
                _succeeded(measure(before, timeout=_TIMEOUT_SECONDS))
            measured = measure(command, timeout=_TIMEOUT_SECONDS)
            _succeeded(measured)
            contender.check(measured.stdout, rows)
        except (TimeoutError, FileNotFoundError, WrongResultError) as failure:
            error = str(failure)
    return Result(
        path.name,
        contender.name,
        rows,
        repeat,
        measured.wall_seconds,
        measured.cpu_seconds,
        measured.peak_bytes,
        error,
    )


def _succeeded(measured: Measured) -> None:
    if measured.exit_code != 0:
        said = " ".join(measured.stderr.split())[-300:] or "nothing on stderr"
        raise WrongResultError(f"exit {measured.exit_code}: {said}")
