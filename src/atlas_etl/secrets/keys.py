"""Where a project's keys are: ATLAS_SECRET_KEY, the operating system's keyring, or .atlas/secret.key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from atlas_etl.config.atomic import PRIVATE, write_atomically
from atlas_etl.config.exposure import refuse_exposed
from atlas_etl.config.regular import open_regular
from atlas_etl.errors import ConfigError
from atlas_etl.secrets.folder import make_private_folder
from atlas_etl.secrets.keyring import keep_password, password_of
from atlas_etl.secrets.sealing import KeyRing

VARIABLE = "ATLAS_SECRET_KEY"
_MOST_BYTES = 64 * 1024
_SERVICE = "atlas-etl"


class KeySource(Protocol):
    """Where the ring is kept, by the name that messages use."""

    place: str
    is_given: bool  # by whoever starts the process, so that no key can be made here

    def ring(self) -> KeyRing:
        """The keys, none where none was ever made. Raises ConfigError."""

    def keep(self, ring: KeyRing) -> None:
        """Replace the ring, durably, whole or not at all. Raises ConfigError."""


def key_source(folder: Path, environ: Mapping[str, str], *, in_keyring: bool) -> KeySource:
    """The source of a project's keys: the variable where it is set, else what the project says."""
    given = environ.get(VARIABLE)
    if given:
        return _EnvironmentKeys(given)
    return _KeyringKeys(folder) if in_keyring else _FileKeys(folder / "secret.key")


class _EnvironmentKeys:
    place = VARIABLE
    is_given = True

    def __init__(self, text: str) -> None:
        self._text = text

    def ring(self) -> KeyRing:
        return KeyRing.parse(self._text, VARIABLE)

    def keep(self, ring: KeyRing) -> None:  # noqa: ARG002
        raise ConfigError(
            f"{VARIABLE} holds no key", hint="`openssl rand -base64 32` makes one", code="secret_key"
        )


class _KeyringKeys:
    """One entry of the operating system's keyring for each project folder."""

    place = "the operating system's keyring"
    is_given = False

    def __init__(self, folder: Path) -> None:
        self._user = str(folder.parent)

    def ring(self) -> KeyRing:
        return KeyRing.parse(password_of(_SERVICE, self._user) or "", self.place)

    def keep(self, ring: KeyRing) -> None:
        keep_password(_SERVICE, self._user, ring.text())


class _FileKeys:
    """A file for its owner only, a key a line; version control is told to leave its folder alone."""

    is_given = False

    def __init__(self, file: Path) -> None:
        self._file = file
        self.place = str(file)

    def ring(self) -> KeyRing:
        try:
            with open_regular(self._file) as file:
                refuse_exposed(self._file, os.fstat(file.fileno()))
                return KeyRing.parse(file.read(_MOST_BYTES).decode("ascii", "replace"), self.place)
        except FileNotFoundError:
            return KeyRing()
        except OSError as error:
            raise ConfigError(f"{self.place} cannot be read: {error.strerror}", code="secret_key") from None

    def keep(self, ring: KeyRing) -> None:
        make_private_folder(self._file.parent)
        write_atomically(self._file, ring.text(), PRIVATE)
