"""MySQL and MariaDB: tables, views and queries that are read, and databases that are written to."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._mysql_connection import MySQLConnection, dispose, engine
from atlas_etl.connectors.sql._mysql_reader import MySQLConnector
from atlas_etl.connectors.sql._mysql_writer import MySQLDestination


def _connector(config: MySQLConnection) -> MySQLConnector:
    return MySQLConnector(config, protocol="mysql")


ADAPTER = Adapter(
    connection=MySQLConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    destination=MySQLDestination,
    home=lambda config: config.database,
    shared=True,
)
