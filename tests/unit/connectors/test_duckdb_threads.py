"""Threads of one process that open and close the same DuckDB file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection, connect


def test_a_file_is_opened_while_another_thread_closes_it(tmp_path: Path) -> None:
    config = DuckDBConnection(path=tmp_path / "shared.duckdb")

    with closing(connect(config)) as opened:
        opened.execute("CREATE TABLE t AS SELECT * FROM range(10)")

    def open_and_close(_: int) -> None:
        with closing(connect(config)) as opened:
            opened.cursor().execute("SELECT count(*) FROM t").fetchall()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(open_and_close, range(1000)))
