"""Microsoft SQL Server and Azure SQL: tables, views and queries that are read, and schemas written to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._mssql.connection import MSSQLConnection, Server, dispose, engine
from atlas_etl.connectors.sql._mssql.reader import MSSQLConnector
from atlas_etl.connectors.sql._mssql.session import Session
from atlas_etl.connectors.sql._mssql.writer import MSSQLDestination
from atlas_etl.errors import DestinationError


def _connector(config: MSSQLConnection) -> MSSQLConnector:
    return MSSQLConnector(config, protocol="mssql")


def _folding(config: MSSQLConnection) -> Callable[[str], str]:
    same = " = ".join(map(MSSQLDestination.dialect.folded_table, ("N'A'", "N'a'")))
    with closing(Server(config, DestinationError)) as server, closing(Session(server)) as session:
        ((folds,),) = session.rows(f"SELECT CASE WHEN {same} THEN 1 ELSE 0 END")
    return str.lower if folds else str


ADAPTER = Adapter(
    connection=MSSQLConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    destination=MSSQLDestination,
    home=lambda config: config.default_schema,
    table_folding=_folding,
    shared=True,
)
