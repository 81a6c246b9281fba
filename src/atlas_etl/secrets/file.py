"""The shelf of a project on one machine: `.atlas/secrets.json`, replaced whole, a token for each secret."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from atlas_etl.config.atomic import PRIVATE, write_atomically
from atlas_etl.config.exposure import refuse_exposed
from atlas_etl.config.regular import open_regular
from atlas_etl.errors import ConfigError
from atlas_etl.model import SealedSecret
from atlas_etl.secrets.folder import make_private_folder

_VERSION = 1
_LONGEST_WAIT = 30.0
_LONGEST_EXCHANGE = 600.0  # a request of some minutes, which fails by then
_BETWEEN_TRIES = 0.02


class FileShelf:
    """A SecretShelf (see contracts) in a folder. Writers take turns, by a lock; readers need none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "secrets.json"

    def sealed(self) -> Mapping[str, SealedSecret]:
        try:
            with open_regular(self._file) as file:
                refuse_exposed(self._file, os.fstat(file.fileno()))
                return _parsed(file.read(), self._file)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigError(
                f"{self._file} cannot be read: {error.strerror}", code="secrets_unreadable"
            ) from None

    @contextmanager
    def changing(self) -> Iterator[MutableMapping[str, SealedSecret]]:
        make_private_folder(self._folder)
        with _alone(self._folder / "secrets.lock"):
            before = self.sealed()
            after = dict(before)
            yield after
            if after != before:
                write_atomically(self._file, _written(after), PRIVATE)

    @contextmanager
    def exchanging(self, name: str, digest: str) -> Iterator[datetime | None]:
        """Be alone while a secret, whose value has this digest, is exchanged for another one at a system.

        Gives when an exchange of the same value began that never ended; one that an exception ends has not.
        Raises ConfigError (`file_unwritable`, `secrets_busy`).
        """
        make_private_folder(self._folder)
        lock = self._folder / f"exchange-{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock"
        with _alone(lock, _LONGEST_EXCHANGE) as opened:
            broken_off = _noted(os.pread(opened, 1024, 0), digest)
            if broken_off is None:
                _note(opened, f"{datetime.now(UTC).isoformat()} {digest}\n")
            yield broken_off
            with suppress(ConfigError):
                _note(opened, "")


@contextmanager
def _alone(lock: Path, longest: float = _LONGEST_WAIT) -> Iterator[int]:
    try:
        opened = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"{lock} cannot be opened: {error.strerror}", code="file_unwritable") from None
    try:
        _wait_for(opened, lock, longest)
        yield opened
    finally:
        os.close(opened)


def _wait_for(opened: int, lock: Path, longest: float) -> None:
    until = time.monotonic() + longest
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise ConfigError(
                    f"{lock} is held by another process for more than {longest:.0f} s",
                    hint="look for an `atlas` process that hangs",
                    code="secrets_busy",
                ) from None
            time.sleep(_BETWEEN_TRIES)
        except OSError as error:
            raise ConfigError(f"{lock} cannot be locked: {error.strerror}", code="file_unwritable") from None


def _note(opened: int, text: str) -> None:
    try:
        os.ftruncate(opened, 0)
        os.pwrite(opened, text.encode(), 0)
        os.fsync(opened)
    except OSError as error:
        why = f"what is done with a secret cannot be noted: {error.strerror}"
        raise ConfigError(why, code="file_unwritable") from None


def _noted(content: bytes, digest: str) -> datetime | None:
    """When the exchange of this value began; None: of another one, or of none."""
    began, _, noted = content.decode("ascii", "replace").strip().partition(" ")
    try:
        return datetime.fromisoformat(began) if noted == digest else None
    except ValueError:
        return None


def _written(secrets: Mapping[str, SealedSecret]) -> str:
    lines = {
        name: {
            "key": found.key_id,
            "token": base64.b64encode(found.token).decode(),
            "updated_at": found.updated_at.astimezone(UTC).isoformat(),
        }
        for name, found in sorted(secrets.items())
    }
    return json.dumps({"version": _VERSION, "secrets": lines}, indent=1) + "\n"


def _parsed(content: bytes, file: Path) -> dict[str, SealedSecret]:
    try:
        document = json.loads(content)
        if document["version"] != _VERSION:
            raise ConfigError(
                f"{file} was written by a later version of atlas-etl", hint="upgrade it", code="secrets_newer"
            )
        return {
            name: SealedSecret(
                line["key"],
                base64.b64decode(line["token"], validate=True),
                datetime.fromisoformat(line["updated_at"]),
            )
            for name, line in document["secrets"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConfigError(
            f"{file} is damaged",
            hint="bring it back from a backup, or remove it and set the secrets again",
            code="secrets_damaged",
        ) from None
