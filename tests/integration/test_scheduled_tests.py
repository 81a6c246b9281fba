"""Tests of connections as processes: what they find, how they end, and two daemons that share them."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from tests.waiting import PATIENCE_SECONDS, until
from werkzeug import Request, Response

from atlas_etl.model import ConnectorHealth
from atlas_etl.scheduler.processes import ProcessExecutor
from atlas_etl.state import open_state_store

Start = Callable[[], subprocess.Popen[str]]


class Api:
    """A source that answers when it is let."""

    def __init__(self, server: HTTPServer) -> None:
        self.asked = 0
        self.open = threading.Event()
        server.expect_request("/").respond_with_handler(self._answer)

    def _answer(self, _request: Request) -> Response:
        self.asked += 1
        self.open.wait(60)
        return Response('[{"id": 1}]', content_type="application/json")


@pytest.fixture
def api(project: Project, httpserver: HTTPServer) -> Iterator[Api]:
    project.write(
        "connectors.d/api.yaml",
        f"protocol: http\nconnection: {{base_url: '{httpserver.url_for('')}'}}\n"
        "streams: [{name: things, path: /things}]\n",
    )
    found = Api(httpserver)
    yield found
    found.open.set()


@pytest.fixture(params=["sqlite", "postgres"])
def location(request: pytest.FixtureRequest, project: Project) -> str:
    if request.param == "sqlite":
        return str(project.folder / ".atlas" / "state.db")
    url: str = request.getfixturevalue("postgres").url("postgresql")
    project.write("atlas.yaml", f"state: {url}\n")
    return url


@pytest.fixture
def daemon(project: Project) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        started.append(project.start("schedule"))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def health(location: str) -> dict[str, ConnectorHealth]:
    with closing(open_state_store(location)) as store:
        return dict(store.health.health())


def ended(daemon: subprocess.Popen[str]) -> str:
    _, log = daemon.communicate(timeout=PATIENCE_SECONDS)
    assert daemon.returncode == 0, log
    return log


def test_two_daemons_test_each_connector_once(
    project: Project, api: Api, location: str, daemon: Start
) -> None:
    project.write("connectors.d/broken.yaml", "protocol: sqlite\nconnection: {database_path: no/such.db}\n")
    project.write("connectors.d/off.yaml", "protocol: sqlite\nenabled: false\n")
    daemons = [daemon(), daemon()]
    until(lambda: api.asked > 0, "the API is tested")
    until(lambda: "broken" in health(location), "the file was looked for")
    with closing(open_state_store(location)) as store:
        until(lambda: len(store.schedule.daemons()) == 2, "both are there")
    api.open.set()
    until(lambda: "api" in health(location), "the API's test ended")
    for each in daemons:
        each.send_signal(signal.SIGTERM)
    log = "".join(ended(each) for each in daemons)
    found = health(location)
    assert {name: each.is_healthy for name, each in found.items()} == {"api": True, "broken": False}
    assert log.count("broken: its test fails: ") == 1
    assert api.asked == 1
    document = project.atlas("connector", "history", "--tests", "--json").json()
    assert document["total_tests"] == 2
    by_name = {test["connector"]: test for test in document["tests"]}
    assert by_name["api"]["connection_status"] == "success"
    assert by_name["broken"]["error"]["message"] == by_name["broken"]["message"]


def test_a_test_that_is_killed_has_failed_and_one_of_a_daemon_that_stops_may_end(
    project: Project, api: Api, location: str, daemon: Start
) -> None:
    project.write("connectors.d/second.yaml", (project.folder / "connectors.d" / "api.yaml").read_text())
    started = daemon()

    def tests() -> dict[str, int]:
        found = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0") for child in found}
        return {line[-3].decode(): child for child, line in lines.items() if b"test" in line}

    until(lambda: api.asked > 0 and tests().keys() == {"api", "second"}, "both are tested")
    victim = tests()["second"]
    subprocess.run(["kill", "-SEGV", str(victim)], check=True)
    until(lambda: "second" in health(location), "the crash was noticed")
    started.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.5)
    api.open.set()
    ended(started)
    found = health(location)
    assert found["api"].is_healthy
    error = found["second"].last.error
    assert error is not None
    assert (error.code, error.message) == ("killed", "the test's process was ended by SIGSEGV")


def test_a_test_ends_by_itself_where_nobody_is_left_to_end_it(project: Project, api: Api) -> None:
    test = ProcessExecutor(project.folder, project.environment()).start_test("api", 3.0)
    until(lambda: test.poll() is not None, "the alarm rang")
    assert test.poll() == -signal.SIGALRM
    assert test.answer() == b""
