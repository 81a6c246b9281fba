"""Two connectors whose first loads go into one empty table at once: the later one meets the other's rows."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
from tests.project import Project
from tests.servers import ServerAddress, mysql
from tests.waiting import until

from atlas_etl.api.copy import Wanted, copy_job, run_once
from atlas_etl.api.ends import End, end_of, reference_context
from atlas_etl.contracts import Destination
from atlas_etl.errors import OvertakenError
from atlas_etl.model import Disposition, LoadPlan, RunStatus, Stream, TableName
from atlas_etl.pipeline.events import Event, RunFinished, StreamStarted

KEYLESS = "CREATE TABLE t (id bigint, v bigint)"


@pytest.fixture(params=["duckdb", "sqlite", "postgresql", "mysql"])
def uri(project: Project, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with an empty table that keeps no key unique."""
    monkeypatch.chdir(project.folder)
    protocol: str = request.param
    if protocol == "duckdb":
        with duckdb.connect("copy.duckdb") as file:
            file.execute(KEYLESS)
        return "copy.duckdb"
    if protocol == "sqlite":
        with closing(sqlite3.connect("copy.db")) as made:
            made.execute(KEYLESS)
        return "sqlite:///copy.db"
    address: ServerAddress = request.getfixturevalue("postgres" if protocol == "postgresql" else "mysql")
    if protocol == "postgresql":
        with psycopg.connect(address.url(protocol), autocommit=True) as session:
            session.execute(KEYLESS)
    else:
        with mysql.connect(address) as connection, connection.cursor() as cursor:
            cursor.execute(KEYLESS)
    return address.url(protocol)


def test_no_key_is_doubled(project: Project, uri: str) -> None:
    for name, value in (("a", 1), ("b", 2)):
        with closing(sqlite3.connect(f"{name}.db")) as source, source:
            source.execute("CREATE TABLE s (id integer PRIMARY KEY, v bigint)")
            source.execute("INSERT INTO s VALUES (1, ?), (2, ?)", (value, value))
    first = merged(project, "a", uri)
    assert any(isinstance(event, StreamStarted) for event in first)  # its plan is made: the table is empty
    assert status(merged(project, "b", uri)) == RunStatus.COMPLETED
    assert status(first) == RunStatus.COMPLETED
    with closing(end(project, uri).as_destination().open()) as destination:
        found = destination.query("SELECT id FROM t ORDER BY id")
    assert found.column(0).to_pylist() == [1, 2]


def test_who_appends_later_is_refused(project: Project, uri: str) -> None:
    for name in ("a", "b"):
        with closing(sqlite3.connect(f"{name}.db")) as source, source:
            source.execute("CREATE TABLE s (id integer PRIMARY KEY, v bigint)")
            source.execute("INSERT INTO s VALUES (1, 1), (2, 2)")
    first = merged(project, "a", uri, disposition=Disposition.APPEND)
    assert any(isinstance(event, StreamStarted) for event in first)
    assert status(merged(project, "b", uri, disposition=Disposition.APPEND)) == RunStatus.COMPLETED
    assert (
        error(first) == "table_not_ours"
    )  # as whoever begins later is told, and each of them at the next sync
    with closing(end(project, uri).as_destination().open()) as destination:
        assert destination.query("SELECT id FROM t ORDER BY id").column(0).to_pylist() == [1, 2]


@pytest.mark.parametrize("uri", ["postgresql", "mysql"], indirect=True)
def test_of_two_that_commit_in_the_same_moment_one_waits(
    project: Project, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    batch = pa.RecordBatch.from_pydict({"id": [1, 2], "v": [1, 1]})
    committing, go_on = threading.Event(), threading.Event()
    with closing(end(project, uri).as_destination().open()) as destination, ThreadPoolExecutor() as pool:
        table = destination.table_name("a", Stream("t", table="s", into=into(uri)))

        def plan(connector: str) -> LoadPlan:
            state = destination.inspect(connector, "s", table)
            return LoadPlan(
                "run", connector, "s", table, Disposition.APPEND, batch.schema, ("id",), "v",
                keyed=True, alone=True, version=state.version, after=state.loaded_at,
            )  # fmt: skip

        with destination.begin(plan("a")) as first, destination.begin(plan("b")) as second:
            first.write(batch)
            second.write(batch)
            connection = first._connection
            commit = connection.commit

            def commit_later() -> None:
                committing.set()
                assert go_on.wait(60)
                commit()

            monkeypatch.setattr(connection, "commit", commit_later)
            one = pool.submit(first.commit, None)
            assert committing.wait(60)
            other = pool.submit(second.commit, None)
            until(lambda: other.done() or waits(destination, uri), "the other one is done or waits")
            go_on.set()
            assert one.result(60).rows == 2
            with pytest.raises(OvertakenError):
                other.result(60)
        assert destination.query("SELECT id FROM t ORDER BY id").column(0).to_pylist() == [1, 2]


def waits(destination: Destination, uri: str) -> bool:
    """Whether somebody waits for a lock."""
    locks = (
        "pg_stat_activity WHERE wait_event_type = 'Lock'"
        if uri.startswith("postgresql")
        else "information_schema.global_status "
        # innodb_trx stays as it was for whoever asks more often than every 0.1 s.
        "WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS' AND variable_value > 0"
    )
    return bool(destination.query(f"SELECT count(*) AS n FROM {locks}").column(0)[0].as_py())


def into(uri: str) -> TableName:
    """The table, where its system has it."""
    return TableName("t", "public" if uri.startswith("postgresql") else uri.rpartition("/")[2])


def end(project: Project, text: str) -> End:
    context = reference_context(project.folder, os.environ, lambda: project.folder)
    return end_of(text, "an end", context)


def merged(project: Project, name: str, uri: str, **more: Any) -> Generator[Event, None, None]:
    wanted = Wanted(tables=("s",), primary_key=("id",), cursor="v", into="t", **more)
    return run_once([copy_job(end(project, f"sqlite:///{name}.db"), end(project, uri), wanted)])


def error(events: Generator[Event, None, None]) -> str | None:
    (finished,) = [event for event in events if isinstance(event, RunFinished)]
    (stream,) = finished.run.streams
    return stream.error.code if stream.error is not None else None


def status(events: Generator[Event, None, None]) -> RunStatus:
    (finished,) = [event for event in events if isinstance(event, RunFinished)]
    return finished.run.status
