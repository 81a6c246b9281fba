"""Where a test server is, and what is said when there is none."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

REQUIREMENTS = frozenset({"postgres", "mysql", "redis", "ssh", "airflow", "registry"})
"""What `ATLAS_TEST_REQUIRE` may name; `registry` is a package registry that pip or uv can reach,
`airflow` an environment that has it, made where it is required."""


class Unavailable(Exception):
    """This cannot be had here; the text says why and which command would mend it."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """One database of a running server, and an account that may create others beside it."""

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    database: str

    @classmethod
    def from_url(cls, url: str, *, port: int, database: str) -> ServerAddress:
        """The address in `scheme://username:password@host:port/database`, defaults filled in."""
        parts = urlsplit(url)
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or port,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=unquote(parts.path.lstrip("/")) or database,
        )

    def url(self, scheme: str) -> str:
        """The address as a URL of this scheme, everything in it quoted."""
        account = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return f"{scheme}://{account}@{self.host}:{self.port}/{quote(self.database, safe='')}"


def required() -> frozenset[str]:
    """The names that `ATLAS_TEST_REQUIRE` turns from skips into failures; `ValueError` for an unknown one."""
    names = frozenset(name.strip() for name in os.environ.get("ATLAS_TEST_REQUIRE", "").split(",")) - {""}
    if unknown := names - REQUIREMENTS:
        known = ", ".join(sorted(REQUIREMENTS))
        raise ValueError(f"ATLAS_TEST_REQUIRE names {', '.join(sorted(unknown))}; known are {known}")
    return names
