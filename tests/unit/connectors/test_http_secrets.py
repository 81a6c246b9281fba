"""Secrets of every way to log in: in no message, repr, log, URL, nor in what `connector show` prints."""

from __future__ import annotations

import json
import logging
import traceback
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.api.atlas import Atlas
from atlas_etl.connectors.http._settings.auth import Auth
from atlas_etl.errors import AtlasError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, read

KEY = (
    ed25519.Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    .decode()
)
OAUTH: dict[str, object] = {
    "type": "oauth2",
    "client_id": "id",
    "client_secret": "hush",
    "token_url": "/token",
}
JWT: dict[str, object] = {
    "type": "jwt", "private_key": KEY, "algorithm": "EdDSA", "issuer": "i", "private_key_password": None,
}  # fmt: skip
AUTHS: dict[str, dict[str, object]] = {
    "bearer": {"type": "bearer", "token": "hush"},
    "api_key": {"type": "api_key", "api_key": "hush"},
    "api_key in the query": {"type": "api_key", "api_key": "hush", "parameter": "k"},
    "basic": {"type": "basic", "username": "etl", "password": "hush"},
    "digest": {"type": "digest", "username": "etl", "password": "hush"},
    "client credentials": OAUTH,
    "refresh token": {**OAUTH, "grant": "refresh_token", "refresh_token": "hush"},
    "password": {**OAUTH, "grant": "password", "username": "etl", "password": "hush"},
    "session": {"type": "session", "login_path": "/token", "login_body": {"pin": "hush"}, "login_token": "t"},
    "jwt": JWT,
    "jwt exchanged": {**JWT, "token_url": "/token"},
    "hmac": {"type": "hmac", "secret": "hush", "api_key": "hush", "template": "{path}{body}"},
    "aws": {
        "type": "aws_sigv4", "access_key_id": "a", "secret_access_key": "hush", "session_token": "hush",
        "region": "r",
    },
}  # fmt: skip
KEY_LINES = [line for line in KEY.splitlines() if "-----" not in line]


def assert_no_secret(text: str) -> None:
    for secret in ("hush", *KEY_LINES):
        assert secret not in text


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def with_urls(api: Api, auth: dict[str, object]) -> dict[str, object]:
    return {**auth, "token_url": api.server.url_for("/token")} if "token_url" in auth else auth


def test_every_type_is_here() -> None:
    types = Auth.model_json_schema()["properties"]["type"]["enum"]
    assert {str(auth["type"]) for auth in AUTHS.values()} | {"none"} == set(types)


@pytest.mark.parametrize("what", ["refused", "refused login", "unreachable", "half an answer"])
@pytest.mark.parametrize("how", AUTHS)
def test_failures_tell_no_secret(
    api: Api, how: str, what: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    caplog.set_level(logging.DEBUG)

    def echo(request: Request) -> Response:
        """A server that says again what it was told, as some do in their errors."""
        said = json.dumps({"error_description": str(request.headers) + request.get_data(as_text=True)})
        return Response(said, status=400)

    def token(_: Request) -> Response:
        return Response('{"access_token": "hush", "t": "hush", "expires_in": 3600}')

    api.serve("/token", echo if what == "refused login" else token)
    api.serve("/things", echo if what == "refused" else lambda _: Response('[{"id": 1}, {"id"', status=200))
    base = "http://127.0.0.1:9/" if what == "unreachable" else api.server.url_for("/")
    connector = api.connector(auth=with_urls(api, AUTHS[how]), attempts=2, base_url=base)
    with pytest.raises(AtlasError) as caught:
        read(connector, Stream("things", path="things?q=hush"))
    failure = caught.value
    ours = [record.getMessage() for record in caplog.records if record.name != "werkzeug"]  # the server's own
    texts = [failure.message, failure.hint, *ours, repr(failure), repr(connector.config)]
    texts += [str(connector.config), *traceback.format_exception(failure), *map(str, recwarn.list)]
    for text in texts:
        assert_no_secret(str(text).replace("things?q=hush", ""))
    kept = connector._transport._credentials
    assert_no_secret(repr(kept) + repr(kept._kept) + repr(connector._wire._auth))
    if how != "api_key in the query":
        assert all(b"hush" not in request.query_string.replace(b"q=hush", b"") for request in api.asked)


@pytest.mark.parametrize("how", AUTHS)
def test_what_is_shown_is_masked(api: Api, how: str, tmp_path: Path) -> None:
    definition = {
        "protocol": "http",
        "connection": {"base_url": "https://example.com", "auth": with_urls(api, AUTHS[how])},
        "streams": [{"path": "things"}],
    }
    (tmp_path / "connectors.d").mkdir()
    (tmp_path / "connectors.d" / "api.yaml").write_text(yaml.safe_dump(definition))
    atlas = Atlas.open(tmp_path, {})
    shown = str(atlas.effective("api"))
    assert f"auth.type', value={AUTHS[how]['type']!r}" in shown
    assert_no_secret(shown)
    assert_no_secret(repr(atlas.connector("api")))
