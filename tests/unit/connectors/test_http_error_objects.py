"""An error in an answer with status 200: no row where records are expected; one where it may be a record."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._reader import HttpConnector
from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync

THINGS = Stream("things", table="things")
PATH = {"path": "/things"}
ERROR = {"message": "the backend is overloaded", "code": 123}
OTHERS = [
    {"errcode": 40001, "errmsg": "invalid credential"},
    {"type": "about:blank", "title": "Not now", "status": 503, "detail": "x"},
    {"status": "error", "message": {"text": "no"}, "statusCode": 500},
]


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def connector(api: Api, **resource: object) -> HttpConnector:
    return api.connector(resources={"things": {**PATH, **resource}})


def refused(api: Api, folder: Path, **resource: object) -> SourceError:
    with pytest.raises(SourceError) as caught:
        sync(connector(api, **resource), folder, THINGS)
    return caught.value


@pytest.mark.parametrize("error", [ERROR, *OTHERS], ids=["plain", "errcode", "problem", "status"])
def test_no_error_takes_the_place_of_a_tables_rows(api: Api, tmp_path: Path, error: object) -> None:
    """The whole table would be replaced by it."""
    answers = [[{"id": 1, "status": "new"}, {"id": 2, "status": "old"}], error]
    api.serve("/things", lambda _: as_json(answers.pop(0)))
    sync(connector(api), tmp_path, THINGS)
    failure = refused(api, tmp_path)
    assert (failure.code, failure.retryable) == ("answered_errors", False)
    assert rows(tmp_path, "SELECT id, status FROM api.things ORDER BY id") == [(1, "new"), (2, "old")]


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_error_among_the_lists_of_parents(api: Api, at: int, concurrency: int) -> None:
    def answer(request: Request) -> Response:
        return as_json(ERROR if request.path == f"/shops/{at}" else {"data": [{"n": 1, "code": "x"}]})

    api.serve("/shops", lambda _: as_json([{"id": 1}, {"id": 2}, {"id": 3}]))
    api.serve(re.compile("/shops/.*"), answer)
    things = {"path": "/shops/{id}", "parent": {"resource": "shops", "fields": {"id": "id"}}}
    resources = {"shops": {"path": "/shops"}, "things": things}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources=resources, concurrency=concurrency), THINGS)
    assert caught.value.code == "answered_errors"


@pytest.mark.parametrize("how", ["cursor", "next_url", "link_header", "page", "offset", "keyset"])
def test_an_error_where_pages_were_described(api: Api, tmp_path: Path, how: str) -> None:
    api.serve("/things", lambda _: as_json(ERROR))
    assert refused(api, tmp_path, pagination=how).code == "answered_errors"
    assert len(api.asked) == 1


def test_what_may_be_a_record_is_one(api: Api, tmp_path: Path) -> None:
    """No list was seen; and in the next runs it has what it always had."""
    answers = [ERROR, ERROR, {**ERROR, "status": "new"}]
    api.serve("/things", lambda _: as_json(answers.pop(0)))
    for _ in range(3):
        sync(connector(api), tmp_path, THINGS)
    assert rows(tmp_path, "SELECT message, code, status FROM api.things") == [(*ERROR.values(), "new")]


def test_a_record_of_each_parent_may_be_like_an_error(api: Api, tmp_path: Path) -> None:
    """What the parent adds to it is nothing that it has itself."""
    api.serve("/shops", lambda _: as_json([{"id": 1}, {"id": 2}]))
    api.serve(re.compile("/shops/.*"), lambda _: as_json(ERROR))
    parent = {"resource": "shops", "fields": {"shop": "id"}}
    things = {"path": "/shops/{shop}", "pagination": "none", "parent": parent}
    for _ in range(2):
        made = api.connector(resources={"shops": {"path": "/shops"}, "things": things})
        sync(made, tmp_path, THINGS)
    assert rows(tmp_path, "SELECT shop FROM api.things ORDER BY shop") == [(1,), (2,)]


def test_a_document_that_is_said_to_be_the_record_is_one(api: Api, tmp_path: Path) -> None:
    answers = [{"status": "up", "version": "1.2"}, {"status": "down", "message": "no disk"}]
    api.serve("/things", lambda _: as_json(answers.pop(0)))
    for _ in range(2):
        sync(connector(api, records="$"), tmp_path, THINGS)
    assert rows(tmp_path, "SELECT status, version, message FROM api.things") == [("down", None, "no disk")]


@pytest.mark.parametrize("answer", [ERROR, {"error": "none yet", "status": "up"}])
def test_the_hint_says_what_to_do_where_it_is_a_record(
    api: Api, tmp_path: Path, answer: dict[str, object]
) -> None:
    api.serve("/things", lambda _: as_json(answer))
    hint = refused(api, tmp_path, pagination="cursor").hint
    assert hint is not None
    assert "where it is a record, set `records` to `$`" in hint
