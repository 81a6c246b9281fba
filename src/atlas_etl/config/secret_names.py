"""What secrets are called: `NAME/field` of a connector, and for deeper keys as in `api/auth/token`."""

from __future__ import annotations

import re
from urllib.parse import quote

from atlas_etl.config.keys import KeyPath
from atlas_etl.errors import ConfigError

_PART = r"[A-Za-z0-9_.~%-]+"
_NAME = re.compile(rf"{_PART}(?:/{_PART})+")
_LONGEST = 255
PROTECT_KEY = "atlas.protect/key"  # that of `protect`; no connector has such a name


def check_secret_name(name: str) -> str:
    """Raises ConfigError (`secret_name`)."""
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a secret's name",
            hint="NAME/FIELD in letters, digits and `_ . - ~ %`, e.g. shop/password",
            code="secret_name",
        )
    return name


def secret_name(connector: str, key: KeyPath) -> str:
    """The secret of a key of a connector's connection; what a name cannot hold is percent-encoded."""
    return check_secret_name("/".join((connector, *(quote(str(part), safe="") for part in key))))


def secrets_of(connector: str) -> str:
    """What the names of a connector's secrets begin with."""
    return f"{connector}/"


def reference_to(name: str) -> str:
    """How a definition refers to a secret."""
    return f"${{secret:{name}}}"
