"""Atlas beside what a path is held against: ratios of medians in one round, and whether bars are reached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.contenders import CONTENDERS
from benchmarks.paths import EXACTNESS_AT_MOST, Path
from benchmarks.runs import Result

ATLAS, LIMIT, BY_HAND = "atlas", "limit", "by hand"
_NO_PEERS = frozenset(contender.name for contender in CONTENDERS)
WORSE_FACTOR = 1.10
"""How much a ratio to a limit may grow over the published one."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Atlas beside one other on one path: median and least wall seconds, and what is wanted of the ratio."""

    path: str
    against: str
    rows: int
    repeats: int
    atlas_seconds: float
    their_seconds: float
    atlas_least: float
    their_least: float
    at_most: float | None = None
    ahead: float | None = None

    @property
    def is_peer(self) -> bool:
        return is_peer(self.against)

    @property
    def ratio(self) -> float:
        """Atlas's time in theirs, as bars have it: to a limit; of a peer's time in ours."""
        if self.is_peer:
            return self.their_seconds / self.atlas_seconds
        return self.atlas_seconds / self.their_seconds

    @property
    def reached(self) -> bool | None:
        """None where there is no bar."""
        if self.at_most is not None:
            return self.ratio <= self.at_most
        return None if self.ahead is None else self.ratio >= self.ahead


def is_peer(contender: str) -> bool:
    """Whether it is a program of others, that copies what Atlas does."""
    return contender not in _NO_PEERS


def standings(results: Sequence[Result], paths: Iterable[Path]) -> list[Standing]:
    """Atlas beside each other contender, on each path and at each size where both ran."""
    found = []
    for path in paths:
        for rows in sorted({result.rows for result in results}):
            here = [r for r in results if (r.path, r.rows) == (path.name, rows) and not r.error]
            ours = [r.wall_seconds for r in here if r.contender == ATLAS]
            for other in dict.fromkeys(r.contender for r in here if r.contender != ATLAS):
                theirs = [r.wall_seconds for r in here if r.contender == other]
                if ours and median(theirs):
                    at_most, ahead = _wanted(path, other)
                    found.append(
                        Standing(
                            path.name, other, rows, min(len(ours), len(theirs)),
                            median(ours), median(theirs), min(ours), min(theirs), at_most, ahead,
                        )
                    )  # fmt: skip
    return found


def worse(now: Iterable[Standing], published: Iterable[Standing]) -> list[str]:
    """One line for each limit that Atlas is further from than was published, at the same size.

    By the medians and by the fastest runs: a noisy minute seldom spoils both.
    """
    before = {(s.path, s.rows): s for s in published if s.against == LIMIT}
    return [
        f"{s.path}: {s.ratio:.2f} x its limit at {s.rows:,} rows, published was {was.ratio:.2f} x"
        for s in now
        if s.against == LIMIT
        and (was := before.get((s.path, s.rows)))
        and s.ratio > was.ratio * WORSE_FACTOR
        and s.atlas_least / s.their_least > was.atlas_least / was.their_least * WORSE_FACTOR
    ]


def _wanted(path: Path, other: str) -> tuple[float | None, float | None]:
    if other == BY_HAND:
        return EXACTNESS_AT_MOST, None
    if path.bar is None:
        return None, None
    if other == LIMIT:
        return path.bar.at_most, None
    return (None, path.bar.ahead) if is_peer(other) else (None, None)
