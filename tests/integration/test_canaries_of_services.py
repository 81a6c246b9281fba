"""No secret of an API, a cassette or a vendor's store of secrets is shown or written down."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.cloud import secretmanager_v1
from pytest_httpserver import HTTPServer
from tests.cage import CLOSED, WAYS, Cage, Parrot, deadline, kept
from tests.due import just_due
from tests.unit.connectors.test_soap import WSDL
from werkzeug import Request, Response

from atlas_etl.model import DecidedSchedule
from atlas_etl.state.open import open_state_store

SECONDS = 80


# APIs


def test_soap_services_that_answer_with_what_they_heard(cage: Cage, httpserver: HTTPServer) -> None:
    parrot = Parrot()
    httpserver.expect_request("/soap").respond_with_handler(parrot)
    described = WSDL.replace("ADDRESS", httpserver.url_for("/soap"))
    httpserver.expect_request("/shop.wsdl").respond_with_data(described, content_type="text/xml")
    httpserver.expect_request("/closed.wsdl").respond_with_handler(parrot)
    logins: dict[str, dict[str, object]] = {
        "basic": {"auth": {"type": "basic", "username": "etl", "password": kept(cage, "env", "soap basic")}},
        "token": {"security": {"username": "etl", "password": kept(cage, "literal", "soap token")}},
        "digest": {"security": {"username": "etl", "password": kept(cage, "cmd", "soap digest"),
                                "digest": True}},
        "header": {"headers": {"X-Team": kept(cage, "env", "soap header", odd=False)}},
    }  # fmt: skip
    listed = {"operation": "ListOrders", "records": "orders.order", "arguments": {"since": "2026"}}
    for name, login in logins.items():
        for wsdl in ("shop", "closed"):
            connection = {
                "wsdl": httpserver.url_for(f"/{wsdl}.wsdl"), "attempts": 1, "resources": {"orders": listed},
                **login,
            }  # fmt: skip
            cage.define(f"{name}-{wsdl}", "soap", connection, [{"table": "orders"}])
    for parrot.how in (*WAYS, "fault", "fault 200"):
        cage.atlas("connector", "sync", "--all", "-vv")
    cage.try_everything("token-shop", "header-closed")
    assert cage.codes >= {0, 3}
    assert cage.leaks() == ""


def test_graphql_apis_that_answer_with_what_they_heard(cage: Cage, httpserver: HTTPServer) -> None:
    parrot = Parrot()
    httpserver.expect_request("/graphql").respond_with_handler(parrot)
    query = (
        "query ($after: String) { things(after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }"
    )
    listed = {"query": query, "records": "things.nodes"}
    logins: dict[str, dict[str, object]] = {
        "bearer": {"auth": {"type": "bearer", "token": kept(cage, "env", "graph bearer", odd=False)}},
        "key": {"auth": {"type": "api_key", "parameter": "k", "api_key": kept(cage, "literal", "graph key")}},
        "basic": {"auth": {"type": "basic", "username": "etl", "password": kept(cage, "cmd", "graph basic")}},
        "header": {"headers": {"X-Team": kept(cage, "env", "graph header", odd=False)}},
    }
    for name, login in logins.items():
        connection = {
            "endpoint": httpserver.url_for("/graphql"),
            "attempts": 1,
            "resources": {"things": listed},
        }
        cage.define(name, "graphql", {**connection, **login}, [{"table": "things"}])
    for parrot.how in (*WAYS, "errors"):
        cage.atlas("connector", "sync", "--all", "-vv")
    cage.try_everything("key", "header")
    assert cage.codes >= {0, 3}
    assert cage.leaks() == ""


def test_cassettes_of_apis_that_answer_with_what_they_heard(cage: Cage, httpserver: HTTPServer) -> None:
    """Whatever an API says of a secret, also in rows: a cassette is passed on, and the warehouse is not."""
    parrot = Parrot()
    for path in ("/v1/things", "/v1/token", "/token"):
        httpserver.expect_request(path).respond_with_handler(parrot)
    auths = {
        "bearer": {"type": "bearer", "token": kept(cage, "env", "taped bearer", odd=False)},
        "query": {"type": "api_key", "api_key": kept(cage, "env", "taped query"), "parameter": "who"},
        "basic": {"type": "basic", "username": "etl", "password": kept(cage, "env", "taped basic")},
        "digest": {"type": "digest", "username": "etl", "password": kept(cage, "env", "taped digest")},
        "oauth": {"type": "oauth2", "client_id": "id", "token_url": httpserver.url_for("/token"),
                  "client_secret": kept(cage, "env", "taped oauth")},
        "session": {"type": "session", "login_path": "/token", "login_token": "t",
                    "login_body": {"pin": kept(cage, "env", "taped session")}},
    }  # fmt: skip
    for name, auth in auths.items():
        connection = {"base_url": httpserver.url_for("/v1"), "auth": auth, "attempts": 1,
                      "resources": {"things": {"path": "/things"}}}  # fmt: skip
        cage.define(name, "http", connection, [{"name": "things", "path": "things"}])
    for parrot.how in ("401", "login", "no json", "redirect", "rows"):
        for name in auths:
            tape = f"{name}-{parrot.how.replace(' ', '-')}.yaml"
            cage.atlas("connector", "sync", name, "--record", tape, "-vv")
            cage.atlas("connector", "sync", name, "--replay", tape, "-vv", "--json")
    cage.own += cage.project.folder.glob("warehouse.duckdb*")  # rows arrive as they were
    cage.own += (cage.project.folder / ".atlas").glob("*.duckdb*")
    tapes = list(cage.project.folder.glob("*-rows.yaml"))
    assert len(tapes) == len(auths)
    assert cage.codes >= {0, 3}
    assert cage.leaks() == ""


# What is measured


def test_what_a_monitor_may_ask_tells_no_secret(cage: Cage, httpserver: HTTPServer) -> None:
    """/metrics, /healthz and /readyz of a scheduler whose run fails, and then whose state store is gone."""
    httpserver.expect_request("/v1/things").respond_with_handler(Parrot("401"))
    cron, slot = just_due()
    auth = {"type": "bearer", "token": kept(cage, "env", "measured", odd=False)}
    definition = {
        "protocol": "http",
        "connection": {"base_url": httpserver.url_for("/v1"), "auth": auth,
                       "attempts": 1},
        "streams": [{"name": "things", "path": "things"}], "schedule": cron,
    }  # fmt: skip
    cage.write("connectors.d/api.yaml", definition)
    cage.write("atlas.yaml", {"schedule": {"retries": 0, "test": "@hourly"}})
    with closing(open_state_store(cage.project.folder / ".atlas" / "state.db")) as store:
        store.schedule.decide({"api": DecidedSchedule(cron, "UTC", slot - timedelta(hours=2))})
    log = cage.project.home / "daemon.log"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "atlas_etl", "schedule", "-vv", "--health-port", "0"],
            cwd=cage.project.folder, env=cage.project.environment(cage.environ), stdin=subprocess.DEVNULL,
            stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        for _ in deadline("the scheduler does not listen", SECONDS):
            if where := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
                break
        for _ in deadline("the failed run was not counted", SECONDS):
            numbers = asked(f"{where[0]}/metrics")
            if b'atlas_runs_total{connector="api",status="failed"} 1.0' in numbers:
                break
        cage.said["metrics"] = numbers
        for path in ("healthz", "readyz", "nothing", f"metrics?{cage.canaries.texts['measured env']}"):
            cage.said[f"answer of {len(cage.said)}"] = asked(f"{where[0]}/{path}")
        state = cage.project.folder / ".atlas" / "state.db"
        state.write_bytes(b"no database")
        cage.said["metrics without a store"] = asked(f"{where[0]}/metrics")
    finally:
        daemon.kill()
        daemon.wait()
    cage.said["output of the daemon"] = log.read_bytes()
    assert cage.leaks() == ""


def asked(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return bytes(answer.read())
    except HTTPError as refusal:
        with refusal:
            return str(refusal.headers).encode() + refusal.read()


# Stores of secrets


@pytest.fixture
def database(cage: Cage) -> Callable[..., None]:
    """A connector whose password is in a vendor's store."""

    def define(*references: str) -> None:
        for number, reference in enumerate(references):
            connection = {"host": "127.0.0.1", "port": CLOSED, "username": "etl", "password": reference}
            cage.define(f"shop{number}", "postgresql", connection, [{"table": "t"}])

    return define


