"""What a full run writes into the repository: a page with a place for each part, and charts in proportion."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from benchmarks import bars, chart, publish
from benchmarks.paths import PATHS
from benchmarks.runs import Result, Skipped

_SVG = "{http://www.w3.org/2000/svg}"


def results(
    *contenders: tuple[str, float], path: str = "postgres->postgres", rows: int = 500_000
) -> list[Result]:
    return [Result(path, contender, rows, 0, wall, wall / 2, 10**8) for contender, wall in contenders]


def test_the_page_has_one_place_for_each_part():
    page = publish._PAGE.read_text(encoding="utf-8")
    for name, text in publish.parts({}, [], [], []).items():
        page = publish.replaced(page, name, text)


def test_a_part_takes_the_place_of_what_was_there():
    page = "a\n<!-- bars -->\nold\n<!-- end -->\nb\n<!-- memory -->\nkept\n<!-- end -->\n"
    once = publish.replaced(page, "bars", r"new \1")
    assert publish.replaced(once, "bars", r"new \1") == once
    assert once == page.replace("old", "\nnew \\1\n")
    with pytest.raises(ValueError, match="has 0 places for limits"):
        publish.replaced(page, "limits", "")


def test_every_part_is_told():
    runs = results(("atlas", 2.0), ("limit", 1.0), ("dlt", 9.0), ("duckdb scanner", 1.0))
    standings = bars.standings(runs, PATHS)
    parts = publish.parts({"cores": 2}, runs, standings, [Skipped(("sling",), "no wheel")])
    assert re.search(
        r"postgres->postgres / limit +\| +500k \| +2.00 \| +1.00 \| +2.00 \| <= 1.10 \| +no", parts["bars"]
    )
    assert re.search(r"/ duckdb scanner .* >= 3 .* no", parts["bars"])
    assert "dlt" not in parts["bars"]  # the nearest peer alone
    assert "9.0 (4.5 x)" in parts["peers"]
    assert "1.0 (0.5 x)" in parts["peers"]
    assert "100 (4.5)" in parts["peers' memory"]
    assert "sling: could not be had (no wheel)" in parts["who"]
    assert "![postgres-postgres](performance/postgres-postgres.svg)" in parts["peers"]


def test_bars_are_as_long_as_their_values():
    drawn = chart.bars_as_svg(
        "a & b", "s", [chart.Bar("slow", 4.0, "peer"), chart.Bar("<fast>", 1.0, "ours")]
    )
    root = ElementTree.fromstring(drawn)
    rectangles = root.findall(f"{_SVG}rect")
    assert [r.get("class") for r in rectangles] == ["ours", "peer"]
    short, long = (float(r.get("width", "0")) for r in rectangles)
    assert long / short == pytest.approx(4.0, rel=0.01)
    texts = [text.text for text in root.findall(f"{_SVG}text")]
    assert texts == ["a & b", "<fast>", "1.00 s", "slow", "4.00 s"]
