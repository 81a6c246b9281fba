"""What a DuckDB file may hold, and which of it is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection
from atlas_etl.connectors.sql._duckdb.reader import DuckDBConnector
from atlas_etl.errors import ConfigError
from atlas_etl.model import ReadRequest, Stream

Write = Callable[..., DuckDBConnector]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Make a file by statements."""
    path = tmp_path / "shop.duckdb"

    def written(*statements: str) -> DuckDBConnector:
        with closing(duckdb.connect(path)) as opened:
            for statement in statements:
                opened.execute(statement)
        return DuckDBConnector(DuckDBConnection(path=path), protocol="duckdb")

    return written


def test_a_view_that_duckdb_cannot_open_is_left_out(write: Write, tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("id\n1\n")
    connector = write(
        "CREATE TABLE gone (id INTEGER)",
        "CREATE TABLE orders (id INTEGER)",
        "CREATE VIEW a_broken_one AS FROM gone",
        f"CREATE VIEW a_file AS FROM read_csv('{file}')",
        "CREATE VIEW newest AS FROM orders",
        "DROP TABLE gone",
    )
    assert [found.name for found in connector.discover()] == ["newest", "orders"]


@pytest.mark.parametrize("kind", ["UNION(number INTEGER, text VARCHAR)", "VARIANT"])
def test_values_with_a_type_each_are_no_cursor(write: Write, kind: str) -> None:
    """Read back from its text, 5 is the text '5', which comes behind every number."""
    connector = write(f"CREATE TABLE events (moment {kind})", "INSERT INTO events VALUES (5)")
    request = ReadRequest(Stream("events", table="events", cursor="moment"))
    with (
        pytest.raises(ConfigError, match=r"'moment' of type .* cannot be a cursor"),
        connector.open(request),
    ):
        pass
