"""Answers of an API that wants harm: each is refused with its reason."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http import _wire
from atlas_etl.connectors.http._documents.formats import FORMATS
from atlas_etl.connectors.http._messages import Response as Answer
from atlas_etl.connectors.http._network.bodies import decoded
from atlas_etl.connectors.http._network.charsets import text_of
from atlas_etl.connectors.http._network.rate_limits import asked_wait, limit_of
from atlas_etl.connectors.http._pagination import standstill
from atlas_etl.connectors.http._pagination.said import next_link
from atlas_etl.connectors.http._wire import Network
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read, sync
from tests.unit.connectors.test_http_faults import answer_of, raw_server

BILLION_LAUGHS = b'<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;</a>'
OUTSIDE = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
THINGS = Stream("things", path="things")
MANY = "9" * 5000  # more digits than Python makes a number of


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


@pytest.fixture
def other() -> Iterator[HTTPServer]:
    with HTTPServer() as server:
        yield server


@pytest.mark.parametrize(
    ("form", "content", "code", "why"),
    [
        ("xml", b"<a>" * 10_000 + b"</a>" * 10_000, "malformed_xml", "nested too deeply"),
        ("xml", BILLION_LAUGHS, "malformed_xml", "declares entities"),
        ("xml", OUTSIDE, "malformed_xml", "declares entities"),
        ("xml", b"<a><b></a>", "malformed_xml", "mismatched tag"),
        ("json", b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "malformed_json", "nested too deeply"),
        ("jsonl", b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}\n", "malformed_json", "nested too deeply"),
        ("json", b'{"data":[{"a":NaN}]}', "malformed_json", "invalid character"),
        ("json", b'{"data":[{"a":"\\ud83d"}]}', "malformed_json", r"\\ud83d is half of a character"),
        ("json", b"<html>come back later</html>", "malformed_json", "HTML"),
        ("xml", b"<html><body>Log in</body></html>", "malformed_xml", "it is HTML"),
        ("csv", b"<!DOCTYPE html><title>Log in, please</title>", "malformed_csv", "it is HTML"),
        ("csv", b"\n<HTML>\n<p>Log in\n</HTML>", "malformed_csv", "it is HTML"),
        ("csv", b'{"error": "unavailable", "code": 5}', "malformed_csv", "it is JSON"),
        ("csv", b'[{"id": 1}]', "malformed_csv", "it is JSON"),
        ("csv", b"a,a\n1,2\n", "malformed_csv", "names a column twice"),
        ("csv", b"a,b\n1,2,3\n4,5\n", "malformed_csv", "not as many cells"),
    ],
)
def test_an_answer_that_wants_harm(form: str, content: bytes, code: str, why: str) -> None:
    with pytest.raises(SourceError, match=why) as caught:
        FORMATS[form](None).read(content, "GET /x")
    assert caught.value.code == code
    assert not caught.value.retryable


WHOLE = {
    "json": '[{"a": 1, "b": "ü", "c": [true, null], "d": "\\ud83d\\ude00"}]',
    "jsonl": '{"a": 1, "b": "ü", "c": [true, null]}\n{"a": 2}',
    "xml": '<?xml version="1.0"?><!-- x --><r><i a="1">ü<![CDATA[x]]></i><i><b/></i></r>',
    "csv": 'a,b,c\n1,"x ""y"" ü",2',
}


@pytest.mark.parametrize("form", WHOLE)
def test_an_answer_that_is_cut_off_anywhere_is_read_again_or_still_whole(form: str) -> None:
    content = WHOLE[form].encode()
    said = 0
    for end in range(len(content)):
        try:
            answer = Answer(200, {}, content[:end], "")
            FORMATS[form](None).read(text_of(answer, "GET /x", form=form, encoding=None), "GET /x")
        except SourceError as failure:
            said += 1
            assert failure.retryable, (content[:end], failure.message)
    assert said > len(content) / 3  # a line that ends early may be one


@pytest.mark.parametrize("form", ["json", "xml"])
def test_what_is_wrong_in_itself_is_asked_for_once(api: Api, form: str, tmp_path: Path) -> None:
    body = {"json": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "xml": BILLION_LAUGHS}[form]
    api.serve("/things", lambda _: Response(body))
    with pytest.raises(SourceError) as caught:
        sync(api.connector(format=form), tmp_path, THINGS)
    assert (caught.value.code, caught.value.retryable) == (f"malformed_{form}", False)
    assert len(api.asked) == 1


@pytest.mark.parametrize("link", ["redirect", "next"])
def test_a_host_that_is_read_in_two_ways_is_nobody(
    api: Api, other: HTTPServer, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What checks the address sees an unknown name, and the client goes to this machine."""
    other.expect_request("/").respond_with_json([])
    port = other.port
    for trick in (
        "http://127.0.0.1\\.x/",
        f"http://127.0.0.1\\.x:{port}/",
        f"http://127.0.0.1:{port}\\.x/",
        "http://[::1",
        "http://a:b/",
    ):
        with pytest.raises(SourceError) as caught:
            _follow(api, trick, link, monkeypatch)
        assert caught.value.code == "refused_redirect", trick
    assert not other.log


