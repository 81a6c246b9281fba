"""The public library for scripts and notebooks: connectors and native clients from a few settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from atlas_etl.config.problems import config_error
from atlas_etl.config.stored_secrets import secrets_in
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import Adapter, BaseConnector, ConnectionConfig
from atlas_etl.connectors.cache import ClientCache
from atlas_etl.errors import AtlasError, ConfigError
from atlas_etl.redactor import learn

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from sqlalchemy import Engine

_CLIENTS = ClientCache()


def create_connector(settings: Mapping[str, object]) -> BaseConnector[ConnectionConfig]:
    """A connector from `{"protocol": ..., ...}`, the connection's keys beside it.

    Relative paths begin at the working directory, here and in every call below. Raises
    UnknownProtocolError, MissingDriverError, and ConfigError where a key is wrong.
    """
    protocol = settings.get("protocol")
    if not isinstance(protocol, str):
        raise ConfigError(
            "the settings have no `protocol`", hint='{"protocol": "postgresql", ...}', code="no_protocol"
        )
    adapter, config = _validated(protocol, {k: v for k, v in settings.items() if k != "protocol"})
    if adapter.connector is None:
        raise ConfigError(f"protocol {protocol!r} cannot be read from", code="not_readable")
    return cast(BaseConnector[ConnectionConfig], adapter.connector(config))


def get_connection(protocol: str, *, reuse: bool = True, **config: object) -> object:
    """The native client: a SQLAlchemy engine for SQL servers and SQLite, the driver's own elsewhere.

    The same settings give the same client until `close_all_connections`; `reuse=False` gives a new one,
    which the caller closes. Raises ConfigError.
    """
    if reuse:
        return _shared(protocol, config)
    adapter, validated = _validated(protocol, config)
    return adapter.client(validated)


def test_connection(protocol: str, **config: object) -> bool:
    """Whether the system can be reached and read. Raises ConfigError where the settings are wrong."""
    connector = create_connector({"protocol": protocol, **config})
    try:
        connector.test()
    except ConfigError:
        raise
    except AtlasError:
        return False
    finally:
        connector.close()
    return True


def close_all_connections() -> None:
    """Dispose of every client that `get_connection` keeps."""
    _CLIENTS.close()


def get_postgres_engine(**config: object) -> Engine:
    """A SQLAlchemy engine for PostgreSQL."""
    return cast("Engine", _shared("postgresql", config))


def test_postgres_connection(**config: object) -> bool:
    """Whether the PostgreSQL server can be reached and read."""
    return test_connection("postgresql", **config)


def get_mysql_engine(**config: object) -> Engine:
    """A SQLAlchemy engine for MySQL or MariaDB."""
    return cast("Engine", _shared("mysql", config))


def test_mysql_connection(**config: object) -> bool:
    """Whether the MySQL or MariaDB server can be reached and read."""
    return test_connection("mysql", **config)


def get_sqlite_engine(**config: object) -> Engine:
    """A SQLAlchemy engine for a SQLite file."""
    return cast("Engine", _shared("sqlite", config))


def test_sqlite_connection(**config: object) -> bool:
    """Whether the SQLite file can be read."""
    return test_connection("sqlite", **config)


def get_duckdb_connection(**config: object) -> DuckDBPyConnection:
    """A DuckDB connection, of this thread."""
    return cast("DuckDBPyConnection", _shared("duckdb", config))


def test_duckdb_connection(**config: object) -> bool:
    """Whether the DuckDB file can be read."""
    return test_connection("duckdb", **config)


def _shared(protocol: str, config: Mapping[str, object]) -> object:
    adapter, validated = _validated(protocol, config)
    return _CLIENTS.get(registry.canonical(protocol), adapter, validated)


def _validated(protocol: str, values: Mapping[str, object]) -> tuple[Adapter[Any], ConnectionConfig]:
    adapter = registry.load(protocol)
    learn(secrets_in(values, adapter.connection))
    folder = {"project": Path.cwd()}  # a path means the same file after the program has gone elsewhere
    try:
        return adapter, adapter.connection.model_validate(dict(values), context=folder)
    except ValidationError as wrong:
        raise config_error(wrong, adapter.connection, values, lambda _: protocol) from None
