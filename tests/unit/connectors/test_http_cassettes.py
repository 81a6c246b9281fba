"""Recorded and replayed syncs: no secret in a cassette, and the same rows from it without any network."""

from __future__ import annotations

import base64
import html
import json
import re
import socket
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs, quote, quote_plus

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.api.atlas import Atlas
from atlas_etl.connectors.http._cassettes.cassette import CassetteWriter, Interaction, read_cassette
from atlas_etl.connectors.http._cassettes.redaction import REDACTED, Redaction
from atlas_etl.connectors.http._messages import Response as Answer
from atlas_etl.errors import UsageError
from atlas_etl.model import Run, RunStatus
from atlas_etl.pipeline.events import RunFinished
from tests.unit.connectors.http_api import Api, as_json
from tests.unit.connectors.test_http_secrets import AUTHS, KEY_LINES, with_urls
from tests.unit.connectors.test_soap import envelope, serve

UTF_16 = ("utf-16-le", "utf-16-be")
SECRET = 'h+u/s"h &ü=1-secret'
REFERRED = "what-a-reference-stands-for"
TOKENS = ("gave-access-token", "gave-refresh-token", "gave-session-token", "gave-cookie-value")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, a socket or a look-up of a name fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    def begin() -> None:
        monkeypatch.setattr(socket, "socket", refuse)
        monkeypatch.setattr(socket, "create_connection", refuse)
        monkeypatch.setattr(socket, "getaddrinfo", refuse)

    return begin


def project(folder: Path, connection: Mapping[str, object], **more: object) -> Atlas:
    (folder / "connectors.d").mkdir(parents=True)
    quick = {"longest_wait": 0.01, "attempts": 2}
    definition = {"protocol": "http", "connection": {**quick, **connection}, **more}
    (folder / "connectors.d" / "api.yaml").write_text(yaml.safe_dump(definition))
    return Atlas.open(folder, {"THEIRS": REFERRED})


def run(atlas: Atlas, **options: object) -> Run:
    finished = [each for each in atlas.sync(["api"], **options) if isinstance(each, RunFinished)]  # type: ignore[arg-type]
    return finished[-1].run


def done(atlas: Atlas, **options: object) -> Run:
    found = run(atlas, **options)
    assert found.status is RunStatus.COMPLETED, found.error
    return found


def loaded(atlas: Atlas, table: str = "things", order: str = "id") -> list[dict[str, object]]:
    return atlas.query(f"SELECT * FROM api.{table} ORDER BY {order}").to_pylist()  # type: ignore[no-any-return]


def with_secret(auth: dict[str, object]) -> dict[str, object]:
    return json.loads(json.dumps(auth).replace('"hush"', json.dumps(SECRET)))  # type: ignore[no-any-return]


def lower(quoted: str) -> str:
    return re.sub("%..", lambda code: code[0].lower(), quoted)


def echo(request: Request) -> Response:
    """A record that says again, in every way of writing, what the request said of who asks."""
    told = [*request.headers.values(), *request.args.values(), *request.cookies.values()]
    told += [request.get_data(as_text=True), base64.b64encode(SECRET.encode()).decode()]
    written = [
        form
        for text in told
        for form in (text, quote(text), lower(quote(text, safe="")), quote_plus(text), json.dumps(text))
    ]
    inside = [
        base64.b64encode(before + text.encode()).decode()
        for text in (SECRET, *(each for each in TOKENS if each in str(told)))
        for before in (b"", b"a", b"ab")
    ]
    number = int(request.args.get("page", "1"))
    if number > 2:
        return as_json([])
    response = as_json([{"id": number, "said": written, "inside": inside, "plain": "kept"}])
    response.set_cookie("session", TOKENS[3])
    response.headers["X-Echo"] = str(request.headers.get("Authorization", "")).replace("\n", "")
    return response


def token(_: Request) -> Response:
    response = as_json(
        {
            "access_token": TOKENS[0],
            "refresh_token": TOKENS[1],
            "t": TOKENS[2],
            "token_type": "bearer",
            "expires_in": 3600,
        }
    )
    response.set_cookie("session", TOKENS[3])
    return response


