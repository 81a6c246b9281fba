"""The runs that Celery makes: its beat's slots, and real workers with a real broker, one of them killed."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import Scheduler
from celery.result import AsyncResult
from pytest_httpserver import HTTPServer
from redis import Redis
from tests.conftest import unavailable
from tests.documents import DOCS, blocks
from tests.project import Project
from tests.servers import Unavailable
from tests.servers import redis as redis_recipe
from werkzeug import Request, Response

from atlas_etl import Atlas
from atlas_etl.cli.app import run
from atlas_etl.config.project import load_project
from atlas_etl.config.schedule import parse_schedule
from atlas_etl.model import DecidedSchedule, RunStatus, Slot, SlotStatus
from atlas_etl.scheduler.celery_app import Slots, app
from atlas_etl.scheduler.due import last_slot, slots_between
from atlas_etl.scheduler.stores import Stores, open_stores

SECONDS_TO_RUN = 60
SOON = {"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1}


@pytest.fixture(scope="module")
def redis_server() -> Iterator[str]:
    """A Redis server's URL."""
    try:
        with redis_recipe.serve() as url:
            yield url
        return
    except Unavailable as missing:
        reason = str(missing)
    unavailable("redis", reason)


@pytest.fixture
def broker(redis_server: str) -> Iterator[str]:
    """An empty broker: what a killed worker had not acknowledged would come to the next test's."""
    yield redis_server
    with closing(Redis.from_url(redis_server)) as client:
        client.flushdb()


@pytest.fixture
def shop(project: Project) -> Project:
    """A project with a scheduled connector that reads a file."""
    project.write("data/orders.csv", "id,amount\n1,2.50\n")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: csv\nconnection: {path: data}\nstreams: [{name: orders, path: '*.csv'}]\n"
        "schedule: 30 2 * * *\ntimezone: Europe/Berlin\n",
    )
    return project


