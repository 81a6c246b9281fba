"""Signed requests against servers that make the signature again, from what came over the wire."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate, parsedate_to_datetime
from urllib.parse import quote, unquote

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response
from werkzeug.serving import WSGIRequestHandler

from atlas_etl.connectors.http._auth.signing import Outgoing, hmac_headers
from atlas_etl.connectors.http._settings.auth import Auth
from atlas_etl.errors import AtlasError, MissingDriverError, SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read

THINGS = Stream("things", table="things")
PARAMS = {"q": "a b+c&d=é", "z": "~*'", "a": "{timestamp}"}
HMAC = {
    "type": "hmac",
    "secret": "hush-secret",
    "api_key": "hush-key",
    "template": "{timestamp}{method}{path}",
}
AWS = {
    "type": "aws_sigv4", "access_key_id": "AKIAEXAMPLE", "secret_access_key": "hush-aws",
    "region": "eu-west-9",
}  # fmt: skip


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def wire(request: Request) -> tuple[str, str]:
    """Path and query as they were sent."""
    path, _, query = str(request.environ["RAW_URI"]).partition("?")
    return path, query


def paged(good: Callable[[Request], bool]) -> Callable[[Request], Response]:
    """Three pages, asked for in the query or in the body."""

    def answer(request: Request) -> Response:
        if not good(request):
            return Response(status=401)
        body = json.loads(request.data) if request.data else {}
        number = int(request.args.get("page") or body.get("page") or 1)
        return as_json([{"id": number}] if number < 4 else [])

    return answer


def ask(api: Api, auth: dict[str, object], method: str = "GET") -> int:
    """How many rows three pages gave."""
    resource: dict[str, object] = {"path": "/a b/things", "method": method, "params": PARAMS}
    if method == "POST":
        resource |= {"body": {"q": "é"}, "pagination": {"type": "page", "into": "body"}}
    connector = api.connector(auth=auth, pagination="page", resources={"things": resource})
    return read(connector, THINGS).num_rows


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("algorithm", [None, "sha1", "sha512"])
def test_what_the_template_says_is_signed(
    api: Api, method: str, encoding: str, algorithm: str | None
) -> None:
    seen: set[str] = set()

    def good(request: Request) -> bool:
        path, query = wire(request)
        moment = request.headers["X-Timestamp"]
        assert abs(time.time() - int(moment)) < 60
        text = f"{moment}\n{request.method}\n{request.host}{path}?{query}\n".encode()
        text += hashlib.sha256(request.data).hexdigest().encode() + request.data + b"hush-key{none"
        digest = hmac.new(b"hush-secret", text, algorithm or "sha256").digest()
        wanted = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
        seen.add(request.headers["X-Signature"])
        return (request.headers["X-Signature"], request.headers["X-API-Key"]) == (wanted, "hush-key")

    api.serve("/a b/things", paged(good))
    template = "{timestamp}\n{method}\n{host}{path}?{query}\n{body_sha256}{body}{key}{none"
    auth = {**HMAC, "template": template, "encoding": encoding, "algorithm": algorithm}
    assert ask(api, auth, method) == 3
    assert len(seen) == 4  # each request has its own


def test_headers_are_named_and_written_as_the_api_wants_them(api: Api) -> None:
    def good(request: Request) -> bool:
        moment = request.headers["X-When"]
        digest = hmac.new(b"hush", f"GET{moment}".encode(), "sha256").hexdigest()
        assert "X-API-Key" not in request.headers
        assert "X-Timestamp" not in request.headers
        return request.headers["Authorization"] == f"HMAC hush-key:{digest}"

    api.serve("/a b/things", paged(good))
    auth = {
        **HMAC, "template": "{method}{timestamp}", "signature_header": "Authorization",
        "signature_format": "HMAC {key}:{signature}", "timestamp_header": "X-When",
        "secret": base64.b64encode(b"hush").decode(), "secret_encoding": "base64",
    }  # fmt: skip
    assert ask(api, auth) == 3


@pytest.mark.parametrize(
    ("form", "parsed"),
    [
        ("epoch", int),
        ("epoch_ms", lambda text: int(text) / 1000),
        ("iso8601", lambda text: datetime.fromisoformat(text).timestamp()),
        ("http_date", lambda text: parsedate_to_datetime(text).timestamp()),
    ],
)
def test_times_are_written_as_the_api_wants_them(form: str, parsed: Callable[[str], float]) -> None:
    auth = Auth.model_validate({**HMAC, "timestamp_format": form})
    headers = hmac_headers(auth, Outgoing("GET", "https://example.com/a"), 1_800_000_000.5)
    assert int(parsed(headers["X-Timestamp"])) == 1_800_000_000


def test_what_is_put_in_is_not_looked_at_again() -> None:
    auth = Auth.model_validate({**HMAC, "template": "{query}"})
    headers = hmac_headers(auth, Outgoing("GET", "https://example.com/?{body}", b"x"), 0)
    assert headers["X-Signature"] == hmac.new(b"hush-secret", b"{body}", "sha256").hexdigest()


def sigv4(request: Request | None = None, **known: str) -> str:
    """The signature by AWS's own description of it ("Create a signed AWS API request")."""
    if request is not None:
        path, query = wire(request)
        given = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(.+), SignedHeaders=(.+), Signature=(.+)",
            request.headers["Authorization"],
        )
        assert given is not None
        scope, names, _ = given.groups()
        headers = {name: " ".join(request.headers[name].split()) for name in names.split(";")}
        body, moment = request.data, request.headers["X-Amz-Date"]
        assert "host" in headers
        secret = "hush-aws"
    else:
        path, query, scope, secret, moment = "/", "", known["scope"], known["secret"], known["moment"]
        headers, body = {"host": known["host"], "x-amz-date": moment}, b""
    _, day, region, service, end = scope.split("/")
    # Every service but S3 wants the path encoded once more than it was sent.
    whole = path if service == "s3" else quote(path, safe="/~")
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&") if pair)
    assert all(quote(unquote(part), safe="~") == part for pair in pairs for part in pair)
    method = request.method if request is not None else "GET"
    canonical = "\n".join(
        [
            method, whole, "&".join(f"{name}={value}" for name, value in pairs),
            *(f"{name}:{headers[name]}" for name in sorted(headers)), "", ";".join(sorted(headers)),
            hashlib.sha256(body).hexdigest(),
        ]
    )  # fmt: skip
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", moment, f"{day}/{region}/{service}/{end}", digest])
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, end):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def test_the_server_of_these_tests_signs_as_aws_does() -> None:
    """The vector get-vanilla of AWS's test suite of Signature Version 4."""
    known = {
        "scope": "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request", "moment": "20150830T123600Z",
        "secret": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "host": "example.amazonaws.com",
    }  # fmt: skip
    assert sigv4(**known) == "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("service", ["execute-api", "s3"])
