"""Every pagination with every way to log in, against a real server that checks both."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import AtlasError, SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read, sync

RECORDS = [{"id": number, "name": f"n{number}"} for number in range(1, 8)]
SIZE = 3
THINGS = Stream("things", path="things")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def offset(request: Request) -> Response:
    start = int(request.args.get("offset", "0"))
    return as_json({"data": RECORDS[start : start + SIZE]})


def page(request: Request) -> Response:
    start = (int(request.args.get("page", "1")) - 1) * SIZE
    return as_json({"data": RECORDS[start : start + SIZE]})


def cursor(request: Request) -> Response:
    start = int(request.args.get("cursor", "c0")[1:])
    following = f"c{start + SIZE}" if start + SIZE < len(RECORDS) else None
    return as_json({"data": RECORDS[start : start + SIZE], "meta": {"next_cursor": following}})


def cursor_header(request: Request) -> Response:
    start = int(request.args.get("after", "0"))
    more = {"X-Next": str(start + SIZE)} if start + SIZE < len(RECORDS) else {}
    return as_json({"data": RECORDS[start : start + SIZE]}, **more)


def keyset(request: Request) -> Response:
    after = int(request.args.get("starting_after", "0"))
    found = [record for record in RECORDS if int(str(record["id"])) > after][:SIZE]
    return as_json({"data": found, "has_more": after + SIZE < len(RECORDS)})


def next_url(request: Request) -> Response:
    start = int(request.args.get("from", "0"))
    following = f"/things?from={start + SIZE}&kept=a%20b" if start + SIZE < len(RECORDS) else None
    return as_json({"data": RECORDS[start : start + SIZE], "links": {"next": following}})


def link_header(request: Request) -> Response:
    start = int(request.args.get("from", "0"))
    link = f'<{request.base_url}?from=0>; rel="first", <{request.base_url}?from={start + SIZE}>; rel="next"'
    more = {"Link": link} if start + SIZE < len(RECORDS) else {}
    return as_json({"data": RECORDS[start : start + SIZE]}, **more)


PAGINATIONS: dict[str, tuple[Callable[[Request], Response], dict[str, object]]] = {
    "offset": (offset, {"type": "offset", "page_size": SIZE}),
    "page": (page, {"type": "page", "page_size": SIZE, "stop_on_short_page": True}),
    "cursor": (cursor, {"type": "cursor", "cursor": "meta.next_cursor"}),
    "cursor_header": (cursor_header, {"type": "cursor", "header": "X-Next", "parameter": "after"}),
    "keyset": (keyset, {"type": "keyset", "parameter": "starting_after", "has_more": "has_more"}),
    "next_url": (next_url, {"type": "next_url", "next": "links.next"}),
    "link_header": (link_header, {"type": "link_header"}),
    "auto-cursor": (cursor, {"type": "auto"}),
    "auto-next-url": (next_url, {"type": "auto"}),
    "auto-link": (link_header, {"type": "auto"}),
}


def basic(request: Request) -> bool:
    return request.headers.get("Authorization") == "Basic " + base64.b64encode(b"etl:s3cret:/").decode()


AUTHS: dict[str, tuple[dict[str, object], Callable[[Request], bool]]] = {
    "none": ({"type": "none"}, lambda _: True),
    "bearer": ({"type": "bearer", "token": "t0k"}, lambda r: r.headers.get("Authorization") == "Bearer t0k"),
    "api_key": ({"type": "api_key", "api_key": "k"}, lambda r: r.headers.get("X-API-Key") == "k"),
    "api_key_query": (
        {"type": "api_key", "api_key": "k&y", "parameter": "key"}, lambda r: r.args.get("key") == "k&y"
    ),
    "basic": ({"type": "basic", "username": "etl", "password": "s3cret:/"}, basic),
    "oauth2": (
        {"type": "oauth2", "client_id": "id", "client_secret": "s"},
        lambda r: r.headers.get("Authorization") == "Bearer fresh",
    ),
    "session": (
        {"type": "session", "login_path": "/login", "login_body": {"user": "a"}, "login_token": "data.token"},
        lambda r: r.headers.get("Authorization") == "Bearer of-login",
    ),
    "session_cookie": (
        {"type": "session", "login_path": "/login", "login_body": {"user": "a"}},
        lambda r: r.cookies.get("sid") == "42",
    ),
}  # fmt: skip


def serve_logins(api: Api) -> None:
    def token(request: Request) -> Response:
        asked = {"grant_type": "client_credentials", "client_id": "id", "client_secret": "s"}
        good = request.form.to_dict() == asked
        return as_json({"access_token": "fresh", "expires_in": 3600}) if good else Response(status=401)

    def login(request: Request) -> Response:
        assert json.loads(request.data) == {"user": "a"}
        answer = as_json({"data": {"token": "of-login"}})
        answer.set_cookie("sid", "42")
        return answer

    api.serve("/token", token)
    api.serve("/login", login)


def guarded(
    answer: Callable[[Request], Response], good: Callable[[Request], bool]
) -> Callable[[Request], Response]:
    return lambda request: answer(request) if good(request) else Response(status=401)


@pytest.mark.parametrize("how", AUTHS)
@pytest.mark.parametrize("pages", PAGINATIONS)
def test_every_page_comes_once_whoever_asks(api: Api, pages: str, how: str) -> None:
    answer, pagination = PAGINATIONS[pages]
    auth, good = AUTHS[how]
    serve_logins(api)
    api.serve("/things", guarded(answer, good))
    if auth["type"] == "oauth2":
        auth = {**auth, "token_url": api.server.url_for("/token")}
    found = read(api.connector(auth=auth, pagination=pagination), THINGS)
    assert found.column("id").to_pylist() == [record["id"] for record in RECORDS]
    logins = [request.path for request in api.asked if request.path in ("/token", "/login")]
    assert len(logins) == (auth["type"] in ("oauth2", "session"))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (cursor, "pagination was recognised as cursor (parameter cursor, cursor meta.next_cursor)"),
        (next_url, "pagination was recognised as next_url (next links.next)"),
        (lambda _: as_json([{"id": n} for n in range(20)]), "no pagination was recognised"),
        (lambda _: as_json(RECORDS), None),
    ],
)
def test_what_was_recognised_is_said(
    api: Api, tmp_path: Path, answer: Callable[[Request], Response], says: str | None
) -> None:
    api.serve("/things", answer)
    warnings = sync(api.connector(), tmp_path, THINGS).warnings
    assert len(warnings) == (says is not None)
    assert warnings == () or str(says) in warnings[0]
    assert (says or "records") in api.connector(resources={"things": "things"}).test().message


def test_digest_asks_for_its_challenge_once(api: Api) -> None:
    def answer(request: Request) -> Response:
        given = request.headers.get("Authorization", "")
        if 'username="etl"' in given and 'response="' in given:
            return page(request)
        challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
        return Response(status=401, headers={"WWW-Authenticate": challenge})

    api.serve("/things", answer)
    auth = {"type": "digest", "username": "etl", "password": "p"}
    assert read(api.connector(auth=auth, pagination="page"), THINGS).num_rows == len(RECORDS)
    assert len(api.asked) == 1 + 4  # the challenge, three pages and an empty one


def test_a_token_is_renewed_once_when_it_is_refused(api: Api) -> None:
    given: list[str] = []

    def token(_: Request) -> Response:
        given.append(f"t{len(given) + 1}")
        return as_json({"access_token": given[-1], "expires_in": 3600})

    def answer(request: Request) -> Response:
        number = int(request.args.get("page", "1"))
        wanted = "Bearer t1" if number == 1 else "Bearer t2"
        if request.headers.get("Authorization") != wanted:
            return Response(status=401)
        return as_json([{"id": number}] if number < 3 else [])

    api.serve("/token", token)
    api.serve("/things", answer)
    auth = {
        "type": "oauth2", "client_id": "i", "client_secret": "s", "token_url": api.server.url_for("/token"),
    }  # fmt: skip
    assert read(api.connector(auth=auth, pagination="page"), THINGS).num_rows == 2
    assert given == ["t1", "t2"]


def test_credentials_that_are_wrong_say_so_without_a_secret(api: Api) -> None:
    api.serve("/things", lambda _: Response(status=401))
    api.serve("/token", lambda _: Response('{"error": "invalid_client"}', status=400))
    with pytest.raises(SourceError) as caught:
        read(api.connector(auth={"type": "bearer", "token": "hush-hush"}), THINGS)
    assert caught.value.code == "http_401"
    auth = {
        "type": "oauth2", "client_id": "i", "client_secret": "hush-hush",
        "token_url": api.server.url_for("/token"),
    }  # fmt: skip
    with pytest.raises(SourceError, match="invalid_client") as refused:
        read(api.connector(auth=auth), THINGS)
    assert refused.value.code == "login_failed"
    for failure in (caught.value, refused.value):
        assert "hush" not in f"{failure.message} {failure.hint}"


@pytest.mark.parametrize(
    ("pagination", "answer"),
    [
        ("page", lambda _: as_json([{"id": 1}, {"id": 2}])),
        ("offset", lambda _: as_json([{"id": 1}, {"id": 2}])),
        ("keyset", lambda _: as_json([{"id": 1}, {"id": 2}])),
        ({"type": "cursor"}, lambda _: as_json({"data": [{"id": 1}], "next_cursor": "same"})),
        ({"type": "next_url"}, lambda _: as_json({"data": [{"id": 1}], "next": "?page=2"})),
    ],
)
def test_pages_that_do_not_move_on_are_an_error(
    api: Api, pagination: object, answer: Callable[[Request], Response]
) -> None:
    api.serve("/things", answer)
    with pytest.raises(SourceError) as caught:
        read(api.connector(pagination=pagination), THINGS)
    assert caught.value.code == "pagination_stuck"


def test_pages_that_go_round_are_an_error(api: Api) -> None:
    turn = [[{"n": 1}, {"n": 2}], [{"n": 3}], [{"n": 1}, {"n": 4}]]
    api.serve("/things", lambda request: as_json(turn[int(request.args["page"]) % len(turn)]))
    with pytest.raises(SourceError) as caught:
        read(api.connector(pagination="page"), THINGS)
    assert caught.value.code == "pagination_stuck"
    assert len(api.asked) <= 4 * len(turn) + 1


def test_pages_that_differ_in_their_middle_alone_go_on(api: Api) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args["page"])
        return as_json([{"n": 0}, {"n": number}, {"n": 0}] if number <= 6 else [])

    api.serve("/things", answer)
    found = read(api.connector(pagination="page"), THINGS)
    assert found["n"].to_pylist() == [n for number in range(1, 7) for n in (0, number, 0)]


def test_a_server_that_gives_fewer_than_asked_for_loses_no_record(api: Api) -> None:
    api.serve("/things", offset)
    found = read(api.connector(pagination={"type": "offset", "page_size": 500}), THINGS)
    assert found.num_rows == len(RECORDS)


def test_totals_and_bodies(api: Api) -> None:
    def answer(request: Request) -> Response:
        body = json.loads(request.data)
        start = int(body["skip"])
        return as_json({"rows": RECORDS[start : start + body["take"]], "count": str(len(RECORDS))})

    api.serve("/search", answer)
    pagination = {
        "type": "offset", "parameter": "skip", "page_size": SIZE, "page_size_parameter": "take",
        "total": "count", "into": "body",
    }  # fmt: skip
    resources = {"things": {"path": "search", "method": "POST", "body": {"kind": "x"}, "records": "rows"}}
    found = read(api.connector(pagination=pagination, resources=resources), Stream("things", table="things"))
    assert found.num_rows == len(RECORDS)
    assert len(api.asked) == 3


@pytest.mark.parametrize(
    ("body", "records", "count"),
    [
        ('{"data": {"items": [{"id": 1}, {"id": 2}]}}', "data.items", 2),
        ('{"edges": [{"node": {"id": 1}}, {"node": {"id": 2}}]}', "edges[*].node", 2),
        ('{"a.b": [{"id": 1}]}', "$['a.b']", 1),
        ('{"byId": {"x": {"id": 1}, "y": {"id": 2}}}', "byId.*", 2),
        ('{"data": null}', "data", 0),
        ('{"id": 1, "name": "one record"}', None, 1),
        ('{"errors": [], "results": [{"id": 1}]}', None, 1),
        ('\ufeff [{"id": 1}\n,{"id": 2}] ', None, 2),
    ],
)
def test_records_are_found_at_their_path(api: Api, body: str, records: str | None, count: int) -> None:
    api.serve("/things", lambda _: as_json(body))
    connector = api.connector(records=records, pagination="none")
    assert read(connector, THINGS).num_rows == count


def test_records_that_are_not_there_are_an_error_that_names_what_is(api: Api) -> None:
    api.serve("/things", lambda _: as_json({"results": [], "total": 0}))
    with pytest.raises(SourceError) as caught:
        read(api.connector(records="data"), THINGS)
    assert caught.value.code == "records_not_found"
    assert "results" in str(caught.value.hint)


def test_the_older_form_means_the_same(api: Api) -> None:
    api.serve("/things", guarded(cursor, AUTHS["bearer"][1]))
    connector = api.connector(
        auth_type="bearer",
        auth_token="t0k",
        options={"pagination_type": "cursor", "cursor_key": "meta.next_cursor", "data_key": "data"},
    )
    assert read(connector, THINGS).num_rows == len(RECORDS)
    key = api.connector(auth_type="api_key", api_key="k", options={"header_name": "X-Key", "next_key": "n"})
    assert (key.config.auth.header, key.config.pagination.type) == ("X-Key", "next_url")
    assert key.config.pagination.next == "n"


@pytest.mark.parametrize(
    "wrong",
    [
        {"auth": {"type": "bearer"}},
        {"auth": {"type": "oauth2", "token_url": "https://x/token"}},
        {"pagination": {"type": "page", "stop_on_short_page": True}},
        {"pagination": "pages"},
        {"records": "a..b["},
        {"base_url": "https://user:s3cret@example.com"},
        {"base_url": "ftp://example.com"},
        {"options": {"page_sise": 3}},
    ],
)
def test_descriptions_that_cannot_be_meant(api: Api, wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, AtlasError)) as caught:
        api.connector(**wrong)
    assert "s3cret" not in str(caught.value)
