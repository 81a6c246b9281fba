"""Paths into JSON documents."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from atlas_etl.connectors.http._documents.paths import parse_path, written_path

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="'\""), min_size=1).filter(
    lambda s: s == s.strip()
)


@example(["$"])
@given(st.lists(NAMES, max_size=4))
def test_a_written_path_is_read_as_its_steps(steps: list[str]) -> None:
    assert parse_path(written_path(tuple(steps))) == tuple(steps)
