"""MySQL and MariaDB: tables, views and queries that are read, and databases that are written to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._mysql.connection import MySQLConnection, Server, dispose, engine
from atlas_etl.connectors.sql._mysql.reader import MySQLConnector, session_of
from atlas_etl.connectors.sql._mysql.writer import MySQLDestination
from atlas_etl.errors import DestinationError


def _connector(config: MySQLConnection) -> MySQLConnector:
    return MySQLConnector(config, protocol="mysql")


def _folding(config: MySQLConnection) -> Callable[[str], str]:
    with closing(Server(config, DestinationError)) as server, session_of(server) as session:
        ((folds,),) = session.rows("SELECT @@lower_case_table_names")
    return str.lower if folds else str


ADAPTER = Adapter(
    connection=MySQLConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    destination=MySQLDestination,
    home=lambda config: config.database,
    table_folding=_folding,
    shared=True,
)
