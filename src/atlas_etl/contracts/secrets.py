"""Where a project's secrets lie: sealed, under names. Nobody behind this contract can read one."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager
from typing import Protocol

from atlas_etl.model import SealedSecret


class SecretShelf(Protocol):
    """Sealed secrets by name, in a file or in a table."""

    def sealed(self) -> Mapping[str, SealedSecret]:
        """All of them, as one change left them. Raises ConfigError or StateError."""

    def changing(self) -> AbstractContextManager[MutableMapping[str, SealedSecret]]:
        """All of them, to be changed by nobody else meanwhile.

        Kept, whole and durably, when the block is left; left by an exception, or killed before, they are
        as they were. Raises ConfigError or StateError.
        """
