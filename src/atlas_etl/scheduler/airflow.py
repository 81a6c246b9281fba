"""Airflow: a DAG with one task for each scheduled connector, made from the definitions.

In a file of Airflow's DAG folder:

    from atlas_etl.scheduler.airflow import build_dags

    globals().update(build_dags("/srv/warehouse"))

A task runs `atlas connector sync` in a process of its own. Tested with Airflow 3.3.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import (
    DAG,
    BaseOperator,
    Context,
    CronTriggerTimetable,
    DeltaTriggerTimetable,
    MultipleCronTriggerTimetable,
)
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from atlas_etl.errors import ExitCode
from atlas_etl.scheduler.export.calendars import calendars, expression
from atlas_etl.scheduler.export.entries import Entry
from atlas_etl.scheduler.export.scheduled import scheduled

START = datetime(2026, 1, 1, tzinfo=UTC)
_NO_RETRY_HELPS = frozenset({ExitCode.USAGE, ExitCode.DATA})
_OF_SLOTS = frozenset({"scheduled", "backfill"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def build_dags(
    project: str | Path,
    *,
    connectors: Sequence[str] = (),
    command: Sequence[str] = (sys.executable, "-m", "atlas_etl"),
    start_date: datetime = START,
    catchup: bool = False,
    retries: int | None = None,
    retry_delay: timedelta | None = None,
    pool: str | None = None,
    timeout: timedelta | None = None,
    tags: Sequence[str] = ("atlas",),
) -> dict[str, DAG]:
    """The DAGs of a project, by their id, `atlas_NAME`.

    They are of these connectors, or of all, that are enabled and have a schedule.
    `catchup` has Airflow make up for every slot since `start_date`, `retries` (with exponential backoff) are
    of failures that may pass, `pool` limits how many connectors run at once, `timeout` ends a run. Retries,
    their delay and the timeout are, where they are not given, what `schedule` of atlas.yaml and `scheduling`
    of the definition say. Raises ConfigError for a wrong definition, and for a schedule that Airflow cannot
    keep.
    """
    folder = Path(os.path.abspath(project))
    dags = {}
    found = scheduled(folder, os.environ, connectors)
    for entry in found.entries:
        settings = found.settings[entry.name]
        with DAG(
            dag_id=f"atlas_{entry.name}",
            schedule=_timetable(entry),
            start_date=_aligned(start_date, entry),
            catchup=catchup,
            max_active_runs=1,
            tags=list(tags),
            description=f"Atlas: sync {entry.name}",
        ) as dag:
            SyncOperator(
                task_id="sync",
                connector=entry.name,
                project=str(folder),
                command=tuple(command),
                retries=settings.retries if retries is None else retries,
                retry_delay=settings.retry_wait if retry_delay is None else retry_delay,
                retry_exponential_backoff=2,
                max_retry_delay=settings.longest_retry_wait,
                execution_timeout=settings.timeout if timeout is None else timeout,
                **({"pool": pool} if pool else {}),
            )
        dags[dag.dag_id] = dag
    return dags


class SyncOperator(BaseOperator):  # type: ignore[misc]  # Airflow is in an environment of its own
    """`atlas connector sync` as a task; skipped where another run is in progress, or the slot was run."""

    def __init__(self, *, connector: str, project: str, command: Sequence[str], **options: object) -> None:
        super().__init__(**options)
        self.connector = connector
        self.project = project
        self.command = tuple(command)
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> None:
        """Run to the end, its output in the task's log. Raises AirflowException where it failed.

        The slot of a scheduled run, a backfill's included, is its logical date: it is run once, also where
        the task is cleared, or `atlas schedule` runs the same project.
        """
        line = (*self.command, "-C", self.project, "connector", "sync", self.connector)
        line = (*line, "--triggered-by", "airflow")
        dag_run, logical_date = context["dag_run"], context.get("logical_date")
        if logical_date is not None and dag_run.run_type in _OF_SLOTS:
            line = (*line, "--slot", logical_date.isoformat())
        self.log.info("%s", shlex.join(line))
        with subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as self._process:
            last = ""
            for said in self._process.stdout or ():
                last = said.rstrip("\n")
                self.log.info("%s", last)
        _judge(self.connector, self._process.returncode, last)

    def on_kill(self) -> None:
        """End the run as SIGTERM does: what was committed stays."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)


def _judge(connector: str, code: int, last: str) -> None:
    if code == ExitCode.DONE:
        return
    if code == ExitCode.LOCKED:
        raise AirflowSkipException(f"{connector}: {last}")
    message = f"the sync of {connector} ended with exit code {code}: {last}"
    raise AirflowFailException(message) if code in _NO_RETRY_HELPS else AirflowException(message)


def _timetable(
    entry: Entry,
) -> CronTriggerTimetable | DeltaTriggerTimetable | MultipleCronTriggerTimetable:
    found = calendars(entry.schedule, entry.timezone)
    if isinstance(found, timedelta):
        return DeltaTriggerTimetable(found)
    lines = [expression(calendar, entry, stars_need_both=False) for calendar in found]
    if len(lines) == 1:
        return CronTriggerTimetable(lines[0], timezone=found[0].timezone)
    return MultipleCronTriggerTimetable(*lines, timezone=found[0].timezone)


def _aligned(start: datetime, entry: Entry) -> datetime:
    """The first of an interval's slots from the start on; a calendar has its own."""
    found = calendars(entry.schedule, entry.timezone)
    return start + (_EPOCH - start) % found if isinstance(found, timedelta) else start
