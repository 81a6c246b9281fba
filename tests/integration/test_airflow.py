"""The DAGs before Airflow itself: its DagBag, its timetables, its runs, in an environment of its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import unavailable
from tests.documents import DOCS, blocks
from tests.project import PASSED_ON, Project
from tests.servers import Unavailable
from tests.servers import airflow as airflow_recipe

from atlas_etl import Atlas
from atlas_etl.config.schedule import parse_schedule
from atlas_etl.scheduler.due import upcoming_slots

JUDGE = Path(__file__).with_name("airflow_judge.py")
START = datetime(2026, 1, 1, tzinfo=UTC)
SINCE = datetime(2026, 3, 27, 12, 0, 59, tzinfo=UTC)
SLOT = datetime(2026, 3, 1, 5, 0, tzinfo=UTC)
SCHEDULES = {
    "daily": ("0 6 * * *", "Europe/Berlin"),
    "either": ("30 8-10 1,15 * mon-fri", "America/New_York"),
    "interval": ("every 45m", "UTC"),
    "across": ("every 7h", "UTC"),
    "quarters": ("*/15 * * * *", "Asia/Kolkata"),
    "missing": ("0 0 1 * *", "Asia/Tokyo"),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Any]:
    """A project whose schedules were exported into a DAG folder, and what Airflow says of that."""
    try:
        python, database = airflow_recipe.python(), airflow_recipe.database()
    except Unavailable as missing:
        unavailable("airflow", str(missing))
    made = tmp_path_factory.mktemp("airflow")
    project, home = Project(made / "it's a project", made / "home"), made / "airflow"
    for folder in (project.folder, project.home, home / "dags"):
        folder.mkdir(parents=True)
    project.write("data/orders.csv", "id,amount\n1,2.50\n")
    for name, (schedule, zone) in SCHEDULES.items():
        project.write(
            f"connectors.d/{name}.yaml",
            f"protocol: csv\nconnection: {{path: {'nowhere' if name == 'missing' else 'data'}}}\n"
            f"streams: [{{name: orders, path: '*.csv'}}]\nschedule: {schedule!r}\ntimezone: {zone}\n",
        )
    done = project.atlas("schedule", "export", "--to", "airflow", "--output", str(home / "dags"))
    assert done.returncode == 0, done.stderr
    other = Project(made / "other", made / "home")
    other.folder.mkdir()
    other.write(
        "connectors.d/caught.yaml",
        "protocol: csv\nconnection: {path: data}\nstreams: [{name: o, path: o.csv}]\nschedule: '@daily'\n"
        "scheduling: {timeout: 2h, retries: 7}\n",
    )
    other.write("atlas.yaml", "schedule: {retries: 6, retry_wait: 30s, longest_retry_wait: 5m}\n")
    (home / "dags" / "other.py").write_text(
        "from atlas_etl.scheduler.airflow import build_dags\n"
        f"globals().update(build_dags({str(other.folder)!r}, catchup=True, pool='etl', retries=5))\n"
    )
    shutil.copy(database, home / "airflow.db")
    answer = made / "answer.json"
    environment = {
        **{name: value for name, value in project.environment().items() if name in PASSED_ON},
        "HOME": str(project.home),
        "PYTHONPATH": str(airflow_recipe.ROOT / "src"),
        **airflow_recipe.settings(home),
    }
    judge = [python, JUDGE, home / "dags", answer]
    ran = subprocess.run(judge, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return project, json.loads(answer.read_text())


def test_every_connector_is_a_dag_with_one_task(judged: tuple[Project, Any]) -> None:
    _, answer = judged
    assert answer["errors"] == {}
    assert set(answer["dags"]) == {f"atlas_{name}" for name in (*SCHEDULES, "caught")}
    assert all(dag["tasks"] == ["sync"] for dag in answer["dags"].values())


def test_options_of_the_factory_reach_the_tasks(judged: tuple[Project, Any]) -> None:
    _, answer = judged
    plain, caught = answer["dags"]["atlas_daily"], answer["dags"]["atlas_caught"]
    assert (plain["catchup"], plain["pool"], plain["retries"]) == (False, "default_pool", 3)
    assert (caught["catchup"], caught["pool"], caught["retries"]) == (True, "etl", 5)
    assert [plain["timeout"], plain["retry_delay"], plain["longest"]] == [86400, 60, 3600]
    assert [caught["timeout"], caught["retry_delay"], caught["longest"]] == [7200, 30, 300]


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "across"])
def test_airflows_scheduler_walks_the_same_slots(judged: tuple[Project, Any], name: str) -> None:
    _, answer = judged
    ours = upcoming_slots(parse_schedule(SCHEDULES[name][0]), SCHEDULES[name][1], SINCE, 12)
    assert answer["dags"][f"atlas_{name}"]["slots"] == [slot.isoformat() for slot in ours]


def test_an_interval_that_catches_up_begins_where_the_scheduler_counts(judged: tuple[Project, Any]) -> None:
    start = datetime.fromisoformat(judged[1]["dags"]["atlas_across"]["start"])
    (ours,) = upcoming_slots(parse_schedule("every 7h"), "UTC", START - timedelta(seconds=1), 1)
    assert start == ours


def test_a_run_is_a_run_of_atlas_and_a_slot_is_run_once(judged: tuple[Project, Any]) -> None:
    project, answer = judged
    assert answer["tested"] == {"sync": "success"}
    assert answer["scheduled"] == "done"
    assert answer["scheduled_again"].startswith("AirflowSkipException: daily:")
    assert answer["backfill"].startswith("AirflowSkipException: daily:")
    assert answer["manual"] == "done"
    with Atlas.open(project.folder, {}).state() as store:
        runs = store.history("daily", limit=10, status=None)
    assert {run.triggered_by for run in runs} == {"airflow"}
    completed = [run.scheduled_at for run in runs if run.status == "completed"]
    assert completed.count(SLOT) == 1
    assert completed.count(None) == 2


def test_what_a_run_says_is_why_its_task_failed(judged: tuple[Project, Any]) -> None:
    _, answer = judged
    assert answer["missing"].startswith("AirflowException: the sync of missing ended with exit code 3: ")


# The guide

GUIDE = DOCS / "guides" / "airflow.md"


def test_the_guide_is_followed(project: Project) -> None:
    """Its commands in a shell, one after another, but for the installation; and its own file of DAGs."""
    try:
        python, database = airflow_recipe.python(), airflow_recipe.database()
    except Unavailable as missing:
        unavailable("airflow", str(missing))
    home, programs = project.home / "airflow", project.home / "bin"
    (home / "dags").mkdir(parents=True)
    programs.mkdir()
    shutil.copy(database, home / "airflow.db")
    atlas = programs / "atlas"
    atlas.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m atlas_etl "$@"\n')
    atlas.chmod(0o755)
    project.write("data/orders.csv", "id,amount\n1,2.50\n")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: csv\nconnection: {path: data}\n"
        "streams: [{name: orders, path: '*.csv'}]\nschedule: '@daily'\n",
    )
    (own,) = blocks(GUIDE, "python")
    (home / "dags" / "own.py").write_text(own.replace("/srv/warehouse", str(project.folder)))
    environment = {
        **project.environment(airflow_recipe.settings(home)),
        "PATH": os.pathsep.join([str(programs), str(python.parent), os.environ["PATH"]]),
        "PYTHONPATH": str(airflow_recipe.ROOT / "src"),
    }
    typed = "".join(blocks(GUIDE)).replace("pip install atlas-etl\n", "")
    typed = typed.replace("/srv/warehouse", shlex.quote(str(project.folder)))
    ran = subprocess.run(
        ["sh", "-ec", typed], env=environment, cwd=project.home, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "atlas_shop" in ran.stdout
    with Atlas.open(project.folder, {}).state() as store:
        (run,) = store.history("shop", limit=10, status=None)
    assert (run.status, run.triggered_by, run.rows_processed) == ("completed", "airflow", 1)
