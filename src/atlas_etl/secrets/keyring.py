"""The operating system's keyring, by the package `keyring`."""

from __future__ import annotations

from types import ModuleType

from atlas_etl.errors import ConfigError
from atlas_etl.secrets.packages import imported


def password_of(service: str, user: str) -> str | None:
    """What the keyring has for a service and a user; None: nothing. Raises ConfigError."""
    keyring = _keyring()
    try:
        found: str | None = keyring.get_password(service, user)
    except keyring.errors.KeyringError as failure:
        raise _refusal(failure) from None
    return found


def keep_password(service: str, user: str, password: str) -> None:
    """Raises ConfigError."""
    keyring = _keyring()
    try:
        keyring.set_password(service, user, password)
    except keyring.errors.KeyringError as failure:
        raise _refusal(failure) from None


def _keyring() -> ModuleType:
    imported("keyring.errors", "keyring")
    return imported("keyring", "keyring")


def _refusal(failure: Exception) -> ConfigError:
    # Its own words may quote what it was asked to keep.
    return ConfigError(
        f"the operating system's keyring cannot be used: {type(failure).__name__}",
        hint="unlock it; on a machine without one, use another kind of reference and ATLAS_SECRET_KEY",
        code="keyring",
    )
