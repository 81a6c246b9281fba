"""Tokens that a service account signs, against a server that checks their signature."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._auth import credential_cache
from atlas_etl.errors import AtlasError, ConfigError, ExitCode, MissingDriverError, SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read

THINGS = Stream("things", path="things")
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
ALGORITHMS = {"RS256": "rsa", "PS384": "rsa", "ES256": "ec", "EdDSA": "ed25519"}


@cache
def key_of(kind: str) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else ed25519.Ed25519PrivateKey.generate()


def pem(kind: str, encryption: KeySerializationEncryption | None = None) -> str:
    encoded = key_of(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    return encoded.decode()


@dataclass
class Server:
    """Takes tokens that the service account signed: itself, or in exchange for others."""

    api: Api
    kind: str = "rsa"
    algorithm: str = "RS256"
    audience: str | None = None
    seen: list[dict[str, object]] = field(default_factory=list)

    def serve(self) -> None:
        self.api.serve("/token", self._token)
        self.api.serve("/things", self._things)

    @property
    def token_url(self) -> str:
        return self.api.server.url_for("/token")

    def _claims(self, token: str) -> dict[str, object] | None:
        try:
            claims: dict[str, object] = jwt.decode(
                token, key_of(self.kind).public_key(), [self.algorithm], audience=self.audience,
                options={"require": ["exp", "iat", "iss", "jti"]},
            )  # fmt: skip
        except jwt.PyJWTError:
            return None
        self.seen.append({**claims, **jwt.get_unverified_header(token)})
        return claims

    def _token(self, request: Request) -> Response:
        form = request.form.to_dict()
        grant = form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        if not grant or self._claims(form["assertion"]) is None:
            return Response('{"error": "invalid_grant", "error_description": "hush"}', status=400)
        return as_json({"access_token": "exchanged", "expires_in": 3600})

    def _things(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        good = token == "exchanged" or self._claims(token) is not None
        number = int(request.args.get("page", "1"))
        return as_json([{"id": number}] if number < 4 else []) if good else Response(status=401)


@pytest.fixture
def server(httpserver: HTTPServer) -> Server:
    made = Server(Api(httpserver))
    made.serve()
    return made


def account(**more: object) -> dict[str, object]:
    return {"type": "jwt", "issuer": "etl@example.com", "private_key": pem("rsa"), **more}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_token_of_its_own_is_what_the_api_takes(server: Server, algorithm: str) -> None:
    server.kind, server.algorithm = ALGORITHMS[algorithm], algorithm
    auth = account(private_key=pem(server.kind), algorithm=algorithm, key_id="k1", subject="orders")
    assert read(server.api.connector(auth=auth, pagination="page"), THINGS).num_rows == 3
    assert len({str(claims["jti"]) for claims in server.seen}) == 1
    claims = server.seen[0]
    assert (claims["iss"], claims["sub"], claims["kid"]) == ("etl@example.com", "orders", "k1")
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 300
    assert "aud" not in claims


def test_an_assertion_is_exchanged_for_a_token(server: Server) -> None:
    server.audience = server.token_url
    auth = account(token_url=server.token_url, scope="a b", claims={"scope": "orders.read"}, lifetime="1h")
    assert read(server.api.connector(auth=auth, pagination="page"), THINGS).num_rows == 3
    (claims,) = server.seen
    assert (claims["scope"], claims["aud"]) == ("orders.read", server.token_url)
    assert int(str(claims["exp"])) - int(str(claims["iat"])) == 3600
    (exchange,) = [request for request in server.api.asked if request.path == "/token"]
    assert exchange.form["scope"] == "a b"
    assert "assertion" not in exchange.url


def test_what_a_token_is_for_is_in_the_assertion_too(server: Server) -> None:
    server.audience = server.token_url
    auth = account(token_url=server.token_url, scope="a b")
    assert read(server.api.connector(auth=auth, pagination="page"), THINGS).num_rows == 3
    (claims,) = server.seen
    assert claims["scope"] == "a b"


def test_a_token_of_its_own_is_signed_again_before_it_ends(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter(range(0, 100_000, 100))  # each look at the clock is 100 s later
    monkeypatch.setattr(credential_cache, "monotonic", lambda: float(next(moments)))
    assert read(server.api.connector(auth=account(), pagination="page"), THINGS).num_rows == 3
    used = [str(claims["jti"]) for claims in server.seen]
    assert any(one != other for one, other in pairwise(used))


@pytest.mark.parametrize("written", ["one line", "encrypted", "windows"])
def test_a_key_as_people_have_it(server: Server, written: str) -> None:
    auth = account()
    if written == "one line":
        auth["private_key"] = pem("rsa").strip().replace("\n", "\\n")
    elif written == "windows":
        auth["private_key"] = pem("rsa").replace("\n", "\r\n")
    else:
        auth["private_key"] = pem("rsa", BestAvailableEncryption(b"hush"))
        auth["private_key_password"] = "hush"
    assert read(server.api.connector(auth=auth), THINGS).num_rows == 1


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"private_key": "hush"}, "cannot be read"),
        ({"private_key": pem("rsa")[:200]}, "cannot be read"),
        ({"private_key": pem("ec")}, "is no key for RS256"),
        ({"private_key": pem("ed25519")}, "is no key for RS256"),
        ({"algorithm": "ES256"}, "is no key for ES256"),
        ({"private_key": pem("ec"), "algorithm": "ES512"}, "is no key for ES512"),
        ({"private_key": pem("ec"), "algorithm": "EdDSA"}, "is no key for EdDSA"),
        ({"private_key": pem("rsa", BestAvailableEncryption(b"hush"))}, "set private_key_password"),
        (
            {"private_key": pem("rsa", BestAvailableEncryption(b"x")), "private_key_password": "hush"},
            "cannot be read with this private_key_password",
        ),
        ({"private_key_password": "hush"}, "is not encrypted"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("exchanged", [True, False])
def test_a_wrong_key_says_what_is_wrong_with_it(
    server: Server, wrong: dict[str, object], why: str, exchanged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    connector = server.api.connector(
        auth=account(**wrong, **({"token_url": server.token_url} if exchanged else {}))
    )
    with pytest.raises(ConfigError, match=why) as caught:
        read(connector, THINGS)
    assert (caught.value.code, caught.value.exit_code) == ("private_key", ExitCode.USAGE)
    assert server.api.asked == []
    shown = f"{caught.value.message} {caught.value.hint} {connector.config!r} {caplog.text}"
    assert "hush" not in shown
    assert str(account(**wrong)["private_key"]) not in shown


def test_an_assertion_that_is_refused(server: Server) -> None:
    server.audience = "somebody else"
    with pytest.raises(SourceError, match=r"token_url answered 400 \(invalid_grant\)") as caught:
        read(server.api.connector(auth=account(token_url=server.token_url)), THINGS)
    assert caught.value.code == "login_failed"
    assert "audience" in str(caught.value.hint)
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"
    assert len(server.api.asked) == 1


def test_a_token_of_its_own_that_is_refused(server: Server) -> None:
    server.algorithm = "PS384"
    with pytest.raises(SourceError) as caught:
        read(server.api.connector(auth=account()), THINGS)
    assert caught.value.code == "http_401"
    assert len(server.api.asked) == 2  # with a token that was signed anew


@pytest.mark.parametrize("package", ["jwt", "cryptography.hazmat.primitives.serialization"])
def test_without_the_extra(server: Server, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDriverError) as caught:
        read(server.api.connector(auth=account()), THINGS)
    assert caught.value.hint == 'pip install "atlas-etl[jwt]"'


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"private_key": None}, "type jwt needs private_key"),
        ({"issuer": None, "token_url": "https://x/token"}, "type jwt needs issuer"),
        ({"claims": {"exp": 1}}, "exp is set by `lifetime`"),
        ({"lifetime": "10s"}, "lifetime"),
        ({"algorithm": "none"}, "algorithm"),
        ({"algorithm": "HS256"}, "algorithm"),
    ],
)
def test_descriptions_that_cannot_be_meant(server: Server, wrong: dict[str, object], why: str) -> None:
    with pytest.raises((ValueError, AtlasError), match=why) as caught:
        server.api.connector(auth=account(**wrong))
    assert "PRIVATE" not in str(caught.value)
