"""Celery: runs on as many machines as have a worker (`pip install "atlas-etl[celery]"`).

    celery -A atlas_etl.scheduler.celery_app worker

The broker is Celery's own setting (`CELERY_BROKER_URL`); `ATLAS_CELERY_CONFIG` may name a module with others.
Every worker needs the project's folder under the same path, and a state store that all of them reach.

A task is acknowledged when its run has ended, so one whose worker died is given to another; with Redis after
`visibility_timeout`. One that is given out twice does no harm: runs of a connector exclude each other, and
a slot is run once.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from celery import Celery, Task
from celery.schedules import BaseSchedule, schedstate
from celery.utils.log import get_task_logger

from atlas_etl.config.schedule import parse_schedule
from atlas_etl.errors import ExitCode
from atlas_etl.model import RunError, SlotStatus
from atlas_etl.scheduler.agenda import read_agenda
from atlas_etl.scheduler.due import last_slot, next_slot
from atlas_etl.scheduler.export.scheduled import scheduled
from atlas_etl.scheduler.ongoing import KILL_AFTER
from atlas_etl.scheduler.processes import environment_of_runs
from atlas_etl.scheduler.stores import open_stores

ATLAS = (sys.executable, "-m", "atlas_etl")
CONFIG_VARIABLE = "ATLAS_CELERY_CONFIG"
_NO_RETRY_HELPS = frozenset({ExitCode.USAGE, ExitCode.DATA})
_DEFAULTS: Mapping[str, object] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {"visibility_timeout": 15 * 60},
    "broker_connection_retry_on_startup": True,
}
_A_YEAR = timedelta(days=366)
_log = get_task_logger(__name__)


def _settings_of(module: str | None) -> Mapping[str, object]:
    """The settings in the user's own module, which come before ours."""
    found = vars(importlib.import_module(module)) if module else {}
    return {name: value for name, value in found.items() if not name.startswith("_")}


app = Celery("atlas")
app.config_from_object({**_DEFAULTS, **_settings_of(os.environ.get(CONFIG_VARIABLE))})


class SyncFailedError(Exception):
    """A run's process ended with another code than 0; the history has the reason."""


@app.task(name="atlas.run_slot")  # type: ignore[untyped-decorator]
def run_slot(connector: str, project: str, slot: str, cause: str) -> None:
    """Run a slot that `atlas schedule` claimed; the state store tells it how that ended.

    Only what ended before its run began has to be told here, for no run could.
    """
    folder = Path(project)
    agenda = read_agenda(folder, os.environ)
    rules = agenda.scheduled.get(connector)
    code, said = _ran(_line(ATLAS, connector, project, cause, slot), rules.timeout if rules else None)
    if code in {ExitCode.DONE, ExitCode.LOCKED}:
        return
    _log.warning("%s %s: %s", connector, slot, said)
    with open_stores(agenda.project) as stores:
        found = stores.schedule.slot(connector, datetime.fromisoformat(slot))
        if found is not None and found.status is SlotStatus.CLAIMED:
            message = f"its process on {socket.gethostname()} ended before the run began, exit code {code}"
            hint = "the log of the Celery worker there says why"
            error = RunError("not_begun", message, hint, abs(code), retryable=code == ExitCode.DESTINATION)
            stores.schedule.fail_claim(found, error)


@app.task(bind=True, name="atlas.sync", max_retries=3)  # type: ignore[untyped-decorator]
def sync(
    task: Task, connector: str, project: str, command: Sequence[str] = ATLAS, slot: str | None = None
) -> None:
    """Run a slot of a connector in a process of its own: this one (ISO 8601), or the newest that is due.

    A run that may succeed later is tried again. Where another run is in progress, or the slot was run, the
    task is done; but once more where it was given out before, for the lease of a run that died with its
    worker is free in less than that time.
    """
    slot = slot or _newest_slot(connector, project)
    code, said = _ran(_line(command, connector, project, "celery", slot), None)
    if code == ExitCode.DONE:
        return
    was_given_out_before = bool((task.request.delivery_info or {}).get("redelivered"))
    if code == ExitCode.LOCKED and not was_given_out_before:
        _log.info("%s", said)
        return
    failure = SyncFailedError(f"{connector}: exit code {code}: {said}")
    if code in _NO_RETRY_HELPS:
        raise failure
    raise task.retry(exc=failure, countdown=60 * 2**task.request.retries)


def _line(
    command: Sequence[str], connector: str, project: str, cause: str, slot: str | None
) -> tuple[str, ...]:
    line = (*command, "-C", project, "connector", "sync", connector, "--triggered-by", cause, "-q")
    return line if slot is None else (*line, "--slot", slot)


def _ran(line: Sequence[str], timeout: timedelta | None) -> tuple[int, str]:
    """The exit code and the errors of a run, which is ended after its timeout: asked first, then killed."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            line, env=environment_of_runs(os.environ), stdin=subprocess.DEVNULL, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(None if timeout is None else timeout.total_seconds())
        except subprocess.TimeoutExpired:
            code = _ended(process)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        errors.seek(0)
        return code, errors.read().decode(errors="replace").strip()


def _ended(process: subprocess.Popen[bytes]) -> int:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.wait(KILL_AFTER)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def _newest_slot(connector: str, project: str) -> str | None:
    now = datetime.now(UTC)
    found = (
        last_slot(parse_schedule(entry.schedule), entry.timezone, now - _A_YEAR, now)
        for entry in scheduled(Path(project), os.environ, (connector,)).entries
    )
    return next((slot.isoformat() for slot in found if slot is not None), None)


class Slots(BaseSchedule):  # type: ignore[misc]  # Celery has no types
    """A connector's schedule for beat, in its own zone; what was missed is made up for by one run."""

    def __init__(self, expression: str, timezone: str, **options: object) -> None:
        super().__init__(**options)
        self.expression = expression
        self.timezone = timezone

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a slot has come since, and the seconds until beat should look again."""
        now = self.maybe_make_aware(self.now())
        due = self._after(self.maybe_make_aware(last_run_at)) <= now
        return schedstate(due, (self._after(now) - now).total_seconds())

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """The time until the next slot."""
        now: datetime = self.maybe_make_aware(self.now())
        return self._after(self.maybe_make_aware(last_run_at)) - now

    def _after(self, instant: datetime) -> datetime:
        slot = next_slot(parse_schedule(self.expression), self.timezone, instant)
        return instant + _A_YEAR if slot is None else slot

    def __reduce__(self) -> tuple[type[Slots], tuple[str, str]]:
        return type(self), (self.expression, self.timezone)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Slots):
            return False
        return (self.expression, self.timezone) == (other.expression, other.timezone)

    def __hash__(self) -> int:
        return hash((self.expression, self.timezone))

    def __repr__(self) -> str:
        return f"<atlas: {self.expression} ({self.timezone})>"


def beat_schedule(
    project: str | Path, *, connectors: Sequence[str] = (), command: Sequence[str] = ATLAS
) -> dict[str, dict[str, object]]:
    """What `celery beat` is to send: these connectors, or all, that are enabled and have a schedule.

    Raises ConfigError.
    """
    folder = Path(os.path.abspath(project))
    return {
        f"atlas-{entry.name}": {
            "task": sync.name,
            "schedule": Slots(entry.schedule, entry.timezone),
            "args": (entry.name, str(folder), list(command)),
        }
        for entry in scheduled(folder, os.environ, connectors).entries
    }
