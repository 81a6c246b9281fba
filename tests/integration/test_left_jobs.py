"""Jobs that an API works on: no end of a sync leaves one there, and what a killed one left goes next time."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from werkzeug import Request, Response

from atlas_etl.connectors.http._prior import left_jobs
from atlas_etl.connectors.http._prior.left_jobs import BegunJob, JobNotes


@dataclass
class Reports:
    """An API that makes reports, each with a number; the first one takes for ever."""

    server: HTTPServer
    asked: list[str] = field(default_factory=list)
    begun: int = 0
    looked: threading.Event = field(default_factory=threading.Event)
    is_down: bool = False

    def serve(self) -> None:
        self.server.expect_request("/reports", method="POST").respond_with_handler(self._begin)
        for number in (1, 2, 3):
            at = f"/reports/{number}"
            self.server.expect_request(at).respond_with_handler(self._job)
            self.server.expect_request(f"{at}/rows").respond_with_json([{"id": number}])

    def _begin(self, request: Request) -> Response:
        self.asked.append("POST")
        self.begun += 1
        return Response(json.dumps({"id": self.begun}), content_type="application/json")

    def _job(self, request: Request) -> Response:
        number = int(request.path.rpartition("/")[2])
        if request.method != "GET":
            self.asked.append(f"{request.method} {number}")
            if self.is_down and number == 1:
                return Response(status=503)
            return Response("{}", content_type="application/json")
        if number == 1:
            self.looked.set()
        told = {"status": "running" if number == 1 else "done"}
        return Response(json.dumps(told), content_type="application/json")


@pytest.fixture
def reports(project: Project) -> Iterator[Reports]:
    with HTTPServer(threaded=True) as server:
        made = Reports(server)
        made.serve()
        job = {
            "status_path": "/reports/{job_id}", "results_path": "/reports/{job_id}/rows", "done": ["done"],
            "delete_path": "/reports/{job_id}", "interval": 0.05, "longest_interval": 0.1,
            "abort": {"path": "/reports/{job_id}", "method": "PATCH", "body": {"status": "aborted"}},
        }  # fmt: skip
        things = {"path": "/reports", "method": "POST", "body": {}, "primary_key": "id", "job": job}
        connection = {
            "base_url": server.url_for("/"), "attempts": 1, "pagination": "none",
            "resources": {"things": things}, "params": {"token": "hush-hush"},
        }  # fmt: skip
        definition = {"protocol": "http", "connection": connection, "streams": [{"table": "things"}]}
        project.write("connectors.d/api.yaml", json.dumps(definition))
        yield made


def noted(project: Project) -> list[Path]:
    return sorted((project.folder / ".atlas" / "jobs").glob("*.jsonl"))


def warnings(project: Project) -> list[str]:
    done = project.atlas("connector", "sync", "api", "--json")
    assert done.returncode == 0, done.stderr
    return list(done.json()["runs"][0]["streams"][0].get("warnings", []))


def kill(project: Project, reports: Reports, number: signal.Signals) -> int:
    running = project.start("connector", "sync", "api")
    assert reports.looked.wait(60)
    running.send_signal(number)
    running.communicate(timeout=60)
    return running.returncode


def test_a_job_of_a_process_that_was_killed_goes_with_the_next_sync(
    project: Project, reports: Reports
) -> None:
    kill(project, reports, signal.SIGKILL)
    assert reports.asked == ["POST"]
    (file,) = noted(project)
    assert "hush" not in file.read_text()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    (warning,) = [each for each in warnings(project) if "killed run" in each]
    assert "a job of things" in warning
    assert reports.asked == ["POST", "PATCH 1", "DELETE 1", "POST", "DELETE 2"]
    assert noted(project) == []
    assert project.atlas("query", "SELECT id FROM api.things", "--json").json()["rows"] == [[2]]
    assert warnings(project) == []
    assert reports.asked[5:] == ["POST", "DELETE 3"]


def test_an_api_that_does_not_answer_is_asked_again_later(project: Project, reports: Reports) -> None:
    kill(project, reports, signal.SIGKILL)
    reports.is_down = True
    assert warnings(project) == []
    assert len(noted(project)) == 1
    reports.is_down = False
    assert len(warnings(project)) == 1
    assert reports.asked[-4:] == ["PATCH 1", "DELETE 1", "POST", "DELETE 3"]
    assert noted(project) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_a_job_of_a_sync_that_is_interrupted_is_ended(
    project: Project, reports: Reports, number: signal.Signals
) -> None:
    assert kill(project, reports, number) == 130
    assert reports.asked == ["POST", "PATCH 1", "DELETE 1"]
    assert noted(project) == []


@pytest.fixture
def notes(tmp_path: Path) -> JobNotes:
    return JobNotes(tmp_path / "jobs")


def left(folder: Path) -> list[str]:
    """The resources whose jobs somebody else finds there, and leaves."""
    found: list[str] = []

    def see(job: BegunJob) -> bool:
        found.append(job.resource)
        return False

    JobNotes(folder).take_over(see)
    return found


def test_only_what_a_dead_process_left_is_found(notes: JobNotes, tmp_path: Path) -> None:
    one, two = notes.begun("http://x", "one", 1), notes.begun("http://x", "two", "a/b")
    notes.begun("http://x", "three", None)
    notes.over(two)
    assert left(tmp_path / "jobs") == []
    os.write(notes._opened, b'{"job": {"base_url": "http:')  # killed while it writes
    os.close(notes._opened)
    assert left(tmp_path / "jobs") == ["one", "three"]
    JobNotes(tmp_path / "jobs").take_over(lambda job: job == one)
    assert left(tmp_path / "jobs") == ["three"]
    JobNotes(tmp_path / "jobs").take_over(lambda _: True)
    assert list((tmp_path / "jobs").glob("*.jsonl")) == []


def test_what_nobody_could_end_is_forgotten_as_apis_forget_it(notes: JobNotes, tmp_path: Path) -> None:
    notes.begun("http://x", "one", 1)
    file = notes._file
    assert file is not None
    old = BegunJob("http://x", "old", 1, datetime.now(UTC) - timedelta(days=8))
    file.write_bytes(msgspec.json.encode(left_jobs._Line(old)) + b"\n")
    os.close(notes._opened)
    assert left(tmp_path / "jobs") == []
    assert not file.exists()


def test_jobs_are_begun_where_nothing_can_be_noted(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_text("a file")
    notes = JobNotes(tmp_path / "jobs")
    notes.over(notes.begun("http://x", "one", 1))
    notes.take_over(lambda _: False)
    notes.close()
