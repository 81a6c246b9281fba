"""Microsoft SQL Server and Azure SQL: tables, views and queries that are read."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._mssql_connection import MSSQLConnection, dispose, engine
from atlas_etl.connectors.sql._mssql_reader import MSSQLConnector


def _connector(config: MSSQLConnection) -> MSSQLConnector:
    return MSSQLConnector(config, protocol="mssql")


ADAPTER = Adapter(
    connection=MSSQLConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    home=lambda config: config.default_schema,
    shared=True,
)