def challenged(request: Request) -> Response:
    if "Authorization" not in request.headers:
        return Response(status=401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'})
    return echo(request)


@pytest.mark.parametrize("how", AUTHS)
def test_no_credential_is_recorded_and_none_is_needed_to_replay(
    api: Api, how: str, tmp_path: Path, offline: Callable[[], None]
) -> None:
    auth = with_urls(api, with_secret(AUTHS[how]))
    api.serve("/token", token)
    api.serve("/things", challenged if how == "digest" else echo)
    connection = {
        "base_url": api.server.url_for("/"),
        "headers": {"X-Shop": "${env:THEIRS}"},
        "params": {"api_token": SECRET},
        "pagination": "page",
        "auth": auth,
    }
    cassette = tmp_path / "api.yaml"
    streams = [{"path": "things", "primary_key": ["id"]}]
    recorded = project(tmp_path / "one", connection, streams=streams)
    done(recorded, record=cassette)
    text = cassette.read_text()
    assert_clean(text, api)
    assert stat.S_IMODE(cassette.stat().st_mode) == 0o600

    offline()
    others = json.loads(json.dumps(connection).replace(json.dumps(SECRET), '"another-one"'))
    replayed = project(tmp_path / "two", others, streams=streams)
    done(replayed, replay=cassette)
    assert [(row["id"], row["plain"]) for row in loaded(replayed)] == [(1, "kept"), (2, "kept")]


def assert_clean(text: str, api: Api) -> None:
    secrets = {SECRET, REFERRED, *TOKENS, *KEY_LINES}
    for request in api.asked:
        secrets |= {value for name, value in request.headers.items() if name in ("Authorization", "Cookie")}
        secrets |= {request.headers.get("X-Signature", SECRET)}
        secrets |= set(parse_qs(request.get_data(as_text=True)).get("assertion", []))
    whole = str(yaml.safe_load(text))
    for secret in secrets:
        for form in (secret, quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]):
            assert form not in text
            assert form not in whole
        assert lower(quote(secret, safe="")) not in whole
    for secret in (SECRET, *TOKENS):
        for before in range(3):
            inside = base64.b64encode(b"a" * before + secret.encode()).decode()
            assert inside[4:-4] not in whole
    assert "kept" in text
    assert REDACTED in text


