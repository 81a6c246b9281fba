"""Changing one key of a YAML text: the value is right, and the rest stays as it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.config.edit import changed_text
from atlas_etl.config.yaml_source import Value, parse_mapping
from atlas_etl.config.yaml_text import dump
from atlas_etl.errors import ConfigError
from tests.unit.config.test_yaml_text import texts, values

TEXT = """\
# the web shop
protocol: postgresql
description: Orders   # of the shop

connection:
  host: db.example.com
  # which one
  database: shop     # main
  options: {sslmode: verify-full}
empty:
streams:
  # orders first
  - table: public.orders
    cursor: updated_at   # indexed
    primary_key: [id]
  - name: refunds
    query: |
      SELECT *
      FROM refunds

# when
schedule: "0 * * * *"
"""


@pytest.mark.parametrize(
    ("at", "value", "before", "after"),
    [
        (("schedule",), "*/5 * * * *", '"0 * * * *"', "'*/5 * * * *'"),
        (("description",), "a: b", "Orders   #", "'a: b'   #"),
        (("description",), "a\nb", "Orders   #", '"a\\nb"   #'),
        (("empty",), "x", "empty:", "empty: x"),
        (("empty", "a", "b"), 1, "empty:", "empty: {a: {b: 1}}"),
        (("enabled",), False, '"0 * * * *"\n', '"0 * * * *"\nenabled: false\n'),
        (("hazards", "infinity"), "text", '"0 * * * *"\n', '"0 * * * *"\nhazards:\n  infinity: text\n'),
        (("connection", "host"), "1:30", "db.example.com", '"1:30"'),
        (("connection", "port"), 5433, "verify-full}\n", "verify-full}\n  port: 5433\n"),
        (("connection", "options", "timeout"), 5, "verify-full}", "verify-full, timeout: 5}"),
        (("connection", "options", "sslmode"), "a, b", "verify-full}", "'a, b'}"),
        (("connection", "options"), {"a": [1]}, "{sslmode: verify-full}", "{a: [1]}"),
        (("connection", "database"), None, "  database: shop     # main\n", ""),
        (("streams", 0, "cursor"), "id", "updated_at   #", "id   #"),
        (("streams", 0, "primary_key"), ["id", "b"], "[id]", "[id, b]"),
        (("streams", 0, "lag"), "5m", "[id]\n", "[id]\n    lag: 5m\n"),
        (("streams", 1, "name"), "x", "refunds\n    query", "x\n    query"),
        (("streams", 1, "disposition"), "replace", "refunds\n\n#", "refunds\n\n    disposition: replace\n#"),
        (("streams", 1, "query"), "SELECT 1", "|\n      SELECT *\n      FROM refunds\n\n", "SELECT 1\n"),
        (("nothing",), None, "", ""),
    ],
)
def test_only_this_changes(at: tuple[str | int, ...], value: Value, before: str, after: str) -> None:
    assert changed_text(TEXT, at, value, "f") == TEXT.replace(before, after, 1)


def test_where_a_block_goes_the_file_is_written_anew() -> None:
    changed = changed_text(TEXT, ("connection",), {"host": "x"}, "f")
    assert "#" not in changed
    assert parse_mapping(changed, "f").values == {
        **parse_mapping(TEXT, "f").values,
        "connection": {"host": "x"},
    }


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("", "a: 1\n"),
        ("# only a comment", "# only a comment\na: 1\n"),
        ("b: 2", "b: 2\na: 1\n"),
        ("b: 2 # c", "b: 2 # c\na: 1\n"),
        ("b: 2\n...\n", "b: 2\na: 1\n...\n"),
        ("a: true # c", "a: 1 # c"),
        ("a: 1.0", "a: 1"),
        ("{}", "{a: 1}"),
        ("{b: 2}", "{b: 2, a: 1}"),
        ("b: &x {c: 1}\nd: *x\n", "b: &x {c: 1}\nd: *x\na: 1\n"),
    ],
)
def test_a_key_at_the_top(text: str, changed: str) -> None:
    assert changed_text(text, ("a",), 1, "f") == changed


def test_an_anchor_is_not_changed_for_its_aliases() -> None:
    changed = changed_text("b: &x {c: 1}\nd: *x\n", ("d", "c"), 2, "f")
    assert parse_mapping(changed, "f").values == {"b": {"c": 1}, "d": {"c": 2}}


@pytest.mark.parametrize("at", [("streams", 7, "lag"), ("streams", 7), ("protocol", "x"), ("streams", "x")])
def test_what_is_not_there(at: tuple[str | int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"cannot be set: .* is not there") as caught:
        changed_text(TEXT, at, 1, "f")
    assert caught.value.code == "no_such_key"


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(texts, values, min_size=1, max_size=4), st.data())
def test_the_result_reads_as_the_change_says(start: dict[str, Value], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(list(start)) | texts)
    value = data.draw(values)
    wanted = {**start, key: value} if value is not None else {k: v for k, v in start.items() if k != key}
    text = dump(start)
    assert repr(parse_mapping(changed_text(text, (key,), value, "f"), "f").values) == repr(wanted)
