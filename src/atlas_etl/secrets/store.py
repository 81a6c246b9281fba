"""A project's secrets: sealed on their shelf, opened with its keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping
from datetime import UTC, datetime

from atlas_etl.config.secret_names import check_secret_name
from atlas_etl.contracts import SecretShelf
from atlas_etl.errors import ConfigError, nearest
from atlas_etl.model import SealedSecret
from atlas_etl.redactor import learn
from atlas_etl.secrets.keys import KeySource
from atlas_etl.secrets.sealing import Key, KeyRing

_LOOKS = 3  # at secrets and keys, which a rotation changes one after the other
_MOST_BYTES = 1024 * 1024


class SecretStore:
    """Secrets by name. Keeps nothing in memory; safe to share among threads and processes."""

    def __init__(self, shelf: SecretShelf, keys: KeySource) -> None:
        self._shelf = shelf
        self._keys = keys

    def get(self, name: str) -> str:
        """A secret's value. Raises ConfigError (`missing_secret`, `missing_key`, `secret_damaged`)."""
        looks = 1
        while True:
            secrets = self._shelf.sealed()
            if name not in secrets:
                raise self._missing(name, secrets)
            found = secrets[name]
            key = self._keys.ring().find(found.key_id)
            if key is not None:
                value = key.open(name, found.token)
                learn([value])
                return value
            if looks == _LOOKS:
                raise self._no_key(name, found)
            looks += 1

    def set(self, values: Mapping[str, str]) -> None:
        """Give secrets their values, all or none; makes the project's key where there is none yet.

        Raises ConfigError: `secret_name`, `secret_value`, and `missing_key` where other secrets are sealed
        with keys that are not here, for a store of two rings would be open to nobody.
        """
        for name, value in values.items():
            check_secret_name(name)
            _check_value(name, value)
        with self._shelf.changing() as secrets:
            self._put(secrets, values)

    def _put(self, secrets: MutableMapping[str, SealedSecret], values: Mapping[str, str]) -> None:
        learn(values.values())
        ring = self._keys.ring()
        for name, found in secrets.items():
            if name not in values and ring.find(found.key_id) is None:
                raise self._no_key(name, found)
        if not ring.keys:
            ring = KeyRing((Key.new(),))
            self._keys.keep(ring)
        now = datetime.now(UTC)
        for name, value in values.items():
            secrets[name] = _sealed(ring.keys[0], name, value, now)

    def get_or_make(self, name: str, make: Callable[[], str]) -> str:
        """A secret's value, which it is given now where there is none. Raises ConfigError.

        Of several that ask at once, one makes it and all get that.
        """
        with self._shelf.changing() as secrets:
            if name not in secrets:
                self._put(secrets, {name: make()})
        return self.get(name)

    def changed(self) -> dict[str, datetime]:
        """Every name, sorted, with when its secret was given its value. Raises ConfigError."""
        return {name: found.updated_at for name, found in sorted(self._shelf.sealed().items())}

    def remove(self, names: Collection[str]) -> None:
        """Forget secrets. Raises ConfigError (`missing_secret`); then all stay."""
        with self._shelf.changing() as secrets:
            for name in names:
                if name not in secrets:
                    raise self._missing(name, secrets)
                del secrets[name]

    def rotate(self) -> int:
        """Seal every secret with a new key, and drop the keys that open none any more; how many were sealed.

        The new key of a keyring or a file is made here; ATLAS_SECRET_KEY has it first already. It is kept
        before anything is sealed with it, and old ones until nothing is: killed anywhere, every secret has
        its key. Raises ConfigError.
        """
        with self._shelf.changing() as secrets:
            ring = self._with_new_key(secrets)
            stale = [name for name, found in secrets.items() if found.key_id != ring.keys[0].id]
            for name in stale:
                found = secrets[name]
                key = ring.find(found.key_id)
                if key is None:
                    raise self._no_key(name, found)
                value = key.open(name, found.token)
                secrets[name] = _sealed(ring.keys[0], name, value, found.updated_at)
        self._drop_idle_keys()
        return len(stale)

    def _with_new_key(self, secrets: Mapping[str, SealedSecret]) -> KeyRing:
        ring = self._keys.ring()
        if not self._keys.is_given:
            ring = KeyRing((Key.new(), *ring.keys))
            self._keys.keep(ring)
        elif len(ring.keys) == 1 and all(found.key_id == ring.keys[0].id for found in secrets.values()):
            raise ConfigError(
                f"{self._keys.place} holds one key, and every secret is sealed with it already",
                hint=f"put a new one (openssl rand -base64 32) before it, {self._keys.place}=NEW,OLD, "
                "rotate, and then take the old one away",
                code="secret_key",
            )
        return ring

    def _drop_idle_keys(self) -> None:
        """Another rotation may have come between, so that what is idle is looked up anew."""
        if self._keys.is_given:
            return
        with self._shelf.changing() as secrets:
            ring = self._keys.ring()
            used = {found.key_id for found in secrets.values()}
            kept = tuple(key for place, key in enumerate(ring.keys) if place == 0 or key.id in used)
            self._keys.keep(KeyRing(kept))

    def _missing(self, name: str, known: Collection[str]) -> ConfigError:
        hint = nearest(name, known) or f"atlas secret set {name}"
        return ConfigError(f"there is no secret {name!r}", hint=hint, code="missing_secret")

    def _no_key(self, name: str, found: SealedSecret) -> ConfigError:
        return ConfigError(
            f"the secret {name!r} is sealed with the key {found.key_id}, "
            f"which {self._keys.place} does not hold",
            hint="bring that key back, in ATLAS_SECRET_KEY or a copy of .atlas/secret.key; if it is lost, "
            "remove the secrets (atlas secret list, remove) and set them again",
            code="missing_key",
        )


def _sealed(key: Key, name: str, value: str, updated_at: datetime) -> SealedSecret:
    return SealedSecret(key.id, key.seal(name, value), updated_at)


def _check_value(name: str, value: str) -> None:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= _MOST_BYTES:
        raise ConfigError(
            f"the secret {name!r} should be UTF-8 text of 1 to {_MOST_BYTES} bytes", code="secret_value"
        )
