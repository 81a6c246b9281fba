"""A house for each destination."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers import ServerAddress
from tests.unit.pipeline.house import House


@pytest.fixture(params=["duckdb", "sqlite", "parquet"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    return House(tmp_path, request.param)


@pytest.fixture(params=["duckdb", "sqlite", "parquet", "postgresql", "mysql"])
def any_house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    """Databases on servers too."""
    return server_house(request, tmp_path)


@pytest.fixture(params=["postgresql"])
def postgresql_house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    return server_house(request, tmp_path)


def server_house(request: pytest.FixtureRequest, folder: Path) -> House:
    """The house of the protocol that the fixture's parameter names."""
    house = House(folder, request.param)
    fixture = {"postgresql": "postgres", "mysql": "mysql"}.get(request.param)
    if fixture is not None:
        address: ServerAddress = request.getfixturevalue(fixture)
        house.settings = {
            "host": address.host, "port": address.port, "database": address.database,
            "username": address.username, "password": address.password,
        }  # fmt: skip
        house.connector_name = f"shop_{address.database[-6:]}"  # a database of its own in MySQL
    return house


@pytest.fixture
def duck(tmp_path: Path) -> House:
    return House(tmp_path, "duckdb")
