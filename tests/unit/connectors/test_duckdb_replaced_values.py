"""Values that columns of somebody's own table in DuckDB would round or cut: they are refused."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from atlas_etl.connectors.sql._duckdb.writer import DuckDBDestination
from atlas_etl.connectors.sql.duckdb import ADAPTER
from atlas_etl.errors import DestinationError, RefusedRowError
from atlas_etl.model import Disposition, LoadPlan, TableName
from atlas_etl.pipeline.schema import conform, evolve

TABLE = TableName("t", "main")
DAY = "2024-01-01 00:00:07"
COLUMNS: dict[str, tuple[str, pa.DataType, list[object], object]] = {  # what is kept, what is not
    "numbers": ("HUGEINT", pa.decimal128(38, 2), [Decimal("-12.00"), None], Decimal("1.60")),
    "unsigned": ("UHUGEINT", pa.string(), ["12", "1e2"], "12e-1"),
    "long": ("BIGNUM", pa.string(), ["9" * 60], "1.5"),
    "seconds": ("TIMESTAMP_S", pa.string(), [DAY, f"{DAY}.000"], f"{DAY}.6"),
    "milliseconds": ("TIMESTAMP_MS", pa.string(), [f"{DAY}.123"], f"{DAY}.1239"),
    "with a zone": ("TIMETZ", pa.string(), ["05:00:00.123456+01"], "05:00:00.1234567+01"),
}


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[DuckDBDestination]:
    made = DuckDBDestination(ADAPTER.connection.model_validate({"path": str(tmp_path / "own.duckdb")}))
    yield made
    made.close()


@pytest.mark.parametrize("careful", [False, True], ids=["plain", "careful"])
@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_kept_is_what_came(
    destination: DuckDBDestination, tmp_path: Path, name: str, disposition: Disposition, careful: bool
) -> None:
    declared, kind, kept, refused = COLUMNS[name]
    with duckdb.connect(tmp_path / "own.duckdb") as own:
        own.execute(f"CREATE TABLE t (id BIGINT, v {declared})")

    def load(*cells: object) -> list[int]:
        """The places of the rows that are refused."""
        ids = pa.array(range(len(cells)), pa.int64())
        batch = pa.RecordBatch.from_arrays([ids, pa.array(cells, kind)], ["id", "v"])
        state = destination.inspect("shop", "t", TABLE)
        schema, changes = evolve(state.schema, batch.schema, destination.storable)
        plan = LoadPlan(
            "run", "shop", "t", TABLE, disposition, schema, ("id",), None, changes, careful=careful
        )
        with destination.begin(plan) as session:
            found = session.write(conform(batch, schema))
            session.commit(None)
        return list(found)

    if careful:
        assert load(*kept, refused) == [len(kept)]
    else:
        assert load(*kept) == []
        with pytest.raises(RefusedRowError) as caught:
            load(*kept, refused)
        assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "v")
    assert destination.query("SELECT count(*) AS n FROM t")["n"].to_pylist() == [len(kept)]


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
def test_a_column_that_the_table_computes(
    destination: DuckDBDestination, tmp_path: Path, disposition: Disposition
) -> None:
    with duckdb.connect(tmp_path / "own.duckdb") as own:
        own.execute("CREATE TABLE t (id BIGINT, v BIGINT AS (id + 1))")
    batch = pa.RecordBatch.from_pylist([{"id": 1, "v": 2}])
    plan = LoadPlan("run", "shop", "t", TABLE, disposition, batch.schema, ("id",), None)
    with pytest.raises(DestinationError) as caught, destination.begin(plan) as session:
        session.write(batch)
        session.commit(None)
    assert caught.value.code == "computed_column"
    assert "`exclude`" in str(caught.value.hint)


@pytest.mark.parametrize("disposition", Disposition)
def test_a_view_is_refused_with_what_to_do(
    destination: DuckDBDestination, tmp_path: Path, disposition: Disposition
) -> None:
    with duckdb.connect(tmp_path / "own.duckdb") as own:
        own.execute("CREATE TABLE base (id BIGINT)")
        own.execute("CREATE VIEW t AS FROM base")
    batch = pa.RecordBatch.from_pylist([{"id": 1}])
    plan = LoadPlan("run", "shop", "t", TABLE, disposition, batch.schema, ("id",), None, alone=True)
    refused = pytest.raises(DestinationError, match=r"base table|not an table")
    with refused as caught, destination.begin(plan) as session:
        session.write(batch)
        session.commit(None)
    assert "`into`" in str(caught.value.hint)