HOW = (*WAYS, "garbage")


def answers(cage: Cage, how: str) -> Callable[[Request], Response]:
    parrot = Parrot(how)
    held = cage.canaries.at("held by the store")

    def answer(request: Request) -> Response:
        found = parrot(request)
        if found.status_code == 200 and "gzip" not in found.headers.get("Content-Encoding", ""):
            return Response(f"{held} {found.get_data(as_text=True)}", content_type="application/json")
        return found

    return answer


@pytest.mark.parametrize("how", HOW)
def test_a_vault_that_answers_with_what_it_heard(
    cage: Cage, database: Callable[..., None], httpserver: HTTPServer, how: str
) -> None:
    httpserver.expect_request(re.compile("/.*")).respond_with_handler(answers(cage, how))
    cage.environ |= {
        "VAULT_ADDR": httpserver.url_for("").rstrip("/"),
        "VAULT_TOKEN": cage.canaries.at("vault token", odd=False),
    }
    database("${vault:kv/shop/db#password}", "${vault:kv/shop#password}")
    cage.try_everything("shop0")
    cage.environ["VAULT_ADDR"] = (
        f"http://etl:{quote(cage.canaries.at('vault address'), safe='')}@127.0.0.1:{CLOSED}"
    )
    cage.atlas("connector", "sync", "--all", "-vv")
    assert 2 in cage.codes
    assert cage.leaks() == ""


