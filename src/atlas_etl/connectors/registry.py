"""The factory's table: protocol -> module, what it does, and what to install; modules load when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from atlas_etl.errors import ConfigError, MissingDriverError, UnknownProtocolError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from atlas_etl.connectors.base import Adapter

ENTRY_POINT_GROUP = "atlas_etl.connectors"


class ProtocolInfo(Struct, frozen=True):
    """One line of `connector types`, known without loading the protocol's module."""

    protocol: str
    module: str
    summary: str
    reads: bool = True
    writes: bool = True
    aliases: tuple[str, ...] = ()
    extra: str | None = None  # `pip install "atlas-etl[extra]"`
    requires: tuple[str, ...] = ()  # import names of the drivers
    preset: Path | None = None  # the file of which the module makes the protocol
    remedy: str | None = None  # what to do about another package's protocol that cannot be loaded

    @property
    def installed(self) -> bool:
        return self.remedy is None and all(find_spec(name) is not None for name in self.requires)

    @property
    def install_hint(self) -> str:
        """What makes a protocol work that is not installed."""
        return self.remedy or _pip_install(self.requires[0], "atlas-etl", self.extra)


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
        "mssql", "atlas_etl.connectors.sql.mssql", "SQL Server and Azure SQL tables, views and queries",
        aliases=("sqlserver", "azuresql"), extra="mssql", requires=("pymssql",),
    ),
    ProtocolInfo(
        "oracle", "atlas_etl.connectors.sql.oracle", "Oracle Database tables, views and queries",
        aliases=("oracledb",), extra="oracle", requires=("oracledb",),
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
    ProtocolInfo(
        "http", "atlas_etl.connectors.http.http", "an HTTP API's resources: JSON, page by page",
        writes=False, aliases=("rest", "rest_api"), requires=("requests",),
    ),
    ProtocolInfo(
        "graphql", "atlas_etl.connectors.http.graphql", "a GraphQL API's queries, page by page",
        writes=False, requires=("requests",),
    ),
    ProtocolInfo(
        "soap", "atlas_etl.connectors.http.soap", "a SOAP service's operations, as its WSDL describes them",
        writes=False, extra="soap", requires=("zeep",),
    ),
    ProtocolInfo("parquet", "atlas_etl.connectors.files.parquet", "Parquet files"),
)  # fmt: skip


def _preset(file: Path) -> ProtocolInfo:
    """A vendor's API, whose file says in its first line what it is."""
    with file.open(encoding="utf-8") as lines:
        summary = lines.readline().removeprefix("#").strip()
    return ProtocolInfo(
        file.stem, "atlas_etl.connectors.http.preset", summary,
        writes=False, requires=("requests",), preset=file,
    )  # fmt: skip


_PRESETS = tuple(map(_preset, sorted((Path(__file__).parent / "http" / "presets").glob("*.yaml"))))

_PROTOCOLS: Mapping[str, ProtocolInfo] = {info.protocol: info for info in (*_BUILT_IN, *_PRESETS)}
_ALIASES: Mapping[str, str] = {alias: info.protocol for info in _BUILT_IN for alias in info.aliases}


# What pip calls a package that Python imports under another name, or that is no use without an extra.
_PACKAGES = {
    "psycopg": "psycopg[binary]",
    "adbc_driver_sqlite": "adbc-driver-sqlite",
    "adbc_driver_manager": "adbc-driver-manager",
}


def names() -> list[str]:
    """Every protocol's name, those of other packages too, none of which is loaded."""
    others = (point.name.lower() for point in _points())
    return sorted({*_PROTOCOLS, *(name for name in others if name not in _ALIASES)})


def preset(protocol: str) -> Path | None:
    """The file of which this protocol is made, whatever its case; None where it is no preset."""
    found = _PROTOCOLS.get(protocol.strip().lower())
    return found.preset if found is not None else None


def protocols() -> tuple[ProtocolInfo, ...]:
    """Every built-in protocol and every one that an installed package adds, by name.

    A package whose protocol cannot be loaded is listed with what to do about it.
    """
    found = dict(_PROTOCOLS)
    for point in _points():
        name = point.name.lower()
        if name not in found and name not in _ALIASES:
            try:
                found[name] = info(name)
            except ConfigError as failure:
                found[name] = ProtocolInfo(
                    name, point.module, failure.message, reads=False, writes=False, remedy=failure.hint
                )
    return tuple(found[name] for name in sorted(found))


