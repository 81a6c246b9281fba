"""A read that waits for its source ends at once where nobody needs it any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_server
from tests.servers import postgres as postgres_server

from atlas_etl.connectors import registry
from atlas_etl.contracts import Connector
from atlas_etl.model import ReadRequest, Stream
from atlas_etl.pipeline.prefetch import Prefetch

_PROMPTLY = 20  # seconds; the statements would take minutes


def connector(protocol: str, **connection: object) -> Connector:
    adapter = registry.load(protocol)
    assert adapter.connector is not None
    return adapter.connector(adapter.connection.model_validate(connection))


def closed_while_it_waits(source: Connector, query: str, is_waiting: Callable[[], bool]) -> float:
    """How many seconds it took to end a read that was waiting for its first row."""
    with closing(source), source.open(ReadRequest(Stream("slow", query=query))) as extract:

        def batches() -> Generator[pa.RecordBatch, None, None]:
            yield from extract.batches()

        reading = Prefetch(batches(), size=lambda batch: batch.nbytes, most=1, interrupt=extract.interrupt)
        deadline = time.monotonic() + 60
        while not is_waiting():
            assert time.monotonic() < deadline
        began = time.monotonic()
        reading.close()
        return time.monotonic() - began


def test_postgresql(postgres: ServerAddress) -> None:
    source = connector(
        "postgresql", host=postgres.host, port=postgres.port, username=postgres.username,
        password=postgres.password, database=postgres.database,
    )  # fmt: skip
    with postgres_server.connect(postgres) as client:

        def is_waiting() -> bool:
            found = client.execute(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event = 'PgSleep'"
            ).fetchone()
            return found == (1,)

        query = "SELECT pg_sleep(300)::text AS slept"
        assert closed_while_it_waits(source, query, is_waiting) < _PROMPTLY


def test_mysql(mysql: ServerAddress) -> None:
    source = connector(
        "mysql", host=mysql.host, port=mysql.port, username=mysql.username,
        password=mysql.password, database=mysql.database,
    )  # fmt: skip
    with closing(mysql_server.connect(mysql)) as client, client.cursor() as cursor:

        def is_waiting() -> bool:
            cursor.execute(
                "SELECT 1 FROM information_schema.processlist WHERE state = 'User sleep' AND db = DATABASE()"
            )
            return cursor.fetchone() is not None

        assert closed_while_it_waits(source, "SELECT SLEEP(300) AS slept", is_waiting) < _PROMPTLY


def test_duckdb(tmp_path: Path) -> None:
    path = tmp_path / "source.duckdb"
    duckdb.connect(str(path)).close()
    source = connector("duckdb", path=str(path))
    began = time.process_time()
    query = "SELECT sum(a.i * b.i) AS s FROM range(10000000) a(i), range(10000000) b(i)"

    def is_waiting() -> bool:
        return time.process_time() - began > 0.5

    assert closed_while_it_waits(source, query, is_waiting) < _PROMPTLY
