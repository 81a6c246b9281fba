"""`atlas schedule` as processes: two daemons and a manual sync, kills, signals, timeouts."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
import requests
from pytest_httpserver import HTTPServer
from tests.due import just_due
from tests.project import Project
from tests.waiting import PATIENCE_SECONDS, until
from werkzeug import Request, Response

from atlas_etl.model import DecidedSchedule, RunStatus, Slot, SlotStatus
from atlas_etl.state import SqlStateStore, open_state_store


@dataclass
class Api:
    """An HTTP source whose answer waits until the test lets it go."""

    server: HTTPServer
    asked: int = 0
    open: threading.Event = field(default_factory=threading.Event)

    def answer(self, _request: Request) -> Response:
        self.asked += 1
        self.open.wait(PATIENCE_SECONDS)
        return Response('[{"id": 1}, {"id": 2}]', content_type="application/json")


@dataclass
class Schedule:
    """A project with one connector whose slot is due as soon as a daemon looks."""

    project: Project
    location: str
    api: Api
    cron: str
    slot: datetime
    daemons: list[subprocess.Popen[str]] = field(default_factory=list)

    def daemon(self, **env: str) -> subprocess.Popen[str]:
        started = self.project.start("schedule", env=env)
        self.daemons.append(started)
        return started

    def store(self) -> SqlStateStore:
        return open_state_store(self.location)

    def seen(self) -> Slot | None:
        with closing(self.store()) as store:
            return store.schedule.slot("api", self.slot)

    def is_so(self, status: SlotStatus) -> bool:
        found = self.seen()
        return found is not None and found.status is status

    def runs(self) -> Counter[str]:
        with closing(self.store()) as store:
            return Counter(run.status for run in store.history("api", limit=100))

    def rows(self) -> int:
        """How many there are, once no run holds the file any more."""
        found: list[int] = []

        def counted() -> bool:
            with suppress(duckdb.IOException), duckdb.connect(str(file), read_only=True) as warehouse:
                found.extend(warehouse.execute("SELECT count(*) FROM api.things").fetchone() or ())
            return bool(found)

        file = self.project.folder / "warehouse.duckdb"
        until(counted, "the runs' processes are over")
        return found[0]

    def configure(self, settings: str) -> None:
        state = f"state: {self.location}\n" if "://" in self.location else ""
        self.project.write("atlas.yaml", f"{state}schedule: {{test: never, {settings}}}\n")

    def ended(self, daemon: subprocess.Popen[str]) -> tuple[int, str]:
        _, log = daemon.communicate(timeout=PATIENCE_SECONDS)
        return daemon.returncode, log


@pytest.fixture(params=["sqlite", "postgres"])
def schedule(
    request: pytest.FixtureRequest, project: Project, httpserver: HTTPServer, tmp_path: Path
) -> Iterator[Schedule]:
    location = str(project.folder / ".atlas" / "state.db")
    if request.param == "postgres":
        location = request.getfixturevalue("postgres").url("postgresql")
    api = Api(httpserver)
    cron, slot = just_due()
    httpserver.expect_request("/things").respond_with_handler(api.answer)
    project.write(
        "connectors.d/api.yaml",
        f"protocol: http\nconnection: {{base_url: '{httpserver.url_for('')}', timeout: 5m}}\n"
        f"streams: [{{name: things, path: /things}}]\nschedule: {cron}\n",
    )
    made = Schedule(project, location, api, cron, slot)
    made.configure("retry_wait: 1s")
    with closing(made.store()) as store:
        store.schedule.decide({"api": DecidedSchedule(cron, "UTC", slot - timedelta(hours=2))})
    yield made
    api.open.set()
    for daemon in made.daemons:
        for child in children(daemon.pid):
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        daemon.kill()
        daemon.communicate()


def is_gone(process: int) -> bool:
    """Or a zombie, where nobody waits for orphans."""
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append(int(entry.name))
    return found


def test_two_daemons_and_a_manual_sync_run_a_slot_once(schedule: Schedule) -> None:
    daemons = [schedule.daemon(), schedule.daemon()]
    until(lambda: schedule.api.asked > 0, "the run asks the API")
    with closing(schedule.store()) as store:
        until(lambda: len(store.schedule.daemons()) == 2, "both daemons are there")
    manual = schedule.project.atlas("connector", "sync", "api")
    assert manual.returncode == 6
    schedule.api.open.set()
    until(lambda: schedule.is_so(SlotStatus.COMPLETED), "the slot is completed")
    logs = []
    for daemon in daemons:
        daemon.send_signal(signal.SIGTERM)
        code, log = schedule.ended(daemon)
        assert code == 0, log
        logs.append(log)
    assert schedule.api.asked == 1
    assert schedule.rows() == 2
    assert schedule.runs() == {RunStatus.COMPLETED: 1, RunStatus.SKIPPED: 1}
    assert sum(log.count(": begins") for log in logs) == 1
    with closing(schedule.store()) as store:
        assert store.schedule.daemons() == []


def test_a_killed_daemon_leaves_its_run_and_a_killed_run_is_tried_again_by_another(
    schedule: Schedule,
) -> None:
    first = schedule.daemon()
    until(lambda: schedule.is_so(SlotStatus.RUNNING), "the run began")
    until(lambda: schedule.api.asked == 1, "the run asks the API")
    (run,) = children(first.pid)
    first.kill()
    first.wait()
    second = schedule.daemon()
    with closing(schedule.store()) as store:
        until(lambda: any(d.pid == second.pid for d in store.schedule.daemons()), "the second is there")
        assert schedule.is_so(SlotStatus.RUNNING)
        if "://" not in schedule.location:  # a server is told by silence alone, which takes a while
            os.killpg(run, signal.SIGKILL)
            until(lambda: is_gone(run), "the run is dead")
            second.send_signal(signal.SIGHUP)
            again = {RunStatus.INTERRUPTED: 1, RunStatus.RUNNING: 1}
            until(lambda: schedule.runs() == again, "the second daemon tries again")
    schedule.api.open.set()
    until(lambda: schedule.is_so(SlotStatus.COMPLETED), "the slot is completed")
    assert schedule.rows() == 2
    assert schedule.runs()[RunStatus.COMPLETED] == 1


def test_sigterm_lets_runs_end_and_tells_the_service_manager(schedule: Schedule, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        daemon = schedule.daemon(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="2000000")
        assert manager.recv(4096).startswith(b"READY=1")
        until(lambda: schedule.api.asked > 0, "the run asks the API")
        assert manager.recv(4096) == b"WATCHDOG=1"
        daemon.send_signal(signal.SIGTERM)
        while manager.recv(4096) != b"STOPPING=1":
            pass
        assert daemon.poll() is None
        schedule.api.open.set()
        assert schedule.ended(daemon)[0] == 0
    assert schedule.is_so(SlotStatus.COMPLETED)
    assert schedule.rows() == 2


@pytest.mark.parametrize("signals", [(signal.SIGINT,), (signal.SIGTERM, signal.SIGINT)])
def test_a_run_that_does_not_end_in_time_is_ended_and_run_again(
    schedule: Schedule, signals: tuple[signal.Signals, ...]
) -> None:
    schedule.configure(f"shutdown_grace: {1 if len(signals) == 1 else 100}s")
    daemon = schedule.daemon()
    until(lambda: schedule.api.asked > 0, "the run asks the API")
    for number in signals:
        daemon.send_signal(number)
    code, log = schedule.ended(daemon)
    assert code == 0, log
    assert "1 runs were ended" in log
    waiting = schedule.seen()
    assert waiting is not None
    assert (waiting.status, waiting.attempts) == (SlotStatus.FAILED, 0)
    schedule.api.open.set()
    schedule.daemon()
    until(lambda: schedule.is_so(SlotStatus.COMPLETED), "the slot is completed")
    assert schedule.rows() == 2


def test_where_the_state_is_moved_the_daemon_goes_on_there(schedule: Schedule) -> None:
    schedule.api.open.set()
    daemon = schedule.daemon()
    until(lambda: schedule.is_so(SlotStatus.COMPLETED), "the slot is completed")
    before, schedule.location = schedule.location, str(schedule.project.folder / "moved.db")
    with closing(schedule.store()) as store:
        decided = DecidedSchedule(schedule.cron, "UTC", schedule.slot - timedelta(hours=2))
        store.schedule.decide({"api": decided})
    schedule.project.write("atlas.yaml", "state: moved.db\nschedule: {test: never}\n")
    until(lambda: schedule.is_so(SlotStatus.COMPLETED), "the slot is completed in the new store, too")
    assert daemon.poll() is None
    daemon.send_signal(signal.SIGTERM)
    code, log = schedule.ended(daemon)
    assert code == 0, log
    assert "this scheduler begins anew" in log
    with closing(open_state_store(before)) as store:
        assert store.schedule.dead() == []
        assert store.schedule.daemons() == []
    assert schedule.rows() == 2


def test_a_run_is_ended_with_its_process_group_at_its_timeout(schedule: Schedule) -> None:
    schedule.configure("timeout: 3s, retries: 0")
    daemon = schedule.daemon()
    until(lambda: schedule.is_so(SlotStatus.DEAD), "the run is ended for good")
    dead = schedule.seen()
    assert dead is not None
    assert dead.error is not None
    assert dead.error.code == "timeout"
    assert children(daemon.pid) == []
    listed = schedule.project.atlas("schedule", "dead", "list", "--json").json()["dead"]
    assert [(line["connector"], line["error"]["code"]) for line in listed] == [("api", "timeout")]


def test_signals_at_random_moments_lose_and_double_nothing(schedule: Schedule) -> None:
    definition = schedule.project.folder / "connectors.d" / "api.yaml"
    definition.write_text(definition.read_text() + "scheduling: {catch_up: all}\n")
    schedule.api.open.set()
    slots = [schedule.slot - number * timedelta(hours=1) for number in range(4)]
    with closing(schedule.store()) as store:
        before = DecidedSchedule(schedule.cron, "UTC", slots[-1] - timedelta(minutes=1))
        store.schedule.decide({"api": before})
    lasting = schedule.daemon()
    with closing(schedule.store()) as store:  # a SIGHUP before a process listens ends it
        until(lambda: bool(store.schedule.daemons()), "the daemon listens")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
        daemon = schedule.daemon()
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(timeout=random.uniform(0.5, 2.5))
        daemon.send_signal(number)
        lasting.send_signal(signal.SIGHUP)
        if number is not signal.SIGHUP:
            daemon.communicate()
    with closing(schedule.store()) as store:

        def settled() -> bool:
            found = [store.schedule.slot("api", at) for at in slots]
            return all(each is not None and each.status is SlotStatus.COMPLETED for each in found)

        until(settled, "every slot is completed", 180.0)  # a server's leases end after 45 seconds
        runs = store.history("api", limit=100)
    assert Counter(run.scheduled_at for run in runs if run.status is RunStatus.COMPLETED) == dict.fromkeys(
        slots, 1
    )
    assert schedule.rows() == 2


def test_health_and_metrics_are_served(schedule: Schedule) -> None:
    schedule.api.open.set()
    daemon = schedule.project.start("--log-format", "json", "schedule", "--health-port", "0")
    schedule.daemons.append(daemon)
    assert daemon.stderr is not None
    entries = (json.loads(line) for line in daemon.stderr)
    url = next(entry["url"] for entry in entries if entry.get("event") == "health_served")

    def told(path: str) -> requests.Response:
        return requests.get(f"{url}{path}", timeout=10)

    until(
        lambda: 'atlas_runs_total{connector="api",status="completed"} 1.0' in told("/metrics").text, "counted"
    )
    assert 'atlas_run_rows_total{connector="api"} 2.0' in told("/metrics").text
    assert [told(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    daemon.terminate()
    daemon.communicate(timeout=PATIENCE_SECONDS)
    assert daemon.returncode == 0


def test_a_failure_is_told_to_a_webhook(schedule: Schedule) -> None:
    posted: list[dict[str, str]] = []

    def hook(request: Request) -> Response:
        posted.append(request.get_json())
        return Response()

    schedule.api.server.expect_request("/hook", method="POST").respond_with_handler(hook)
    schedule.api.server.expect_request("/gone").respond_with_data("", status=404)
    file = schedule.project.folder / "connectors.d" / "api.yaml"
    file.write_text(file.read_text().replace("/things", "/gone"))
    settings = schedule.project.folder / "atlas.yaml"
    settings.write_text(f"{settings.read_text()}notices: {{ops: {{url: '${{env:HOOK}}'}}}}\n")
    daemon = schedule.daemon(HOOK=schedule.api.server.url_for("/hook"))
    until(lambda: "failure" in [notice["event"] for notice in posted], "told")
    daemon.terminate()
    _, log = schedule.ended(daemon)
    (failure,) = (notice for notice in posted if notice["event"] == "failure")
    slot = schedule.slot.isoformat().replace("+00:00", "Z")
    assert (failure["connector"], failure["scheduled_at"]) == ("api", slot)
    assert "404" in failure["reason"]
    assert "notice" not in log
