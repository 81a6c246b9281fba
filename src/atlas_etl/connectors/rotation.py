"""Where secrets go that a system replaces with others while it is used."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Protocol

from pydantic import SecretStr


class SecretKeeper(Protocol):
    """Where secrets are kept that a system replaces while they are used. Its calls raise AtlasError."""

    def exchanging(self, used: SecretStr) -> AbstractContextManager[datetime | None]:
        """Be alone, of all processes, while a system gives another secret for this one, which it takes once.

        Gives when an exchange of this very value began that never ended: its process was killed, say. One
        that is left by an exception has not ended either.
        """

    def keep(self, old: SecretStr, new: SecretStr) -> bool:
        """Store the new value in the old one's place. False: it is not kept here."""

    def current(self, used: SecretStr) -> SecretStr | None:
        """What is stored now where this value was; None: it is not kept here."""


class KeptNowhere:
    """A keeper of nothing."""

    def exchanging(self, used: SecretStr) -> AbstractContextManager[None]:  # noqa: ARG002
        return nullcontext()

    def keep(self, old: SecretStr, new: SecretStr) -> bool:  # noqa: ARG002
        return False

    def current(self, used: SecretStr) -> None:
        """Nothing is stored."""
