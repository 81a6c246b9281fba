"""What stands in the place of values: keyed hashes, and tokens that their key turns back.

Both are the libraries' own, of each value that a column has once: a hash is BLAKE2b with a key (RFC 7693), a
token AES-SIV (RFC 5297), which needs no nonce and so gives equal values equal tokens.
"""

from __future__ import annotations

import hashlib

import pyarrow as pa

from atlas_etl import values
from atlas_etl.errors import DataError

_HASH_BYTES = 16
_MOST_BYTES = 2**30 - _HASH_BYTES - 1  # of a value: its token in digits has to fit a column of text


def hashes(key: bytes, column: pa.Array) -> pa.Array:
    """The keyed hash of each cell of a column of texts: 32 hexadecimal digits, NULL where it is NULL.

    `key` has at most 64 bytes.
    """
    keyed = hashlib.blake2b(key=key, digest_size=_HASH_BYTES).copy  # a copy costs less than the key anew

    def digest(text: bytes) -> bytes:
        begun = keyed()
        begun.update(text)
        return begun.digest()

    coded = _coded(column)
    digests = b"".join(map(digest, coded.dictionary.to_pylist()))
    cells = pa.Array.from_buffers(
        pa.binary(_HASH_BYTES), len(coded.dictionary), [None, pa.py_buffer(digests)]
    )
    return values.hexadecimal(cells).cast(pa.string()).take(coded.indices)


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

    coded = _coded(column)
    return pa.array(map(token, coded.dictionary.to_pylist()), pa.string()).take(coded.indices)


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


def _coded(column: pa.Array) -> pa.DictionaryArray:
    """The cells' bytes, of equal ones once."""
    return column.cast(pa.large_binary()).dictionary_encode()
