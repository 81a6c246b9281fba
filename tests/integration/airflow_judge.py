"""Run by Airflow's own Python, on a DAG folder: what it finds there, when it would run, what runs do.

python airflow_judge.py DAGS ANSWER.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from pendulum import instance

SINCE = datetime(2026, 3, 27, 12, 1, tzinfo=UTC)
SLOT = datetime(2026, 3, 1, 5, 0, tzinfo=UTC)
COUNT = 12


def slots(dag: object) -> list[str]:
    """The scheduler's own walk, of a DAG that begins at SINCE and catches up."""
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    restriction = TimeRestriction(instance(SINCE), None, catchup=True)
    last, found = None, []
    for _ in range(COUNT):
        last = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)
        found.append(last.run_after.astimezone(UTC).isoformat())
    return found


def outcome(execute: Callable[[dict[str, object]], None], run_type: str) -> str:
    """How a task's operator ends: the exception's name and text, or `done`."""
    try:
        execute({"dag_run": SimpleNamespace(run_type=run_type), "logical_date": SLOT})
    except Exception as failure:
        return f"{type(failure).__name__}: {failure}"
    return "done"


def main(folder: str) -> dict[str, object]:
    """Everything that the tests look at."""
    bag = DagBag(folder)
    dags = {
        name: {
            "tasks": [task.task_id for task in dag.tasks],
            "retries": dag.tasks[0].retries,
            "timeout": dag.tasks[0].execution_timeout.total_seconds(),
            "retry_delay": dag.tasks[0].retry_delay.total_seconds(),
            "longest": dag.tasks[0].max_retry_delay.total_seconds(),
            "pool": dag.tasks[0].pool,
            "catchup": dag.catchup,
            "slots": slots(dag),
            "start": dag.start_date.astimezone(UTC).isoformat(),
        }
        for name, dag in bag.dags.items()
    }
    tested = bag.dags["atlas_daily"].test()
    daily, missing = (bag.dags[name].tasks[0].execute for name in ("atlas_daily", "atlas_missing"))
    return {
        "errors": {Path(file).name: text for file, text in bag.import_errors.items()},
        "dags": dags,
        "tested": {task.task_id: task.state for task in tested.get_task_instances()},
        "scheduled": outcome(daily, "scheduled"),
        "scheduled_again": outcome(daily, "scheduled"),
        "backfill": outcome(daily, "backfill"),
        "manual": outcome(daily, "manual"),
        "missing": outcome(missing, "scheduled"),
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(sys.argv[1])))
