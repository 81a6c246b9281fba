"""dlt: tables by its pyarrow backend, Parquet between its steps, loaded as its destinations do it best."""

from __future__ import annotations

import json
import os

import dlt
import duckdb as reader
from dlt.destinations import duckdb, filesystem, postgres
from dlt.sources.rest_api import rest_api_source
from dlt.sources.sql_database import sql_table

_ROWS = 100_000


def main() -> None:
    told = json.loads(os.environ["BENCHMARK"])
    target = {
        "postgres": lambda: postgres(_url("postgres", told["destination"]).replace("+psycopg2", "")),
        "duckdb": lambda: duckdb(told["destination"]["path"]),
        "parquet": lambda: filesystem(told["destination"]["path"]),
    }[told["to"]]()
    pipeline = dlt.pipeline("benchmark", pipelines_dir="pipelines", destination=target, dataset_name="shop")
    named = {} if told["from"] == "http" else {"table_name": told["table"]}
    pipeline.run(_rows(told), loader_file_format="parquet", **named)


def _rows(told):
    if told["from"] == "http":
        api = {
            "client": {
                "base_url": told["source"]["base_url"],
                "paginator": {"type": "page_number", "base_page": 1, "total_path": None},
            },
            "resources": [
                {"name": told["table"], "endpoint": {"path": told["table"], "data_selector": "data"}}
            ],
        }
        return rest_api_source(api)
    if told["from"] == "parquet":
        # JSON and uuids as text: dlt refuses Arrow's extension types.
        texts = "SELECT * REPLACE (CAST(extra AS VARCHAR) AS extra, CAST(uid AS VARCHAR) AS uid)"
        return reader.sql(f"{texts} FROM '{told['file']}'").to_arrow_reader(_ROWS)
    changes = {}
    if told["load"] == "changes":
        changes = {"incremental": dlt.sources.incremental(told["cursor"]), "write_disposition": "merge"}
    url = _url(told["from"], told["source"])
    # SQLAlchemy takes SQLite's TIMESTAMPTZ for a number, and the pyarrow backend fails.
    backend = {"backend": "pyarrow"}
    if told["from"] == "sqlite":
        backend = {"backend": "connectorx", "backend_kwargs": {"conn": url.replace(":///", "://")}}
    return sql_table(
        credentials=url,
        table=told["table"],
        chunk_size=_ROWS,
        reflection_level="full_with_precision" if told["from"] != "sqlite" else "minimal",
        **backend,
        primary_key=told["key"],
        **changes,
    )


def _url(system: str, where: dict[str, str]) -> str:
    if system == "sqlite":
        return f"sqlite:///{where['database_path']}"
    driver = {"postgres": "postgresql+psycopg2", "mysql": "mysql+pymysql"}[system]
    return f"{driver}://{where['username']}:{where['password']}@{where['host']}:{where['port']}/{where['database']}"


main()