@given(
    st.text(min_size=8, max_size=30).filter(lambda text: text.strip() == text and text not in REDACTED),
    st.binary(max_size=9),
    st.binary(max_size=9),
)
def test_a_secret_is_found_in_base64_wherever_it_begins(secret: str, before: bytes, after: bytes) -> None:
    written = base64.b64encode(before + secret.encode() + after)
    head, found, tail = Redaction([secret]).content(written).partition(REDACTED.encode())
    assert found
    # Six bits a character: none of the secret's is left.
    assert len(head) * 6 <= len(before) * 8
    assert len(tail.rstrip(b"=")) <= -(-len(after) * 8 // 6)


@pytest.mark.parametrize("escape", ["&#{};", "&#x{:02x};", "\\u{:04x}", "%{:02X}"])
@pytest.mark.parametrize("charset", ["utf-8", "utf-16-le"])
def test_a_secret_is_found_whose_letters_are_escaped(escape: str, charset: str) -> None:
    secret = "sk_live_4eC39HqLyjW"
    shown = "".join(map(escape.format, map(ord, secret)))
    found = Redaction([secret]).content(f'["{shown}", "&#65; %41"]'.encode(charset))
    assert found.decode(charset) == f'["{REDACTED}", "&#65; %41"]'


@given(
    st.text(min_size=8, max_size=30).filter(lambda text: text.strip() == text and text not in REDACTED),
    st.binary(max_size=9),
    st.binary(max_size=9),
    st.sampled_from(["utf-16", "utf-16-le", "utf-16-be", "hex", "HEX"]),
)
def test_a_secret_is_found_in_other_bytes(secret: str, before: bytes, after: bytes, form: str) -> None:
    digits = secret.encode().hex()
    written = {"hex": digits.encode(), "HEX": digits.upper().encode()}.get(form) or secret.encode(form)
    found = Redaction([secret]).content(before + written + after)
    assert written.strip(b"\0") not in found
    assert any(each.encode(in_) in found for each in (REDACTED, "9999") for in_ in ("utf-8", *UTF_16))


@pytest.mark.parametrize("charset", ["iso-8859-1", "windows-1252", "utf-16"])
def test_no_charset_of_answers_and_links_hides_a_secret(
    api: Api, charset: str, tmp_path: Path, offline: Callable[[], None]
) -> None:
    secret = 'p\xe4ss & "w\xf6rd"-\xfc'

    def answer(request: Request) -> Response:
        number = int(request.args.get("number", "1"))
        said = html.escape(f"{number} {secret}")
        item = f"<item><id>{number}</id><said>{said}</said></item>"
        document = f'<?xml version="1.0" encoding="{charset}"?><all>{item}</all>'
        link = f"/things?number={number + 1}&of={quote(secret, encoding='latin-1')}"
        headers = {"Link": f'<{link}>; rel="next"'} if number < 3 else {}
        headers["X-Echo"] = secret.encode().decode("latin-1")  # as a server writes UTF-8
        return Response(
            document.encode(charset), content_type=f"text/xml; charset={charset}", headers=headers
        )

    api.serve("/things", answer)
    connection = {
        "base_url": api.server.url_for("/"),
        "pagination": "link_header",
        "format": "xml",
        "auth": {"type": "basic", "username": "j\xf6rg", "password": secret},
    }
    tape = tmp_path / "api.yaml"
    done(project(tmp_path / "one", connection, streams=[{"path": "things"}]), record=tape)
    for each in yaml.safe_load(tape.read_text())["interactions"]:
        content = each["response"]["body"]["string"]
        content = content if isinstance(content, str) else content.decode(charset)
        assert (REDACTED in content, "w\xf6rd" in content) == (True, False)
        assert "rd" not in each["request"]["uri"]
        assert each["response"]["headers"]["x-echo"] == [REDACTED]
    offline()
    two = project(tmp_path / "two", connection, streams=[{"path": "things"}])
    done(two, replay=tape)
    assert [row["id"] for row in loaded(two)] == [1, 2, 3]


@given(st.lists(st.text(alphabet="secrt/+= &%01", min_size=4, max_size=12), max_size=4), st.text())
@example(["000=", "=00 "], "")
def test_what_is_redacted_stays_as_it_is(secrets: list[str], text: str) -> None:
    redaction = Redaction(secrets)
    once = redaction.text(text + "".join(secrets))
    assert redaction.text(once) == once


@given(st.one_of(st.binary(), st.text().map(str.encode)), st.text(alphabet=st.characters(codec="latin-1")))
def test_a_cassette_gives_back_what_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, header: str
) -> None:
    path = tmp_path_factory.mktemp("cassettes") / "a.yaml"
    answer = Answer(200, {"x-a": header}, content, "http://a/")
    writer = CassetteWriter(path, datetime.now(UTC))
    given = [
        Interaction("GET", "http://a/", b"", {}, answer),
        Interaction("POST", "http://a/", content, {}, answer),
    ]
    for each in given:
        writer.append(each)
    writer.close()
    assert list(read_cassette(path).interactions) == given


_OF_ENTRIES = "1,Ann\n- 2,Jörg"  # which begins a line as an entry does


