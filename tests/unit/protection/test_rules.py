"""What becomes of values and types."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from atlas_etl.errors import ConfigError
from atlas_etl.model import Protection, Rule
from atlas_etl.protection.keys import KeyHolder, Keys, fingerprint
from atlas_etl.protection.pseudonyms import hashes, opened
from atlas_etl.protection.rules import protected, protected_column, protected_schema

TEXT = "a key of a test, long enough"
KEYS = Keys.of(TEXT)
HOLDER = KeyHolder(lambda: TEXT, lambda: TEXT)
HASH, TOKENIZE, MASK, DROP = (
    Rule(how) for how in (Protection.HASH, Protection.TOKENIZE, Protection.MASK, Protection.DROP)
)


def hashed(text: str) -> str:
    found = hashes(KEYS.hashing, pa.array([text]))[0].as_py()
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array([42], pa.int64()), "42"),
        (pa.array([42], pa.uint8()), "42"),
        (pa.array(["42"], pa.large_string()), "42"),
        (pa.array([Decimal("42.00")], pa.decimal128(10, 2)), "42"),
        (pa.array([Decimal("100.50")], pa.decimal128(10, 2)), "100.5"),
        (pa.array([100], pa.decimal128(10, 0)), "100"),
        (pa.array([date(2024, 2, 29)]), "2024-02-29"),
        (pa.array([True]), "true"),
        (pa.array([b"\xff"]), "ff"),
    ],
)
def test_a_value_counts_by_its_text(column: pa.Array, text: str) -> None:
    assert protected_column(column, HASH, HOLDER).to_pylist() == [hashed(text)]


def test_tokens_turn_back() -> None:
    found = protected_column(pa.array([7, None]), TOKENIZE, HOLDER).to_pylist()
    assert found[1] is None
    assert opened(KEYS.tokens, found[0]) == "7"


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(Protection.MASK), ["***", "***", "***", None]),
        (Rule(Protection.MASK, keep_last=4), ["***", "***6789", "***", None]),
        (Rule(Protection.MASK, keep_first=2), ["***", "12***", "é€***", None]),
        (Rule(Protection.MASK, 1, 2), ["***", "1***89", "***", None]),
    ],
)
def test_masks(rule: Rule, expected: list[str | None]) -> None:
    column = pa.array(["", "123456789", "é€x", None])
    assert protected_column(column, rule, HOLDER).to_pylist() == expected


def test_the_types_after_the_rules() -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([1]), pa.array([2])],
        schema=pa.schema([pa.field("id", pa.int64(), metadata={"a": "b"}), ("n", pa.int64())]),
    )
    found = protected(batch, {"id": HASH}, HOLDER)
    assert found.schema == protected_schema(batch.schema, {"id": HASH})
    assert found.schema.types == [pa.string(), pa.int64()]
    assert found.schema.field("id").metadata is None
    assert found.column("n") == batch.column("n")


def test_a_fingerprint_tells_rules_and_keys_apart() -> None:
    other = Keys.of("another key of a test")
    assert fingerprint({}, KEYS) == ""
    found = [
        fingerprint({"a": HASH}, KEYS),
        fingerprint({"a": HASH}, other),
        fingerprint({"b": HASH}, KEYS),
        fingerprint({"a": MASK}, KEYS),
        fingerprint({"a": Rule(Protection.MASK, keep_last=4)}, KEYS),
        fingerprint({"a": DROP}, KEYS),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint({"a": MASK}, KEYS) != fingerprint({"a": MASK}, None)
    assert fingerprint({"a": HASH, "b": MASK}, KEYS) == fingerprint({"b": MASK, "a": HASH}, KEYS)


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ConfigError, match="guessed"):
        Keys.of("hunter2")


def test_a_key_is_looked_up_once_and_made_only_when_it_is_needed() -> None:
    asked: list[str] = []

    def find() -> str | None:
        asked.append("find")

    def make() -> str:
        asked.append("make")
        return TEXT

    holder = KeyHolder(find, make)
    assert holder.found() is None
    assert holder.made() == KEYS
    assert holder.found() == holder.made() == KEYS
    assert asked == ["find", "find", "make"]
