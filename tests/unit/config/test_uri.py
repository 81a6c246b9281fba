"""One-line connections."""

from __future__ import annotations

import pytest

from atlas_etl.config.uri import parse_uri


@pytest.mark.parametrize(
    ("uri", "values"),
    [
        ("postgresql://h", {"protocol": "postgresql", "host": "h"}),
        (
            "postgresql+psycopg://u%20x:p%40%2Fw@h:5433/d%20b?sslmode=require&a=",
            {
                "protocol": "postgresql",
                "host": "h",
                "port": 5433,
                "database": "d b",
                "username": "u x",
                "password": "p@/w",
                "options": {"sslmode": "require", "a": ""},
            },
        ),
        ("mysql://root@[::1]:3307/", {"protocol": "mysql", "host": "::1", "port": 3307, "username": "root"}),
        ("postgresql:///d?host=/run/pg", {"protocol": "postgresql", "host": "/run/pg", "database": "d"}),
        ("sqlite:///shop.db", {"protocol": "sqlite", "database_path": "shop.db"}),
        ("sqlite:////abs/shop.db", {"protocol": "sqlite", "database_path": "/abs/shop.db"}),
        ("sqlite://", {"protocol": "sqlite", "database_path": ":memory:"}),
        ("duckdb:///x%20y.duckdb", {"protocol": "duckdb", "path": "x y.duckdb"}),
        ("csv:///data/*.csv", {"protocol": "csv", "path": "data/*.csv"}),
    ],
)
def test_read(uri: str, values: object) -> None:
    assert parse_uri(uri) == values
