"""Digest authentication against a server of our own, which checks each answer by RFC 7616."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._auth.digest import challenge_of
from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, accepting, as_json, read

THINGS = Stream("things", path="things")
PASSWORD = 'p:"w\xf6rd\\'
_GIVEN = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
HASHES: dict[str, Callable[[bytes], str]] = {
    "MD5": lambda content: hashlib.md5(content).hexdigest(),  # the RFC's own
    "SHA-256": lambda content: hashlib.sha256(content).hexdigest(),
    "SHA-512-256": lambda content: hashlib.new("sha512_256", content).hexdigest(),
}


class Guarded:
    """Pages of a list; a nonce is good for two answers, and then stale. The realm has a quote in it."""

    def __init__(self, server: HTTPServer, challenges: list[str], username: str) -> None:
        self.api = Api(server)
        self.used: list[tuple[str, str]] = []  # algorithm and qop of each answer that was right
        self._challenges, self._username = challenges, username
        self._counts: dict[str, int] = {}
        self.api.serve("/things", self.answer)

    def answer(self, request: Request) -> Response:
        header = request.headers.get("Authorization", "").encode("latin-1").decode()
        if header and self._is_right(request, header):
            number = int(request.args.get("page", "1"))
            return as_json([{"id": number}] if number < 5 else [])
        nonce = f"n{len(self._counts)}"
        self._counts[nonce] = 0
        refusal = Response(status=401)
        for challenge in self._challenges:
            told = f'{challenge}, realm="a \\"r\\"", nonce="{nonce}", opaque="o"'
            refusal.headers.add(
                "WWW-Authenticate", told if challenge.startswith("Digest") else 'Basic realm="b"'
            )
        return refusal

    def _is_right(self, request: Request, header: str) -> bool:
        given = {name: re.sub(r"\\(.)", r"\1", text) or plain for name, text, plain in _GIVEN.findall(header)}
        assert (given["username"], given["realm"], given["opaque"]) == (self._username, 'a "r"', "o")
        target = request.environ["REQUEST_URI"]
        assert given["uri"] == target
        name, _, session = given.get("algorithm", "MD5").upper().partition("-SESS")
        is_session = given.get("algorithm", "").upper().endswith("-SESS")
        digest = HASHES[name]
        assert session == ""

        def hashed(*parts: str) -> str:
            return digest(":".join(parts).encode())

        who = hashed(self._username, 'a "r"', PASSWORD)
        if is_session:
            who = hashed(who, given["nonce"], given["cnonce"])
        qop = given.get("qop", "")
        what = hashed(request.method, target, *([digest(request.data)] if qop == "auth-int" else []))
        middle = [given["nc"], given["cnonce"], qop] if qop else []
        assert given["response"] == hashed(who, given["nonce"], *middle, what)
        self._counts[given["nonce"]] += 1
        if qop:
            assert int(given["nc"], 16) == self._counts[given["nonce"]]
        self.used.append((given.get("algorithm", ""), qop))
        return self._counts[given["nonce"]] <= 2


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("challenges", "algorithm", "qop"),
    [
        (['Digest qop="auth"'], "", "auth"),
        (['Digest algorithm=MD5, qop="auth"'], "MD5", "auth"),
        (["Digest algorithm=MD5"], "MD5", ""),
        (['Digest algorithm=MD5-sess, qop="auth"'], "MD5-sess", "auth"),
        (['Digest algorithm="SHA-256", qop=auth'], "SHA-256", "auth"),
        (['Digest algorithm=SHA-256-sess, qop="auth"'], "SHA-256-sess", "auth"),
        (['Digest algorithm=SHA-512-256, qop="auth"'], "SHA-512-256", "auth"),
        (['Digest qop="auth-int"'], "", "auth-int"),
        (['Digest algorithm=SHA-256, qop="auth-int, auth"'], "SHA-256", "auth"),
        (['Digest algorithm=SHA-256, qop="auth-int"', "Digest algorithm=MD5"], "SHA-256", "auth-int"),
        (['Digest algorithm=MD5, qop="auth"', 'Digest algorithm=NEW, qop="auth"'], "MD5", "auth"),
        (["Basic", 'Digest algorithm=MD5, qop="auth"'], "MD5", "auth"),
        (['Digest algorithm=MD5, qop="auth"', "Basic"], "MD5", "auth"),
    ],
)
def test_challenges_are_answered(
    httpserver: HTTPServer, method: str, challenges: list[str], algorithm: str, qop: str
) -> None:
    guarded = Guarded(httpserver, challenges, "etl")
    auth = {"type": "digest", "username": "etl", "password": PASSWORD}
    things = {"path": "things", "method": method, "body": {"a": "\xe4"} if method == "POST" else None}
    connector = guarded.api.connector(
        auth=auth, attempts=1, pagination="page", params={"q": "a b"}, resources={"things": things}
    )
    found = read(connector, Stream("things", table="things"))
    assert found.column("id").to_pylist() == [1, 2, 3, 4]
    assert set(guarded.used) == {(algorithm, qop)}


@pytest.mark.parametrize("username", ["usÄr", "日本", 'a"b\\c'])
def test_names_of_any_letters_are_sent(httpserver: HTTPServer, username: str) -> None:
    guarded = Guarded(httpserver, ['Digest qop="auth"'], username)
    auth = {"type": "digest", "username": username, "password": PASSWORD}
    assert read(guarded.api.connector(auth=auth, pagination="page"), THINGS).num_rows == 4


@pytest.mark.parametrize(
    ("told", "hint"),
    [
        ('Digest realm="r", nonce="n", algorithm=NEW', "it asks for digest, and for no digest that is known"),
        ('Digest realm="r", nonce="n", qop="auth-new"', "it asks for digest, and for no digest"),
        ('Bearer realm="r"', "it asks for bearer, and for no digest"),
        ("", "it asks for no scheme, and for no digest"),
        ('Digest realm="r", nonce="n"', "check the credentials under `auth`"),
    ],
)
def test_what_cannot_be_answered_is_said(api: Api, told: str, hint: str) -> None:
    api.serve("/things", lambda _: Response(status=401, headers={"WWW-Authenticate": told}))
    auth = {"type": "digest", "username": "etl", "password": "hush-hush"}
    with pytest.raises(SourceError) as caught:
        read(api.connector(auth=auth), THINGS)
    assert caught.value.code == "http_401"
    assert hint in str(caught.value.hint)


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def test_of_several_challenges_the_strongest_is_taken() -> None:
    md5, sha = (
        'Digest realm="r", nonce="n", algorithm=MD5',
        'Digest nonce="n", realm="r", algorithm=SHA-256',
    )
    for told in (f"{md5}, {sha}", f'{sha},{md5}, Negotiate, Basic realm="Digest nonce=1"'):
        found = challenge_of(told)
        assert found is not None
        assert found.algorithm == "SHA-256"


@contextmanager
def proxy(status: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that answers everybody with this status, and what it was asked."""
    asked: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        with connection:
            asked.append(connection.recv(65536))
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")

    with accepting(answer) as port:
        yield f"http://u:hush-hush@127.0.0.1:{port}", asked


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_others_is_not_asked_again(api: Api, scheme: str) -> None:
    with (
        proxy(b"407 Proxy Authentication Required") as (address, asked),
        pytest.raises(SourceError) as caught,
    ):
        read(api.connector(base_url=f"{scheme}://api.example.com/v1", proxy=address), THINGS)
    assert (caught.value.code, len(asked)) == ("http_407", 1)
    assert "`proxy`" in str(caught.value.hint)
    assert "hush" not in str(caught.value)


def test_a_proxy_that_finds_no_way_for_now_is_asked_again(api: Api) -> None:
    with proxy(b"502 Bad Gateway") as (address, asked), pytest.raises(SourceError) as caught:
        read(api.connector(base_url="https://api.example.com/v1", proxy=address), THINGS)
    assert (caught.value.code, len(asked)) == ("http_502", 3)
