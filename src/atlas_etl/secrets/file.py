"""The shelf of a project on one machine: `.atlas/secrets.json`, replaced whole, a token for each secret."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from atlas_etl.config.atomic import PRIVATE, write_atomically
from atlas_etl.config.exposure import refuse_exposed
from atlas_etl.errors import ConfigError
from atlas_etl.model import SealedSecret
from atlas_etl.secrets.folder import make_private_folder

_VERSION = 1
_LONGEST_WAIT = 30.0
_BETWEEN_TRIES = 0.02


class FileShelf:
    """A SecretShelf (see contracts) in a folder. Writers take turns, by a lock; readers need none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "secrets.json"

    def sealed(self) -> Mapping[str, SealedSecret]:
        try:
            with open(self._file, encoding="utf-8") as file:
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
def _alone(lock: Path) -> Iterator[None]:
    try:
        opened = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"{lock} cannot be opened: {error.strerror}", code="file_unwritable") from None
    try:
        _wait_for(opened, lock)
        yield
    finally:
        os.close(opened)


def _wait_for(opened: int, lock: Path) -> None:
    until = time.monotonic() + _LONGEST_WAIT
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise ConfigError(
                    f"{lock} is held by another process for more than {_LONGEST_WAIT:.0f} s",
                    hint="look for an `atlas` process that hangs",
                    code="secrets_busy",
                ) from None
            time.sleep(_BETWEEN_TRIES)
        except OSError as error:
            raise ConfigError(f"{lock} cannot be locked: {error.strerror}", code="file_unwritable") from None


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


def _parsed(text: str, file: Path) -> dict[str, SealedSecret]:
    try:
        document = json.loads(text)
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
