"""Two connectors whose first merges go into one empty table at the same time: no key is there twice."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing

import duckdb
import psycopg
import pytest
from tests.project import Project
from tests.servers import ServerAddress, mysql

from atlas_etl.api.copy import Wanted, copy_job, run_once
from atlas_etl.api.ends import End, end_of, reference_context
from atlas_etl.model import RunStatus
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


def end(project: Project, text: str) -> End:
    context = reference_context(project.folder, os.environ, lambda: project.folder)
    return end_of(text, "an end", context)


def merged(project: Project, name: str, uri: str) -> Generator[Event, None, None]:
    wanted = Wanted(tables=("s",), primary_key=("id",), cursor="v", into="t")
    return run_once([copy_job(end(project, f"sqlite:///{name}.db"), end(project, uri), wanted)])


def status(events: Generator[Event, None, None]) -> RunStatus:
    (finished,) = [event for event in events if isinstance(event, RunFinished)]
    return finished.run.status
