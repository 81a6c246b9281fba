"""The runs that Celery makes: its beat's slots, and real workers with a real broker, one of them killed."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.beat import Scheduler
from celery.result import AsyncResult
from redis import Redis
from tests.conftest import unavailable
from tests.project import Project
from tests.servers import Unavailable
from tests.servers import redis as redis_recipe

from atlas_etl import Atlas
from atlas_etl.cli.app import run
from atlas_etl.config.schedule import parse_schedule
from atlas_etl.model import RunStatus
from atlas_etl.scheduler.celery_app import Slots, app
from atlas_etl.scheduler.due import slots_between

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
def worker(broker: str, project: Project) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a session of its own, ended at once with all it started."""
    options = ("-P", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "warning")
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
        f'exec {sys.executable} -m atlas_etl "$@"\n',
    )
    command.chmod(0o755)
    sent = send(broker, shop, [str(command)], "2026-03-01T01:30:00Z")
    with worker(broker, shop) as first:
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
