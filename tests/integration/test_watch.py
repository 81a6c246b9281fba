"""`atlas watch` beside real runs: in a file and in PostgreSQL, on a terminal and without one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field

import duckdb
import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from tests.waiting import PATIENCE_SECONDS, until
from werkzeug import Request, Response

from atlas_etl.state import SqlStateStore, open_state_store

CANARY = "caNary-4f-9"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Shop:
    """A project whose `api` answers when the test lets it."""

    project: Project
    location: str
    open: threading.Event = field(default_factory=threading.Event)
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        self.processes.append(self.project.start(*arguments))
        return self.processes[-1]

    def answer(self, _request: Request) -> Response:
        self.open.wait(100)
        return Response(json.dumps([{"id": 1, "x": CANARY}, {"id": 2, "x": CANARY}]))

    def store(self) -> SqlStateStore:
        return open_state_store(self.location)

    def publishes(self, connector: str = "api") -> bool:
        with closing(self.store()) as store:
            return any(live.progress for live in store.live(connector))

    def syncing(self, *arguments: str) -> subprocess.Popen[str]:
        """A sync that published how far it is."""
        started = self.start("connector", "sync", *arguments)
        until(lambda: self.publishes(arguments[0]), "the run is published")
        return started


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, project: Project, httpserver: HTTPServer) -> Iterator[Shop]:
    location = str(project.folder / ".atlas" / "state.db")
    if request.param == "postgres":
        location = request.getfixturevalue("postgres").url("postgresql")
        project.write("atlas.yaml", f"state: {location}\n")
    made = Shop(project, location)
    httpserver.expect_request("/things").respond_with_handler(made.answer)
    url, auth = httpserver.url_for(""), f"auth: {{type: bearer, token: {CANARY}}}"
    streams = "streams: [{name: things, path: /things}, {name: others, path: /things}]"
    project.write(
        "connectors.d/api.yaml", f"protocol: http\nconnection: {{base_url: '{url}', {auth}}}\n{streams}\n"
    )
    project.write("in/orders.csv", "id,at\n1,2026-01-01\n")
    project.write(
        "connectors.d/csv.yaml",
        "protocol: csv\nconnection: {path: in/*.csv}\nschedule: '0 6 * * *'\ntimezone: Asia/Tokyo\n",
    )
    project.start("--version").communicate()  # what that imports is compiled now
    yield made
    made.open.set()
    for process in made.processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


class Terminal:
    """`atlas ARGUMENTS` on a terminal of its own, and what that showed so far."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.descriptor, inside = pty.openpty()
        termios.tcsetwinsize(inside, (40, 140))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "atlas_etl", *arguments],
            cwd=project.folder, env=project.environment({"TERM": "xterm-256color"}), start_new_session=True,
            stdin=inside, stdout=inside, stderr=inside,
        )  # fmt: skip
        os.close(inside)
        self.sent = b""

    @property
    def shown(self) -> str:
        return self.sent.decode(errors="replace")

    def shows(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in CONTROL.sub("", self.shown):
            assert time.monotonic() < deadline, f"no {text!r} in {self.shown}"
            self._read()

    def ends(self) -> int:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read()
        while self._read():
            pass
        return self.process.returncode

    def _read(self) -> bool:
        """Whether there was something; it comes in pieces, also at the end."""
        before = len(self.sent)
        if select.select([self.descriptor], [], [], 0.1)[0]:
            with suppress(OSError):  # the other end is closed
                self.sent += os.read(self.descriptor, 100_000)
        return len(self.sent) > before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.descriptor)


@pytest.fixture
def terminal(shop: Shop) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        opened.append(Terminal(shop.project, *arguments))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_without_a_terminal_a_run_is_told_in_lines_until_it_ended(shop: Shop) -> None:
    sync = shop.syncing("api", "csv")
    seen = shop.project.atlas("watch", "--json").json()
    (run,) = seen["running"]
    progress = run.pop("progress")
    assert (run["connector"], run["pid"], run["triggered_by"]) == ("api", sync.pid, "manual")
    assert (progress["streams_total"], progress["streams_over"]) == (2, 0)
    assert progress["next_connectors"] == ["csv"]
    assert set(progress["next_streams"]) <= {"things", "others"}
    assert (seen["daemons"], seen["next"]) == ([], [])
    watch = shop.start("watch")
    assert watch.stdout is not None
    first = watch.stdout.readline()  # at once, although it is a pipe
    assert first.startswith("api: running since 2"), first
    shop.open.set()
    told, errors = watch.communicate(timeout=PATIENCE_SECONDS)
    assert (watch.returncode, errors) == (0, ""), told
    sync.communicate()
    assert told.splitlines()[-2].startswith("api: completed: 4 rows in "), told
    assert told.splitlines()[-1].startswith("csv: completed: 1 row in "), told
    assert CANARY not in first + told + json.dumps([progress, run])
    assert "\x1b" not in told


