"""The runs of one benchmark: every path by every contender, interleaved so that noise meets all alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import duckdb
import psycopg
from tests.servers import Unavailable

from benchmarks.contenders import Contender
from benchmarks.ends import End, Place, Setting, Source
from benchmarks.measure import Measured, measure
from benchmarks.paths import Path

_TIMEOUT_SECONDS = 1800
_NOTHING = Measured(0, 0.0, 0.0, 0, "", "")


class WrongResultError(Exception):
    """A contender failed, or ended well and did not do the work."""


@dataclass(frozen=True, slots=True)
class Round:
    """How many rows, how often, on which paths and by whom; by some, who are slow, only `once`."""

    rows: int
    repeats: int
    paths: tuple[Path, ...]
    contenders: tuple[Contender, ...]
    once: tuple[Contender, ...] = ()


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

    @property
    def key(self) -> RunKey:
        return self.path, self.contender, self.rows, self.repeat


RunKey = tuple[str, str, int, int]
"""Path, contender, rows, repeat."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """Paths or contenders that cannot be had here."""

    names: tuple[str, ...]
    reason: str


def run_all(
    rounds: Sequence[Round], place: Place, done: Collection[RunKey] = ()
) -> Iterator[Result | Skipped]:
    """Run everything but what was `done`, source by source; only one source holds rows at a time."""
    missing: dict[str, str] = {}
    for wanted in rounds:
        for source in dict.fromkeys(path.source for path in wanted.paths):
            yield from _of_source(source, wanted, place, done, missing)
    for reason in dict.fromkeys(missing.values()):
        yield Skipped(tuple(name for name, why in missing.items() if why == reason), reason)


def _of_source(
    source: Source, wanted: Round, place: Place, done: Collection[RunKey], missing: dict[str, str]
) -> Iterator[Result]:
    paths = [path for path in wanted.paths if path.source is source and path.name not in missing]
    turns = [
        (repeat, path, contender)
        for repeat in range(wanted.repeats)
        for path in paths
        for contender in (*wanted.contenders, *(wanted.once if repeat == 0 else ()))
        if (path.name, contender.name, wanted.rows, repeat) not in done
    ]
    if not turns:
        return
    try:
        with source.filled(place, wanted.rows) as filled:
            for repeat, path, contender in turns:
                if path.name in missing:
                    continue
                try:
                    result = _one(path, contender, filled, wanted.rows, repeat, place)
                except Unavailable as unavailable:
                    missing[path.name] = str(unavailable)
                    continue
                if result is not None:
                    yield result
    except Unavailable as unavailable:
        missing |= {path.name: str(unavailable) for path in paths}


def _one(
    path: Path, contender: Contender, source: End, rows: int, repeat: int, place: Place
) -> Result | None:
    with place.scratch() as folder, path.destination.empty(place) as destination:
        setting = Setting(place, path.table, rows, source, destination, folder)
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
            if contender.copies(path):
                _complete(path, setting)
        except (OSError, duckdb.Error, psycopg.Error, WrongResultError) as failure:
            error = str(failure) or type(failure).__name__
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


def _complete(path: Path, setting: Setting) -> None:
    found = path.destination.rows(setting.destination, path.table.name)
    if found != setting.rows:
        raise WrongResultError(f"{found:,} rows at the destination, not {setting.rows:,}")
    if not path.source.arrived(setting):
        raise WrongResultError("the rows that changed are not at the destination")


def _succeeded(measured: Measured) -> None:
    if measured.exit_code != 0:
        said = " ".join(measured.stderr.split())[-300:] or "nothing on stderr"
        raise WrongResultError(f"exit {measured.exit_code}: {said}")
