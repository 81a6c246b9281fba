"""Where the next page or window begins, in forms that are no plain text or whole number: no row is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync

THINGS = Stream("things", table="things", primary_key=("id",))
SPELLINGS = ("1700000000.25", "0.1234567890123456789012345", "1e3")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


@pytest.mark.parametrize("into", ["query", "body"])
def test_a_cursor_that_is_a_number_with_a_fraction_goes_on(api: Api, into: str) -> None:
    """Each answer has the next cursor as JSON spells it, and it comes back with the same value."""

    def answer(request: Request) -> Response:
        sent = request.args.get("cursor") if into == "query" else request.get_json().get("cursor")
        number = 0 if sent is None else 1 + [float(each) for each in SPELLINGS].index(float(sent))
        if number == 2 and into == "query":
            assert sent == SPELLINGS[1]
        following = SPELLINGS[number] if number < len(SPELLINGS) else "null"
        return as_json(f'{{"data": [{{"id": {number}}}], "next_cursor": {following}}}')

    api.serve("/things", answer)
    method = {"method": "POST", "body": {}} if into == "body" else {}
    resource = {"path": "/things", "pagination": {"type": "cursor", "into": into}, **method}
    assert read(api.connector(resources={"things": resource}), THINGS)["id"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("pagination", "following", "is_refused"),
    [
        ({"type": "cursor"}, '{"next_cursor": {"id": 7}}', True),
        ({"type": "cursor"}, '{"next_cursor": [7, "x"]}', True),
        ({"type": "next_url"}, '{"next": {"href": "/things?page=2"}}', True),
        ({"type": "cursor"}, '{"next_cursor": []}', False),
        ({"type": "next_url"}, '{"next": {}}', False),
    ],
)
def test_a_position_that_cannot_be_sent_is_an_error_and_an_empty_one_the_end(
    api: Api, pagination: dict[str, str], following: str, is_refused: bool
) -> None:
    api.serve("/things", lambda _: as_json({"data": [{"id": 1}], **json.loads(following)}))
    connector = api.connector(resources={"things": {"path": "/things", "pagination": pagination}})
    if not is_refused:
        assert read(connector, THINGS)["id"].to_pylist() == [1]
        return
    with pytest.raises(SourceError) as caught:
        read(connector, THINGS)
    assert caught.value.code == "page_position"


@pytest.mark.parametrize("is_windowed", [True, False])
def test_seconds_with_a_fraction_are_asked_for_and_told_apart(
    api: Api, tmp_path: Path, is_windowed: bool
) -> None:
    held = [{"id": number, "at": 1_700_000_000 + number * 864_000 + 0.5} for number in range(12)]

    def answer(request: Request) -> Response:
        since, until = float(request.args.get("since", 0)), float(request.args.get("until", 1e18))
        return as_json({"data": [each for each in held if since <= each["at"] <= until]})

    api.serve("/things", answer)
    windows = {"end_parameter": "until", "start": "2023-11-01T00:00:00Z", "window": "1 month"}
    asked = {"parameter": "since", "format": "epoch", **(windows if is_windowed else {})}
    resource = {"path": "/things", "pagination": "none", "cursor": "at", "incremental": asked}
    stream = Stream("things", table="things", primary_key=("id",), cursor="at")
    sync(api.connector(resources={"things": resource}), tmp_path, stream)
    assert rows(tmp_path, "SELECT count(*) FROM api.things") == [(12,)]
    held.append({"id": 99, "at": held[-1]["at"] + 0.25})
    api.asked.clear()
    sync(api.connector(resources={"things": resource}), tmp_path, stream)
    assert rows(tmp_path, "SELECT count(*) FROM api.things") == [(13,)]
    assert api.asked[0].args["since"] == str(int(held[-2]["at"]))


@pytest.mark.parametrize(("last", "code"), [("null", None), (None, "page_position")])
def test_a_header_that_ends_with_a_value_is_on_every_page(
    api: Api, last: str | None, code: str | None
) -> None:
    def answer(request: Request) -> Response:
        following = "2" if "cursor" not in request.args else last
        return as_json([{"id": 1}], **({"X-Next": following} if following is not None else {}))

    api.serve("/things", answer)
    pagination = {"type": "cursor", "header": "X-Next", "end_value": "null"}
    connector = api.connector(resources={"things": {"path": "/things", "pagination": pagination}})
    if code is None:
        assert read(connector, THINGS).num_rows == 2
        return
    with pytest.raises(SourceError) as caught:
        read(connector, THINGS)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("last", "end_value"), [(0, None), (False, None), ("", None), (-1, "-1"), ("-1", "-1"), (0.5, "0.5")]
)
def test_a_cursor_in_the_body_that_says_it_is_the_last(api: Api, last: object, end_value: str | None) -> None:
    def answer(request: Request) -> Response:
        first = "cursor" not in request.args
        return as_json({"data": [{"id": 1 if first else 2}], "next_cursor": 7 if first else last})

    api.serve("/things", answer)
    pagination = {"type": "cursor", "end_value": end_value}
    connector = api.connector(resources={"things": {"path": "/things", "pagination": pagination}})
    assert read(connector, THINGS)["id"].to_pylist() == [1, 2]


def test_the_number_of_the_next_page_is_recognised(api: Api) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args.get("page", "1"))
        return as_json({"data": [{"id": number}], "meta": {"next_page": number + 1 if number < 3 else None}})

    api.serve("/things", answer)
    assert read(api.connector(resources={"things": "/things"}), THINGS)["id"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("flag", [{"has_more": True}, {"paging": {"hasNext": True}}])
def test_an_answer_that_says_there_is_more_is_not_taken_for_all(api: Api, flag: dict[str, object]) -> None:
    api.serve("/things", lambda _: as_json({"data": [{"id": 1}], **flag}))
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": "/things"}), THINGS)
    assert caught.value.code == "pagination_unknown"
    one_page = {"things": {"path": "/things", "pagination": "none"}}
    assert read(api.connector(resources=one_page), THINGS).num_rows == 1


def test_quotes_in_the_title_of_a_link_hide_no_page(api: Api) -> None:
    def answer(request: Request) -> Response:
        link = r'</things?page=2>; title="the \"next, 2nd\" page"; rel="next"'
        return as_json([{"id": 1}], **({} if "page" in request.args else {"Link": link}))

    api.serve("/things", answer)
    linked = {"things": {"path": "/things", "pagination": "link_header"}}
    assert read(api.connector(resources=linked), THINGS).num_rows == 2