@pytest.mark.parametrize("content", [b"", b"plain", _OF_ENTRIES.encode(), _OF_ENTRIES.encode("latin-1")])
def test_a_cassette_that_is_cut_anywhere_has_its_whole_entries(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "api.yaml"
    writer = CassetteWriter(path, datetime.now(UTC))
    given = [
        Interaction(
            "POST",
            f"http://a/{at}",
            content,
            {},
            Answer(200, {"x-a": "b"}, content, f"http://a/{at}"),
            at < 2,
        )
        for at in range(3)
    ]
    ends = [path.stat().st_size]
    for each in given:
        writer.append(each)
        ends.append(path.stat().st_size)
    writer.close()
    whole = path.read_bytes()
    for length in range(ends[0], len(whole)):
        path.write_bytes(whole[:length])
        found = read_cassette(path)
        assert list(found.interactions) == given[: len(found.interactions)]
        # All that is read of an entry may be there before the last word of its status.
        assert sum(end <= length for end in ends[1:]) <= len(found.interactions)
        assert found.is_cut or any(0 <= end - length <= len("OK\n") + 1 for end in ends)


def test_a_recording_that_was_killed_replays_what_it_has(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api.serve_pages("/things", [f'[{{"id": {number}}}]' for number in range(1, 4)])
    connection = {"base_url": api.server.url_for("/"), "pagination": "page"}
    streams = [{"path": "things", "primary_key": ["id"]}]
    tape = tmp_path / "api.yaml"
    done(project(tmp_path / "one", connection, streams=streams), record=tape)
    tape.write_bytes(tape.read_bytes()[:-40])
    failed = run(project(tmp_path / "two", connection, streams=streams), replay=tape)
    (stream,) = failed.streams
    assert failed.status is RunStatus.FAILED
    assert stream.error is not None
    assert stream.error.code == "not_recorded"
    assert "its end is missing" in str(stream.error.hint)
    assert "its end is missing" in caplog.text


def test_windows_end_when_it_was_recorded(
    api: Api, tmp_path: Path, offline: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: Request) -> Response:
        at = (datetime.fromisoformat(request.args["since"]) + timedelta(hours=1)).isoformat()
        return as_json([{"id": at, "at": at}])

    api.serve("/things", answer)
    start = (datetime.now(UTC) - timedelta(days=10)).isoformat()
    resource = {
        "path": "things", "cursor": "at", "primary_key": ["id"], "pagination": "none",
        "incremental": {"parameter": "since", "end_parameter": "until", "start": start, "window": "3d"},
    }  # fmt: skip
    connection = {"base_url": api.server.url_for("/"), "resources": {"things": resource}}
    one = project(tmp_path / "one", connection)
    done(one, record=tmp_path / "api.yaml")
    text = (tmp_path / "api.yaml").read_text()
    assert len(api.asked) == 4
    # As if it were replayed a month later.
    earlier = yaml.safe_load(text)["recorded_at"]
    assert datetime.fromisoformat(earlier) > datetime.now(UTC) - timedelta(minutes=2)
    offline()

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=30)

    for room in ("_cassettes.recording", "_wire"):
        monkeypatch.setattr(f"atlas_etl.connectors.http.{room}.datetime", Later)
    two = project(tmp_path / "two", connection)
    done(two, replay=tmp_path / "api.yaml")
    assert loaded(one) == loaded(two)
    # A second sync, from the checkpoint, asks for what was never recorded.
    failed = run(two, replay=tmp_path / "api.yaml")
    assert failed.error is not None
    assert (failed.error.exit_code, failed.error.code) == (3, "not_recorded")
    assert loaded(one) == loaded(two)
    done(two, replay=tmp_path / "api.yaml", full_refresh=True)
    assert loaded(one) == loaded(two)


def test_failures_and_their_retries_are_replayed_in_any_order(
    api: Api, tmp_path: Path, offline: Callable[[], None]
) -> None:
    busy = iter([True])

    def children(request: Request) -> Response:
        if next(busy, False):
            return Response(status=429, headers={"Retry-After": "1"})
        return as_json([{"id": int(request.path.rpartition("/")[2]) * 10}])

    api.serve("/orders", lambda _: as_json([{"id": number} for number in range(1, 9)]))
    for number in range(1, 9):
        api.serve(f"/orders/{number}", children)
    connection = {
        "base_url": api.server.url_for("/"),
        "pagination": "none",
        "concurrency": 4,
        "longest_wait": 60,
        "resources": {
            "orders": {"path": "orders", "primary_key": ["id"]},
            "things": {"path": "orders/{order}", "parent": {"resource": "orders", "fields": {"order": "id"}}},
        },
    }
    one = project(tmp_path / "one", connection)
    done(one, record=tmp_path / "api.yaml")
    whole = yaml.safe_load((tmp_path / "api.yaml").read_text())
    assert sorted(each["response"]["status"]["code"] for each in whole["interactions"])[-2:] == [200, 429]
    retried = [each for each in whole["interactions"] if each["response"]["status"]["code"] == 429]
    whole["interactions"] = retried + [
        each for each in reversed(whole["interactions"]) if each not in retried
    ]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(whole))
    offline()
    two = project(tmp_path / "two", connection)
    done(two, replay=tmp_path / "other.yaml")
    assert loaded(one) == loaded(two)
    assert len(loaded(two)) == 8


