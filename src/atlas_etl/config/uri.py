"""One-line connections as SQLAlchemy and libpq users write them: `postgresql://user@host/shop?sslmode=require`.

Forms: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS for servers;
`sqlite:///relative.db`, `sqlite:////absolute.db`, `duckdb:///x.duckdb` for files.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from atlas_etl.config.yaml_source import Value
from atlas_etl.errors import ConfigError

# Where a protocol's file goes; every other protocol is a server.
_FILE_KEYS: Mapping[str, str] = {
    "sqlite": "database_path",
    "sqlite3": "database_path",
    "duckdb": "path",
    "csv": "path",
    "jsonl": "path",
    "parquet": "path",
}


def parse_uri(uri: str) -> dict[str, Value]:
    """The `protocol` and the connection's keys. Raises ConfigError, which does not show the URI."""
    try:
        parts = urlsplit(uri)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _error("its host, port or parameters cannot be read") from None
    protocol = parts.scheme.partition("+")[0].lower()
    if not protocol or "://" not in uri:
        raise _error("it does not begin with `protocol://`")
    options = dict(query)
    if len(options) != len(query):
        raise _error("a parameter is given twice")
    values: dict[str, Value] = {"protocol": protocol}
    if protocol in _FILE_KEYS:
        if parts.netloc:
            raise _error(f"a file is written as {protocol}:///path, with three slashes")
        values[_FILE_KEYS[protocol]] = unquote(parts.path.removeprefix("/")) or ":memory:"
    else:
        given = {
            "host": unquote(parts.hostname) if parts.hostname else options.pop("host", None),
            "port": port,
            "database": unquote(parts.path.removeprefix("/")),
            "username": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
        }
        values |= {key: value for key, value in given.items() if value not in (None, "")}
    if options:
        values["options"] = {**options}
    return values


def _error(why: str) -> ConfigError:
    return ConfigError(
        f"a connection URI is wrong: {why}",
        hint="protocol://user:password@host:port/database?option=value; escape special characters with %XX",
        code="invalid_uri",
    )