def _follow(api: Api, to: str, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from an API at api.example.com, whose first answer leads elsewhere; names are this machine's."""
    body = json.dumps({"data": [{"id": 1}], "next": to}).encode()
    answer = f"HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()
    if link == "next":
        answer = answer_of(f"Content-Length: {len(body)}\r\n", body)
    resolve = socket.getaddrinfo

    def resolved(host: str, *more: object, **options: object) -> object:
        name = "127.0.0.1" if str(host).endswith(".example.com") else host
        return resolve(name, *more, **options)  # type: ignore[arg-type]

    with raw_server(answer) as url, monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolved)
        base = url.replace("127.0.0.1", "api.example.com")
        read(api.connector(base_url=base, pagination="next_url" if link == "next" else "none"), THINGS)


@pytest.mark.parametrize("link", ["redirect", "next"])
def test_a_name_that_is_public_while_it_is_checked_leads_nowhere_inside(
    api: Api, other: HTTPServer, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: who asks twice is told two addresses, so the one that is connected to counts."""
    other.expect_request("/").respond_with_json([])
    monkeypatch.setattr(Network, "refuse_inside", lambda *_: None)  # it was told a public one
    home = frozenset({"192.0.2.1"})
    monkeypatch.setattr(_wire, "_addresses", lambda _: home)
    to = f"http://rebound.example.com:{other.port}/"
    with pytest.raises(SourceError, match="not public") as caught:
        _follow(api, to, link, monkeypatch)
    assert caught.value.code == "refused_redirect"
    assert not other.log
    home = frozenset({"127.0.0.1"})  # where the API itself is, its links may lead
    with contextlib.suppress(SourceError):  # what is there is no page of things
        _follow(api, to, link, monkeypatch)
    assert len(other.log) == 1


def test_a_token_server_inside_the_network_is_the_definitions_own_word(
    api: Api, other: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wire, "_addresses", lambda _: frozenset({"192.0.2.1"}))
    other.expect_request("/token").respond_with_json({"access_token": "t", "expires_in": 60})
    api.serve("/things", lambda _: as_json([{"id": 1}]))
    auth = {"type": "oauth2", "token_url": other.url_for("/token"), "client_id": "i", "client_secret": "s"}
    assert read(api.connector(auth=auth), THINGS).num_rows == 1


@pytest.mark.parametrize("way", ["next", "link"])
def test_the_next_page_of_what_is_posted_is_at_the_same_server(api: Api, other: HTTPServer, way: str) -> None:
    other.expect_request("/more").respond_with_json({"data": []})
    to = other.url_for("/more")
    api.serve(
        "/things",
        lambda _: as_json(
            {"data": [{"id": 1}], "next": to if way == "next" else None},
            **({"Link": f'<{to}>; rel="next"'} if way == "link" else {}),
        ),
    )
    things = {
        "path": "/things", "method": "POST", "body": {"pin": "hush-hush"}, "records": "data",
        "pagination": "next_url" if way == "next" else "link_header",
    }  # fmt: skip
    with pytest.raises(SourceError, match="may hold credentials") as caught:
        read(api.connector(resources={"things": things}), Stream("things", table="things"))
    assert caught.value.code == "refused_redirect"
    assert not other.log


def test_pages_that_come_again_under_new_cursors_end(api: Api) -> None:
    def answer(_: Request) -> Response:
        return as_json({"data": [{"id": 1}, {"id": 2}], "next_cursor": f"c{len(api.asked)}"})

    api.serve("/things", answer)
    resources = {"things": {"path": "/things", "pagination": "cursor", "records": "data"}}
    for key, most in (("id", 2), (None, 100)):
        api.asked.clear()
        keyed = {"things": {**resources["things"], **({"primary_key": [key]} if key else {})}}
        with pytest.raises(SourceError, match="the same page came") as caught:
            read(api.connector(resources=keyed), Stream("things", table="things"))
        assert caught.value.code == "pagination_stuck"
        assert len(api.asked) == most


@pytest.mark.parametrize("how", ["cursor", "next_url", "link_header"])
def test_pages_without_records_end(api: Api, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "_MOST_EMPTY", 30)

    def answer(_: Request) -> Response:
        number = len(api.asked)
        to = f"/things?n={number}"
        answered = {"data": [], "next_cursor": str(number), "next": to if how == "next_url" else None}
        return as_json(answered, **({"Link": f"<{to}>; rel=next"} if how == "link_header" else {}))

    api.serve("/things", answer)
    with pytest.raises(SourceError, match="30 pages in a row") as caught:
        read(api.connector(pagination=how, records="data"), THINGS)
    assert caught.value.code == "pagination_stuck"
    assert len(api.asked) == 30


def test_equal_records_without_a_key_are_records(api: Api) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args.get("cursor", "0"))
        return as_json({"data": [{"a": 1}, {"a": 1}], "next_cursor": number + 1 if number < 20 else None})

    api.serve("/things", answer)
    assert read(api.connector(pagination="cursor", records="data"), THINGS).num_rows == 42


def test_a_challenge_is_not_read_to_its_end(api: Api) -> None:
    sent = 0

    def long() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b" " * 2**20

    def answer(request: Request) -> Response:
        if "Authorization" in request.headers:
            return as_json([{"id": 1}])
        told = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
        return Response(long(), status=401, headers=told)

    api.serve("/things", answer)
    auth = {"type": "digest", "username": "u", "password": "hush-hush"}
    assert read(api.connector(auth=auth), THINGS).num_rows == 1
    assert sent < 64


def test_a_redirect_is_not_read_to_its_end(api: Api) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    headers = f"Location: /x\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
    with (
        raw_server(f"HTTP/1.1 302 X\r\n{headers}".encode() + bomb) as url,
        pytest.raises(SourceError) as caught,
    ):
        read(api.connector(base_url=url, largest_page="1MiB", attempts=1), THINGS)
    assert caught.value.code == "too_large"


def test_a_small_challenge_is_answered_on_the_same_connection(api: Api) -> None:
    ports: list[object] = []

    def answer(request: Request) -> Response:
        ports.append(request.environ["REMOTE_PORT"])
        if "Authorization" not in request.headers:
            told = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
            return Response("no" * 100, status=401, headers={**told, "Set-Cookie": "sid=1"})
        assert dict(request.cookies) == {"sid": "1"}
        return as_json([{"id": 1}])

    api.serve("/things", answer)
    auth = {"type": "digest", "username": "u", "password": "hush-hush"}
    assert read(api.connector(auth=auth), THINGS).num_rows == 1
    assert len(ports) == 2


def test_a_password_that_is_refused_twice_is_an_error(api: Api) -> None:
    told = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    api.serve("/things", lambda _: Response("no", status=401, headers=told))
    auth = {"type": "digest", "username": "u", "password": "hush-hush"}
    with pytest.raises(SourceError) as caught:
        read(api.connector(auth=auth), THINGS)
    assert (caught.value.code, len(api.asked)) == ("http_401", 2)


def test_members_of_a_gzip_body_without_end_take_their_size_in_time() -> None:
    empty = gzip.compress(b"")
    content = empty * 100_000 + gzip.compress(b"[1]") + gzip.compress(b" ")
    began = time.monotonic()
    assert decoded(content, "gzip", most=1024) == b"[1] "
    assert time.monotonic() - began < 20  # each member by itself, behind a copy of the rest: minutes


def test_a_header_of_links_that_never_close_takes_no_time() -> None:
    began = time.monotonic()
    assert next_link("<" * 500_000 + '<https://x/2>; rel="next"') == "https://x/2"
    assert next_link("<https://x/1>; rel='prev', <https://x/2>; rel='next'") == "https://x/2"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": MANY},
        {"Retry-After": "nan"},
        {"Retry-After": "Mon, 01 Jan 0001 00:00:00 -0000"},
        {"X-RateLimit-Remaining": MANY, "X-RateLimit-Reset": "1", "X-RateLimit-Limit": MANY},
        {"RateLimit": f"limit={MANY}, remaining={MANY}, reset={MANY}"},
    ],
    ids=["digits", "nan", "year one", "remaining", "ratelimit"],
)
def test_numbers_of_headers_are_taken_for_what_they_are(api: Api, headers: dict[str, str]) -> None:
    def answer(_: Request) -> Response:
        return Response(status=503, headers=headers) if len(api.asked) < 2 else as_json([{"id": 1}])

    api.serve("/things", answer)
    assert read(api.connector(), THINGS).num_rows == 1
    small = {name.lower(): value for name, value in headers.items()}
    assert limit_of(small) is None
    asked_wait(small)


def test_headers_of_limits_take_no_time() -> None:
    began = time.monotonic()
    for long in ("9" * 500_000, "a" * 500_000, "a=" + " " * 500_000):
        asked_wait({"ratelimit": long})
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("lifetime", [MANY, "1e400", "nan", "-1", '"soon"', "[]", "null", "0.5"])
def test_a_lifetime_of_a_token_may_be_anything(api: Api, lifetime: str) -> None:
    api.serve("/token", lambda _: Response('{"access_token": "t", "expires_in": ' + lifetime + "}"))
    api.serve("/things", lambda _: as_json([{"id": 1}]))
    given = {"client_id": "i", "client_secret": "s", "token_url": api.server.url_for("/token")}
    try:
        assert read(api.connector(auth={"type": "oauth2", **given}), THINGS).num_rows == 1
    except SourceError as failure:
        assert failure.code == "malformed_json"  # what is no number in JSON


def test_a_total_of_too_many_digits_is_none(api: Api) -> None:
    api.serve("/things", lambda _: as_json(json.dumps({"data": [], "total": MANY})))
    pagination = {"type": "page", "total": "total"}
    assert read(api.connector(pagination=pagination, records="data"), THINGS).num_rows == 0


def test_an_answer_that_goes_on_behind_its_length_is_that_long(api: Api) -> None:
    two = answer_of("Content-Length: 10\r\n", b'[{"id":1}]' + b"HTTP/1.1 200 OK\r\n\r\n")
    with raw_server(two) as url:
        assert read(api.connector(base_url=url, pagination="none"), THINGS).num_rows == 1


@pytest.mark.parametrize(
    ("link", "is_home"),
    [
        ("HTTP://API.Example.COM:{port}/more", True),
        ("//api.example.com:{port}/more", True),
        ("http://user:pass@api.example.com:{port}/more", True),
        ("http://api.example.com./more", False),
        ("http://api.example.com:{other}/more", False),
        ("http://api.example.com@other.example.com:{other}/more", False),
        ("http://api.example.com:{port}@other.example.com:{other}/more", False),
        ("http://other.example.com:{other}/more?http://api.example.com:{port}/", False),
        ("http://other.example.com:{other}#@api.example.com:{port}/", False),
        ("http://ａpi.example.com:{other}/more", False),
        ("http://xn--pi-yia.example.com:{other}/more", False),
        ("http://[::ffff:127.0.0.1]:{other}/more", False),
        ("http://127.0.0.1:{port}/more", False),
    ],
    ids=[
        "capitals", "no scheme", "user", "dot", "port", "user that is a host", "password",
        "query", "fragment", "wide letter", "idn", "mapped", "address",
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["redirect", "next"])
def test_credentials_are_for_one_origin_however_a_link_is_written(
    other: HTTPServer, monkeypatch: pytest.MonkeyPatch, link: str, is_home: bool, way: str
) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        if request.path != "/things":
            return as_json({"data": [{"id": 2}], "next": None})
        if way == "next":
            return as_json({"data": [{"id": 1}], "next": to})
        return Response(status=302, headers={"X-To": quote(to, safe=":/@?#[]")})

    resolve = socket.getaddrinfo

    def resolved(host: str, *more: object, **options: object) -> object:
        name = "127.0.0.1" if str(host).rstrip(".").endswith(".example.com") else host
        return resolve(name, *more, **options)  # type: ignore[arg-type]

    with HTTPServer() as server, monkeypatch.context() as patched:
        to = link.format(port=server.port, other=other.port)
        for each in (server, other):
            each.expect_request(re.compile(".*")).respond_with_handler(answer)
        patched.setattr(socket, "getaddrinfo", resolved)
        if way == "redirect":  # werkzeug would mend the address of a header Location
            located = Network.send

            def send(self: Network, *given: object, **more: object) -> Answer:
                found = located(self, *given, **more)  # type: ignore[arg-type]
                headers = dict(found.headers)
                if "x-to" in headers:
                    headers["location"] = unquote(headers["x-to"])
                return replace(found, headers=headers)

            patched.setattr(Network, "send", send)
        auth = {"type": "bearer", "token": "hush-hush"}
        secret = {"auth": auth, "headers": {"X-Key": "hush-hush"}, "attempts": 1}
        base = f"http://api.example.com:{server.port}"
        pagination = "next_url" if way == "next" else "none"
        with contextlib.suppress(SourceError):
            connector = Api(server).connector(base_url=base, pagination=pagination, records="data", **secret)
            read(connector, THINGS)
    assert "hush" in str(asked[0].headers)
    for request in asked[1:]:
        assert ("hush" in str(request.headers)) is is_home, request.url
        assert "dXNlcjpwYXNz" not in str(request.headers)  # user:pass
    assert not is_home or len(asked) == 2


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:99999/x", "http://127.0.0.1:abc/x", "http://[::1/x", "ftp://a/b", "http:///x"]
)
def test_a_path_that_is_a_url_of_nothing_is_a_wrong_definition(api: Api, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(api.connector(), Stream("things", path=path))
    assert (caught.value.code, caught.value.exit_code) == ("invalid_url", 2)


def test_a_port_that_a_parents_value_makes_is_looked_at_too(api: Api) -> None:
    api.serve("/things", lambda _: Response('[{"id": 99999}]', content_type="application/json"))
    parts = {"path": "http://127.0.0.1:{n}/x", "parent": {"resource": "things", "fields": {"n": "id"}}}
    made = api.connector(resources={"things": "/things", "parts": parts}, pagination="none")
    with pytest.raises(SourceError) as caught:
        read(made, Stream("parts", table="parts"))
    assert caught.value.code == "invalid_url"


def test_a_url_within_a_path_is_a_part_of_it(api: Api) -> None:
    api.serve("/things", lambda _: Response('[{"id": 1}]', content_type="application/json"))
    found = read(api.connector(pagination="none"), Stream("things", path="/things?of=http://a:b"))
    assert found.num_rows == 1
    assert api.asked[0].args["of"] == "http://a:b"


def test_a_slash_at_a_paths_end_is_asked_for(api: Api) -> None:
    """Django's servers know no other address, or answer with a redirect first."""
    api.serve("/things/", lambda _: Response('[{"id": 1}]', content_type="application/json"))
    assert read(api.connector(pagination="none"), Stream("things", path="/things/")).num_rows == 1