@pytest.mark.parametrize("token", [None, "hush-token"])
def test_aws_signature_version_4(api: Api, method: str, service: str, token: str | None) -> None:
    def good(request: Request) -> bool:
        assert request.headers.get("X-Amz-Security-Token") == token
        assert f"/eu-west-9/{service}/aws4_request" in request.headers["Authorization"]
        return request.headers["Authorization"].endswith(f"Signature={sigv4(request)}")

    api.serve("/a b/things", paged(good))
    assert ask(api, {**AWS, "service": service, "session_token": token}, method) == 3


@pytest.mark.parametrize("auth", [HMAC, AWS], ids=["hmac", "aws_sigv4"])
def test_no_signature_goes_to_another_server(api: Api, auth: dict[str, object]) -> None:
    seen: list[Request] = []
    api.serve("/a b/things", lambda _: Response(status=307, headers={"Location": target}))
    with HTTPServer(port=0) as other:
        target = other.url_for("/things")
        other.expect_request("/things").respond_with_handler(
            lambda request: seen.append(request) or as_json([])
        )
        ask(api, auth)
    (request,) = seen
    headers = {name.lower() for name in request.headers.keys()}  # noqa: SIM118  # its items are pairs
    assert not headers & {"authorization", "x-signature", "x-api-key", "x-timestamp", "x-amz-date"}
    assert "hush" not in str(request.headers)


@pytest.mark.parametrize("auth", [HMAC, AWS], ids=["hmac", "aws_sigv4"])
def test_a_signature_that_is_refused_is_not_tried_again(api: Api, auth: dict[str, object]) -> None:
    api.serve("/a b/things", lambda _: Response("hush", status=401))
    with pytest.raises(SourceError) as caught:
        ask(api, auth)
    assert (caught.value.code, len(api.asked)) == ("http_401", 1)
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("ahead", "told"), [(303, "is 30x s ahead of"), (-306, "is 30x s behind"), (5, "check their rights")]
)
def test_a_clock_that_goes_wrong_is_named(
    api: Api, ahead: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def server_time(*_: object) -> str:
        return formatdate(time.time() - ahead, usegmt=True)

    monkeypatch.setattr(WSGIRequestHandler, "date_time_string", server_time)
    api.serve("/a b/things", lambda _: Response(status=403))
    with pytest.raises(SourceError) as caught:
        ask(api, AWS)
    assert told in re.sub(r" 30\d s ", " 30x s ", str(caught.value.hint))


def test_aws_without_the_extra(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)
    with pytest.raises(MissingDriverError) as caught:
        ask(api, AWS)
    assert caught.value.hint == 'pip install "atlas-etl[aws]"'


@pytest.mark.parametrize("value", ["hush\n", "hush\u2026"])
def test_a_key_that_no_header_can_have(api: Api, value: str) -> None:
    with pytest.raises(SourceError) as caught:
        ask(api, {"type": "api_key", "api_key": value})
    assert caught.value.code == "invalid_header"
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({**HMAC, "template": None}, "type hmac needs template"),
        ({**HMAC, "secret": None}, "type hmac needs secret"),
        ({**HMAC, "template": "{metod}"}, "template: there is no {metod}, only {timestamp}, {method}"),
        ({**HMAC, "template": "{body.__class__}{secret}"}, "there is no {secret}"),
        ({**HMAC, "signature_format": "{key}"}, "signature_format: {signature} is not in it"),
        ({**HMAC, "signature_format": "{signature}{body}"}, "signature_format: there is no {body}"),
        ({**HMAC, "algorithm": "RS256"}, "algorithm: for type hmac it is sha1, sha256, sha384 or sha512"),
        ({**HMAC, "secret_encoding": "hex"}, "secret: is not hex"),
        ({**HMAC, "secret_encoding": "base64"}, "secret: is not base64"),
        ({**AWS, "region": None}, "type aws_sigv4 needs region"),
        ({**AWS, "secret_access_key": ""}, "type aws_sigv4 needs secret_access_key"),
    ],
)
def test_descriptions_that_cannot_be_meant(api: Api, wrong: dict[str, object], why: str) -> None:
    with pytest.raises((ValueError, AtlasError), match=re.escape(why)) as caught:
        api.connector(auth=wrong)
    assert "hush" not in str(caught.value)
