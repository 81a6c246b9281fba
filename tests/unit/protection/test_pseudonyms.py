"""Hashes and tokens: of each value what its algorithm gives, and back again where that is promised."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from hypothesis import given
from hypothesis import strategies as st

from atlas_etl.errors import DataError
from atlas_etl.protection import pseudonyms
from atlas_etl.protection.pseudonyms import hashes, opened, tokens

KEY = bytes(range(64))
COLUMNS = st.lists(
    st.text(max_size=70)
    | st.sampled_from(["same", "x" * 127, "x" * 128, "x" * 129, "\0", "x" * 3000])
    | st.none(),
    max_size=12,
)


def hashed(text: str) -> str:
    return hashlib.blake2b(text.encode(), key=KEY, digest_size=16).hexdigest()


@given(COLUMNS, st.integers(0, 3), st.sampled_from([pa.string(), pa.large_string()]))
def test_each_value_has_its_hash(texts: list[str | None], start: int, kind: pa.DataType) -> None:
    found = hashes(KEY, pa.array(texts, kind).slice(start))
    assert found.type == pa.string()
    assert found.to_pylist() == [hashed(text) if text is not None else None for text in texts[start:]]


@given(COLUMNS, st.integers(0, 3))
def test_tokens_are_aes_siv_and_open_again(texts: list[str | None], start: int) -> None:
    found = tokens(KEY, pa.array(texts, pa.string()).slice(start)).to_pylist()
    for text, token in zip(texts[start:], found, strict=True):
        if text:
            assert token == AESSIV(KEY).encrypt(text.encode(), None).hex()
        assert (opened(KEY, token) if token is not None else None) == text


def test_a_hash_made_elsewhere_is_the_same() -> None:
    """Written out, so that no later version makes others of what is stored."""
    assert hashes(KEY, pa.array(["ann@example.org"])).to_pylist() == ["744f3f47ee4f1bad3f10c236e5b7e0f7"]


@pytest.mark.parametrize("token", ["zz", "00", "00" * 16, "00" * 20])
def test_what_is_no_token_of_this_key(token: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        opened(KEY, token)


def test_another_key_opens_nothing() -> None:
    token = tokens(KEY, pa.array(["secret"]))[0].as_py()
    with pytest.raises(ValueError):  # noqa: PT011
        opened(KEY[::-1], token)


def test_a_value_that_is_too_long_for_a_token_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "_MOST_BYTES", 5)
    with pytest.raises(DataError) as caught:
        tokens(KEY, pa.array(["123456"]))
    assert caught.value.code == "too_long"
    assert tokens(KEY, pa.array(["12345"]))[0].is_valid
