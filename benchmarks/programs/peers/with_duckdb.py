"""DuckDB with its scanners of other systems, whose files come in packages of their own."""

from __future__ import annotations

import json
import os
from importlib.metadata import files

import duckdb


def main() -> None:
    told = json.loads(os.environ["BENCHMARK"])
    table = told["table"]
    target = told["destination"].get("path", ":memory:")
    database = duckdb.connect(target if told["to"] == "duckdb" else ":memory:")
    database.execute("SET TimeZone = 'UTC'")
    for system in {told["from"], told["to"]} & {"postgres", "mysql", "sqlite"}:
        database.execute(f"LOAD '{_extension(system)}'")
    source = f"'{told['file']}'" if told["from"] == "parquet" else f"source.{table}"
    if told["from"] != "parquet":
        database.execute(
            f"ATTACH '{_where(told['from'], told['source'])}' AS source (TYPE {told['from']}, READ_ONLY)"
        )
    match told["to"]:
        case "parquet":
            file = f"{target}/{table}.parquet"
            database.execute(f"COPY (SELECT * FROM {source}) TO '{file}' (FORMAT parquet, COMPRESSION zstd)")
        case "duckdb":
            database.execute(f"CREATE TABLE {table} AS SELECT * FROM {source}")
        case "postgres":
            database.execute(f"ATTACH '{_where('postgres', told['destination'])}' AS target (TYPE postgres)")
            database.execute(f"CREATE TABLE target.{table} AS SELECT * FROM {source}")


def _extension(system: str) -> str:
    found = files(f"duckdb-extension-{system}-scanner") or []
    return next(str(file.locate()) for file in found if file.name.endswith(".duckdb_extension"))


def _where(system: str, where: dict[str, str]) -> str:
    if system == "sqlite":
        return where["database_path"]
    database = "dbname" if system == "postgres" else "database"
    return (
        f"host={where['host']} port={where['port']} user={where['username']} password={where['password']} "
        f"{database}={where['database']}"
    )


main()
