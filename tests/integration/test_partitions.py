"""A table that several connections read at once, from its definition to a verified copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
from tests.project import Project
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database
from tests.unit.connectors.sqlite_files import make
from tests.waiting import until

from atlas_etl import Atlas
from atlas_etl.api.verify import verify_connector
from atlas_etl.connectors.files._manifest import MANIFEST
from atlas_etl.model import Run, RunStatus
from atlas_etl.pipeline.events import RowsRefused, RunFinished
from atlas_etl.pipeline.verify import StreamVerified

ROWS = 30_000
READING = "FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query ~ '^COPY'"


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    found.execute(
        "CREATE TABLE events (id int PRIMARY KEY, at timestamptz NOT NULL, filler text)"
        " WITH (autovacuum_enabled = false)",
        "INSERT INTO events SELECT n, timestamptz '2026-01-01' + n * interval '1s', repeat('x', 1000)"
        f" FROM generate_series(1, {ROWS}) n",
    )
    yield found
    found.close()


def define(project: Project, server: ServerAddress, **stream: object) -> Atlas:
    connection = {
        "host": server.host, "port": server.port, "database": server.database,
        "username": server.username, "password": "${env:PW}",
    }  # fmt: skip
    streams = [{"table": "events", "cursor": "at", "partitions": 3, **stream}]
    definition = {
        "protocol": "postgresql",
        "connection": connection,
        "streams": streams,
        "window": {"rows": 5000},
        "batch_bytes": "1MiB",
    }
    project.write("connectors.d/shop.yaml", json.dumps(definition))
    return Atlas.open(project.folder, {"PW": server.password})


def synced(atlas: Atlas) -> tuple[Run, list[object]]:
    *events, last = atlas.sync(["shop"])
    assert isinstance(last, RunFinished)
    return last.run, list(events)


def assert_equal(atlas: Atlas) -> None:
    (verified,) = (event for event in verify_connector(atlas, "shop") if isinstance(event, StreamVerified))
    assert verified.comparison.is_equal


def test_refused_rows_of_all_ranges_are_kept_aside(project: Project, database: Database) -> None:
    """The first time that the table refuses one, all ranges are read again, with care."""
    refused = (1, ROWS // 2, ROWS)
    with duckdb.connect(str(project.folder / "warehouse.duckdb")) as warehouse:
        warehouse.execute("CREATE SCHEMA shop")
        columns = f'id INTEGER, "at" TIMESTAMPTZ, filler VARCHAR, CHECK (id NOT IN {refused})'
        warehouse.execute(f"CREATE TABLE shop.events ({columns})")
    atlas = define(project, database.address, quarantine_limit=3)
    run, events = synced(atlas)
    assert any(isinstance(event, RowsRefused) for event in events)
    (stream,) = run.streams
    found = (run.status, stream.rows_loaded, stream.rows_quarantined, stream.loads)
    assert found == (RunStatus.COMPLETED, ROWS - 3, 3, 1)  # in one commit, whatever the window says
    (verified,) = (event for event in verify_connector(atlas, "shop") if isinstance(event, StreamVerified))
    assert verified.comparison.counts.missing == 0


def test_a_killed_sync_leaves_nothing_and_the_next_one_brings_all(
    project: Project, database: Database
) -> None:
    with database.role() as slow:
        # Each row that this role reads takes the server a moment.
        database.execute(
            f"GRANT SELECT ON events TO {slow.address.username}",
            "ALTER TABLE events ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY slow ON events USING (pg_sleep(0.0005) IS NOT NULL)",
        )
        define(project, slow.address)
        running = project.start("connector", "sync", "shop", env={"PW": slow.address.password})
        until(lambda: database.rows(f"SELECT count(*) {READING}") == [(3,)], "three sessions read")
        running.kill()
        running.communicate()
        until(lambda: database.rows(f"SELECT count(*) {READING}") == [(0,)], "nobody reads")
    atlas = define(project, database.address)
    run, _ = synced(atlas)
    assert (run.status, run.rows_processed) == (RunStatus.COMPLETED, ROWS)
    assert_equal(atlas)
    database.execute(f"INSERT INTO events VALUES ({ROWS + 1}, '2027-01-01', '')")
    run, _ = synced(atlas)
    assert run.rows_processed < 10  # the tail, as ever
    assert_equal(atlas)


def test_a_killed_sync_of_a_file_leaves_nothing_and_lets_go_of_it(project: Project) -> None:
    rows, source = 400_000, project.folder / "shop.db"
    make(
        source,
        "CREATE TABLE events (id INTEGER PRIMARY KEY, at TIMESTAMP NOT NULL, filler TEXT)",
        "INSERT INTO events WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n"
        f" LIMIT {rows}) SELECT n, datetime(1767225600 + n, 'unixepoch'), hex(randomblob(100)) FROM n",
    )
    stream = {"table": "events", "cursor": "at", "partitions": 2}
    definition = {
        "protocol": "sqlite",
        "connection": {"database_path": str(source)},
        "streams": [stream],
        "destination": "lake",
    }
    lake = {"protocol": "parquet", "path": "lake"}
    project.write("connectors.d/shop.yaml", json.dumps(definition))
    project.write("atlas.yaml", json.dumps({"destinations": {"lake": lake}}))
    until(lambda: _is_killed_while_it_writes(project), "a sync is killed before its commit")
    make(source, "DELETE FROM events WHERE id % 2 = 0")  # nobody has it locked
    run, _ = synced(Atlas.open(project.folder, {}))
    assert (run.status, run.rows_processed) == (RunStatus.COMPLETED, rows // 2)
    assert run.streams[0].loads == 1
    assert_equal(Atlas.open(project.folder, {}))


def _is_killed_while_it_writes(project: Project) -> bool:
    """False where it was faster than we, and everything is as it was."""
    lake = project.folder / "lake"
    running = project.start("connector", "sync", "shop")
    until(lambda: _has_rows(lake) or running.poll() is not None, "rows are written")
    running.kill()
    running.communicate()
    if [*lake.rglob(MANIFEST)]:
        shutil.rmtree(lake)
        shutil.rmtree(project.folder / ".atlas")
        return False
    return True


def _has_rows(lake: Path) -> bool:
    """Whether there is a file of rows, which may be renamed while we look."""
    with suppress(FileNotFoundError):
        return any(file.stat().st_size > 1_000_000 for file in lake.rglob("*"))
    return False
