"""Writing YAML: what is written reads back, here and with plain PyYAML."""

from __future__ import annotations

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.config.yaml_source import Value, parse
from atlas_etl.config.yaml_text import dump, dump_inline

_TRAPS = ["no", "true", "null", "~", "<<", "=", "01:30", "1:30", "1e+16", "1.10", "0123", "2024-01-01", "*a"]
_LINES = ["", " ", "a\nb", "a\nb\n", "a\n\n", " a\nb", "a \nb", "\n", "\ta\nb", "# c", "a: b", "a #b", "- a"]
texts = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.from_regex(r"[-+]?[0-9_.:exo]{1,8}", fullmatch=True)
    | st.sampled_from([*_TRAPS, *_LINES])
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**39), 10**39)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=15)


@settings(deadline=None, max_examples=300)
@given(values)
def test_round_trip(value: Value) -> None:
    # repr tells 1 from True and 1.0.
    assert repr(parse(dump(value), "f").values) == repr(value)


@settings(deadline=None, max_examples=200)
@given(values)
def test_round_trip_on_one_line(value: Value) -> None:
    line = dump_inline(value)
    assert "\n" not in line
    assert repr(parse(f"key: {line}\n", "f").values) == repr({"key": value})


@settings(deadline=None, max_examples=200)
@given(texts)
def test_other_readers_see_the_same_text(text: str) -> None:
    assert yaml.safe_load(dump({"key": text, "list": [text]})) == {"key": text, "list": [text]}


def test_it_reads_well() -> None:
    written = dump(
        {
            "description": "Orders of the shop, with a line that is rather long " * 4,
            "streams": [{"query": "SELECT *\n  FROM orders\n", "cursor": "id"}],
            "schedule": "0 * * * *",
        }
    )
    assert written.splitlines()[1:] == [
        "streams:",
        "  - query: |",
        "      SELECT *",
        "        FROM orders",
        "    cursor: id",
        "schedule: 0 * * * *",
    ]
