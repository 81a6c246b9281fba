"""What stands in the place of values: keyed hashes, and tokens that their key turns back.

Both are the libraries' own, of each value that a column has once: a hash is BLAKE2b with a key (RFC 7693), a
token AES-SIV (RFC 5297), which needs no nonce and so gives equal values equal tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pyarrow as pa

from atlas_etl.errors import DataError

_HASH_BYTES = 16
_MOST_BYTES = 2**30 - _HASH_BYTES - 1  # of a value: its token in digits has to fit a column of text


def hashes(key: bytes, column: pa.Array) -> pa.Array:
    """The keyed hash of each cell of a column of texts: 32 hexadecimal digits, NULL where it is NULL.

    `key` has at most 64 bytes.
    """
    blake2b = hashlib.blake2b
    return _of_each(column, lambda text: blake2b(text, key=key, digest_size=_HASH_BYTES).hexdigest())


def tokens(key: bytes, column: pa.Array) -> pa.Array:
    """The token of each cell of a column of texts: its AES-SIV in hexadecimal digits, NULL where it is NULL.

    `key` is one of AES-256-SIV, 64 bytes. A token tells its cell's length; that of an empty text is empty.
    Raises DataError for a text whose token would be longer than 2 GiB.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    sealed = AESSIV(key).encrypt

    def token(text: bytes) -> str:
        if len(text) > _MOST_BYTES:
            raise DataError("a value is too long to become a token", hint="`hash` takes it", code="too_long")
        return sealed(text, None).hex() if text else ""

    return _of_each(column, token)


def opened(key: bytes, token: str) -> str:
    """The text of a token. Raises ValueError where this key did not make it."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    if not token:
        return ""
    try:
        return AESSIV(key).decrypt(bytes.fromhex(token), None).decode()
    except InvalidTag:
        raise ValueError from None


def _of_each(column: pa.Array, made: Callable[[bytes], str]) -> pa.Array:
    """What is made of each cell; of equal ones once."""
    coded = column.cast(pa.large_binary()).dictionary_encode()
    return pa.array(map(made, coded.dictionary.to_pylist()), pa.string()).take(coded.indices)
