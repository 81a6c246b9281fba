"""Sealing a text and opening it again: AES-256 in GCM (NIST SP 800-38D), bound to the secret's name."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import Struct

from atlas_etl.errors import ConfigError

KEY_BYTES = 32
_NONCE_BYTES = 12
_PURPOSE = b"atlas-etl secret 1\0"


@dataclass(frozen=True, slots=True)
class Key:
    """256 random bits."""

    content: bytes = field(repr=False)

    @classmethod
    def new(cls) -> Key:
        return cls(os.urandom(KEY_BYTES))

    @property
    def id(self) -> str:
        """What a token says it was sealed with; nothing about the key follows from it."""
        return hashlib.sha256(b"atlas-etl key id\0" + self.content).hexdigest()[:16]

    def seal(self, name: str, text: str) -> bytes:
        """The text as a token that only this key opens, and only under this name."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.content).encrypt(nonce, text.encode(), _PURPOSE + name.encode())

    def open(self, name: str, token: bytes) -> str:
        """The text of a token. Raises ConfigError (`secret_damaged`)."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, sealed = token[:_NONCE_BYTES], token[_NONCE_BYTES:]
        try:
            return AESGCM(self.content).decrypt(nonce, sealed, _PURPOSE + name.encode()).decode()
        except (InvalidTag, ValueError):
            raise ConfigError(
                f"the secret {name!r} cannot be opened: it was changed, or moved here from another name",
                hint=f"give it its value again: atlas secret set {name}",
                code="secret_damaged",
            ) from None


class KeyRing(Struct, frozen=True):
    """Keys that open; the first one seals."""

    keys: tuple[Key, ...] = ()

    @classmethod
    def parse(cls, text: str, place: str) -> KeyRing:
        """Keys in base64, between commas or white space. Raises ConfigError (`secret_key`)."""
        return cls(tuple(_parsed(text, place)))

    def text(self) -> str:
        """What `parse` reads."""
        return "".join(f"{base64.urlsafe_b64encode(key.content).decode()}\n" for key in self.keys)

    def find(self, key_id: str) -> Key | None:
        return next((key for key in self.keys if key.id == key_id), None)


def _parsed(text: str, place: str) -> Iterator[Key]:
    for written in text.replace(",", "\n").split():
        try:
            content = base64.b64decode(written.replace("-", "+").replace("_", "/"), validate=True)
        except (binascii.Error, ValueError):
            content = b""
        if len(content) != KEY_BYTES:
            raise ConfigError(
                f"{place} holds something that is not a key: {KEY_BYTES} bytes in base64",
                hint="`openssl rand -base64 32` makes one; several stand between commas",
                code="secret_key",
            )
        yield Key(content)
