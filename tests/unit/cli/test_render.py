"""Tables on terminals of any width: no word that could stay whole is broken."""

from __future__ import annotations

import io

import pytest
from rich.color import ColorType
from rich.console import Console

from atlas_etl.cli import render

NAMES = ("name", "last sync status", "rows")
ROWS = [("shop", "completed", 5300), ("a_rather_long_name_of_a_connector", None, 7)]


def drawn(monkeypatch: pytest.MonkeyPatch, width: int) -> list[str]:
    text = io.StringIO()
    console = Console(file=text, width=width, force_terminal=True, no_color=True, highlight=False)
    monkeypatch.setattr(render, "_console", lambda: console)
    render.table(NAMES, ROWS)
    plain = text.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    return [line.rstrip() for line in plain.splitlines()]


def test_a_table_that_fits_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, 60)[:2] == [
        "name                               last sync status  rows",
        "shop                               completed         5300",
    ]


def test_a_table_whose_words_do_not_fit_is_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, 30) == [
        "name              shop",
        "last sync status  completed",
        "rows              5300",
        "",
        "name              a_rather_lon",
        "                  g_name_of_a_",
        "                  connector",
        "rows              7",
    ]


def test_no_file_is_too_narrow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    render.table(NAMES, ROWS)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_lines_break_between_words_and_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=20, force_terminal=True)
    monkeypatch.setattr(render, "_console", lambda: console)
    assert render.hanging("ok       one two-and three", 9) == "ok       one two-and\n         three"
    piped = Console(file=io.StringIO(), width=20)
    monkeypatch.setattr(render, "_console", lambda: piped)
    assert render.hanging("ok       one two-and three", 9) == "ok       one two-and three"


@pytest.mark.parametrize(
    ("width", "parts"),
    [
        (60, ["shop", "12,345,678 / ~20,000,000", "left"]),
        (80, ["shop", "12,345,678 / ~20,000,000", "rows/s", "left"]),
        (120, ["shop", "12,345,678 / ~20,000,000", "rows/s", "MB/s", "left", "waits for the destination"]),
    ],
)
def test_a_live_line_fits_its_terminal(monkeypatch: pytest.MonkeyPatch, width: int, parts: list[str]) -> None:
    text = io.StringIO()

    def console(_file: object) -> Console:
        return Console(file=text, width=width, force_terminal=True, color_system="truecolor")

    monkeypatch.setattr(render, "_styled", console)
    with render.ProgressLine() as line:
        line.started("shop", "a_rather_long_name_of_a_stream", 20_000_000)
        monkeypatch.setattr(line._progress.tasks[0], "start_time", line._progress.get_time() - 20)
        line.moved("shop", "a_rather_long_name_of_a_stream", 12_345_678, 1_234_567_890, parts[-1])
        (shown,) = Console(width=width).render_lines(line._progress.make_tasks_table(line._progress.tasks))
        told = "".join(segment.text for segment in shown)
    at = [told.find(part) for part in parts]
    assert -1 not in at, told
    assert at == sorted(at), told
    assert told.count("…") == 1, told  # of the stream's name
    assert ("━" in told) is (width >= 80)


def test_live_lines_have_no_colours_but_the_terminals_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever chose the ground chose these with it; any other one may be lost on light or on dark."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    shown = io.StringIO()
    console = render._styled(shown)
    assert console.color_system == "truecolor"
    console.print(render.bar(0.5))
    for style in ("bar.back", "bar.complete", "bar.finished", "bar.pulse"):
        colour = console.get_style(style).color
        assert colour is not None
        assert colour.type is ColorType.STANDARD, style
    assert "38;" not in shown.getvalue()