@contextmanager
def worker(broker: str, project: Project, pool: str = "solo") -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a session of its own, ended at once with its processes."""
    options = (
        "-P",
        pool,
        "-c",
        "1",
        "--without-gossip",
        "--without-mingle",
        "--without-heartbeat",
        "-l",
        "warning",
    )
    project.write(
        "worker_settings.py",
        f"result_backend = {broker!r}\ntask_ignore_result = False\nbroker_transport_options = {SOON!r}\n",
    )
    environment = {
        "CELERY_BROKER_URL": broker,
        "ATLAS_CELERY_CONFIG": "worker_settings",
        "PYTHONPATH": str(project.folder),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "atlas_etl.scheduler.celery_app", "worker", *options],
        cwd=project.folder,
        env=project.environment(environment),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def send(broker: str, project: Project, *more: object) -> AsyncResult[None]:
    """One task, as beat or the daemon sends it; its end can be waited for."""
    client = Celery(broker=broker, backend=broker)
    return client.send_task("atlas.sync", ("shop", str(project.folder), *more))


def runs(project: Project) -> list[Any]:
    with Atlas.open(project.folder, {}).state() as store:
        return list(store.history("shop", limit=10, status=None))


# Beat


@pytest.mark.parametrize(
    ("schedule", "zone"),
    [("30 2 * * *", "Europe/Berlin"), ("0 12 1,15 * mon", "America/New_York"), ("every 7h", "UTC")],
)
def test_beat_sends_each_slot_once(schedule: str, zone: str) -> None:
    """A simulated clock, which beat is asked to look at when it said that it would."""
    since, until = datetime(2026, 3, 27, 12, tzinfo=UTC), datetime(2026, 4, 3, 12, tzinfo=UTC)
    clock = [since]
    slots = Slots(schedule, zone, nowfun=lambda: clock[0])
    last, sent = since, []
    while clock[0] < until:
        is_due, seconds = slots.is_due(last)
        if is_due:
            last = clock[0]
            sent.append(last)
        assert seconds > 0
        clock[0] += timedelta(seconds=min(seconds, 3600))
    wanted = list(slots_between(parse_schedule(schedule), zone, since, until - timedelta(seconds=1)))
    assert [slot for slot in sent if slot != since] == [slot for slot in wanted if slot != since]


def test_beats_own_scheduler_takes_the_exported_module(
    shop: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop.folder)
    monkeypatch.setitem(app.conf, "beat_schedule", {})
    assert run(["schedule", "export", "--to", "celery", "--output", "."]) == 0
    spec = importlib.util.spec_from_file_location("atlas_celery", shop.folder / "atlas_celery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    entry = Scheduler(app=module.app).schedule["atlas-shop"]
    assert (entry.task, entry.args[:2]) == ("atlas.sync", ("shop", str(shop.folder)))
    assert pickle.loads(pickle.dumps(entry.schedule)) == Slots("30 2 * * *", "Europe/Berlin")


# The scheduler, with Celery as its executor


@pytest.fixture
def due(shop: Project) -> datetime:
    """The slot that is due as soon as a scheduler looks, and that it leaves to Celery."""
    now = datetime.now(UTC)
    slot = last_slot(parse_schedule("30 2 * * *"), "Europe/Berlin", now - timedelta(days=2), now)
    assert slot is not None
    shop.write(
        "atlas.yaml", "schedule: {executor: celery, retries: 0, catch_up_window: 2d, shutdown_grace: 1s}\n"
    )
    with stores(shop) as store:
        known = DecidedSchedule("30 2 * * *", "Europe/Berlin", slot - timedelta(hours=1))
        store.schedule.decide({"shop": known})
    return slot


@contextmanager
def scheduler(broker: str, project: Project) -> Iterator[subprocess.Popen[str]]:
    """`atlas schedule`, asked to stop and waited for."""
    daemon = project.start("schedule", env={"CELERY_BROKER_URL": broker})
    try:
        yield daemon
        daemon.send_signal(signal.SIGTERM)
        _, log = daemon.communicate(timeout=SECONDS_TO_RUN)
        assert daemon.returncode == 0, log
    finally:
        daemon.kill()
        daemon.communicate()


def stores(project: Project) -> AbstractContextManager[Stores]:
    return open_stores(load_project(project.folder, {}))


def wait_for(project: Project, slot: datetime, status: SlotStatus) -> Slot:
    deadline = time.monotonic() + SECONDS_TO_RUN
    with stores(project) as store:
        while True:
            found = store.schedule.slot("shop", slot)
            if found is not None and found.status is status:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)


def test_what_the_scheduler_claims_a_worker_runs(shop: Project, due: datetime, broker: str) -> None:
    with worker(broker, shop), scheduler(broker, shop):
        wait_for(shop, due, SlotStatus.COMPLETED)
    (only,) = runs(shop)
    assert (only.status, only.triggered_by, only.scheduled_at) == (RunStatus.COMPLETED, "scheduled", due)
    assert only.rows_processed == 1


def test_a_run_that_died_with_its_worker_is_run_again_by_another(
    shop: Project, due: datetime, broker: str, httpserver: HTTPServer
) -> None:
    """As where a machine is lost: neither the worker nor the run has any last words."""
    asked, go_on = threading.Event(), threading.Event()

    def answer(_request: Request) -> Response:
        asked.set()
        go_on.wait(SECONDS_TO_RUN)
        return Response('[{"id": 1}, {"id": 2}]', content_type="application/json")

    httpserver.expect_request("/things").respond_with_handler(answer)
    shop.write(
        "connectors.d/shop.yaml",
        f"protocol: http\nconnection: {{base_url: '{httpserver.url_for('')}'}}\n"
        "streams: [{name: things, path: /things}]\nschedule: 30 2 * * *\ntimezone: Europe/Berlin\n"
        "scheduling: {retries: 1}\n",
    )
    settings = (shop.folder / "atlas.yaml").read_text()
    shop.write("atlas.yaml", settings.replace("retries: 0", "retry_wait: 1s"))
    with scheduler(broker, shop) as daemon:
        with worker(broker, shop) as first:
            assert asked.wait(SECONDS_TO_RUN)
            lost = children(first.pid)
            kill(first)
            for run in lost:
                os.killpg(run, signal.SIGKILL)
        go_on.set()
        daemon.send_signal(signal.SIGHUP)  # it would look for dead runs by itself, but not at once
        with worker(broker, shop):
            wait_for(shop, due, SlotStatus.COMPLETED)
    assert sorted(run.status for run in runs(shop)) == [RunStatus.COMPLETED, RunStatus.INTERRUPTED]


def children(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, check=True)
    return [int(pid) for pid in listed.stdout.split()]


def test_a_slot_that_no_worker_took_waits_for_the_next_scheduler(
    shop: Project, due: datetime, broker: str
) -> None:
    with scheduler(broker, shop):
        wait_for(shop, due, SlotStatus.CLAIMED)
    found = wait_for(shop, due, SlotStatus.FAILED)
    assert (found.attempts, found.retry_at is not None) == (0, True)
    with worker(broker, shop), scheduler(broker, shop):
        wait_for(shop, due, SlotStatus.COMPLETED)
    assert [run.status for run in runs(shop)].count(RunStatus.COMPLETED) == 1


def test_a_run_that_cannot_begin_on_the_worker_is_told_to_the_scheduler(
    shop: Project, due: datetime, broker: str
) -> None:
    with scheduler(broker, shop):
        wait_for(shop, due, SlotStatus.CLAIMED)
        shop.write("connectors.d/shop.yaml", "protocol: csv\nstreems: []\nschedule: 30 2 * * *\n")
        with worker(broker, shop):
            found = wait_for(shop, due, SlotStatus.DEAD)
    assert found.error is not None
    assert "ended before the run began, exit code 2" in found.error.message


def test_a_broker_that_is_not_there_costs_no_slot(shop: Project, due: datetime, broker: str) -> None:
    with scheduler("redis://127.0.0.1:1/0", shop):
        wait_for(shop, due, SlotStatus.FAILED)
    with worker(broker, shop), scheduler(broker, shop):
        wait_for(shop, due, SlotStatus.COMPLETED)


def test_celery_that_is_not_installed_is_named(shop: Project, due: datetime) -> None:
    shop.write("blocked/celery.py", "raise ModuleNotFoundError('no celery', name='celery')\n")
    done = shop.atlas("schedule", env={"PYTHONPATH": str(shop.folder / "blocked")})
    assert done.returncode == 2
    assert 'pip install "atlas-etl[celery]"' in done.stderr


# Workers


def test_a_slot_that_is_sent_twice_is_run_once(shop: Project, broker: str) -> None:
    with worker(broker, shop):
        for sent in [send(broker, shop), send(broker, shop)]:
            sent.get(timeout=SECONDS_TO_RUN)
    (only,) = [run for run in runs(shop) if run.status is RunStatus.COMPLETED]
    assert (only.triggered_by, only.rows_processed) == ("celery", 1)
    assert only.scheduled_at is not None
    assert only.scheduled_at.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M") == "02:30"


def test_the_task_of_a_worker_that_was_killed_goes_to_another(shop: Project, broker: str) -> None:
    begun = shop.folder / "begun"
    os.mkfifo(begun)
    command = shop.write(
        "atlas",
        "#!/bin/sh\n"
        f"if mkdir {shop.folder}/first 2>/dev/null; then echo yes >{begun}; exec tail -f /dev/null; fi\n"
        f'exec {shlex.quote(sys.executable)} -m atlas_etl "$@"\n',
    )
    command.chmod(0o755)
    sent = send(broker, shop, [str(command)], "2026-03-01T01:30:00Z")
    with worker(broker, shop, "prefork") as first:  # a solo one acknowledges nothing while it runs a task
        assert begun.read_text() == "yes\n"
        kill(first)
        with worker(broker, shop):
            sent.get(timeout=SECONDS_TO_RUN)
    (only,) = runs(shop)
    assert (only.status, only.rows_processed) == (RunStatus.COMPLETED, 1)
    assert only.scheduled_at == datetime(2026, 3, 1, 1, 30, tzinfo=UTC)


def test_a_wrong_definition_is_not_tried_again(shop: Project, broker: str) -> None:
    shop.write("connectors.d/shop.yaml", "protocol: csv\nconnection: {path: data}\nstreems: []\n")
    sent = send(broker, shop, [sys.executable, "-m", "atlas_etl"], "2026-03-01T01:30:00Z")
    with worker(broker, shop), pytest.raises(Exception, match="streems"):
        sent.get(timeout=SECONDS_TO_RUN)


# The guide

GUIDE = DOCS / "guides" / "celery.md"
ENVIRONMENT, EXPORT, BEAT, BEATS_WORKER, SCHEDULER, SCHEDULERS_WORKER = blocks(GUIDE)


@contextmanager
def typed(block: str, broker: str, project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """The guide's lines in a shell, but for the installation; ended at once with all that they began."""
    lines = [line for line in (ENVIRONMENT + block).splitlines() if not line.startswith("pip install")]
    text = "\n".join(lines).replace("redis://broker.example.com/0", broker)
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shell = subprocess.Popen(
        ["sh", "-ec", text.replace("/srv/warehouse", shlex.quote(str(project.folder)))],
        env=project.environment(environment),
        cwd=project.home,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield shell
    finally:
        kill(shell)


def wait_for_run(project: Project, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        ended = [run for run in runs(project) if run.status is not RunStatus.RUNNING]
        if ended:
            return ended[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_guide_has_beat_decide(shop: Project, broker: str) -> None:
    definition = (shop.folder / "connectors.d" / "shop.yaml").read_text()
    shop.write("connectors.d/shop.yaml", definition.replace("30 2 * * *", "'* * * * *'"))
    with typed(EXPORT, broker, shop) as export:
        assert export.wait(SECONDS_TO_RUN) == 0
    with typed(BEAT, broker, shop), typed(BEATS_WORKER, broker, shop):
        run = wait_for_run(shop, 60 + SECONDS_TO_RUN)
    assert (run.status, run.triggered_by, run.rows_processed) == (RunStatus.COMPLETED, "celery", 1)


def test_the_guide_has_the_scheduler_decide(shop: Project, broker: str) -> None:
    (settings,) = blocks(GUIDE, "yaml")
    shop.write("atlas.yaml", settings)
    slot = last_slot(parse_schedule("30 2 * * *"), "Europe/Berlin", *_the_last_day())
    assert slot is not None
    with stores(shop) as store:
        known = DecidedSchedule("30 2 * * *", "Europe/Berlin", slot - timedelta(hours=1))
        store.schedule.decide({"shop": known})
    with typed(SCHEDULERS_WORKER, broker, shop), typed(SCHEDULER, broker, shop):
        run = wait_for_run(shop, SECONDS_TO_RUN)
    assert (run.status, run.triggered_by, run.scheduled_at) == (RunStatus.COMPLETED, "scheduled", slot)


def _the_last_day() -> tuple[datetime, datetime]:
    now = datetime.now(UTC)
    return now - timedelta(days=1), now