def test_secrets_in_links_and_cursors_do_not_part_a_replay_from_its_recording(
    api: Api, tmp_path: Path, offline: Callable[[], None]
) -> None:
    def answer(request: Request) -> Response:
        number = int(request.args.get("number", "1"))
        after = base64.b64encode(f"{number}:{SECRET}".encode()).decode()
        link = f"/things?number={number + 1}&after={quote(after)}&k={quote_plus(SECRET)}"
        return as_json({"items": [{"id": number}], "next": link if number < 3 else None})

    api.serve("/things", answer)
    connection = {
        "base_url": api.server.url_for("/"),
        "pagination": "next_url",
        "auth": {"type": "api_key", "api_key": SECRET, "parameter": "k"},
    }
    one = project(tmp_path / "one", connection, streams=[{"path": "things"}])
    done(one, record=tmp_path / "api.yaml")
    offline()
    two = project(tmp_path / "two", connection, streams=[{"path": "things"}])
    done(two, replay=tmp_path / "api.yaml")
    assert loaded(one) == loaded(two) == [{"id": 1}, {"id": 2}, {"id": 3}]


def test_graphql_is_recorded_too(api: Api, tmp_path: Path, offline: Callable[[], None]) -> None:
    api.serve("/graphql", lambda _: as_json({"data": {"things": [{"id": 1}]}}))
    query = {"query": "{ things { id } }", "records": "things"}
    connection = {"endpoint": api.server.url_for("/graphql"), "resources": {"things": query}}
    one = project(tmp_path / "one", connection, protocol="graphql")
    done(one, record=tmp_path / "api.yaml")
    offline()
    two = project(tmp_path / "two", connection, protocol="graphql")
    done(two, replay=tmp_path / "api.yaml")
    assert loaded(two) == [{"id": 1}]


def test_a_preset_is_recorded_without_its_token(
    api: Api, tmp_path: Path, offline: Callable[[], None]
) -> None:
    answer = {"data": [{"id": "c1", "echoed": SECRET}], "has_more": False}
    api.serve("/v1/coupons", lambda _: as_json(answer))
    connection = {"api_key": SECRET, "base_url": api.server.url_for("/v1")}
    streams = [{"table": "coupons"}]
    recorded = project(tmp_path / "a", connection, protocol="stripe", streams=streams)
    replayed = project(tmp_path / "b", connection, protocol="stripe", streams=streams)
    tape = tmp_path / "tape.yaml"
    done(recorded, record=tape)
    assert lower(SECRET) not in lower(tape.read_text())
    offline()
    done(replayed, replay=tape)
    assert loaded(replayed, "coupons") == [{"id": "c1", "echoed": REDACTED}]


def test_what_cannot_be_recorded_or_replayed_says_so(api: Api, tmp_path: Path) -> None:
    api.serve("/things", lambda _: as_json([{"id": 1}]))
    atlas = project(tmp_path / "one", {"base_url": api.server.url_for("/")}, streams=[{"path": "things"}])
    files = tmp_path / "one" / "connectors.d" / "files.yaml"
    files.write_text("protocol: csv\nconnection: {path: '*.csv'}\n")
    there = tmp_path / "there.yaml"
    there.write_text("hello")
    with pytest.raises(UsageError, match="'csv' cannot be recorded"):
        list(atlas.sync(["files"], record=tmp_path / "new.yaml"))
    with pytest.raises(UsageError, match="one connector at a time"):
        list(atlas.sync(["api", "files"], replay=there))
    with pytest.raises(UsageError, match="is there already"):
        list(atlas.sync(["api"], record=there))
    with pytest.raises(UsageError, match="there is no file"):
        list(atlas.sync(["api"], replay=tmp_path / "new.yaml"))
    failed = run(atlas, replay=there)
    assert failed.error is not None
    assert failed.error.exit_code == 2
    assert "is no cassette" in failed.error.message
    assert api.asked == []
    assert there.read_text() == "hello"


def test_a_request_that_was_not_recorded_is_compared_with_what_was(api: Api, tmp_path: Path) -> None:
    """Names tell in what a definition differs; values stay out."""
    api.serve("/things", lambda _: as_json([{"id": 1}]))
    tape = tmp_path / "api.yaml"

    def described(name: str, **resource: object) -> Atlas:
        params = {"fields": "a", "of": "hush", **cast(dict[str, object], resource.pop("params", {}))}
        things = {"path": "/things", "pagination": "none", "method": "POST", **resource, "params": params}
        connection = {"base_url": api.server.url_for("/"), "resources": {"things": things}}
        return project(tmp_path / name, connection, streams=[{"table": "things"}])

    done(described("recorded", body={"q": 1}), record=tape)
    for name, resource, told in (
        ("other", {"body": {"q": 1}, "params": {"of": "hush-hush", "since": 1}}, "it has another of, since"),
        ("body", {"body": {"q": 2}}, "it has another body"),
    ):
        failed = run(described(name, **resource), replay=tape)
        (stream,) = failed.streams
        assert stream.error is not None
        assert stream.error.code == "not_recorded"
        assert told in str(stream.error.hint)
        assert "hush" not in str(stream.error.hint)


