"""What came out: Markdown tables for people, JSON for programs, and the one thing that is checked, memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks import bars, paths
from benchmarks.bars import Standing
from benchmarks.runs import Result, Skipped

MEGABYTE = 1_000_000
FLAT_FACTOR, FLAT_SLACK_MB, MOST_MB = 1.25, 100, 400


def tables(results: Sequence[Result]) -> str:
    """Everything that a person may want to see of one call."""
    parts = [memory_table(results)]
    for rows in sorted({result.rows for result in results}):
        here = [result for result in results if result.rows == rows]
        if len({result.contender for result in here}) > 1:
            parts.append(
                f"{rows:,} rows, medians of {max(r.repeat for r in here) + 1}:\n\n{time_table(here)}"
            )
    parts += [limits_table(results), bars_table(bars.standings(results, paths.PATHS))]
    return "\n\n".join(parts)


def memory_table(results: Sequence[Result]) -> str:
    """The peak memory of Atlas's process tree, by path and rows."""
    sizes = sorted({result.rows for result in results})
    lines = []
    for name in _names(results):
        peaks = [_peak(results, name, rows) for rows in sizes]
        lines.append([name, *(f"{peak:.0f}" if peak else "" for peak in peaks)])
    return _table(["peak MB", *(_rows(rows) for rows in sizes)], lines)


def time_table(results: Sequence[Result]) -> str:
    """Medians at one size: a line for each path and contender; ratios are of Atlas to the other."""
    lines = []
    for name in _names(results):
        here = [result for result in results if result.path == name and not result.error]
        ours = _medians(here, "atlas")
        for contender in dict.fromkeys(result.contender for result in here):
            wall, cpu, peak = _medians(here, contender)
            lines.append(
                [
                    f"{name} {contender}",
                    f"{wall:.2f}",
                    f"{cpu:.2f}",
                    f"{peak:.0f}",
                    f"{here[0].rows / wall:,.0f}" if wall else "",
                    f"{ours[0] / wall:.2f}" if wall and contender != "atlas" else "",
                    f"{ours[1] / cpu:.2f}" if cpu and contender != "atlas" else "",
                ]
            )
    return _table(["path", "wall s", "CPU s", "peak MB", "rows/s", "wall x", "CPU x"], lines)


def bars_table(standings: Sequence[Standing]) -> str:
    """What is wanted of each path and what came out, at the most rows; of the peers, the nearest."""
    lines = []
    for path in paths.PATHS:
        mine = [s for s in standings if s.path == path.name and s.reached is not None]
        held = [_last(mine, against) for against in dict.fromkeys(s.against for s in mine if s.at_most)]
        peers = [_last(mine, against) for against in dict.fromkeys(s.against for s in mine if s.ahead)]
        for standing in [*held, *sorted(peers, key=lambda s: s.ratio)[:1]]:
            wanted = f"<= {standing.at_most:.2f}" if standing.at_most else f">= {standing.ahead:.0f}"
            lines.append([*_beside(standing), wanted, "reached" if standing.reached else "no"])
    return _table([*_BESIDE, "bar", ""], lines)


def ratios_table(standings: Sequence[Standing]) -> str:
    """Atlas beside others where nothing is wanted."""
    return _table(_BESIDE, [_beside(standing) for standing in standings])


def peers_table(standings: Sequence[Standing]) -> str:
    """Wall seconds of Atlas and of each peer, with how many times as long the peer takes."""
    met = [s for s in standings if s.is_peer]
    names = list(dict.fromkeys(s.against for s in met))
    lines = []
    for path, rows in dict.fromkeys((s.path, s.rows) for s in met):
        here = {s.against: s for s in met if (s.path, s.rows) == (path, rows)}
        cells = [
            f"{s.their_seconds:.1f} ({s.ratio:.1f} x)" if (s := here.get(name)) else "" for name in names
        ]
        lines.append([path, _rows(rows), f"{next(iter(here.values())).atlas_seconds:.2f}", *cells])
    return _table(["path, wall s", "rows", "atlas", *names], lines)


def peers_memory_table(results: Sequence[Result]) -> str:
    """The peak memory and CPU seconds of Atlas's and of each peer's process tree, where peers ran."""
    rows = {result.rows for result in results if bars.is_peer(result.contender)}
    here = [result for result in results if result.rows in rows and not result.error]
    names = [
        name for name in dict.fromkeys(r.contender for r in here) if name == "atlas" or bars.is_peer(name)
    ]
    lines = []
    for path in _names(result for result in here if bars.is_peer(result.contender)):
        cells = []
        for name in names:
            _, cpu, peak = _medians([result for result in here if result.path == path], name)
            cells.append(f"{peak:.0f} ({cpu:.1f})" if peak else "")
        lines.append([path, *cells])
    return _table(["path, peak MB (CPU s)", *names], lines)


def limits_table(results: Sequence[Result]) -> str:
    """What limits do, and which paths have them."""
    having: dict[str, list[str]] = {}
    for path in paths.PATHS:
        if path.limit and path.name in _names(results):
            having.setdefault(path.limit.words, []).append(path.name)
    return _table(["limit", "paths"], [[words, ", ".join(names)] for words, names in having.items()])


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
    file: Path, facts: Mapping[str, object], results: Sequence[Result], skipped: Sequence[Skipped]
) -> None:
    """Every single run, with the machine's facts."""
    document = {
        "machine": facts,
        "results": [asdict(result) for result in results],
        "skipped": [asdict(entry) for entry in skipped],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_results(file: Path, facts: Mapping[str, object]) -> list[Result]:
    """The good runs in a file that write_json wrote for this commit; of another, none."""
    if not file.exists():
        return []
    document = json.loads(file.read_text(encoding="utf-8"))
    if document["machine"]["commit"] != facts["commit"]:
        return []
    results = [Result(**result) for result in document["results"]]
    return [result for result in results if not result.error]


def write_standings(file: Path, facts: Mapping[str, object], standings: Sequence[Standing]) -> None:
    """What is published, to be compared with."""
    document = {"machine": facts, "standings": [asdict(standing) for standing in standings]}
    file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_standings(file: Path) -> list[Standing]:
    """What write_standings wrote; nothing where nothing is published."""
    if not file.exists():
        return []
    document = json.loads(file.read_text(encoding="utf-8"))
    return [Standing(**standing) for standing in document["standings"]]


_BESIDE = ("path / beside", "rows", "atlas s", "theirs s", "ratio")


def _beside(standing: Standing) -> list[str]:
    return [
        f"{standing.path} / {standing.against}",
        _rows(standing.rows),
        f"{standing.atlas_seconds:.2f}",
        f"{standing.their_seconds:.2f}",
        f"{standing.ratio:.2f}",
    ]


def _last(standings: Iterable[Standing], against: str) -> Standing:
    return max((s for s in standings if s.against == against), key=lambda s: s.rows)


def _names(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(result.path for result in results))


def _peak(results: Iterable[Result], name: str, rows: int) -> float | None:
    """In MB, the most of all repeats."""
    peaks = [r.peak_bytes for r in _good(results, name, "atlas", rows)]
    return max(peaks) / MEGABYTE if peaks else None


def _medians(results: Iterable[Result], contender: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, peak MB; zeros where nothing ran."""
    mine = [result for result in results if result.contender == contender]
    if not mine:
        return 0.0, 0.0, 0.0
    return (
        median(result.wall_seconds for result in mine),
        median(result.cpu_seconds for result in mine),
        max(result.peak_bytes for result in mine) / MEGABYTE,
    )


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
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
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