@pytest.mark.parametrize("how", HOW)
def test_aws_that_answers_with_what_it_heard(
    cage: Cage, database: Callable[..., None], httpserver: HTTPServer, how: str
) -> None:
    httpserver.expect_request("/").respond_with_handler(answers(cage, how))
    nothing = str(cage.project.folder / "none")
    cage.environ |= {
        "AWS_ENDPOINT_URL": httpserver.url_for("").rstrip("/"), "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIAKNOWN",
        "AWS_SECRET_ACCESS_KEY": cage.canaries.at("aws key"), "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SESSION_TOKEN": cage.canaries.at("aws session", odd=False), "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": nothing, "AWS_SHARED_CREDENTIALS_FILE": nothing,
    }  # fmt: skip
    database("${aws-sm:shop/db#password}", "${aws-sm:plain}")
    cage.atlas("connector", "test", "shop0", "-vv")
    cage.atlas("connector", "sync", "--all", "-vv")
    cage.atlas("connector", "sync", "shop1", "--json", "--log-format", "json")
    cage.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{CLOSED}"
    cage.atlas("connector", "sync", "shop0", "-vv")
    cage.atlas("connector", "history", "-vv")
    assert 2 in cage.codes
    assert cage.leaks() == ""


@contextmanager
def google_in(cage: Cage, server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A service account's file, whose tokens and secrets come from a server of this test."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    cage.canaries.texts["google key"] = pem.splitlines()[3]
    account = {
        "type": "service_account", "project_id": "mine", "private_key_id": "1", "private_key": pem,
        "client_email": "etl@mine.iam.gserviceaccount.com", "client_id": "1",
        "token_uri": server.url_for("/token"),
    }  # fmt: skip
    file = cage.write("google.json", account)
    local = partial(
        secretmanager_v1.SecretManagerServiceClient,
        client_options={"api_endpoint": server.url_for("").rstrip("/")},
    )
    with monkeypatch.context() as changed:
        changed.setattr(secretmanager_v1, "SecretManagerServiceClient", local)
        changed.setenv("NO_GCE_CHECK", "true")
        yield file


@pytest.mark.parametrize("how", ["401", "403", "500", "no json", "half", "garbage", "login"])
@pytest.mark.parametrize("place", ["token", "secret"])
def test_google_that_answers_with_what_it_heard(
    cage: Cage, database: Callable[..., None], httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch,
    how: str, place: str,
) -> None:  # fmt: skip
    bad = answers(cage, how)
    given = {
        "access_token": cage.canaries.at("google token", odd=False),
        "expires_in": 3600,
        "token_type": "Bearer",
    }
    if place == "token":
        httpserver.expect_request("/token").respond_with_handler(bad)
    else:
        httpserver.expect_request("/token").respond_with_json(given)
        httpserver.expect_request(re.compile("/v1/.*")).respond_with_handler(bad)
    monkeypatch.setattr("google.api_core.retry.retry_unary.time.sleep", lambda _: None)
    with google_in(cage, httpserver, monkeypatch) as file:
        cage.environ |= {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
        database("${gcp-sm:mine/shop-db#password}")
        cage.atlas("connector", "test", "shop0", "-vv")
        cage.atlas("connector", "sync", "shop0", "-vv", "--json")
        file.write_text(file.read_text()[:-40])
        cage.atlas("connector", "sync", "shop0", "-vv")
        file.write_text(file.read_text().replace("MII", "caN", 1) + '"}')
        cage.atlas("connector", "sync", "shop0", "-vv")
    cage.atlas("connector", "history", "-vv")
    assert 2 in cage.codes
    assert cage.leaks() == ""
