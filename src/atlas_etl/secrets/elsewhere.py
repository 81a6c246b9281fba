"""Secrets that others keep: what each kind of reference stands for, asked for when a connection needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from atlas_etl.errors import ConfigError
from atlas_etl.redactor import learn
from atlas_etl.secrets.aws import aws_secret
from atlas_etl.secrets.command import output_of
from atlas_etl.secrets.gcp import gcp_secret
from atlas_etl.secrets.keyring import password_of
from atlas_etl.secrets.vault import vault_secret


def lookups(folder: Path, environ: Mapping[str, str]) -> Mapping[str, Callable[[str], str]]:
    """By kind: from what stands behind the colon to the secret. Each raises ConfigError."""
    found: Mapping[str, Callable[[str], str]] = {
        "keyring": _keyring,
        "cmd": lambda written: output_of(written, folder, environ),
        "vault": lambda written: vault_secret(written, environ),
        "aws-sm": aws_secret,
        "gcp-sm": gcp_secret,
    }
    return {kind: _learning(look_up) for kind, look_up in found.items()}


def _learning(look_up: Callable[[str], str]) -> Callable[[str], str]:
    """The same, whose answers are masked from then on, wherever they stand in a definition."""

    def learned(written: str) -> str:
        value = look_up(written)
        learn([value])
        return value

    return learned


def _keyring(written: str) -> str:
    service, _, user = written.rpartition("/")
    if not service or not user:
        raise ConfigError(
            "a `keyring` reference needs a service and a user",
            hint="${keyring:SERVICE/USER}",
            code="reference_syntax",
        )
    found = password_of(service, user)
    if found is None:
        raise ConfigError(
            f"the operating system's keyring has nothing for {written!r}",
            hint=f"keyring set {service} {user}",
            code="missing_secret",
        )
    return found
