"""Pages that end too early or too late, places that are gone, and totals that are wrong: no row is lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read

THINGS = Stream("things", path="things")
IDS = list(range(1, 8))
SIZE = 3


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def ids(api: Api, **config: object) -> list[int]:
    return [int(number) for number in read(api.connector(**config), THINGS).column("id").to_pylist()]


def code_of(api: Api, **config: object) -> str:
    with pytest.raises(SourceError) as caught:
        ids(api, **config)
    return caught.value.code


def records(numbers: list[int]) -> list[dict[str, object]]:
    return [{"id": number, "name": f"n{number}"} for number in numbers]


def counted(start: int, total: object, *, refused: int | None = None) -> Callable[[Request], Response]:
    """By offset from `start` on; nothing behind the last record, or a refusal."""

    def answer(request: Request) -> Response:
        at = int(request.args.get("offset", start)) - start
        if refused is not None and at >= len(IDS):
            return Response(status=refused)
        return as_json({"data": records(IDS[at : at + SIZE]), "total": total})

    return answer


@pytest.mark.parametrize("total", [7, "7", 3, 6, 1])
@pytest.mark.parametrize("start", [0, 1])
def test_a_total_that_is_too_small_ends_nothing(api: Api, start: int, total: object) -> None:
    api.serve("/things", counted(start, total))
    pagination = {"type": "offset", "start": start, "page_size": SIZE, "total": "total"}
    assert ids(api, pagination=pagination) == IDS


@pytest.mark.parametrize("how", ["offset", "page"])
def test_a_total_that_is_too_great_is_an_error(api: Api, how: str) -> None:
    """As where an empty page is in the middle."""

    def answer(request: Request) -> Response:
        at = int(request.args.get("offset", (int(request.args.get("page", 1)) - 1) * SIZE))
        return as_json({"data": records(IDS[at : at + SIZE]) if at < 2 * SIZE else [], "total": 7})

    api.serve("/things", answer)
    assert code_of(api, pagination={"type": how, "total": "total"}) == "pages_incomplete"
    assert ids(api, pagination={"type": how}) == IDS[: 2 * SIZE]


def without_list(how: str, end: str, total: int) -> Callable[[Request], Response]:
    """Two pages of three records each, and no list behind them."""

    def answer(request: Request) -> Response:
        at = int(request.args.get("offset", request.args.get("cursor", 0)))
        at = int(request.args.get("page", 0)) * SIZE if how in ("page", "next_url") else at
        found = [number for number in IDS[: 2 * SIZE] if number > int(request.args.get("after", at))][:SIZE]
        if not found:
            body = {"data": None} if end == "null" else {"data": None, "total": total}
            return Response(status=204) if end == "204" else as_json(body)
        more = {"next_cursor": at + SIZE, "next": f"/things?page={at // SIZE + 1}"}
        return as_json({"data": records(found), "total": total, **more})

    return answer


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("end", ["null", "null and total", "204"])
@pytest.mark.parametrize("how", ["auto", "offset", "page", "cursor", "next_url", "keyset"])
def test_no_list_is_no_end_where_a_total_says_more(api: Api, how: str, end: str, *, keyed: bool) -> None:
    pagination = {"type": how, **({"start": 0} if how == "page" else {})}
    key = {"primary_key": "id"} if keyed else {}
    resources = {"things": {"path": "/things", "pagination": pagination, **key}}
    stream = Stream("things", table="things")
    api.serve("/things", without_list("next_url" if how == "auto" else how, end, 7))
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources=resources), stream)
    failure = caught.value
    assert (failure.code, failure.retryable, failure.attempts) == ("pages_incomplete", True, 2)
    api.server.clear()
    api.serve("/things", without_list("next_url" if how == "auto" else how, end, 6))
    assert read(api.connector(resources=resources), stream).num_rows == 2 * SIZE


def with_gap(gap: object, said: dict[str, object]) -> Callable[[Request], Response]:
    """Four pages by number from 1 on, of which the third has no records, and an empty one behind them."""

    def answer(request: Request) -> Response:
        number = int(request.args.get("page", 1))
        found = gap if number == 3 else records([number] if number < 5 else [])
        more = {name: number < 4 if isinstance(value, bool) else value for name, value in said.items()}
        return as_json({"data": found, **more})

    return answer


SAID = [{"total_pages": 4}, {"pages": "4"}, {"meta": {"last_page": 4}}, {"has_more": True}, {"nbPages": 4}]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("said", SAID, ids=["total_pages", "pages", "last_page", "has_more", "nbPages"])
def test_an_empty_page_in_the_middle_is_no_end_where_it_says_so(
    api: Api, said: dict[str, object], *, keyed: bool
) -> None:
    key = {"primary_key": "id"} if keyed else {}
    resources = {"things": {"path": "/things", "pagination": "page", **key}}
    api.serve("/things", with_gap([], said))
    found = read(api.connector(resources=resources), Stream("things", table="things"))
    assert found.column("id").to_pylist() == [1, 2, 4]


@pytest.mark.parametrize("said", SAID, ids=["total_pages", "pages", "last_page", "has_more", "nbPages"])
def test_no_list_in_the_middle_is_an_error(api: Api, said: dict[str, object]) -> None:
    api.serve("/things", with_gap(None, said))
    assert code_of(api, pagination="page") == "pages_incomplete"


@pytest.mark.parametrize("start", [0, 1])
def test_as_many_pages_as_were_said_are_all(api: Api, start: int) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args["page"]) - start
        return as_json({"data": records([number]) if number < 3 else [], "total_pages": 3})

    api.serve("/things", answer)
    assert ids(api, pagination={"type": "page", "start": start}) == [0, 1, 2]
    assert len(api.asked) == 4


@pytest.mark.parametrize("how", ["offset", "cursor", "keyset", "next_url"])
@pytest.mark.parametrize("end", [[], None], ids=["empty", "null"])
def test_an_end_that_says_that_there_is_more_is_none(api: Api, how: str, end: object) -> None:
    def answer(_: Request) -> Response:
        if len(api.asked) > 1:
            return as_json({"data": end, "has_more": True})
        return as_json({"data": records(IDS), "has_more": True, "next_cursor": 7, "next": "/things?page=2"})

    api.serve("/things", answer)
    assert code_of(api, pagination=how) == "pages_incomplete"


def test_a_full_page_may_promise_more_than_there_is(api: Api) -> None:
    """As an API does that looks no further than its page."""
    api.serve(
        "/things",
        lambda request: as_json({"data": [], "has_more": False} if request.args else
                                {"data": records(IDS), "has_more": True, "next_cursor": 7}),
    )  # fmt: skip
    assert ids(api, pagination="cursor") == IDS


@pytest.mark.parametrize("how", ["page", "offset", "cursor"])
def test_no_list_is_an_end_that_says_that_nothing_follows(api: Api, how: str) -> None:
    """As programs in Go write an empty list."""

    def answer(_: Request) -> Response:
        if len(api.asked) > 1:
            return as_json({"data": None, "has_more": False})
        return as_json({"data": records(IDS), "has_more": True, "next_cursor": 7})

    api.serve("/things", answer)
    assert ids(api, pagination=how) == IDS


@pytest.mark.parametrize("how", ["cursor", "next_url", "link_header"])
def test_a_page_that_says_more_and_not_where_is_no_end(api: Api, how: str) -> None:
    """As where the cursor is described at another place than it is at."""
    api.serve("/things", lambda _: as_json({"data": records(IDS), "has_more": True, "paging": {"after": 7}}))
    assert code_of(api, pagination=how) == "pages_incomplete"
    assert ids(api, pagination="none") == IDS


@pytest.mark.parametrize("how", ["page", "offset"])
@pytest.mark.parametrize(
    "said", [{"total": 7}, {"total_pages": 3}, {"hasMore": True}], ids=["total", "total_pages", "hasMore"]
)
def test_a_page_is_not_short_that_is_as_long_as_the_api_gives(
    api: Api, how: str, said: dict[str, object]
) -> None:
    """Whatever was asked for."""

    def answer(request: Request) -> Response:
        at = int(request.args.get("offset", (int(request.args.get("page", 1)) - 1) * SIZE))
        more = {name: at + SIZE < len(IDS) if value is True else value for name, value in said.items()}
        return as_json({"data": records(IDS[at : at + SIZE]), **more})

    api.serve("/things", answer)
    described = {"type": how, "page_size": 100, "stop_on_short_page": True}
    assert code_of(api, pagination=described) == "pages_incomplete"
    assert ids(api, pagination={**described, "page_size": SIZE}) == IDS


def test_a_header_may_have_the_total_that_no_content_contradicts(api: Api) -> None:
    def answer(request: Request) -> Response:
        if request.args:
            return Response(status=204)
        return as_json(records(IDS[:SIZE]), **{"Link": '</things?page=2>; rel="next"', "X-Total": "7"})

    api.serve("/things", answer)
    assert code_of(api) == "pages_incomplete"


@pytest.mark.parametrize("how", ["cursor", "next_url", "link_header", "keyset"])
def test_a_declared_total_counts_for_each_pagination(api: Api, how: str) -> None:
    """However the pages end."""

    def answer(request: Request) -> Response:
        found = records(IDS[:SIZE]) if not request.args else []
        more = {"next_cursor": 1, "next": "/things?page=2"} if found else {}
        return as_json(
            {"data": found, "total": 7, **more}, Link='</things?page=2>; rel="next"' if more else ""
        )

    api.serve("/things", answer)
    assert code_of(api, pagination={"type": how, "total": "total"}) == "pages_incomplete"
    assert ids(api, pagination={"type": how}) == IDS[:SIZE]


@pytest.mark.parametrize("refused", [400, 404, 416, 422])
def test_a_page_behind_the_total_may_be_refused(
    api: Api, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.IDS", list(range(1, 7)))
    api.serve("/things", counted(0, 6, refused=refused))
    assert ids(api, pagination={"type": "offset", "total": "total"}) == IDS
    assert code_of(api, pagination={"type": "offset"}) == f"http_{refused}"


@pytest.mark.parametrize("how", ["page", "offset", "keyset"])
def test_an_empty_page_that_says_that_there_is_more_is_not_the_last(api: Api, how: str) -> None:
    """An API that filters what it has on a page gives such pages."""
    pages = [IDS[:3], [], IDS[3:5], [], IDS[5:]]

    def answer(request: Request) -> Response:
        number = int(request.args.get("page", len(api.asked)))
        return as_json({"data": records(pages[number - 1]), "has_more": number < len(pages)})

    api.serve("/things", answer)
    pagination = {"type": how, "has_more": "has_more", "page_size": SIZE, "stop_on_short_page": True}
    if how == "page":
        assert ids(api, pagination=pagination) == IDS
    else:
        assert code_of(api, pagination=pagination) == "pagination_stuck"


def test_empty_pages_without_an_end_are_an_error(api: Api) -> None:
    api.serve("/things", lambda _: as_json({"data": [], "has_more": True}))
    assert code_of(api, pagination={"type": "page", "has_more": "has_more"}) == "pagination_stuck"


@pytest.mark.parametrize("how", ["cursor", "next_url", "link_header", "keyset"])
def test_no_records_is_said_of_the_first_page_only(api: Api, how: str) -> None:
    """What a page leads to is there: a refusal of it is no end of the list."""

    def answer(request: Request) -> Response:
        if request.args:
            return Response(status=404)
        body = {"data": records(IDS[:2]), "next_cursor": "a", "next": "/things?a=1"}
        return as_json(body, Link='</things?a=1>; rel="next"')

    api.serve("/things", answer)
    resource = {"path": "/things", "pagination": how, "empty_on": [404]}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": resource}), Stream("things", table="things"))
    assert caught.value.code == ("page_position" if how == "keyset" else "http_404")


def keyset(
    gone: frozenset[int] = frozenset(), *, size: int = SIZE, status: int = 400, includes: bool = False
) -> Callable[[Request], Response]:
    """Records behind an id; some are deleted once the first page was given out."""

    def answer(request: Request) -> Response:
        after = int(request.args.get("after", 0))
        if after in gone:
            return Response(status=status)
        left = [number for number in IDS if not after or number not in gone]
        found = [number for number in left if number > after or (includes and number == after)]
        return as_json({"data": records(found[:size])})

    return answer


@pytest.mark.parametrize("status", [400, 404, 410])
@pytest.mark.parametrize("gone", [{3}, {2, 3}, {3, 4}, {6}])
def test_a_place_that_was_deleted_is_looked_for_before_it(api: Api, gone: set[int], status: int) -> None:
    api.serve("/things", keyset(frozenset(gone), status=status))
    first = set(IDS[:SIZE])
    assert ids(api, pagination="keyset") == [
        number for number in IDS if number in first or number not in gone
    ]


def test_a_page_of_which_nothing_is_left_is_an_error(api: Api) -> None:
    api.serve("/things", keyset(frozenset(IDS[:SIZE])))
    assert code_of(api, pagination="keyset") == "page_position"


def test_a_place_that_is_refused_and_there_is_an_error(api: Api) -> None:
    """It was refused for another reason: its records would come twice."""

    def answer(request: Request) -> Response:
        if request.args.get("after") == "3":
            return Response(status=400)
        return keyset()(request)

    api.serve("/things", answer)
    assert code_of(api, pagination="keyset") == "page_position"


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_a_parameter_that_includes_the_record_it_names_doubles_none(
    api: Api, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.IDS", list(range(1, count + 1)))
    api.serve("/things", keyset(includes=True))
    assert ids(api, pagination="keyset") == IDS


def test_ties_of_the_place_come_once(api: Api) -> None:
    held = [{"id": number, "at": number // 2} for number in range(1, 8)]

    def answer(request: Request) -> Response:
        after = int(request.args.get("after", 0))
        return as_json([each for each in held if each["at"] >= after][:4])

    api.serve("/things", answer)
    assert ids(api, pagination={"type": "keyset", "field": "at"}) == IDS


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": "expired"}},
        {"error": "invalid_auth", "ok": False},
        {"success": False, "data": []},
        {"status": 403, "error": "Forbidden", "path": "/things", "timestamp": "2026-01-01"},
    ],
)
@pytest.mark.parametrize("behind", [0, 1])
def test_an_error_with_a_status_200_is_no_record_and_no_end(api: Api, said: object, behind: int) -> None:
    first = records(IDS) if "data" not in str(said) else {"data": records(IDS)}
    api.serve("/things", lambda request: as_json(said if int(request.args["page"]) > behind else first))
    assert code_of(api, pagination="page") == "answered_errors"


@pytest.mark.parametrize(
    "only", [{"id": 1, "error": "E1"}, {"id": 1, "success": False}, {"data": records([1]), "success": False}]
)
def test_a_record_with_an_error_of_its_own_is_one(api: Api, only: object) -> None:
    api.serve("/things", lambda _: as_json(only))
    assert ids(api, pagination="none") == [1]


@pytest.mark.parametrize(
    ("following", "code"), [(2, "page_position"), (True, "page_position"), (False, None), (0, None)]
)
def test_a_next_link_that_is_none_is_no_end(api: Api, following: object, code: str | None) -> None:
    api.serve("/things", lambda _: as_json({"data": records([1]), "next": following}))
    if code is not None:
        assert code_of(api, pagination="next_url") == code
    else:
        assert ids(api, pagination="next_url") == [1]
