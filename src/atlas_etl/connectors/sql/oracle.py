"""Oracle Database: tables, views and queries that are read, without an Oracle client."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._oracle_connection import OracleConnection, dispose, engine
from atlas_etl.connectors.sql._oracle_reader import OracleConnector


def _connector(config: OracleConnection) -> OracleConnector:
    return OracleConnector(config, protocol="oracle")


ADAPTER = Adapter(
    connection=OracleConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    home=lambda config: config.default_schema or (config.username.upper() if config.username else None),
    shared=True,
)
