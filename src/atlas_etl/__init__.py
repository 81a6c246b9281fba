"""Atlas ETL: tables, files and API resources into a warehouse, only what is new, exactly once.

The public library; every name is loaded when it is first used:

    from atlas_etl import create_connector

    with create_connector({"protocol": "sqlite", "database_path": "shop.db"}) as shop:
        for item in shop.fetch_data("SELECT * FROM orders LIMIT 10"):
            print(item.data)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atlas_etl.api.atlas import Atlas as Atlas
    from atlas_etl.api.clients import close_all_connections as close_all_connections
    from atlas_etl.api.clients import create_connector as create_connector
    from atlas_etl.api.clients import get_connection as get_connection
    from atlas_etl.api.clients import get_duckdb_connection as get_duckdb_connection
    from atlas_etl.api.clients import get_mysql_engine as get_mysql_engine
    from atlas_etl.api.clients import get_postgres_engine as get_postgres_engine
    from atlas_etl.api.clients import get_sqlite_engine as get_sqlite_engine
    from atlas_etl.api.clients import test_connection as test_connection
    from atlas_etl.api.clients import test_duckdb_connection as test_duckdb_connection
    from atlas_etl.api.clients import test_mysql_connection as test_mysql_connection
    from atlas_etl.api.clients import test_postgres_connection as test_postgres_connection
    from atlas_etl.api.clients import test_sqlite_connection as test_sqlite_connection
    from atlas_etl.api.connection_config import load_connection_config as load_connection_config
    from atlas_etl.connectors.base import BaseConnector as BaseConnector
    from atlas_etl.connectors.base import IngestedItem as IngestedItem
    from atlas_etl.connectors.base import IngestionResult as IngestionResult
    from atlas_etl.errors import AtlasError as AtlasError

_HOMES = {
    "Atlas": "api.atlas",
    "AtlasError": "errors",
    "BaseConnector": "connectors.base",
    "IngestedItem": "connectors.base",
    "IngestionResult": "connectors.base",
    "load_connection_config": "api.connection_config",
    **dict.fromkeys(
        (
            "close_all_connections", "create_connector", "get_connection", "get_duckdb_connection",
            "get_mysql_engine", "get_postgres_engine", "get_sqlite_engine", "test_connection",
            "test_duckdb_connection", "test_mysql_connection", "test_postgres_connection",
            "test_sqlite_connection",
        ),
        "api.clients",
    ),
}  # fmt: skip

__all__ = sorted(_HOMES)  # noqa: PLE0605  # one table, not two lists


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'atlas_etl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"atlas_etl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
