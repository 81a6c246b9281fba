"""The page of the library is one notebook: its blocks run in order, and print what it says."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from tests.servers import ServerAddress

import atlas_etl

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
CELL = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.S | re.M)


def test_the_notebook_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: ServerAddress
) -> None:
    monkeypatch.chdir(tmp_path)
    for key in ("host", "port", "database", "username", "password"):
        monkeypatch.setenv(f"SHOP_{key.upper()}", str(getattr(postgres, key)))
    monkeypatch.setenv("SHOP_OPTIONS__SSLMODE", "disable")
    names: dict[str, object] = {}
    cells = CELL.findall(PAGE.read_text(encoding="utf-8"))
    assert len(cells) == 8
    try:
        for code, expected in cells:
            printed = StringIO()
            with redirect_stdout(printed):
                exec(compile(code, str(PAGE), "exec"), names)
            assert printed.getvalue() == expected, code
    finally:
        atlas_etl.close_all_connections()


def test_the_page_tells_of_every_public_name() -> None:
    page = PAGE.read_text(encoding="utf-8")
    told = set(re.findall(r"\w+", page))
    pairs = {name for name in atlas_etl.__all__ if name.startswith("test_")}
    assert set(atlas_etl.__all__) - pairs - told == set()
    assert "test_connection" in told
    for name in atlas_etl.__all__:
        assert (getattr(atlas_etl, name).__doc__ or "").strip(), name
