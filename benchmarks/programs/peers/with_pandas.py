"""pandas and SQLAlchemy: chunks read on a server-side cursor, written as the documentation of each has it."""

from __future__ import annotations

import itertools
import json
import os

import duckdb
import pandas
import pyarrow
import pyarrow.parquet
import requests
import sqlalchemy
from sqlalchemy.dialects.postgresql import JSONB

_ROWS = 100_000


def main() -> None:
    told = json.loads(os.environ["BENCHMARK"])
    table = told["table"]
    chunks = _chunks(told)
    match told["to"]:
        case "postgres":
            engine = sqlalchemy.create_engine(_url("postgres", told["destination"]))
            for chunk in chunks:
                kinds = {"extra": JSONB} if "extra" in chunk else None
                chunk.to_sql(table, engine, if_exists="append", index=False, dtype=kinds)
        case "duckdb":
            database = duckdb.connect(told["destination"]["path"])
            for number, chunk in enumerate(chunks):
                database.register("chunk", _plain(chunk))
                into = f"INSERT INTO {table}" if number else f"CREATE TABLE {table} AS"
                database.execute(f"{into} SELECT * FROM chunk")
        case "parquet":
            _write(chunks, f"{told['destination']['path']}/{table}.parquet")


def _chunks(told):
    if told["from"] == "http":
        return _pages(f"{told['source']['base_url']}/{told['table']}")
    if told["from"] == "parquet":
        return (batch.to_pandas() for batch in pyarrow.parquet.ParquetFile(told["file"]).iter_batches(_ROWS))
    engine = sqlalchemy.create_engine(_url(told["from"], told["source"]))
    client = engine.connect().execution_options(stream_results=True)
    return pandas.read_sql(sqlalchemy.text(f"SELECT * FROM {told['table']}"), client, chunksize=_ROWS)


def _pages(url: str):
    session = requests.Session()
    for page in itertools.count(1):
        records = session.get(url, params={"page": page}, timeout=60).json()["data"]
        if not records:
            return
        yield pandas.DataFrame(records)


def _write(chunks, path: str) -> None:
    writer = None
    for chunk in chunks:
        rows = pyarrow.Table.from_pandas(_plain(chunk), preserve_index=False)
        writer = writer or pyarrow.parquet.ParquetWriter(path, rows.schema, compression="zstd")
        writer.write_table(rows.cast(writer.schema))
    writer.close()


def _plain(chunk):
    """JSON as text and uuids as text: Arrow has no column for the objects that drivers give."""
    made = chunk.copy(deep=False)
    if "extra" in made:
        made["extra"] = [json.dumps(found) if isinstance(found, dict) else found for found in made["extra"]]
    if "uid" in made:
        made["uid"] = made["uid"].astype(str)
    return made


def _url(system: str, where: dict[str, str]) -> str:
    if system == "sqlite":
        return f"sqlite:///{where['database_path']}"
    driver = {"postgres": "postgresql+psycopg", "mysql": "mysql+pymysql"}[system]
    return f"{driver}://{where['username']}:{where['password']}@{where['host']}:{where['port']}/{where['database']}"


main()
