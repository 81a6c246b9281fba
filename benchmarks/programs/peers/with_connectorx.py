"""connectorx, its batches written by pyarrow or DuckDB."""

from __future__ import annotations

import json
import os

import connectorx
import duckdb
import pyarrow.parquet

_ROWS = 100_000


def main() -> None:
    told = json.loads(os.environ["BENCHMARK"])
    table = told["table"]
    rows = connectorx.read_sql(
        _uri(told["from"], told["source"]), f"SELECT * FROM {table}",
        return_type="arrow_stream", batch_size=_ROWS,
    )  # fmt: skip
    target = told["destination"]["path"]
    if told["to"] == "duckdb":
        duckdb.connect(target).execute(f"CREATE TABLE {table} AS SELECT * FROM rows")
        return
    with pyarrow.parquet.ParquetWriter(
        f"{target}/{table}.parquet", rows.schema, compression="zstd"
    ) as writer:
        for batch in rows:
            writer.write_batch(batch)


def _uri(system: str, where: dict[str, str]) -> str:
    if system == "sqlite":
        return f"sqlite://{where['database_path']}"
    scheme = {"postgres": "postgresql", "mysql": "mysql"}[system]
    return f"{scheme}://{where['username']}:{where['password']}@{where['host']}:{where['port']}/{where['database']}"


main()
