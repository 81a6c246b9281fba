"""The key of hashes and tokens: one secret text for a whole project, so that equal values meet in joins."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from atlas_etl.errors import ConfigError
from atlas_etl.model import Rule

_LEAST = 16
_SALT = b"atlas-etl protect 1"
_KEYED_BYTES = 18


@dataclass(frozen=True, slots=True)
class Keys:
    """What is derived from the secret text, each for one use; `id` tells it from other texts."""

    hashing: bytes = field(repr=False)
    tokens: bytes = field(repr=False)
    digests: bytes = field(repr=False)
    id: str

    @classmethod
    def of(cls, text: str) -> Keys:
        """By HKDF with SHA-256 (RFC 5869). Raises ConfigError for a text that is easily guessed."""
        if len(text) < _LEAST:
            raise ConfigError(
                f"the key of `protect` has fewer than {_LEAST} characters, so it could be guessed",
                hint="`openssl rand -base64 32` makes one",
                code="protect_key",
            )
        secret = text.encode()
        return cls(
            _derived(secret, b"hash", 64),
            _derived(secret, b"token", 64),
            _derived(secret, b"digest", 64),
            _derived(secret, b"id", 8).hex(),
        )


def _derived(secret: bytes, use: bytes, size: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), size, _SALT, use).derive(secret)


class KeyHolder:
    """The project's key, looked up once, when it is first needed; safe to share among threads."""

    def __init__(self, find: Callable[[], str | None], make: Callable[[], str]) -> None:
        """`find` gives the secret text, None where there is none yet; `make` makes it where there is none."""
        self._find = find
        self._make = make
        self._lock = Lock()
        self._keys: Keys | None = None

    def found(self) -> Keys | None:
        """The keys, where there are any. Raises ConfigError, StateError."""
        with self._lock:
            if self._keys is None:
                text = self._find()
                self._keys = Keys.of(text) if text is not None else None
            return self._keys

    def made(self) -> Keys:
        """The keys, made where there were none. Raises ConfigError, StateError."""
        found = self.found()
        if found is not None:
            return found
        with self._lock:
            self._keys = Keys.of(self._make())
            return self._keys


def no_keys() -> KeyHolder:
    """For connectors of no project, whose streams have no rules that need a key."""

    def make() -> str:
        raise ConfigError(
            "hashes and tokens need a project, which keeps their key",
            hint="`atlas init` makes one",
            code="missing_key",
        )

    return KeyHolder(lambda: None, make)


def keyed(keys: Keys, digest: str) -> str:
    """What a checkpoint holds of a digest, from which nobody guesses its values; one that is keyed stays."""
    if is_keyed(digest):
        return digest
    found = hashlib.blake2b(digest.encode(), key=keys.digests, digest_size=_KEYED_BYTES)
    return base64.b64encode(found.digest()).decode()


def is_keyed(digest: str) -> bool:
    """Whether `keyed` made it: no other digest in a checkpoint is as long."""
    return len(digest) == _KEYED_BYTES * 4 // 3


def fingerprint(rules: Mapping[str, Rule], keys: Keys | None) -> str:
    """What a checkpoint says of the rules that its rows were loaded under; empty without rules.

    `keys`: where a rule needs them, or digests are keyed with them. Nothing about the key follows from it.
    """
    if not rules:
        return ""
    listed = sorted((name, rule.how, rule.keep_first, rule.keep_last) for name, rule in rules.items())
    content = json.dumps([listed, keys.id if keys else None])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
