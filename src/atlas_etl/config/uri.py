"""One-line connections as SQLAlchemy and libpq users write them: `postgresql://user@host/shop?sslmode=require`.

Forms: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS for servers, several
hosts too; `sqlite:///relative.db`, `sqlite:////absolute.db`, `duckdb:///x.duckdb` for files; and paths.
"""

from __future__ import annotations

import re
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
# Which protocol a path without one is of.
_ENDINGS: Mapping[str, str] = {
    "duckdb": "duckdb",
    "ddb": "duckdb",
    "db": "sqlite",
    "sqlite": "sqlite",
    "sqlite3": "sqlite",
    "csv": "csv",
    "tsv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "parquet": "parquet",
}
_ENDING = re.compile(r"\.(\w+)(?:\.(?:gz|zst))?$")
_HOST = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::(\d*))?")


def parse_location(text: str) -> dict[str, Value]:
    """As `parse_uri`, of a path too, whose ending says what it is; a folder is one of Parquet files.

    Raises ConfigError, which does not show the text.
    """
    path = text if "://" not in text else None
    if path is None and text[:8].lower() == "file:///":
        path = unquote(text[7:])
    if path is None:
        return parse_uri(text)
    ending = _ENDING.search(path)
    protocol = "parquet" if path.endswith("/") else _ENDINGS.get(ending[1].lower()) if ending else None
    if protocol is None:
        raise ConfigError(
            "it is neither a URI nor a path that says what it holds",
            hint="protocol://user:password@host:port/database, or a path that ends in "
            f"{', '.join(f'.{each}' for each in _ENDINGS)} or, as a folder of Parquet files, in /",
            code="invalid_uri",
        )
    return {"protocol": protocol, _FILE_KEYS[protocol]: path}


def parse_uri(uri: str) -> dict[str, Value]:
    """The `protocol` and the connection's keys. Raises ConfigError, which does not show the URI."""
    try:
        parts = urlsplit(uri)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _error("its host, port or parameters cannot be read") from None
    protocol = parts.scheme.partition("+")[0].lower()
    if not protocol or "://" not in uri:
        raise _error("it does not begin with `protocol://`")
    options: dict[str, Value] = {**dict(query)}
    if len(options) != len(query):
        raise _error("a parameter is given twice")
    values: dict[str, Value] = {"protocol": protocol}
    if protocol in _FILE_KEYS:
        if parts.netloc:
            raise _error(f"a file is written as {protocol}:///path, with three slashes")
        path = unquote(parts.path.removeprefix("/"))
        if path or protocol != "duckdb":  # which is in memory without a path
            values[_FILE_KEYS[protocol]] = path or ":memory:"
    else:
        if "@" in parts.path or parts.fragment:  # most likely the end of a password
            raise _error("a `/`, `?`, `#` or `@` in it is not escaped")
        host, ports = _hosts(parts.netloc.rpartition("@")[2])
        given = {
            "host": host or options.pop("host", None),
            "port": int(ports) if ports.isdecimal() else None,
            "database": unquote(parts.path.removeprefix("/")),
            "username": unquote(parts.username or ""),
            "password": unquote(parts.password or ""),
        }
        values |= {key: value for key, value in given.items() if value not in (None, "")}
        if "," in ports:
            options["port"] = ports
    if options:
        values["options"] = {**options}
    return values


def _hosts(netloc: str) -> tuple[str, str]:
    """The host and its port as text; of several hosts all, with commas, and one port where it is the same."""
    found = [_HOST.fullmatch(each) for each in netloc.split(",")]
    hosts = [match[1].strip("[]") for match in found if match]
    ports = [match[2] or "" for match in found if match]
    if len(hosts) < len(found) or any(port and not 0 < int(port) < 65536 for port in ports):
        raise _error("its host, port or parameters cannot be read")
    return unquote(",".join(hosts)), ports[0] if len({*ports}) == 1 else ",".join(ports)


def _error(why: str) -> ConfigError:
    return ConfigError(
        f"a connection URI is wrong: {why}",
        hint="protocol://user:password@host:port/database?option=value; escape special characters with %XX",
        code="invalid_uri",
    )
