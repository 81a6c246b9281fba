"""SQLite: a file (or memory) that is read and written, in one transaction each way."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.naming import folded_table
from atlas_etl.connectors.sql._sqlite.connection import SqliteConnection, dispose, engine
from atlas_etl.connectors.sql._sqlite.destination import SqliteDestination
from atlas_etl.connectors.sql._sqlite.reader import SqliteConnector


def _connector(config: SqliteConnection) -> SqliteConnector:
    return SqliteConnector(config, protocol="sqlite")


ADAPTER = Adapter(
    connection=SqliteConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    destination=SqliteDestination,
    home=lambda _: "main",
    table_folding=lambda _: folded_table,
    has_schemas=False,
)
