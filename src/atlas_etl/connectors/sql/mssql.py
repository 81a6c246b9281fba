"""Microsoft SQL Server and Azure SQL: tables, views and queries that are read, and schemas written to."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._mssql_connection import MSSQLConnection, dispose, engine
from atlas_etl.connectors.sql._mssql_reader import MSSQLConnector
from atlas_etl.connectors.sql._mssql_writer import MSSQLDestination


def _connector(config: MSSQLConnection) -> MSSQLConnector:
    return MSSQLConnector(config, protocol="mssql")


ADAPTER = Adapter(
    connection=MSSQLConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    destination=MSSQLDestination,
    home=lambda config: config.default_schema,
    shared=True,
)