def test_what_is_too_short_to_be_found_goes_by_its_place(api: Api, tmp_path: Path) -> None:
    api.serve("/token", lambda _: as_json({"t": "s3", "user": "ann"}))
    api.serve("/things", lambda _: as_json([{"id": 1}]))
    login = {"type": "session", "login_path": "/token", "login_body": {"pin": "007"}, "login_token": "t"}
    connection = {"base_url": api.server.url_for("/"), "pagination": "none", "auth": login}
    done(project(tmp_path / "one", connection, streams=[{"path": "things"}]), record=tmp_path / "api.yaml")
    first, second = yaml.safe_load((tmp_path / "api.yaml").read_text())["interactions"]
    assert first["request"]["body"] == '{"pin":"REDACTED"}'
    assert first["response"]["body"]["string"] == '{"t":"REDACTED","user":"REDACTED"}'
    assert second["request"]["headers"] == {"Authorization": ["REDACTED"]}


@pytest.mark.parametrize("digest", [False, True])
def test_soap_is_recorded_without_its_security_header(
    api: Api, digest: bool, tmp_path: Path, offline: Callable[[], None]
) -> None:
    said: list[str] = []

    def answer(request: Request) -> Response:
        said.extend(re.findall(r"<\w+:(?:Password|Nonce)[^>]*>([^<]+)<", request.get_data(as_text=True)))
        order = "<order><id>1</id><total>1.5</total><at>2026-01-01T00:00:00Z</at>"
        note = f"<note>{' '.join(said)} {html.escape(SECRET)}</note></order>"
        return envelope(
            f'<ListOrdersResponse xmlns="urn:shop"><orders>{order}{note}</orders><count>1</count>'
            "</ListOrdersResponse>"
        )

    serve(api, answer)
    connection = {
        "wsdl": api.server.url_for("/shop.wsdl"),
        "security": {"username": "etl", "password": SECRET, "digest": digest},
        "resources": {"things": {"operation": "ListOrders", "records": "orders.order"}},
    }
    done(project(tmp_path / "one", connection, protocol="soap"), record=tmp_path / "api.yaml")
    text = (tmp_path / "api.yaml").read_text()
    assert len(said) == 2 if digest else said
    for secret in (SECRET, html.escape(SECRET), html.escape(SECRET, quote=False), *said):
        assert secret not in str(yaml.safe_load(text))
    offline()
    connection["security"] = {"username": "etl", "password": "another-one", "digest": digest}
    two = project(tmp_path / "two", connection, protocol="soap")
    done(two, replay=tmp_path / "api.yaml")
    assert [row["id"] for row in loaded(two)] == [1]


def test_a_secret_in_an_address_is_neither_recorded_nor_told(api: Api, tmp_path: Path) -> None:
    """As Telegram's: https://core.telegram.org/bots/api#making-requests."""
    values = ("1234:of-a-variable", "of-a-file", "of-a-program")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "bot").write_text(values[1])
    path = "/bot${env:BOT_TOKEN}/${file:secrets/bot}/${cmd:echo of-a-program}"
    address = "/bot" + "/".join(values)
    api.serve(address, lambda request: as_json([{"id": 1, "at": request.path}]))
    api.serve(f"{address}/none", lambda _: Response(status=404))
    connection = {
        "base_url": api.server.url_for("/"),
        "resources": {"things": path, "others": f"{path}/none"},
    }
    (tmp_path / "connectors.d").mkdir()
    definition = {"protocol": "http", "connection": connection}
    (tmp_path / "connectors.d" / "api.yaml").write_text(yaml.safe_dump(definition))
    atlas = Atlas.open(tmp_path, {"BOT_TOKEN": values[0]})
    cassette = tmp_path / "api.yaml"
    found = run(atlas, record=cassette)
    assert (found.status, loaded(atlas)[0]["at"]) == (RunStatus.PARTIAL, address)
    told = str(found) + cassette.read_text()
    assert "was answered with 404" in told
    assert [value for value in values if value in told] == []
    done(atlas, replay=cassette, streams=("things",), full_refresh=True)
