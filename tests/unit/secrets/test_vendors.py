"""Vendors' stores by their own clients: stand-ins for Vault's KV 2 and Google's REST API, moto's server."""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import boto3
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import secretmanager_v1
from moto.server import ThreadedMotoServer
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import ConfigError, MissingDriverError
from atlas_etl.secrets.elsewhere import lookups

CANARY = "hunter2-Ä/+$"
DOCUMENT = {"password": CANARY, "port": 5432, "nothing": None, "on": True}
Look = Callable[[str], str]


def refused(code: str, look: Look, written: str) -> str:
    with pytest.raises(ConfigError) as caught:
        look(written)
    assert caught.value.code == code, caught.value.message
    assert caught.value.hint or code == "missing_secret"
    told = f"{caught.value.message} {caught.value.hint}"
    assert "hunter2" not in told
    assert "hush" not in told
    return told


class TestVault:
    """A stand-in for Vault: what its API documentation says of reading a version, and of refusals."""

    @pytest.fixture
    def look(self, httpserver: HTTPServer, tmp_path: Path) -> Callable[..., Look]:
        def answer(request: Request) -> Response:
            if request.headers.get("X-Vault-Token") != "hush":
                return Response('{"errors": ["permission denied"]}', status=403)
            namespace = request.headers.get("X-Vault-Namespace", "")
            data = {"data": {"data": DOCUMENT, "metadata": {"version": 3}}}
            deleted = {
                "data": {"data": None, "metadata": {"version": 4, "deletion_time": "2026-01-01T00:00:00Z"}}
            }
            answers = {
                ("", "/v1/kv/data/shop/db"): Response(json.dumps(data)),
                ("team", "/v1/kv/data/theirs"): Response(json.dumps(data)),
                ("", "/v1/kv/data/gone"): Response(json.dumps(deleted), status=404),
                ("", "/v1/kv/data/sealed"): Response('{"errors": ["Vault is sealed"]}', status=503),
                ("", "/v1/kv/data/nonsense"): Response("<html>hunter2", status=200),
            }
            return answers.get((namespace, request.path), Response('{"errors": []}', status=404))

        httpserver.expect_request("/v1/kv/data", method="GET")
        httpserver.expect_request(__import__("re").compile("/v1/.*"), method="GET").respond_with_handler(
            answer
        )

        def make(**environ: str) -> Look:
            given = {"VAULT_ADDR": httpserver.url_for("").rstrip("/"), "VAULT_TOKEN": "hush", **environ}
            return lookups(tmp_path, given)["vault"]

        return make

    def test_a_field_is_read(self, look: Callable[..., Look]) -> None:
        assert look()("kv/shop/db#password") == CANARY
        assert look()("kv/shop/db#port") == "5432"
        assert look(VAULT_NAMESPACE="team")("kv/theirs#password") == CANARY

    @pytest.mark.parametrize(
        ("written", "code"),
        [
            ("kv/shop/db", "reference_syntax"),
            ("kv#password", "reference_syntax"),
            ("kv/shop/db#", "reference_syntax"),
            ("", "reference_syntax"),
            ("kv/shop/db#pasword", "missing_secret"),
            ("kv/shop/db#nothing", "missing_secret"),
            ("kv/shop/db#on", "missing_secret"),
            ("kv/none#password", "missing_secret"),
            ("kv/gone#password", "missing_secret"),
            ("kv/theirs#password", "missing_secret"),
            ("kv/sealed#password", "secret_unreachable"),
            ("kv/nonsense#password", "secret_unreachable"),
        ],
    )
    def test_refusals(self, look: Callable[..., Look], written: str, code: str) -> None:
        refused(code, look(), written)

    def test_refusals_of_the_place(self, look: Callable[..., Look]) -> None:
        assert "kv/data/shop/db" in refused(
            "secret_refused", look(VAULT_TOKEN="hush-hush"), "kv/shop/db#password"
        )
        assert "VAULT_ADDR is not set" in refused("secret_unreachable", look(VAULT_ADDR=""), "kv/a#b")
        refused("secret_unreachable", look(VAULT_ADDR="http://127.0.0.1:1"), "kv/a#b")


@pytest.fixture(scope="module")
def aws_server() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


