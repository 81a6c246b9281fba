"""Tables on terminals of any width: no word that could stay whole is broken."""

from __future__ import annotations

import io

import pytest
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