def test_a_killed_run_ends_what_watches_it_as_interrupted(
    shop: Shop, terminal: Callable[..., Terminal]
) -> None:
    sync = shop.syncing("api")
    here = terminal("watch", "api")
    here.shows("api: ")
    here.shows("0 of 2 streams done")
    sync.kill()
    sync.wait()
    if "://" in shop.location:  # there silence tells that it is gone, and the test has less time than a lease
        with closing(shop.store()) as store, store._database.writing() as connection:
            connection.exec_driver_sql("UPDATE pipeline.leases SET expiry_seconds = 0.1")
    here.shows("api: interrupted")
    assert here.ends() == 130
    assert f"ended without a word: host {os.uname().nodename}, pid {sync.pid}" in CONTROL.sub("", here.shown)
    assert here.shown.rstrip().endswith("whatever was committed stays, the rest is as before")
    assert here.shown.count("\x1b[?25l") == here.shown.count("\x1b[?25h") == 1  # the cursor is there again
    assert shop.project.atlas("watch", "--json").json()["running"] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_watching_stops_nothing_else(
    shop: Shop, terminal: Callable[..., Terminal], number: signal.Signals
) -> None:
    sync = shop.syncing("api")
    here = terminal("watch")
    here.shows("next: ")
    here.process.send_signal(number)
    assert here.ends() == 130
    assert "what runs goes on" in here.shown
    assert "\x1b[?25h" in here.shown
    assert sync.poll() is None
    shop.open.set()
    _, log = sync.communicate(timeout=PATIENCE_SECONDS)
    assert sync.returncode == 0, log


def test_rows_and_speed_are_shown_while_a_load_goes_on(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    with duckdb.connect(str(shop.project.folder / "big.duckdb")) as source:
        source.execute("CREATE VIEW big AS SELECT i, hash(i)::VARCHAR AS x FROM range(1000000000000) t(i)")
    definition = "protocol: duckdb\nconnection: {path: big.duckdb}\nstreams: [big]\n"
    shop.project.write("connectors.d/big.yaml", definition)
    here = terminal("watch", "big")
    sync = shop.start("connector", "sync", "big")

    def has_rows() -> bool:
        with closing(shop.store()) as store:
            return any(
                stream.rows for live in store.live() if live.progress for stream in live.progress.streams
            )

    until(has_rows, "rows were published")
    sync.send_signal(signal.SIGSTOP)
    (run,) = shop.project.atlas("watch", "big", "--json").json()["running"]
    (stream,) = run["progress"]["streams"]
    assert (stream["name"], stream["table"]) == ("big", "big.big")
    assert stream["rows"] > 0
    assert stream["rows_per_second"] == pytest.approx(stream["rows"] / stream["seconds"], rel=0.2)
    assert stream["bytes_per_second"] > 0
    here.shows("big: ")
    sync.send_signal(signal.SIGCONT)
    sync.send_signal(signal.SIGTERM)
    _, log = sync.communicate(timeout=PATIENCE_SECONDS)
    assert sync.returncode == 130, log
    assert here.ends() == 130, here.shown


def test_a_scheduler_is_watched_until_it_ends(shop: Shop, terminal: Callable[..., Terminal]) -> None:
    daemon = shop.start("schedule")
    assert daemon.stderr is not None
    daemon.stderr.readline()
    here = terminal("watch")
    here.shows(f"the scheduler is alive (host {os.uname().nodename}, pid {daemon.pid})")
    here.shows("csv at 2")
    assert shop.project.atlas("connector", "sync", "csv").returncode == 0  # shorter than any two looks
    here.shows("csv: completed: 1 row")
    (coming,) = shop.project.atlas("watch", "csv", "--json").json()["next"]
    assert (coming["connector"], coming["scheduled_at"][10:]) == ("csv", "T21:00:00Z")
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=PATIENCE_SECONDS)
    assert here.ends() == 0, here.shown


def test_where_nothing_runs_it_says_what_ran_last(shop: Shop) -> None:
    nothing = shop.project.atlas("watch")
    assert (nothing.returncode, nothing.stdout) == (0, "nothing runs now\n")
    shop.project.atlas("connector", "sync", "csv")
    told = shop.project.atlas("watch", "csv").stdout.splitlines()
    assert told[0] == "csv does not run now"
    assert told[1].startswith("last run: csv completed: 1 row in ")
    unknown = shop.project.atlas("watch", "cvs")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "did you mean 'csv'" in unknown.stderr


def test_a_sync_ends_with_what_it_did_and_the_next_slot(shop: Shop) -> None:
    first = shop.project.atlas("connector", "sync", "csv").stderr.splitlines()[-1]
    summary = r"csv: completed: 1 row in \d+\.\d\d s, \d+ B, 1 load, next at \d{4}-\d\d-\d\dT21:00:00Z"
    assert re.fullmatch(summary, first), first
    shop.project.write("in/orders.csv", "id,at,note\n1,2026-01-01,a\n2,2026-01-02,b\n")
    again = shop.project.atlas("connector", "sync", "csv", "--log-format", "json").stderr.splitlines()[-1]
    assert "completed: 2 rows in" in json.loads(again)["message"]
    assert "1 schema change, next at" in json.loads(again)["message"]
    assert json.loads(again)["next_sync_at"].endswith("T21:00:00Z")
    of_slot = shop.project.atlas("connector", "sync", "csv", "--slot", "2026-01-01T21:00:00Z")
    assert "next at" not in of_slot.stderr  # the scheduler knows
