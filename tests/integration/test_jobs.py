"""`--jobs`: streams of one connector side by side, as many at once as it says and the systems allow."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterable
from contextlib import closing

import duckdb
import pytest
from pytest_httpserver import HTTPServer
from tests.integration.test_lease import Expiring
from tests.project import Project
from tests.waiting import until
from werkzeug import Request, Response

from atlas_etl import Atlas
from atlas_etl.api.sync import sync_all
from atlas_etl.model import RunStatus
from atlas_etl.pipeline.events import BatchLoaded, Event, RunFinished, StreamFinished, StreamStarted
from atlas_etl.state.lease import LeaseTimes

STREAMS = [f"t{number}" for number in range(5)]
ROWS = 400_000


@pytest.fixture
def shop(project: Project) -> Project:
    with duckdb.connect(str(project.folder / "s.duckdb")) as source:
        for name in STREAMS:
            source.execute(f"CREATE TABLE {name} AS SELECT i, hash(i)::VARCHAR AS x FROM range({ROWS}) n(i)")
    project.write(
        "connectors.d/shop.yaml",
        f"protocol: duckdb\nconnection: {{path: s.duckdb}}\nstreams: [{', '.join(STREAMS)}]\n",
    )
    return project


def most_at_once(events: Iterable[Event]) -> int:
    going = most = 0
    for event in events:
        going += isinstance(event, StreamStarted)
        most = max(most, going)
        going -= isinstance(event, StreamFinished)
    return most


def counts(project: Project) -> list[int]:
    with duckdb.connect(str(project.folder / "warehouse.duckdb")) as warehouse:
        tables = [
            str(name) for (name,) in warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        ]
        found = [
            warehouse.execute(f"SELECT count(*) FROM shop.{n}").fetchone() for n in tables if n in STREAMS
        ]
        return [int(row[0]) for row in found if row]


def test_streams_run_side_by_side_and_are_told_in_their_order(shop: Project) -> None:
    atlas = Atlas.open(shop.folder, {})
    *events, last = atlas.sync(["shop"], jobs=3)
    assert most_at_once(events) == 3
    assert isinstance(last, RunFinished)
    assert (last.run.status, [stream.name for stream in last.run.streams]) == (RunStatus.COMPLETED, STREAMS)
    assert counts(shop) == 5 * [ROWS]
    with atlas.state() as store:
        assert store.history("shop")[0].rows_processed == 5 * ROWS
    assert most_at_once(atlas.sync(["shop"])) == 1


def test_jobs_counts_the_streams_of_all_connectors(shop: Project) -> None:
    text = (shop.folder / "connectors.d" / "shop.yaml").read_text()
    for name in ("one", "two"):
        shop.write(f"connectors.d/{name}.yaml", text)
    events = list(Atlas.open(shop.folder, {}).sync(["one", "shop", "two"], jobs=2))
    assert most_at_once(events) == 2
    runs = [event.run for event in events if isinstance(event, RunFinished)]
    assert [run.rows_processed for run in runs] == 3 * [5 * ROWS]


def test_a_system_with_one_writer_loads_one_after_another(shop: Project) -> None:
    shop.write("atlas.yaml", "destinations: {warehouse: {protocol: sqlite, database_path: w.db}}\n")
    assert most_at_once(Atlas.open(shop.folder, {}).sync(["shop"], jobs=3)) == 1


class AtOnce:
    """An API whose answers wait until as many requests are in flight as were asked for."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._changed = threading.Condition()
        self._in_flight = self.most = 0

    def answer(self, _: Request) -> Response:
        with self._changed:
            self._in_flight += 1
            self.most = max(self.most, self._in_flight)
            self._changed.notify_all()
            # Who waited in vain lets everybody go on.
            self._wanted = self._wanted if self._changed.wait_for(self._is_met, timeout=60) else 0
            self._in_flight -= 1
        return Response(b'[{"id": 1}]', content_type="application/json")

    def _is_met(self) -> bool:
        return self.most >= self._wanted


@pytest.mark.parametrize("concurrency", [1, 2])
def test_requests_of_streams_go_out_at_once_as_many_as_the_connection_allows(
    project: Project, concurrency: int
) -> None:
    api = AtOnce(concurrency)
    with HTTPServer(threaded=True) as server:
        server.expect_request(re.compile("/s[0-3]")).respond_with_handler(api.answer)
        resources = {f"s{number}": {"path": f"/s{number}"} for number in range(4)}
        connection = {"base_url": server.url_for("/"), "concurrency": concurrency, "resources": resources}
        project.write("connectors.d/api.yaml", json.dumps({"protocol": "http", "connection": connection}))
        assert project.atlas("connector", "sync", "api", "--jobs", "4").returncode == 0
    assert api.most == concurrency


def test_a_lost_lease_stops_every_commit(shop: Project) -> None:
    atlas = Atlas.open(shop.folder, {})
    store = Expiring(times=LeaseTimes())
    events = list(sync_all([atlas.job("shop")], store, side_by_side=3))
    assert not any(isinstance(event, StreamFinished) for event in events)
    assert isinstance(events[-1], RunFinished)
    assert events[-1].run.error is not None
    assert events[-1].run.error.code == "lease_lost"
    assert counts(shop) == []


def test_closing_the_events_undoes_every_load(shop: Project) -> None:
    atlas = Atlas.open(shop.folder, {})
    with closing(atlas.sync(["shop"], jobs=3)) as events:
        next(event for event in events if isinstance(event, BatchLoaded))
    with atlas.state() as store:
        assert [run.status for run in store.history()] == [RunStatus.INTERRUPTED]
    assert counts(shop) == []


def test_a_signal_undoes_what_is_open(shop: Project) -> None:
    with duckdb.connect(str(shop.folder / "s.duckdb")) as source:  # the last one is never whole
        source.execute("ALTER TABLE t4 RENAME TO real")
        source.execute("CREATE VIEW t4 AS SELECT real.* FROM range(1000000) again, real")
    running = shop.start("connector", "sync", "shop", "--jobs", "3")
    until((shop.folder / "warehouse.duckdb").exists, "the sync writes")
    running.send_signal(signal.SIGTERM)
    _, text = running.communicate(timeout=50)
    assert running.returncode == 130, text
    (run,) = shop.atlas("connector", "history", "shop", "--json").json()["runs"]
    assert run["status"] == "interrupted"
    assert set(counts(shop)) <= {ROWS}  # whole, or not there
    with duckdb.connect(str(shop.folder / "s.duckdb")) as source:
        source.execute("DROP VIEW t4")
        source.execute("ALTER TABLE real RENAME TO t4")
    assert shop.atlas("connector", "sync", "shop", "--jobs", "3").returncode == 0
    assert counts(shop) == 5 * [ROWS]
