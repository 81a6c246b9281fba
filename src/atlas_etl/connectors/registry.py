"""The factory's table: protocol -> module, what it does, and what to install; modules load when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from atlas_etl.errors import ConfigError, MissingDriverError, UnknownProtocolError, nearest

if TYPE_CHECKING:
    from atlas_etl.connectors.base import Adapter

ENTRY_POINT_GROUP = "atlas_etl.connectors"


@dataclass(frozen=True, slots=True)
class ProtocolInfo:
    """One line of `connector types`, known without loading the protocol's module."""

    protocol: str
    module: str
    summary: str
    reads: bool = True
    writes: bool = True
    aliases: tuple[str, ...] = ()
    extra: str | None = None  # `pip install "atlas-etl[extra]"`
    requires: tuple[str, ...] = ()  # import names of the drivers

    @property
    def installed(self) -> bool:
        return all(find_spec(name) is not None for name in self.requires)


_BUILT_IN = (
    ProtocolInfo(
        "postgresql", "atlas_etl.connectors.sql.postgresql", "PostgreSQL tables, views and queries",
        aliases=("postgres", "pg"), requires=("psycopg",),
    ),
    ProtocolInfo(
        "mysql", "atlas_etl.connectors.sql.mysql", "MySQL and MariaDB tables, views and queries",
        aliases=("mariadb",), requires=("pymysql",),
    ),
    ProtocolInfo(
        "sqlite", "atlas_etl.connectors.sql.sqlite", "a SQLite file's tables, views and queries",
        aliases=("sqlite3",), requires=("adbc_driver_sqlite",),
    ),
    ProtocolInfo(
        "duckdb", "atlas_etl.connectors.sql.duckdb", "a DuckDB file: the embedded warehouse",
        requires=("duckdb",),
    ),
    ProtocolInfo("csv", "atlas_etl.connectors.files.csv", "CSV files, plain, gzip or zstd"),
    ProtocolInfo(
        "jsonl", "atlas_etl.connectors.files.jsonl", "JSON lines files, plain, gzip or zstd",
        aliases=("ndjson", "json_lines"),
    ),
    ProtocolInfo("parquet", "atlas_etl.connectors.files.parquet", "Parquet files"),
)  # fmt: skip

_PROTOCOLS: Mapping[str, ProtocolInfo] = {info.protocol: info for info in _BUILT_IN}
_ALIASES: Mapping[str, str] = {alias: info.protocol for info in _BUILT_IN for alias in info.aliases}


def protocols() -> tuple[ProtocolInfo, ...]:
    """Every built-in protocol and every one that an installed package adds, by name."""
    external = (_external(point.name) for point in entry_points(group=ENTRY_POINT_GROUP))
    found = {info.protocol: info for info in external if info is not None}
    return tuple(sorted({**found, **_PROTOCOLS}.values(), key=lambda info: info.protocol))


def canonical(protocol: str) -> str:
    """The protocol's own name for a name or an alias in any case. Raises UnknownProtocolError."""
    return info(protocol).protocol


def info(protocol: str) -> ProtocolInfo:
    """What is known of a protocol. Raises UnknownProtocolError with the nearest names."""
    name = protocol.strip().lower()
    name = _ALIASES.get(name, name)
    found = _PROTOCOLS.get(name) or _external(name)
    if found is None:
        known = [*_PROTOCOLS, *_ALIASES, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))]
        raise UnknownProtocolError(
            f"there is no protocol {protocol!r}",
            hint=nearest(name, known) or "`atlas connector types` lists the protocols",
        )
    return found


def load(protocol: str) -> Adapter[Any]:
    """The protocol's adapter. Raises UnknownProtocolError and MissingDriverError."""
    found = info(protocol)
    try:
        module = importlib.import_module(found.module)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "atlas_etl":
            raise
        package = f'"atlas-etl[{found.extra}]"' if found.extra else missing.name
        raise MissingDriverError(
            f"protocol {found.protocol!r} needs the package {missing.name!r}, which is not installed",
            hint=f"pip install {package}",
        ) from missing
    adapter: Adapter[Any] = module.ADAPTER
    return adapter


def _external(name: str) -> ProtocolInfo | None:
    """A protocol of another package: an entry point whose value is the module that holds ADAPTER."""
    for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
        try:
            module = importlib.import_module(point.module)
        except ImportError as failure:
            raise ConfigError(
                f"the package that adds protocol {name!r} cannot be imported: {failure}",
                code="broken_plugin",
            ) from failure
        summary = (module.__doc__ or "").strip().partition("\n")[0]
        offers: Adapter[Any] = module.ADAPTER
        return ProtocolInfo(
            name, point.module, summary,
            reads=offers.connector is not None, writes=offers.destination is not None,
        )  # fmt: skip
    return None
