"""How much memory a DuckDB file takes while it is read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection
from atlas_etl.connectors.sql._duckdb.reader import DuckDBConnector
from atlas_etl.connectors.sql._source import Select
from atlas_etl.errors import SourceError
from atlas_etl.model import BatchLimits, ReadRequest, Stream

_DOCUMENTS = """
    CREATE TABLE docs AS
    SELECT i AS id, repeat(md5(CAST(i AS VARCHAR)), 2000) AS text FROM range({}) AS n(i)
"""
_AT_ONCE = 2048  # rows; of these texts 131 MB
_DOCS = Stream("docs", table="docs")

Connect = Callable[..., DuckDBConnector]


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    """A connector of a file that one statement made."""
    path = tmp_path / "shop.duckdb"

    def connected(made: str, **options: str) -> DuckDBConnector:
        with closing(duckdb.connect(path)) as opened:
            opened.execute(made)
        return DuckDBConnector(DuckDBConnection(path=path, options=dict(options)), protocol="duckdb")

    return connected


def _read(connector: DuckDBConnector, stream: Stream = _DOCS) -> list[pa.RecordBatch]:
    with connector.open(ReadRequest(stream, limits=BatchLimits(bytes=16 * 1024**2))) as extract:
        return list(extract.batches())


def _limit(connector: DuckDBConnector, stream: Stream) -> int:
    with connector.snapshot() as snapshot:
        snapshot.relation(stream)
        return int(str(snapshot.rows("SELECT parse_formatted_bytes(current_setting('memory_limit'))")[0][0]))


def test_a_table_is_read_in_little_memory_and_a_query_in_what_it_takes(connect: Connect) -> None:
    connector = connect(_DOCUMENTS.format(1))
    by_itself = _limit(connector, Stream("q", query="SELECT * FROM docs"))
    assert _limit(connector, _DOCS) < 400e6 < by_itself


def test_batches_are_bounded_by_bytes(connect: Connect) -> None:
    made = "CREATE TABLE docs AS SELECT i AS id, repeat('x', 1000) AS text FROM range(40000) AS n(i)"
    sizes = [batch.nbytes for batch in _read(connect(made))]
    assert max(sizes) <= 16 * 1024**2
    assert len(sizes) == 3  # gathered, not one of DuckDB's own pieces each


def test_long_values_are_given_the_memory_that_they_take(connect: Connect) -> None:
    rows = 2 * _AT_ONCE + 5
    batches = _read(connect(_DOCUMENTS.format(rows)))
    ids = pa.chunked_array([batch.column("id") for batch in batches])
    assert sorted(ids.to_pylist()) == list(range(rows))
    assert {length for batch in batches for length in pc.utf8_length(batch.column("text")).to_pylist()} == {
        64_000
    }


def test_what_cannot_be_spilled_is_sorted_in_memory(connect: Connect) -> None:
    texts = "SELECT i AS id, repeat(md5(CAST(i AS VARCHAR)), 8) AS text FROM range(400000) AS n(i)"
    connector = connect(f"CREATE TABLE docs AS {texts}", temp_directory="/dev/null/here")
    with connector.snapshot() as snapshot:
        found = snapshot.relation(_DOCS)
        select = Select(f"SELECT * FROM {found.sql} ORDER BY text", (), found.columns)
        batches = [batch for batch, _ in snapshot.fetch(select, BatchLimits())]
    assert sum(batch.num_rows for batch in batches) == 400_000
    firsts = [batch["text"][0].as_py() for batch in batches]
    assert firsts == sorted(firsts)


def test_a_limit_of_the_definition_is_kept(connect: Connect) -> None:
    connector = connect(_DOCUMENTS.format(2 * _AT_ONCE), memory_limit="60MB")
    with pytest.raises(SourceError, match="more memory") as raised:
        _read(connector)
    assert raised.value.code == "out_of_memory"
    assert "memory_limit" in str(raised.value.hint)
