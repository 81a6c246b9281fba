"""What one call measures: the quick rounds, the full ones, or one of your own."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.paths import PATHS, Path
from benchmarks.peers import PEERS
from benchmarks.runs import Round

_WITH_BAR = tuple(path for path in PATHS if path.bar)
_API = tuple(path for path in _WITH_BAR if path.source.name == "http")
_TABLES = tuple(path for path in _WITH_BAR if path not in _API)
_LINES = tuple(path for path in PATHS if path.table.name == "lineitem")
_MEMORY = tuple(path for path in PATHS if path.load == "merge" or (path.bar and path.load == "append"))


EVERYBODY: tuple[Contender, ...] = (*CONTENDERS, *PEERS)


def called(*names: str) -> tuple[Contender, ...]:
    """The contenders of these names."""
    return tuple(contender for contender in EVERYBODY if contender.name in names)


def matching(globs: Sequence[str], paths: Sequence[Path] = PATHS) -> tuple[Path, ...]:
    """The paths whose names match one of these."""
    return tuple(path for path in paths if any(fnmatchcase(path.name, glob) for glob in globs))


_SMALL = Round(300_000, 3, _WITH_BAR, called("atlas", "limit"))
# Two million rows take some of them minutes; those that are slow even so run once.
BESIDE_PEERS = (
    Round(
        500_000, 3, _WITH_BAR,
        called("atlas", "limit", "by hand", "ingestr", "sling", "connectorx", "duckdb scanner"),
        once=called("dlt", "pandas"),
    ),
)  # fmt: skip
QUICK = (Round(100_000, 1, _WITH_BAR, called("atlas")), _SMALL)
FULL = (
    Round(2_000_000, 5, _TABLES, called("atlas", "limit", "by hand")),
    Round(1_000_000, 5, _API, called("atlas", "limit")),
    *BESIDE_PEERS,
    Round(2_000_000, 3, matching(["*:id"]), called("atlas", "one commit")),
    Round(2_000_000, 3, _LINES, called("atlas", "limit")),
    _SMALL,  # what the quick rounds are compared with
    Round(100_000, 1, _MEMORY, called("atlas")),
    Round(5_000_000, 1, _MEMORY, called("atlas")),
)
