"""What a full run leaves in the repository: published.json, and docs/performance.md with its charts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import bars, chart, machine, paths, report
from benchmarks.bars import ATLAS, BY_HAND, LIMIT, Standing
from benchmarks.peers import PEERS
from benchmarks.runs import Result, Skipped

PUBLISHED = Path(__file__).with_name("published.json")
_PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
_CHARTS = _PAGE.parent / "performance"


def publish(
    facts: Mapping[str, object], results: Sequence[Result], skipped: Sequence[Skipped], profile: str
) -> None:
    """Write all of it. Raises ValueError where the page has not the places for it."""
    standings = bars.standings(results, paths.PATHS)
    report.write_standings(PUBLISHED, facts, standings)
    _CHARTS.mkdir(exist_ok=True)
    for name, drawn in charts(standings).items():
        (_CHARTS / f"{name}.svg").write_text(drawn, encoding="utf-8")
    page = _PAGE.read_text(encoding="utf-8")
    for name, text in {**parts(facts, results, standings, skipped), "profile": profile}.items():
        page = replaced(page, name, text)
    _PAGE.write_text(page, encoding="utf-8")


def replaced(page: str, name: str, text: str) -> str:
    """The page with this text between `<!-- NAME -->` and `<!-- end -->`."""
    found = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    made, count = found.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)
    if count != 1:
        raise ValueError(f"docs/performance.md has {count} places for {name}")
    return made


def parts(
    facts: Mapping[str, object],
    results: Sequence[Result],
    standings: Sequence[Standing],
    skipped: Sequence[Skipped],
) -> dict[str, str]:
    """What stands at each place of the page."""
    drawn = "\n".join(f"![{name}](performance/{name}.svg)\n" for name in charts(standings))
    who = [f"- {peer.name} ({peer.requirements[0]}): {peer.words}" for peer in PEERS]
    who += [f"- {', '.join(entry.names)}: could not be had ({entry.reason})" for entry in skipped]
    failed = [result for result in results if bars.is_peer(result.contender) and result.repeat == 0]
    who += [f"- {line}" for line in report.failures(failed)]
    lines = [standing for standing in standings if ":lineitem" in standing.path]
    windows = [standing for standing in standings if standing.against == "one commit"]
    return {
        "machine": machine.in_words(facts).replace("\n", "  \n"),
        "bars": report.bars_table(standings),
        "limits": report.limits_table(results),
        "lineitem": report.ratios_table(lines),
        "windows": report.ratios_table(windows),
        "peers": report.peers_table(standings) + "\n\n" + drawn.strip(),
        "peers' memory": report.peers_memory_table(results),
        "who": "\n".join(who),
        "memory": report.memory_table(results),
    }


def charts(standings: Sequence[Standing]) -> dict[str, str]:
    """An SVG for each path that has peers, by its name as a file's."""
    drawn = {}
    peers = {peer.name for peer in PEERS}
    for path in paths.PATHS:
        met = [s for s in standings if s.path == path.name and s.against in peers]
        if not met:
            continue
        rows = met[0].rows
        here = [s for s in standings if (s.path, s.rows) == (path.name, rows)]
        lines = [
            chart.Bar(ATLAS, met[0].atlas_seconds, "ours"),
            *(chart.Bar(s.against, s.their_seconds, "limit") for s in here if s.against in {LIMIT, BY_HAND}),
            *(chart.Bar(s.against, s.their_seconds, "peer") for s in met),
        ]
        title = f"{path.name.replace('->', ' to ')}, {rows:,} rows"
        drawn[re.sub(r"[^a-z]+", "-", path.name)] = chart.bars_as_svg(title, "s", lines)
    return drawn
