"""PostgreSQL: tables, views and queries that are read, and schemas that are written to."""

from __future__ import annotations

from atlas_etl.connectors.base import Adapter
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.connectors.sql._postgresql.reader import PostgresConnector
from atlas_etl.connectors.sql._postgresql.session import dispose, engine
from atlas_etl.connectors.sql._postgresql.writer import PostgresDestination


def _connector(config: PostgresConnection) -> PostgresConnector:
    return PostgresConnector(config, protocol="postgresql")


ADAPTER = Adapter(
    connection=PostgresConnection,
    client=engine,
    dispose=dispose,
    connector=_connector,
    destination=PostgresDestination,
    home=lambda _: "public",
    shared=True,
)
