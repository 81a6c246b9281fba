"""Comparing rows in little memory: what a statement needs beyond the usual it gets."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from atlas_etl import scratch
from atlas_etl.scratch import Scratch, ScratchTables

_NEEDY = "SELECT length(string_agg(t, '')) > 0 FROM given"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScratchTables]:
    monkeypatch.setattr(scratch, "_MEMORY", ("8MB", "16MB", "256MB"))
    opened = Scratch()
    yield opened.tables("the rows")
    opened.close()


def test_a_statement_that_needs_more_memory_is_run_again_with_more(tables: ScratchTables) -> None:
    tables.execute(
        "CREATE TEMP TABLE given AS SELECT repeat(hash(n)::VARCHAR, 4) AS t "
        "FROM range(300_000) AS numbers (n)"
    )
    with pytest.raises(duckdb.OutOfMemoryException):
        tables.batches(_NEEDY, 10).read_all()
    assert tables.execute(_NEEDY).fetchall() == [(True,)]


def test_rows_that_are_given_once_are_taken_in_little_memory(tables: ScratchTables) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["x" * 200] * 10_000)], names=["t"])
    reader = pa.RecordBatchReader.from_batches(batch.schema, (batch for _ in range(20)))
    tables.execute("CREATE TEMP TABLE given AS FROM rows", rows=reader)
    assert tables.execute("SELECT count(*) FROM given").fetchall() == [(200_000,)]
