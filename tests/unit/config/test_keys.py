"""Keys as people write them, and the paths that they mean."""

from __future__ import annotations

import pytest

from atlas_etl.config.keys import KeyPath, dotted, parse_key


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("schedule", ("schedule",)),
        ("auth.token", ("auth", "token")),
        ("streams[12].into.table", ("streams", 12, "into", "table")),
        ("streams[0]", ("streams", 0)),
        ("params.filter[status]", ("params", "filter[status]")),
        ("params.ids[0]", ("params", "ids[0]")),
    ],
)
def test_what_a_key_means(text: str, path: KeyPath) -> None:
    assert parse_key(text) == path


@pytest.mark.parametrize("path", [("a", "b"), ("streams", 3, "cursor"), ("streams", 0)])
def test_a_key_is_parsed_as_it_is_shown(path: KeyPath) -> None:
    assert parse_key(dotted(path)) == path
