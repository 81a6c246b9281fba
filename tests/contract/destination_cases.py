"""Every destination that the contract suite runs over: one line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from atlas_etl.connectors import registry
from atlas_etl.contracts import Destination
from atlas_etl.model import TableName
from tests.servers import mysql as mysql_recipe
from tests.servers.stub_mssql import StubServer
from tests.servers.stub_oracle import StubOracle

ServerFixture = Callable[[str], dict[str, object]]


@dataclass(frozen=True)
class DestinationCase:
    """One protocol that is written to. `connection` makes its configuration from a folder or a server."""

    protocol: str
    connection: Callable[[pytest.FixtureRequest, Path], dict[str, object]]
    quote: str = '"'
    quote_end: str = ""  # where it is another
    is_stub: bool = False
    keeps_empty: bool = True  # whether it tells an empty text from NULL

    @property
    def name(self) -> str:
        """As tests show it: a stand-in never reads as the engine."""
        return f"stub_{self.protocol}" if self.is_stub else self.protocol

    def holds(self, cells: Sequence[object]) -> list[object]:
        """The cells that it keeps as they are."""
        return [cell for cell in cells if self.keeps_empty or cell not in ("", b"")]

    def open(self, request: pytest.FixtureRequest, folder: Path) -> Destination:
        adapter = registry.load(self.protocol)
        config = adapter.connection.model_validate(self.connection(request, folder))
        assert adapter.destination is not None
        destination: Destination = adapter.destination(config)
        return destination

    def quoted(self, table: TableName) -> str:
        parts = [part for part in (table.schema, table.name) if part]
        end = self.quote_end or self.quote
        return ".".join(self.quote + part.replace(end, end * 2) + end for part in parts)


def server(fixture: str) -> Callable[[pytest.FixtureRequest, Path], dict[str, object]]:
    """The connection of a fresh database on one of the test servers."""

    def connection(request: pytest.FixtureRequest, _: Path) -> dict[str, object]:
        address = request.getfixturevalue(fixture)
        return {
            "host": address.host,
            "port": address.port,
            "database": address.database,
            "username": address.username,
            "password": address.password,
        }

    return connection


def mysql(request: pytest.FixtureRequest, folder: Path) -> dict[str, object]:
    """MySQL's databases stand side by side, so that the connector's own has to be dropped as well."""
    address = request.getfixturevalue("mysql")

    def drop() -> None:
        with mysql_recipe.connect(address) as client, client.cursor() as cursor:
            cursor.execute("DROP DATABASE IF EXISTS shop")

    drop()
    request.addfinalizer(drop)
    return server("mysql")(request, folder)


def stub_mssql(request: pytest.FixtureRequest, _: Path) -> dict[str, object]:
    server: StubServer = request.getfixturevalue("stub_mssql_server")
    return server.connection(server.fresh_database())


def stub_oracle(request: pytest.FixtureRequest, _: Path) -> dict[str, object]:
    stub: StubOracle = request.getfixturevalue("stub_oracle")
    return stub.fresh_database()


DESTINATIONS = (
    DestinationCase("duckdb", lambda _, folder: {"path": str(folder / "warehouse.duckdb")}),
    DestinationCase("sqlite", lambda _, folder: {"database_path": str(folder / "warehouse.db")}),
    DestinationCase("postgresql", server("postgres")),
    DestinationCase("mysql", mysql, quote="`"),
    DestinationCase("mssql", stub_mssql, quote="[", quote_end="]", is_stub=True),
    DestinationCase("oracle", stub_oracle, is_stub=True, keeps_empty=False),
    DestinationCase("parquet", lambda _, folder: {"path": str(folder / "lake")}),
    DestinationCase("jsonl", lambda _, folder: {"path": str(folder / "lake")}),
    DestinationCase("csv", lambda _, folder: {"path": str(folder / "lake")}),
)
