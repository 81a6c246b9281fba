"""Records that a job of the API finds, and names that another answer gives to a request."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._messages import Request as Asked
from atlas_etl.connectors.http._messages import Response as Answer
from atlas_etl.connectors.http._prior.jobs import begun, finished
from atlas_etl.connectors.http._settings.connection import Resource
from atlas_etl.connectors.http._settings.prior import Job as JobSettings
from atlas_etl.connectors.http._templates import template
from atlas_etl.connectors.preview import preview
from atlas_etl.errors import SourceError
from atlas_etl.model import Disposition, Stream
from atlas_etl.pipeline.forecast import StreamForecast, forecast
from atlas_etl.pipeline.opened import Job
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync, warehouse

JOB = {
    "status_path": "/reports/{job_id}", "done": ["done", "partial"], "failed": ["failed"], "message": "why",
    "results_path": "/reports/{job_id}/rows", "interval": 0.001, "longest_interval": 0.002,
}  # fmt: skip
REPORT = {"path": "/reports", "method": "POST", "body": {"of": "things"}, "primary_key": "id", "job": JOB}
STREAM = Stream("things", table="things", primary_key=("id",))


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def serve(api: Api, *states: str, pages: int = 2) -> list[object]:
    """A job that has these states one after another; gives back what the jobs were begun with."""
    begun: list[object] = []
    left: list[str] = []

    def begin(request: Request) -> Response:
        begun.append(request.get_json())
        left[:] = states
        return as_json({"id": 7, "status": "queued"})

    def look(_: Request) -> Response:
        state = left.pop(0) if len(left) > 1 else left[0]
        return as_json({"id": 7, "status": state, "why": f"column '{'secret'}' of things is not there"})

    api.serve("/reports", begin)
    api.serve("/reports/7", look)
    api.serve_pages("/reports/7/rows", [json.dumps([{"id": number, "n": "x"}]) for number in range(pages)])
    return begun


def asked(api: Api) -> list[str]:
    return [f"{request.method} {request.path}" for request in api.asked]


def test_results_are_read_page_by_page_once_the_job_is_done(api: Api) -> None:
    begun = serve(api, "queued", "running", "partial")
    report = {**REPORT, "pagination": "page"}
    assert read(api.connector(resources={"things": report}), STREAM).column("id").to_pylist() == [0, 1]
    assert begun == [{"of": "things"}]
    assert asked(api) == [
        "POST /reports", *["GET /reports/7"] * 3, *["GET /reports/7/rows"] * 3,
    ]  # fmt: skip


def test_each_parent_has_a_job_of_its_own(api: Api) -> None:
    begun = serve(api, "done", pages=1)
    api.serve("/shops", lambda _: as_json([{"id": 1}, {"id": 2}]))
    resources = {
        "shops": {"path": "/shops", "pagination": "none"},
        "things": {
            **REPORT, "pagination": "page", "body": {"of": "{shop}"},
            "parent": {"resource": "shops", "fields": {"shop": "id"}},
        },
    }  # fmt: skip
    assert read(api.connector(resources=resources), STREAM).column("shop").to_pylist() == [1, 2]
    assert begun == [{"of": 1}, {"of": 2}]


def test_each_window_has_a_job_of_its_own(api: Api, tmp_path: Path) -> None:
    begun: list[dict[str, str]] = []

    def begin(request: Request) -> Response:
        begun.append(request.get_json())
        return as_json({"id": len(begun)})

    api.serve("/reports", begin)
    for number in range(1, 40):
        api.serve(f"/reports/{number}", lambda _: as_json({"status": "done"}))
        api.serve(f"/reports/{number}/rows", lambda request: as_json([thing(request.path.split("/")[2])]))

    def thing(job: str) -> dict[str, str]:
        return {"id": job, "at": begun[int(job) - 1]["from"]}

    asked_for = {
        "parameter": "from", "end_parameter": "to", "into": "template", "start": "2026-10-01T00:00:00Z",
        "window": "30d",
    }  # fmt: skip
    report = {
        **REPORT, "body": {"from": "{from}", "to": "{to}"}, "pagination": "none", "cursor": "at",
        "incremental": asked_for,
    }  # fmt: skip
    stream = Stream("things", table="things", primary_key=("id",), cursor="at")
    sync(api.connector(resources={"things": report}), tmp_path, stream)
    assert [each["from"] for each in begun[:2]] == ["2026-10-01T00:00:00Z", "2026-10-31T00:00:00Z"]
    assert [each["to"] for each in begun[:-1]] == [each["from"] for each in begun[1:]]
    assert rows(tmp_path, "SELECT count(*) FROM api.things") == [(len(begun),)]


def test_a_job_that_fails_is_told_without_values(api: Api) -> None:
    serve(api, "running", "failed")
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": REPORT}), STREAM)
    assert caught.value.code == "job_failed"
    assert caught.value.message.endswith("the job ended as failed: column ... of things is not there")


def test_a_job_that_never_ends_is_given_up(api: Api) -> None:
    serve(api, "running")
    job = {**JOB, "deadline": 0.05}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": {**REPORT, "job": job}}), STREAM)
    assert caught.value.code == "job_deadline"
    assert caught.value.retryable
    assert "GET /reports/7/rows" not in asked(api)


ABORT = {"path": "/reports/{job_id}", "method": "PATCH", "body": {"status": "aborted"}}


def test_a_job_that_is_given_up_is_aborted_and_what_it_left_deleted(api: Api) -> None:
    serve(api, "running")
    api.serve("/done/7", lambda _: Response(status=204))
    job = {**JOB, "deadline": 0.05, "abort": ABORT, "delete_path": "/done/{job_id}"}
    with pytest.raises(SourceError):
        read(api.connector(resources={"things": {**REPORT, "job": job}}), STREAM)
    assert asked(api)[-2:] == ["PATCH /reports/7", "DELETE /done/7"]
    assert api.asked[-2].get_json() == {"status": "aborted"}


def test_a_job_that_is_done_or_failed_is_not_aborted(api: Api) -> None:
    for state in ("done", "failed"):
        api.server.clear()
        serve(api, state, pages=1)
        job = {**JOB, "abort": ABORT}
        with contextlib.suppress(SourceError):
            read(api.connector(resources={"things": {**REPORT, "job": job}}), STREAM)
    assert not [each for each in asked(api) if each.startswith("PATCH")]


def test_a_job_of_a_read_that_is_interrupted_is_aborted(api: Api) -> None:
    looked = threading.Event()
    api.serve("/reports", lambda _: as_json({"id": 7}))

    def look(request: Request) -> Response:
        looked.set()
        return as_json({"status": "running"})

    api.serve("/reports/7", look)
    job = {**JOB, "abort": ABORT, "interval": 0.001, "longest_interval": 60}
    connector = api.connector(resources={"things": {**REPORT, "job": job}})
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read, connector, STREAM)
        assert looked.wait(20)
        connector.close()
        with pytest.raises(SourceError, match="given up"):
            reading.result(20)
    assert asked(api).count("PATCH /reports/7") == 1


def test_a_plan_begins_no_job(api: Api, tmp_path: Path) -> None:
    begun = serve(api, "done", pages=1)
    told = [{"name": "id", "type": "int"}, {"name": "n", "type": "text"}]
    api.serve("/about", lambda _: as_json(told))
    names = {
        "path": "/about", "records": "", "field": "name", "kind": "type",
        "types": {"int": "bigint", "text": "text"},
    }  # fmt: skip
    planned: list[StreamForecast] = []
    for more in ({}, {"given": {"columns": names}}):
        with (
            closing(api.connector(resources={"things": {**REPORT, **more}})) as source,
            closing(warehouse(tmp_path)) as destination,
        ):
            planned.append(forecast(source, destination, Job("", "api", STREAM, datetime.now(UTC))))
    assert not begun
    assert planned[0].disposition is None
    assert planned[1].disposition is Disposition.REPLACE
    assert planned[1].statements == (f"POST {api.server.url_for('/reports')}",)


def test_a_preview_asks_for_a_few_records(api: Api) -> None:
    begun = serve(api, "done", pages=1)
    job = {**JOB, "limit": " LIMIT {count}"}
    report = {**REPORT, "body": {"query": "SELECT x{limit}"}, "job": job}
    with closing(api.connector(resources={"things": report})) as connector:
        preview(connector, STREAM, 5)
        connector.test()
    read(api.connector(resources={"things": report}), STREAM)
    assert begun == [{"query": f"SELECT x{more}"} for more in (" LIMIT 5", " LIMIT 1", "")]


def test_a_look_that_fails_for_a_while_is_tried_again(api: Api) -> None:
    serve(api, "done", pages=1)
    answers = [Response(status=503), as_json({"status": "done"})]
    api.server.clear()
    api.serve("/reports", lambda _: as_json({"id": 7}))
    api.serve("/reports/7", lambda _: answers.pop(0))
    api.serve_pages("/reports/7/rows", ['[{"id": 1}]'])
    assert read(api.connector(resources={"things": REPORT}), STREAM).num_rows == 1
    assert answers == []


@pytest.mark.parametrize("answer", ["{}", '{"id": null}', '{"id": ""}'])
def test_an_answer_without_the_jobs_id_is_an_error(api: Api, answer: str) -> None:
    api.serve("/reports", lambda _: as_json(answer))
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": REPORT}), STREAM)
    assert caught.value.code == "job_status"
    assert "`id`" in (caught.value.hint or "")


@pytest.mark.parametrize("status", [204, 403])
def test_results_are_deleted_behind_the_last_row_or_said_to_stay(
    api: Api, tmp_path: Path, status: int
) -> None:
    serve(api, "done", pages=1)
    api.serve("/done/7", lambda _: Response(status=status))
    report = {**REPORT, "pagination": "page", "job": {**JOB, "delete_path": "/done/{job_id}"}}
    whole = Stream("things", table="things", disposition=Disposition.REPLACE)
    outcome = sync(api.connector(resources={"things": report}), tmp_path, whole)
    assert asked(api)[-1] == "DELETE /done/7"
    assert rows(tmp_path, "SELECT id FROM api.things") == [(0,)]
    assert len([warning for warning in outcome.warnings if "stay at the API" in warning]) == (status == 403)


def test_names_that_another_answer_gives_are_asked_for_with_their_types(api: Api) -> None:
    begun: list[str] = []

    def things(request: Request) -> Response:
        begun.append(request.args["fields"])
        return as_json([{"id": 1, "code": "12", "at": "2026-01-01T00:00:00+0000", "empty": None}])

    kinds = {"id": "int", "code": "char", "b": "blob", "at": "time", "empty": "int"}
    told = [{"name": name, "is": {"a": kind}} for name, kind in kinds.items()]
    api.serve("/about/things", lambda _: as_json({"all": {"of": told}}))
    api.serve("/things", things)
    all_fields = {
        "path": "/about/things", "records": "all.of", "field": "name", "kind": "is.a", "without": ["blob"],
        "types": {"int": "decimal(9,2)", "time": "timestamptz", "*": "text"},
    }  # fmt: skip
    resource = {
        "path": "/things", "params": {"fields": "{all}"}, "pagination": "none", "given": {"all": all_fields},
        "types": {"id": "bigint"},
    }  # fmt: skip
    found = read(api.connector(resources={"things": resource}), Stream("things", table="things"))
    assert begun == ["id,code,at,empty"]
    assert {field.name: str(field.type) for field in found.schema} == {
        "id": "int64", "code": "string", "at": "timestamp[us, tz=UTC]", "empty": "decimal128(9, 2)",
    }  # fmt: skip


@pytest.mark.parametrize("told", ['{"of": []}', '{"of": [{"name": "b", "kind": "blob"}]}', '{"of": [{}]}'])
def test_where_nothing_is_given_nothing_is_asked_for(api: Api, told: str) -> None:
    api.serve("/about", lambda _: as_json(told))
    names = {"path": "/about", "records": "of", "field": "name", "kind": "kind", "without": ["blob"]}
    resource = {"path": "/things", "params": {"fields": "{all}"}, "given": {"all": names}}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": resource}), STREAM)
    assert caught.value.code == "none_given"
    assert asked(api) == ["GET /about"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": {**JOB, "status_path": "/reports"}},
        {"job": {**JOB, "results_path": "/rows"}},
        {"job": {**JOB, "done": []}},
        {"job": {**JOB, "failed": ["done"]}},
        {"job": {**JOB, "interval": 0}},
        {"job": JOB, "empty_on": [404]},
        {"given": {"a": {"path": "/x", "records": "", "field": "n", "without": ["b"]}}},
        {
            "given": {
                "a": {"path": "/x", "records": "", "field": "n", "kind": "k", "types": {"b": "nonsense"}}
            }
        },
        {
            "given": {"a": {"path": "/x", "records": "", "field": "n"}},
            "parent": {"resource": "y", "fields": {"a": "id"}},
        },
        {"pagination": {"type": "page", "end_value": "null"}},
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Resource.model_validate({"path": "/x", **wrong})


@given(
    looks=st.integers(0, 60), each=st.floats(0, 20), interval=st.floats(0.01, 50), longest=st.floats(0.01, 50)
)
def test_a_job_is_looked_at_until_it_is_done_or_its_time_is_over(
    looks: int, each: float, interval: float, longest: float
) -> None:
    """However long an answer takes: no wait is longer than said, or goes beyond the deadline."""
    job = JobSettings.model_validate(
        {**JOB, "interval": interval, "longest_interval": longest, "deadline": 100}
    )
    now = 0.0
    first = Asked("https://x/reports")
    job_id = begun(job, first, answer({"id": "a/b"}))
    steps = finished(job, job_id, first, Asked(template("https://x/reports/{job_id}")), lambda: now)
    step = next(steps)
    for _ in range(looks):
        assert step.url == "https://x/reports/a%2Fb"
        assert 0 < step.wait <= longest + 0.000001
        assert now + step.wait <= 100.000001
        now += step.wait + each
        try:
            step = steps.send(answer({"status": "running"}))
        except SourceError as failure:
            assert failure.code == "job_deadline"
            assert now >= 100
            return
    with pytest.raises(StopIteration):
        steps.send(answer({"status": "done"}))


def answer(body: object) -> Answer:
    return Answer(200, {}, json.dumps(body).encode(), "https://x/reports")
