"""What one call measures: the quick rounds, the full ones, or one of your own."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.paths import PATHS, Path
from benchmarks.runs import Round

_WITH_BAR = tuple(path for path in PATHS if path.bar)
_LINES = tuple(path for path in PATHS if path.table.name == "lineitem")
_MERGES = tuple(path for path in PATHS if path.load == "merge")


def called(*names: str) -> tuple[Contender, ...]:
    """The contenders of these names."""
    return tuple(contender for contender in CONTENDERS if contender.name in names)


def matching(globs: Sequence[str], paths: Sequence[Path] = PATHS) -> tuple[Path, ...]:
    """The paths whose names match one of these."""
    return tuple(path for path in paths if any(fnmatchcase(path.name, glob) for glob in globs))


_SMALL = Round(300_000, 3, _WITH_BAR, called("atlas", "limit"))
QUICK = (Round(100_000, 1, _WITH_BAR, called("atlas")), _SMALL)
FULL = (
    Round(2_000_000, 5, _WITH_BAR, called("atlas", "limit", "by hand")),
    Round(2_000_000, 3, _LINES, called("atlas", "limit")),
    _SMALL,  # what the quick rounds are compared with
    Round(100_000, 1, _WITH_BAR + _MERGES, called("atlas")),
    Round(5_000_000, 1, _WITH_BAR + _MERGES, called("atlas")),
)
