"""Tokens of OAuth 2 against a real server: every grant, their renewal, and what is said where that fails."""

from __future__ import annotations

import json
import logging
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._auth import credential_cache
from atlas_etl.connectors.http._in_order import in_order
from atlas_etl.connectors.http._messages import Request as Asked
from atlas_etl.connectors.http._reader import HttpConnector
from atlas_etl.connectors.http._settings.connection import HttpConnection
from atlas_etl.connectors.rotation import KeptNowhere
from atlas_etl.errors import SourceError
from atlas_etl.model import ReadRequest, Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync

THINGS = Stream("things", path="things")
PAGES = 5
GRANTS = {
    "client_credentials": {"client_id": "id", "client_secret": "hush-client"},
    "refresh_token": {"client_id": "id", "client_secret": "hush-client", "refresh_token": "hush-refresh"},
    "password": {"username": "etl", "password": "hush-password", "client_id": "id", "scope": "orders.read"},
}


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Issuer:
    """Gives out tokens for one form of a request, each good for its lifetime by the clock."""

    api: Api
    form: dict[str, str]
    clock: Clock = field(default_factory=Clock)
    lifetime: float = 3600
    given: list[float] = field(default_factory=list)  # when
    refused: int = 0

    def serve(self) -> None:
        self.api.serve("/token", self._token)
        self.api.serve("/things", self._things)

    def connector(self, **auth: object) -> HttpConnector:
        token_url = self.api.server.url_for("/token")
        return self.api.connector(auth={"type": "oauth2", "token_url": token_url, **auth}, pagination="page")

    def takes(self, request: Request) -> bool:
        kind, _, token = request.headers.get("Authorization", "").partition(" hush-access-")
        good = kind == "Bearer" and self.clock() < self.given[int(token)] + self.lifetime
        self.refused += not good
        return good

    def _token(self, request: Request) -> Response:
        if request.form.to_dict() != self.form or request.query_string:
            return Response('{"error": "invalid_grant", "error_description": "hush"}', status=400)
        self.given.append(self.clock())
        token = f"hush-access-{len(self.given) - 1}"
        return as_json({"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime})

    def _things(self, request: Request) -> Response:
        if not self.takes(request):
            return Response(status=401)
        self.clock.now += 40
        number = int(request.args.get("page", "1"))
        return as_json([{"id": number}] if number <= PAGES else [])


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


@pytest.fixture
def issuer(api: Api, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Issuer]:
    def make(grant: str = "client_credentials", **more: object) -> Issuer:
        made = Issuer(api, {"grant_type": grant, **GRANTS[grant]}, **more)  # type: ignore[arg-type]
        monkeypatch.setattr(credential_cache, "monotonic", made.clock)
        made.serve()
        return made

    return make


@pytest.mark.parametrize("grant", GRANTS)
def test_every_grant_gives_a_token(issuer: Callable[..., Issuer], grant: str) -> None:
    made = issuer(grant)
    assert read(made.connector(grant=grant, **GRANTS[grant]), THINGS).num_rows == PAGES
    assert (len(made.given), made.refused) == (1, 0)


@pytest.mark.parametrize("grant", GRANTS)
def test_a_token_is_renewed_before_it_ends(issuer: Callable[..., Issuer], grant: str) -> None:
    made = issuer(grant, lifetime=100)  # two of the six pages take 80 s
    assert read(made.connector(grant=grant, **GRANTS[grant]), THINGS).num_rows == PAGES
    assert (made.given, made.refused) == ([1000, 1080, 1160], 0)


def test_a_token_that_outlives_its_page_by_little_is_not_used_again(issuer: Callable[..., Issuer]) -> None:
    made = issuer(lifetime=60)  # 20 s are left after a page: too few to be sure of the next one
    read(made.connector(**GRANTS["client_credentials"]), THINGS)
    assert (len(made.given), made.refused) == (PAGES + 1, 0)


def test_a_new_token_that_is_refused_as_well_is_an_error_at_once(
    api: Api, issuer: Callable[..., Issuer]
) -> None:
    made = issuer()
    api.serve("/forbidden", lambda _: Response(status=401))
    with pytest.raises(SourceError) as caught:
        read(made.connector(**GRANTS["client_credentials"]), Stream("forbidden", path="forbidden"))
    assert caught.value.code == "http_401"
    assert "a new token was refused as well" in str(caught.value.hint)
    assert [request.path for request in api.asked] == ["/token", "/forbidden", "/token", "/forbidden"]


def test_threads_that_meet_one_end_of_a_token_renew_it_once(api: Api, issuer: Callable[..., Issuer]) -> None:
    made = issuer()
    api.serve("/slow", lambda request: as_json([{"id": 1}]) if made.takes(request) else Response(status=401))
    with closing(made.connector(**GRANTS["client_credentials"])) as connector:
        transport = connector._transport
        asked = Asked(api.server.url_for("/slow"))
        transport.fetch(asked)
        stale = transport._credentials.current()
        made.given[0] = 0  # the server forgets the token before its time
        for renewed in in_order(lambda _: transport._credentials.renewed(stale), range(8), at_once=4):
            assert renewed is not stale
        assert transport.fetch(asked).status == 200
    assert len(made.given) == 2


@pytest.mark.parametrize("grant", GRANTS)
def test_a_login_that_is_refused_says_so_without_a_secret(
    issuer: Callable[..., Issuer], grant: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made = issuer(grant)
    made.form = {}
    connector = made.connector(grant=grant, **GRANTS[grant])
    assert "hush" not in repr(connector.config)
    with pytest.raises(SourceError, match=r"token_url answered 400 \(invalid_grant\)") as caught:
        read(connector, THINGS)
    assert caught.value.code == "login_failed"
    assert "hush" not in f"{caught.value.message} {caught.value.hint} {caplog.text}"
    assert len(made.api.asked) == 1  # what is refused is not tried again


def test_a_login_that_may_pass_is_tried_again(api: Api, issuer: Callable[..., Issuer]) -> None:
    made = issuer()
    answers = iter((503, 429))

    def token(request: Request) -> Response:
        status = next(answers, None)
        return Response(status=status) if status is not None else made._token(request)

    api.serve("/busy", token)
    connector = made.connector(**GRANTS["client_credentials"] | {"token_url": api.server.url_for("/busy")})
    assert read(connector, THINGS).num_rows == PAGES
    assert len(made.given) == 1


@pytest.mark.parametrize(
    "refusal", [Response('{"error": "invalid_client"}', status=400), Response(status=401)], ids=["400", "401"]
)
def test_a_client_that_is_not_known_by_the_form_says_it_in_a_header(
    api: Api, issuer: Callable[..., Issuer], refusal: Response
) -> None:
    """RFC 6749, section 2.3.1: a header is what every server takes, in the form's own encoding."""
    made = issuer()
    made.form = {"grant_type": "client_credentials", "audience": "https://api.example.com"}

    def token(request: Request) -> Response:
        if request.authorization is None:
            return refusal
        assert request.authorization.to_header() == f"Basic {b64encode(b'my+id:hush%2Fclient').decode()}"
        assert "X-Own" not in request.headers  # another origin's business
        return made._token(request)

    with HTTPServer(port=0) as server:
        server.expect_request("/token").respond_with_handler(token)
        grant = {"client_id": "my id", "client_secret": "hush/client", "token_url": server.url_for("/token")}
        auth = {"type": "oauth2", "audience": "https://api.example.com", **grant}
        with closing(api.connector(auth=auth, pagination="page", headers={"X-Own": "1"})) as connector:
            assert read(connector, THINGS).num_rows == PAGES
        server.check_assertions()


@dataclass
class Rotating:
    """A token server that takes each refresh token once and gives another one for it."""

    issuer: Issuer
    valid: str = "hush-refresh"
    rotated: int = 0

    def serve(self) -> None:
        self.issuer.api.serve("/rotating", self._token)

    def connector(self, **more: object) -> HttpConnector:
        url = self.issuer.api.server.url_for("/rotating")
        given = {"grant": "refresh_token", **GRANTS["refresh_token"], "token_url": url, **more}
        return self.issuer.connector(**given)

    def _token(self, request: Request) -> Response:
        if request.form["refresh_token"] != self.valid:
            return Response('{"error": "invalid_grant"}', status=400)
        self.rotated += 1
        self.valid = f"hush-refresh-{self.rotated}"
        answer = json.loads(self.issuer._token(self._as_expected(request)).data)
        return as_json({**answer, "refresh_token": self.valid})

    def _as_expected(self, request: Request) -> Request:
        self.issuer.form = request.form.to_dict()
        return request


@pytest.fixture
def rotating(issuer: Callable[..., Issuer]) -> Rotating:
    made = Rotating(issuer("refresh_token", lifetime=100))
    made.serve()
    return made


def test_a_rotated_refresh_token_serves_the_rest_of_the_run_and_is_warned_of(
    rotating: Rotating, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    outcome = sync(rotating.connector(), tmp_path, THINGS)
    assert (rotating.rotated, rotating.issuer.refused) == (3, 0)
    assert rows(tmp_path, "SELECT count(*) FROM api.things") == [(PAGES,)]
    (warning,) = [each for each in outcome.warnings if "rotated" in each]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert warning in said[0]
    assert "hush" not in f"{outcome} {caplog.text}"


def test_the_streams_of_a_run_use_the_rotated_refresh_token(rotating: Rotating) -> None:
    rotating.issuer.api.serve("/", lambda _: as_json([]))
    with closing(rotating.connector()) as connector:
        status = connector.test()
        assert "stale" in status.warnings[0]
        for _ in range(2):
            with connector.open(ReadRequest(THINGS)) as extract:
                assert sum(batch.num_rows for batch in extract.batches()) == PAGES
                assert any("rotated" in each for each in extract.warnings())
        assert "hush" not in repr(connector._transport._credentials.current())
    assert rotating.rotated > 3
    with pytest.raises(SourceError, match="invalid_grant") as caught:
        read(rotating.connector(), THINGS)
    assert "rotated by an earlier run" in str(caught.value.hint)
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


@dataclass
class Store(KeptNowhere):
    """A secret store that two processes share."""

    value: str = "hush-refresh"
    stale: list[str] = field(default_factory=list)  # what is found first

    def keep(self, _: SecretStr, new: SecretStr) -> bool:
        self.value = new.get_secret_value()
        return True

    def current(self, _: SecretStr) -> SecretStr:
        return SecretStr(self.stale.pop() if self.stale else self.value)


@pytest.mark.parametrize("is_late", [False, True])
def test_a_refresh_token_that_another_process_rotated_is_looked_up(rotating: Rotating, is_late: bool) -> None:
    store = Store()
    with closing(rotating.connector()) as ours, closing(rotating.connector()) as theirs:
        ours.keep_rotated(store)
        theirs.keep_rotated(store)
        theirs._transport._credentials.current()
        if is_late:  # it is stored between the first look and the refusal
            store.stale = ["hush-refresh"]
        ours._transport._credentials.current()
    assert rotating.rotated == 2
    assert store.value == rotating.valid


@pytest.mark.parametrize(
    ("base", "token_url", "is_refused"),
    [
        ("https://api.example.com", "http://id.example.com/token", True),
        ("https://api.example.com", "http://10.0.0.1/token", True),
        ("https://api.example.com", "http://127.0.0.1:8080/token", False),
        ("https://api.example.com", "http://localhost/token", False),
        ("https://api.example.com", "https://id.example.com/token", False),
        ("http://api.internal", "http://id.internal/token", False),
    ],
)
def test_credentials_are_not_sent_in_the_open(base: str, token_url: str, is_refused: bool) -> None:
    auth = {"type": "oauth2", **GRANTS["client_credentials"], "token_url": token_url}
    given = {"base_url": base, "auth": auth}
    if not is_refused:
        HttpConnection.model_validate(given)
        return
    with pytest.raises(ValueError, match="token_url: should begin with https"):
        HttpConnection.model_validate(given)


def test_a_refresh_token_that_comes_back_as_it_was_is_no_news(
    api: Api, issuer: Callable[..., Issuer], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = issuer("refresh_token")

    def same(request: Request) -> Response:
        return as_json({**json.loads(made._token(request).data), "refresh_token": "hush-refresh"})

    api.serve("/same", same)
    url = api.server.url_for("/same")
    given = {**GRANTS["refresh_token"], "grant": "refresh_token", "token_url": url}
    assert sync(made.connector(**given), tmp_path, THINGS).warnings == ()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("body", ["", "<html>", '{"token": "hush"}', '{"access_token": "hush'])
def test_an_answer_without_a_token(api: Api, body: str) -> None:
    api.serve("/token", lambda _: as_json(body))
    with pytest.raises(SourceError) as caught:
        read(Issuer(api, {}).connector(**GRANTS["client_credentials"]), THINGS)
    assert caught.value.code in ("login_failed", "malformed_json")
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


def test_a_session_by_cookies_whose_login_is_refused(api: Api) -> None:
    api.serve("/login", lambda request: Response(status=403 if json.loads(request.data) else 200))
    auth = {"type": "session", "login_path": "/login", "login_body": {"pin": "hush"}}
    with pytest.raises(SourceError, match="login_path answered 403") as caught:
        read(api.connector(auth=auth), THINGS)
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


def test_tokens_of_a_second_serve_every_page_and_the_last_one_is_stored(api: Api) -> None:
    """By the real clock: each is used for half its life, and one that ends on its way is renewed."""
    given: dict[str, float] = {}
    store = Store()

    def token(request: Request) -> Response:
        if request.form["refresh_token"] != (f"hush-refresh-{len(given)}" if given else "hush-refresh"):
            return Response('{"error": "invalid_grant"}', status=400)
        given[f"hush-access-{len(given)}"] = time.monotonic()
        following = f"hush-refresh-{len(given)}"
        access = f"hush-access-{len(given) - 1}"
        return as_json({"access_token": access, "expires_in": 1, "refresh_token": following})

    def things(request: Request) -> Response:
        began = given.get(request.headers.get("Authorization", "").removeprefix("Bearer "), 0.0)
        if time.monotonic() - began > 1:
            return Response(status=401)
        time.sleep(0.15)  # so that the pages take longer than a token lives
        number = int(request.args.get("page", "1"))
        return as_json([{"id": number}] if number <= 12 else [])

    api.serve("/token", token)
    api.serve("/things", things)
    auth = {
        "type": "oauth2", "token_url": api.server.url_for("/token"), "grant": "refresh_token",
        **GRANTS["refresh_token"],
    }  # fmt: skip
    connector = api.connector(auth=auth, pagination={"type": "page", "overlap": 0})
    connector.keep_rotated(store)
    assert read(connector, THINGS).num_rows == 12
    assert 2 <= len(given) <= 13
    assert store.value == f"hush-refresh-{len(given)}"
