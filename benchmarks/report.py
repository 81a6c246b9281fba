"""What came out: Markdown tables for people, JSON for programs, and the one thing that is checked, memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import paths
from benchmarks.runs import Result, Size, Skipped

MEGABYTE = 1_000_000
FLAT_FACTOR, FLAT_SLACK_MB, MOST_MB = 1.25, 100, 400


def memory_table(results: Sequence[Result]) -> str:
    """The peak memory of Atlas's process tree, by path and rows."""
    sizes = sorted({result.rows for result in results})
    lines = []
    for name in _names(results):
        peaks = [_peak(results, name, rows) for rows in sizes]
        lines.append([name, *(f"{peak:.0f}" if peak else "" for peak in peaks)])
    return _table(["peak MB", *(_rows(rows) for rows in sizes)], lines)


def time_table(results: Sequence[Result], size: Size) -> str:
    """Medians at one size: Atlas and each other contender, and the ratios of Atlas to it."""
    others = [name for name in dict.fromkeys(result.contender for result in results) if name != "atlas"]
    header = ["path", "wall s", "CPU s", "rows/s"]
    for other in others:
        header += [f"{other} wall s", f"{other} CPU s", "wall x", "CPU x"]
    lines = []
    for name in _names(results):
        atlas = _medians(results, name, "atlas", size.rows)
        if atlas is None:
            continue
        wall, cpu = atlas
        line = [name, f"{wall:.2f}", f"{cpu:.2f}", f"{size.rows / wall:,.0f}"]
        for other in others:
            theirs = _medians(results, name, other, size.rows)
            if theirs is None:
                line += [""] * 4
                continue
            line += [
                f"{theirs[0]:.2f}",
                f"{theirs[1]:.2f}",
                f"{wall / theirs[0]:.2f}" if theirs[0] else "",
                f"{cpu / theirs[1]:.2f}" if theirs[1] else "",
            ]
        lines.append(line)
    return _table(header, lines)


def limits_table(results: Sequence[Result]) -> str:
    """What each path's limit does."""
    words = {path.name: path.limit.words for path in paths.PATHS if path.limit}
    lines = [[name, words[name]] for name in _names(results) if name in words]
    return _table(["path", "limit"], lines) if lines else "no limits"


def failures(results: Iterable[Result]) -> list[str]:
    """One line for each run that failed or lost rows."""
    return [
        f"{result.path} by {result.contender} at {_rows(result.rows)}: {result.error}"
        for result in results
        if result.error
    ]


def not_flat(results: Sequence[Result]) -> list[str]:
    """One line for each path whose memory grows with its rows, or is more than any path may need."""
    found = []
    for name in _names(results):
        peaks = {rows: peak for rows in {r.rows for r in results} if (peak := _peak(results, name, rows))}
        if not peaks:
            continue
        least, most = peaks[min(peaks)], peaks[max(peaks)]
        if most > FLAT_FACTOR * least + FLAT_SLACK_MB:
            found.append(
                f"{name}: {least:.0f} MB at {_rows(min(peaks))}, {most:.0f} MB at {_rows(max(peaks))}"
            )
        if most > MOST_MB:
            found.append(f"{name}: {most:.0f} MB at {_rows(max(peaks))}, more than {MOST_MB}")
    return found


def write_json(
    file: Path,
    facts: dict[str, object],
    sizes: Sequence[Size],
    results: Sequence[Result],
    skipped: Sequence[Skipped],
) -> None:
    """Every single run, with the machine's facts."""
    document = {
        "machine": facts,
        "sizes": [asdict(size) for size in sizes],
        "results": [asdict(result) for result in results],
        "skipped": [asdict(entry) for entry in skipped],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _names(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.path for result in results))


def _peak(results: Iterable[Result], name: str, rows: int) -> float | None:
    """In MB, the most of all repeats."""
    peaks = [r.peak_bytes for r in _good(results, name, "atlas", rows)]
    return max(peaks) / MEGABYTE if peaks else None


def _medians(results: Iterable[Result], name: str, contender: str, rows: int) -> tuple[float, float] | None:
    good = _good(results, name, contender, rows)
    if not good:
        return None
    return median(r.wall_seconds for r in good), median(r.cpu_seconds for r in good)


def _good(results: Iterable[Result], name: str, contender: str, rows: int) -> list[Result]:
    return [
        result
        for result in results
        if (result.path, result.contender, result.rows) == (name, contender, rows) and not result.error
    ]


def _rows(rows: int) -> str:
    if rows % 1_000_000 == 0:
        return f"{rows // 1_000_000}M"
    return f"{rows // 1_000}k" if rows % 1_000 == 0 else str(rows)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[n]) for line in (header, *lines)) for n in range(len(header))]

    def row(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = (
        "|" + "|".join("-" * (w + 2) if n == 0 else "-" * (w + 1) + ":" for n, w in enumerate(widths)) + "|"
    )
    return "\n".join([row(header), rule, *map(row, lines)])
