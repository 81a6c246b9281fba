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
    """A connector from `{"protocol": ..., ...}`, the connection's keys beside it, as a definition names them.

    Nothing is reached before the first call of it. Close it, or use it as a context manager. Relative paths
    begin at the working directory, here and in every call below. Raises UnknownProtocolError,
    MissingDriverError, and ConfigError where a key is wrong or the protocol cannot be read from.
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
    """The native client: a SQLAlchemy Engine for PostgreSQL, MySQL and SQLite, a DuckDBPyConnection for
    DuckDB, a requests.Session for HTTP APIs, a pyarrow.fs.FileSystem for files.

    A session has the connection's certificates, proxy and deadline, and no credentials: requests would send
    those that are not in `Authorization` along with a redirect, to whomever. `create_connector` logs in.

    The same settings give the same client until `close_all_connections`, in whatever thread; a client that
    only the thread may use that made it (DuckDB, HTTP) is one per thread. `reuse=False` gives a new one,
    which the caller closes. Raises UnknownProtocolError, MissingDriverError and ConfigError; DuckDB, which
    opens its file at once, also SourceError.
    """
    adapter, validated = _validated(protocol, config)
    if not reuse:
        return adapter.client(validated)
    return _CLIENTS.get(registry.canonical(protocol), adapter, validated)


def test_connection(protocol: str, **config: object) -> bool:
    """Whether the system can be reached, logged in to and read; a server within `connect_timeout` seconds.

    False is all that is told of a failure; `create_connector(...).connect()` raises it. Raises
    UnknownProtocolError, MissingDriverError, and ConfigError where the settings are wrong.
    """
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
    """Dispose of every client that `get_connection` keeps, of all threads, though one of them may refuse.

    The next call makes new ones. Raises what the last client that refused raised.
    """
    _CLIENTS.close()


def get_postgres_engine(*, reuse: bool = True, **config: object) -> Engine:
    """A SQLAlchemy engine for PostgreSQL: `host`, `port`, `database`, `username`, `password`, `options`.

    As `get_connection`, in `reuse` and in what is raised.
    """
    return cast("Engine", get_connection("postgresql", reuse=reuse, **config))


def test_postgres_connection(**config: object) -> bool:
    """Whether the PostgreSQL server can be reached and read. As `test_connection` in what is raised."""
    return test_connection("postgresql", **config)


def get_mysql_engine(*, reuse: bool = True, **config: object) -> Engine:
    """A SQLAlchemy engine for MySQL or MariaDB: `host`, `port`, `database`, `username`, `password`.

    As `get_connection`, in `reuse` and in what is raised.
    """
    return cast("Engine", get_connection("mysql", reuse=reuse, **config))


def test_mysql_connection(**config: object) -> bool:
    """Whether the MySQL or MariaDB server can be reached and read. As `test_connection` in what is raised."""
    return test_connection("mysql", **config)


def get_sqlite_engine(*, reuse: bool = True, **config: object) -> Engine:
    """A SQLAlchemy engine for a SQLite file: `database_path`. A file that is not there is made.

    As `get_connection`, in `reuse` and in what is raised.
    """
    return cast("Engine", get_connection("sqlite", reuse=reuse, **config))


def test_sqlite_connection(**config: object) -> bool:
    """Whether the SQLite file is there and can be read. As `test_connection` in what is raised."""
    return test_connection("sqlite", **config)


def get_duckdb_connection(*, reuse: bool = True, **config: object) -> DuckDBPyConnection:
    """A DuckDB connection, of this thread: `path`, without which it is in memory. A new file is made.

    As `get_connection`, in `reuse` and in what is raised.
    """
    return cast("DuckDBPyConnection", get_connection("duckdb", reuse=reuse, **config))


def test_duckdb_connection(**config: object) -> bool:
    """Whether the DuckDB file is there and can be read. As `test_connection` in what is raised."""
    return test_connection("duckdb", **config)


def _validated(protocol: str, values: Mapping[str, object]) -> tuple[Adapter[Any], ConnectionConfig]:
    adapter = registry.load(protocol)
    learn(secrets_in(values, adapter.connection))
    folder = {"project": Path.cwd()}  # a path means the same file after the program has gone elsewhere
    try:
        return adapter, adapter.connection.model_validate(dict(values), context=folder)
    except ValidationError as wrong:
        raise config_error(wrong, adapter.connection, values, lambda _: protocol) from None
