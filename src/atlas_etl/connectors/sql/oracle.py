"""Oracle Database: tables, views and queries that are read, and a schema written to, without its client."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._oracle.connection import OracleConnection, dispose, engine
from atlas_etl.connectors.sql._oracle.reader import OracleConnector
from atlas_etl.connectors.sql._oracle.writer import OracleDestination


def _connector(config: OracleConnection) -> OracleConnector:
    return OracleConnector(config, protocol="oracle")


ADAPTER = Adapter(
    connection=OracleConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    destination=OracleDestination,
    home=lambda config: config.home,
    shared=True,
)
