"""Where runs are executed, by the name that atlas.yaml has for it; Celery is loaded where it is chosen."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from atlas_etl.config.scheduling import ExecutorName
from atlas_etl.contracts import ScheduleStore
from atlas_etl.errors import MissingDriverError
from atlas_etl.scheduler.agenda import Agenda
from atlas_etl.scheduler.processes import Executor, ProcessExecutor


def open_executor(
    agenda: Agenda, environ: Mapping[str, str], store: ScheduleStore, options: Sequence[str]
) -> Executor:
    """The executor of the project's settings. Raises MissingDriverError."""
    folder = agenda.project.folder
    if agenda.settings.executor is ExecutorName.PROCESS:
        return ProcessExecutor(folder, environ, options)
    try:
        room = importlib.import_module("atlas_etl.scheduler.celery_executor")
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in {"celery", "kombu"}:
            raise
        raise MissingDriverError(
            "`executor: celery` needs Celery, which is not installed",
            hint='pip install "atlas-etl[celery]"',
        ) from None
    executor: Executor = room.CeleryExecutor(folder, store)
    return executor
