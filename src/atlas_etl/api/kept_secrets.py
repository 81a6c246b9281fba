"""Secrets that a system replaces while it is used: written back to where the definition refers to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime

from pydantic import SecretStr

from atlas_etl.errors import AtlasError

WriteSecrets = Callable[[Mapping[str, str]], None]
Exchange = Callable[[str, str], AbstractContextManager[datetime | None]]
"""Of a stored secret's name, and a digest of its value (see SecretKeeper.exchanging)."""


class KeptSecrets:
    """The stored secrets of one connection, found by their values: wherever in it a protocol uses them."""

    def __init__(
        self,
        names: Mapping[str, str],
        *,
        read: Callable[[str], str],
        write: WriteSecrets,
        exchange: Exchange,
    ) -> None:
        """`names` has the name in the store by the value. `read` looks one up, `write` gives new values."""
        self._names = dict(names)
        self._read = read
        self._write = write
        self._exchange = exchange

    @contextmanager
    def exchanging(self, used: SecretStr) -> Iterator[datetime | None]:
        """As SecretKeeper says. Where nothing can be locked, nothing can be stored: `keep` tells of that."""
        name = self._names.get(used.get_secret_value())
        with ExitStack() as stack:
            broken_off = None
            if name is not None:
                digest = hashlib.sha256(used.get_secret_value().encode()).hexdigest()
                try:
                    broken_off = stack.enter_context(self._exchange(name, digest))
                except AtlasError as failure:
                    if failure.code != "file_unwritable":
                        raise
            yield broken_off

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