def canonical(protocol: str) -> str:
    """The protocol's own name for a name or an alias in any case. Raises UnknownProtocolError."""
    return info(protocol).protocol


def is_built_in(protocol: str) -> bool:
    """Whether the protocol is one of this package's, by its name or an alias in any case."""
    name = protocol.strip().lower()
    return _ALIASES.get(name, name) in _PROTOCOLS


def info(protocol: str) -> ProtocolInfo:
    """What is known of a protocol. Raises UnknownProtocolError with the nearest names.

    Only a name that no built-in protocol has is looked for among other packages: none can take one over.
    Raises ConfigError and MissingDriverError where such a package cannot be loaded.
    """
    name = protocol.strip().lower()
    name = _ALIASES.get(name, name)
    found = _PROTOCOLS.get(name) or _external(name)
    if found is None:
        known = [*_PROTOCOLS, *_ALIASES, *(point.name for point in _points())]
        raise UnknownProtocolError(
            f"there is no protocol {protocol!r}",
            hint=nearest(name, known) or "`atlas connector types` lists the protocols",
        )
    return found


def load(protocol: str) -> Adapter[Any]:
    """The protocol's adapter. Raises UnknownProtocolError, MissingDriverError and ConfigError."""
    found = info(protocol)
    try:
        module = importlib.import_module(found.module)
    except ImportError as failure:
        missing = failure.name if isinstance(failure, ModuleNotFoundError) else None
        driver = missing or next(iter(found.requires), None)
        if driver is None or _top(failure.name or "") == "atlas_etl":
            raise
        raise _missing_driver(found.protocol, failure, driver, "atlas-etl", found.extra) from failure
    adapter: Adapter[Any] = module.ADAPTER if found.preset is None else module.adapter(found.preset)
    return adapter


def _external(name: str) -> ProtocolInfo | None:
    """A protocol of another package: an entry point whose value is the module that holds ADAPTER."""
    points = [point for point in _points() if point.name.lower() == name]
    if len(points) > 1:
        packages = " and ".join(sorted(map(_package, points)))
        raise ConfigError(
            f"the packages {packages} both add the protocol {name!r}",
            hint="uninstall one of them",
            code="ambiguous_protocol",
        )
    return _described(name, points[0]) if points else None


def _described(name: str, point: EntryPoint) -> ProtocolInfo:
    package = _package(point)
    extra = ",".join(point.extras) or None
    try:
        module = importlib.import_module(point.module)
        offers: Adapter[Any] = module.ADAPTER
        reads, writes = offers.connector is not None, offers.destination is not None
    except Exception as failure:  # a package of somebody else may raise anything
        missing = failure.name if isinstance(failure, ModuleNotFoundError) else None
        if missing is not None and _top(missing) not in ("atlas_etl", _top(point.module)):
            raise _missing_driver(name, failure, missing, package, extra) from failure
        raise ConfigError(
            f"the package {package}, which adds the protocol {name!r}, cannot be loaded: "
            f"{type(failure).__name__}: {failure}",
            hint=f"install another version of {package}, or remove it with `pip uninstall {package}`",
            code="broken_plugin",
        ) from failure
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    return ProtocolInfo(name, point.module, summary, reads=reads, writes=writes, extra=extra)


def _missing_driver(
    protocol: str, failure: Exception, driver: str, distribution: str, extra: str | None
) -> MissingDriverError:
    driver = _top(driver)
    why = "is not installed"
    if not isinstance(failure, ModuleNotFoundError):
        reason = str(failure).strip().partition("\n")[0]
        why = f"cannot be loaded: {reason}"
    return MissingDriverError(
        f"protocol {protocol!r} needs the package {driver!r}, which {why}",
        hint=_pip_install(driver, distribution, extra),
    )


def _pip_install(driver: str, distribution: str, extra: str | None) -> str:
    package = f"{distribution}[{extra}]" if extra else _PACKAGES.get(driver, driver)
    return f'pip install "{package}"' if "[" in package else f"pip install {package}"


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else _top(point.module)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _points() -> Sequence[EntryPoint]:
    from importlib.metadata import entry_points  # takes its time, and only other packages' names need it

    return tuple(entry_points(group=ENTRY_POINT_GROUP))
