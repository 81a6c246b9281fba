"""A sync that is stopped leaves what was committed, undoes the rest, and says so in history."""

from __future__ import annotations

import json
import signal
import subprocess
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pytest
from tests.project import Project
from tests.waiting import until

from atlas_etl import Atlas
from atlas_etl.cli.app import run as run_command
from atlas_etl.cli.sync_report import SyncReport
from atlas_etl.model import RunStatus
from atlas_etl.pipeline.events import BatchLoaded, Event

ROWS = 1_000
FOR_EVER = 10**12


def fill(project: Project, rows: int) -> None:
    with duckdb.connect(str(project.folder / "big.duckdb")) as source:
        source.execute(
            f"CREATE OR REPLACE VIEW big AS SELECT i, hash(i)::VARCHAR AS x FROM range({rows}) t(i)"
        )


@pytest.fixture
def big(project: Project) -> Project:
    """A load that is still going on whenever somebody comes to look."""
    fill(project, FOR_EVER)
    project.write(
        "connectors.d/big.yaml", "protocol: duckdb\nconnection: {path: big.duckdb}\nstreams: [big]\n"
    )
    return project


def rows(project: Project) -> list[list[object]]:
    return project.atlas("query", "SELECT count(*) FROM big.big", "--json").json().get("rows", [])


def is_running(project: Project) -> bool:
    with Atlas.open(project.folder, {}).state() as store:
        return any(run.status is RunStatus.RUNNING for run in store.history("big"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_undoes_the_load_and_exits_130(big: Project, number: signal.Signals) -> None:
    assert not is_running(big)  # what that imports is there now
    running = big.start("connector", "sync", "big")
    until(lambda: is_running(big) or running.poll() is not None, "the run began")
    running.send_signal(number)
    _, text = running.communicate(timeout=60)
    assert running.returncode == 130, text
    assert text.splitlines()[-1].startswith(("error: ", "  hint: ")), text
    (run,) = big.atlas("connector", "history", "big", "--json").json()["runs"]
    assert run["status"] == "interrupted"
    fill(big, ROWS)
    assert big.atlas("connector", "sync", "big").returncode == 0
    assert rows(big) == [[ROWS]]


def test_an_interrupt_at_any_moment_says_a_line(big: Project) -> None:
    for pause in (0.15, 0.25, 0.4, 0.6):
        running = big.start("connector", "list", "--json")
        with suppress(subprocess.TimeoutExpired):
            running.wait(pause)
        running.send_signal(signal.SIGINT)
        answer, text = running.communicate(timeout=60)
        if running.returncode == 130:
            assert "error: interrupted" in text
            assert not answer or json.loads(answer).keys() <= {"error", "connectors"}  # one document, whole


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_python_swallowed_ends_the_sync(
    big: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    """Nothing that is raised in a `__del__` leaves it, and a signal may come while one runs."""

    class Swallows:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def tell(report: SyncReport, event: Event) -> None:
        told(report, event)
        if isinstance(event, BatchLoaded):
            Swallows()

    told = SyncReport.tell
    monkeypatch.setattr(SyncReport, "tell", tell)
    fill(big, 3_000_000)
    assert run_command(["--project", str(big.folder), "connector", "sync", "big"]) == 130
    assert "interrupted" in capsys.readouterr().err or number == signal.SIGTERM
    with Atlas.open(big.folder, {}).state() as store:
        assert [run.status for run in store.history("big")] == [RunStatus.INTERRUPTED]


def test_an_interrupt_while_a_command_works_is_answered(
    big: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_self: Atlas) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Atlas, "names", interrupted)
    assert run_command(["--project", str(big.folder), "connector", "list", "--json"]) == 130
    said = capsys.readouterr()
    assert said.err == "error: interrupted\n"
    assert json.loads(said.out)["error"]["code"] == "interrupted"


def test_closing_the_events_undoes_the_load(big: Project) -> None:
    atlas = Atlas.open(big.folder, {})
    with closing(atlas.sync(["big"])) as events:
        next(event for event in events if isinstance(event, BatchLoaded))
    with atlas.state() as store:
        (run,) = store.history("big")
    assert run.status is RunStatus.INTERRUPTED
    with duckdb.connect(str(Path(big.folder) / "warehouse.duckdb")) as warehouse:
        tables = warehouse.execute("SELECT table_name FROM duckdb_tables()").fetchall()
    assert [name for (name,) in tables if not name.startswith("_atlas_")] == []


def test_closing_the_events_stops_every_run(big: Project) -> None:
    text = (big.folder / "connectors.d" / "big.yaml").read_text()
    big.write("connectors.d/other.yaml", text)
    atlas = Atlas.open(big.folder, {})
    with closing(atlas.sync(["big", "other"], jobs=2)) as events:
        next(event for event in events if isinstance(event, BatchLoaded))
    with atlas.state() as store:
        assert {run.status for run in store.history()} == {RunStatus.INTERRUPTED}
