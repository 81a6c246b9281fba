"""Secrets that a system replaces while it is used: written back to where the definition refers to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import SecretStr

WriteSecrets = Callable[[Mapping[str, str]], None]


class KeptSecrets:
    """The stored secrets of one connection, found by their values: wherever in it a protocol uses them."""

    def __init__(self, names: Mapping[str, str], *, read: Callable[[str], str], write: WriteSecrets) -> None:
        """`names` has the name in the store by the value. `read` looks one up, `write` gives new values."""
        self._names = dict(names)
        self._read = read
        self._write = write

    def keep(self, old: SecretStr, new: SecretStr) -> bool:
        """Store the new value under the old one's name. False: it is not kept here. Raises AtlasError."""
        name = self._names.get(old.get_secret_value())
        if name is None:
            return False
        self._names[new.get_secret_value()] = name
        self._write({name: new.get_secret_value()})
        return True

    def current(self, used: SecretStr) -> SecretStr | None:
        """What is stored now, by another process perhaps, under this value's name. Raises AtlasError."""
        name = self._names.get(used.get_secret_value())
        if name is None:
            return None
        found = self._read(name)
        self._names[found] = name
        return SecretStr(found)
