"""DuckDB: a file (or memory) that is read and written, and the embedded default warehouse."""

from __future__ import annotations

import duckdb

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.naming import folded_table
from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection, connect
from atlas_etl.connectors.sql._duckdb.reader import DuckDBConnector
from atlas_etl.connectors.sql._duckdb.writer import DuckDBDestination
from atlas_etl.errors import ConfigError


def _client(config: DuckDBConnection) -> duckdb.DuckDBPyConnection:
    return connect(config)


def _dispose(client: object) -> None:
    if not isinstance(client, duckdb.DuckDBPyConnection):
        raise ConfigError("not a DuckDB connection")
    client.close()


def _connector(config: DuckDBConnection) -> DuckDBConnector:
    return DuckDBConnector(config, protocol="duckdb")


ADAPTER = Adapter(
    connection=DuckDBConnection,
    client=_client,
    dispose=_dispose,
    connector=_connector,
    destination=DuckDBDestination,
    home=lambda _: "main",
    table_folding=lambda _: folded_table,
    thread_bound=True,  # one DuckDB connection is one transaction
    shared=True,
)