class TestAws:
    @pytest.fixture
    def look(self, aws_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
        for name, value in {
            "AWS_ENDPOINT_URL": aws_server, "AWS_ACCESS_KEY_ID": "hush", "AWS_SECRET_ACCESS_KEY": "hush",
            "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        return lookups(tmp_path, {})["aws-sm"]

    def test_a_secret_or_a_field_of_it_is_read(self, look: Look, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        client = boto3.session.Session().client("secretsmanager")
        client.create_secret(Name="plain", SecretString=CANARY)
        arn = client.create_secret(Name="shop/db", SecretString=json.dumps(DOCUMENT))["ARN"]
        client.create_secret(Name="binary", SecretBinary=CANARY.encode())
        client.create_secret(Name="bytes", SecretBinary=b"\xff")
        caplog.clear()
        assert (
            look("plain") == look("binary") == look("shop/db#password") == look(f"{arn}#password") == CANARY
        )
        assert look("shop/db#port") == "5432"
        refused("missing_secret", look, "none")
        refused("missing_secret", look, "plain#password")
        refused("missing_secret", look, "shop/db#none")
        refused("missing_secret", look, "bytes")
        refused("reference_syntax", look, "#password")
        refused("reference_syntax", look, "shop#")
        assert "hunter2" not in caplog.text
        assert "hush" not in caplog.text

    def test_refusals_of_the_place(self, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        assert "EndpointConnectionError" in refused("secret_unreachable", look, "plain")
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        assert "NoCredentialsError" in refused("secret_unreachable", look, "plain")


class TestGoogle:
    """A stand-in for the REST API, asked by Google's own client without credentials."""

    @pytest.fixture
    def look(self, httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
        def answer(request: Request) -> Response:
            texts = {"plain": CANARY.encode(), "json": json.dumps(DOCUMENT).encode(), "bytes": b"\xff"}
            _, _, _, project, _, secret, _, version = request.path.partition(":")[0].split("/")
            if project == "theirs":
                return failure(403, "PERMISSION_DENIED")
            if project == "broken":
                return failure(400, "FAILED_PRECONDITION")
            if project != "mine" or secret not in texts or version not in ("latest", "7"):
                return failure(404, "NOT_FOUND")
            payload = {"data": base64.b64encode(texts[secret]).decode()}
            return Response(
                json.dumps({"name": request.path[4:], "payload": payload}), mimetype="application/json"
            )

        def failure(status: int, name: str) -> Response:
            error = {"error": {"code": status, "message": "hunter2", "status": name}}
            return Response(json.dumps(error), status=status, mimetype="application/json")

        httpserver.expect_request(re.compile("/v1/projects/.*:access"), method="GET").respond_with_handler(
            answer
        )
        local = partial(
            secretmanager_v1.SecretManagerServiceClient,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": httpserver.url_for("").rstrip("/")},
        )
        monkeypatch.setattr(secretmanager_v1, "SecretManagerServiceClient", local)
        return lookups(tmp_path, {})["gcp-sm"]

    def test_a_secret_or_a_field_of_it_is_read(self, look: Look, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        assert look("mine/plain") == look("projects/mine/secrets/plain") == CANARY
        assert look("projects/mine/secrets/plain/versions/7") == look("mine/json#password") == CANARY
        assert "hunter2" not in caplog.text

    @pytest.mark.parametrize(
        ("written", "code"),
        [
            ("", "reference_syntax"),
            ("plain", "reference_syntax"),
            ("a/b/c", "reference_syntax"),
            ("projects/mine/secrets/plain/versions", "reference_syntax"),
            ("mine/none", "missing_secret"),
            ("mine/plain#password", "missing_secret"),
            ("mine/bytes", "missing_secret"),
            ("theirs/plain", "secret_refused"),
            ("broken/plain", "secret_unreachable"),
        ],
    )
    def test_refusals(self, look: Look, written: str, code: str) -> None:
        refused(code, look, written)

    def test_without_credentials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
        told = refused("secret_unreachable", lookups(tmp_path, {})["gcp-sm"], "mine/plain")
        assert "DefaultCredentialsError" in told


@pytest.mark.parametrize(
    ("kind", "package", "written"),
    [
        ("vault", "hvac", "kv/a#b"),
        ("aws-sm", "boto3", "a"),
        ("gcp-sm", "google.cloud.secretmanager_v1", "a/b"),
    ],
)
def test_a_client_that_is_missing_is_named_with_its_extra(
    kind: str, package: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDriverError) as caught:
        lookups(tmp_path, {"VAULT_ADDR": "http://127.0.0.1:1"})[kind](written)
    assert caught.value.hint == f'pip install "atlas-etl[{kind}]"'
