"""A server that fails in all the ways of servers: nothing is loaded by halves, and no secret goes astray."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import tenacity
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors import waits
from atlas_etl.connectors.http import _wire
from atlas_etl.connectors.http._network.pace import RetryBudget
from atlas_etl.connectors.http._network.public_addresses import is_public
from atlas_etl.connectors.http._network.rate_limits import asked_wait, wait_for_more
from atlas_etl.connectors.http._pages import Pages
from atlas_etl.connectors.waits import NAME
from atlas_etl.errors import SourceError
from atlas_etl.model import BatchLimits, ReadRequest, RetryPolicy, Run, RunStatus, Stream, Window
from atlas_etl.pipeline.events import RunFinished
from atlas_etl.pipeline.run import run_streams
from tests.unit.connectors.http_api import Api, accepting, as_json, read, rows, sync, warehouse

THINGS = Stream("things", path="things")
BODY = b'[{"id": 1, "name": "' + b"x" * 5000 + b'"}, {"id": 2}]'


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


@pytest.fixture
def other() -> Iterator[HTTPServer]:
    with HTTPServer() as server:
        yield server


@contextmanager
def raw_server(answer: bytes, *, pause: float = 0) -> Iterator[str]:
    """A server of one answer, byte for byte; with a pause, a byte at a time."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    try:
                        for at in range(0, len(answer), 1 if pause else max(1, len(answer))):
                            connection.sendall(answer[at : at + 1] if pause else answer)
                            if pause and ended.wait(pause):
                                return
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        listening.shutdown(socket.SHUT_RDWR)  # wakes accept
    thread.join(60)


def answer_of(headers: str, body: bytes) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{headers}\r\n".encode() + body


HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nContent-Length: 9\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


@pytest.mark.parametrize(
    "before",
    [HINTS, HINTS * 3, CONTINUE + HINTS, PROCESSING + CONTINUE + PROCESSING],
    ids=["103", "103s", "100 and 103", "102 and 100"],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_what_a_server_says_before_its_answer_is_passed_over(
    api: Api, before: bytes, *, chunked: bool
) -> None:
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    headers = "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {len(BODY)}\r\n"
    with raw_server(before + answer_of(headers, body)) as url:
        found = read(api.connector(base_url=url, attempts=1, pagination="none"), THINGS)
    assert found.column("id").to_pylist() == [1, 2]


@pytest.mark.parametrize("before", [HINTS, HINTS[:-2]], ids=["whole", "half"])
def test_what_a_server_says_before_its_answer_is_no_answer(api: Api, before: bytes) -> None:
    with raw_server(before) as url, pytest.raises(SourceError) as caught:
        read(api.connector(base_url=url, attempts=1), THINGS)
    assert caught.value.code in ("unreachable", "incomplete")


ZIPPED = gzip.compress(BODY)
CHUNKED = b"%x\r\n%s\r\n" % (len(BODY), BODY)
BROKEN = {
    "gzip cut off": answer_of(
        f"Content-Encoding: gzip\r\nContent-Length: {len(ZIPPED) - 9}\r\n", ZIPPED[:-9]
    ),
    "gzip damaged": answer_of(
        f"Content-Encoding: gzip\r\nContent-Length: {len(ZIPPED)}\r\n", ZIPPED[:20] + b"XX" + ZIPPED[22:]
    ),
    "short": answer_of(f"Content-Length: {len(BODY)}\r\n", BODY[:-100]),
    "no end of chunks": answer_of("Transfer-Encoding: chunked\r\n", CHUNKED),
    "json cut off": answer_of("Connection: close\r\n", BODY[:-1]),
    "nothing": b"",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_half_an_answer_is_an_error_and_loads_nothing(api: Api, tmp_path: Path, fault: str) -> None:
    with raw_server(BROKEN[fault]) as url:
        connector = api.connector(base_url=url, attempts=2)
        with pytest.raises(SourceError) as caught:
            sync(connector, tmp_path, THINGS)
    assert caught.value.retryable
    assert caught.value.code in ("incomplete", "malformed_json", "unreachable")


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate ": lambda body: zlib.compress(body)[2:-4],
    "zstd": lambda body: bytes(pa.compress(body, codec="zstd", asbytes=True)),
    "identity": lambda body: body,
    "gzip, gzip": lambda body: gzip.compress(gzip.compress(body)),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_compressed_answers(api: Api, encoding: str) -> None:
    body = ENCODINGS[encoding](BODY)
    api.serve("/things", lambda _: Response(body, headers={"Content-Encoding": encoding.strip()}))
    assert read(api.connector(), THINGS).column("id").to_pylist() == [1, 2]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_that_unpacks_to_too_much_is_neither_unpacked_nor_asked_for_again(
    api: Api, encoding: str
) -> None:
    body = ENCODINGS[encoding](b"[" + b" " * 10_000_000 + b"]")
    api.serve("/things", lambda _: Response(body, headers={"Content-Encoding": encoding}))
    with pytest.raises(SourceError, match="more than 1 MiB") as caught:
        read(api.connector(largest_page="1MiB"), THINGS)
    assert (caught.value.code, len(api.asked)) == ("too_large", 1)
    assert "largest_page" in str(caught.value.hint)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 522, 529])
def test_what_may_pass_is_tried_again(api: Api, status: int) -> None:
    def answer(_: Request) -> Response:
        return as_json([{"id": 1}]) if len(api.asked) == 3 else Response(status=status)

    api.serve("/things", answer)
    assert read(api.connector(), THINGS).num_rows == 1
    assert len(api.asked) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 410, 501, 505])
def test_what_will_not_pass_is_an_error_at_once(api: Api, status: int) -> None:
    api.serve("/things", lambda _: Response('{"password": "hush-hush"}', status=status))
    with pytest.raises(SourceError) as caught:
        read(api.connector(params={"key": "hush-hush"}), THINGS)
    assert (caught.value.code, len(api.asked)) == (f"http_{status}", 1)
    assert "hush" not in caught.value.message


def test_a_failure_between_pages_changes_nothing(api: Api, tmp_path: Path) -> None:
    api.serve("/things", lambda _: as_json([{"id": 1}]))
    sync(api.connector(pagination="none"), tmp_path, THINGS)

    def answer(request: Request) -> Response:
        return as_json([{"id": 2}, {"id": 3}]) if request.args["page"] == "1" else Response(status=500)

    api.server.clear()
    api.serve("/things", answer)
    with pytest.raises(SourceError) as caught:
        sync(api.connector(pagination="page"), tmp_path, THINGS)
    assert caught.value.code == "http_500"
    assert rows(tmp_path, "SELECT id FROM api.things") == [(1,)]


def test_retry_after_is_honoured_and_capped(api: Api) -> None:
    def answer(_: Request) -> Response:
        if len(api.asked) < 2:
            return Response(status=429, headers={"Retry-After": "3600"})
        return as_json([{"id": 1}])

    api.serve("/things", answer)
    began = time.monotonic()
    assert read(api.connector(longest_wait="300ms"), THINGS).num_rows == 1
    assert 0.3 <= time.monotonic() - began < 30


@pytest.mark.parametrize(
    "form",
    ["%a, %d %b %Y %H:%M:%S GMT", "%a, %d %b %Y %H:%M:%S -0000", "%a %b %d %H:%M:%S %Y",
     "%A, %d-%b-%y %H:%M:%S GMT", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S"],
    ids=["imf", "no zone", "asctime", "rfc 850", "iso 8601", "iso without zone"],
)  # fmt: skip
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
def test_a_date_to_wait_for_is_in_utc(monkeypatch: pytest.MonkeyPatch, form: str, zone: str) -> None:
    """RFC 9110, section 5.6.7: all its forms are, whatever the zone of this machine is."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        wait = asked_wait({"retry-after": (datetime.now(UTC) + timedelta(seconds=600)).strftime(form)})
    finally:
        monkeypatch.undo()
        time.tzset()
    assert wait is not None
    assert 500 < wait <= 600


@pytest.mark.parametrize("past", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_tries_are_no_burst_where_the_time_to_wait_has_passed(api: Api, past: str) -> None:
    """So it is where this machine's clock is ahead of the server's."""
    api.serve("/things", lambda _: Response(status=429, headers={"Retry-After": past}))
    began = time.monotonic()
    with pytest.raises(SourceError):
        read(api.connector(longest_wait="300ms", attempts=3), THINGS)
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize("rate", [{"requests_per_minute": 600}, {"requests_per_second": 10}])
def test_a_rate_holds_back(api: Api, rate: dict[str, float]) -> None:
    api.serve_pages("/things", [f'[{{"id": {n}}}]' for n in range(3)])
    began = time.monotonic()
    read(api.connector(pagination="page", **rate), THINGS)
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}, 30),
        ({"x-ratelimit-remaining": "1", "x-ratelimit-reset": "30"}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "7"}, 7),
        ({"ratelimit": "limit=100, remaining=0, reset=9"}, 9),
        ({"ratelimit": "limit=100, remaining=3, reset=9"}, None),
        ({"ratelimit": '"burst";r=0;t=5, "day";r=0;t=60, "month";r=1;t=600'}, 60),
        ({"ratelimit": '"burst";r=4'}, None),
        ({"x-ratelimit-remaining": "0"}, None),
        ({}, None),
    ],
)
def test_what_is_left_of_a_limit(headers: dict[str, str], wait: float | None) -> None:
    assert wait_for_more(headers) == wait


@pytest.mark.parametrize("unit", [1, 1000])
def test_a_limit_that_begins_anew_at_an_instant(unit: int) -> None:
    at = int((time.time() + 50) * unit)
    wait = wait_for_more({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(at)})
    assert wait is not None
    assert 40 < wait <= 51


def test_a_refusal_that_says_when_the_limit_begins_anew_is_waited_for(api: Api) -> None:
    def answer(_: Request) -> Response:
        if len(api.asked) < 2:
            return Response(status=429, headers={"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"})
        return as_json([{"id": 1}])

    api.serve("/things", answer)
    began = time.monotonic()
    assert read(api.connector(longest_wait="2s"), THINGS).num_rows == 1
    assert time.monotonic() - began >= 1


def test_tries_again_have_a_budget_that_answers_fill(api: Api) -> None:
    def answer(_: Request) -> Response:
        fails = len(api.asked) % 2 == 1 or len(api.asked) > 10
        return Response(status=503) if fails else as_json([{"id": len(api.asked)}])

    api.serve("/things", answer)
    connector = api.connector(pagination="page", attempts=100, retry_budget=3)
    with pytest.raises(SourceError) as caught:
        read(connector, THINGS)
    assert caught.value.code == "http_503"
    assert len(api.asked) == 14  # five pages, each at its second try, and four tries of the sixth


def test_an_api_that_went_away_is_asked_once_until_it_is_there_again(api: Api) -> None:
    """It may do so before its first answer, or behind any other."""
    status = 503
    api.serve("/things", lambda _: as_json([{"id": 1}]) if status == 200 else Response(status=status))

    def tries() -> int:
        api.asked.clear()
        with suppress(SourceError), connector.open(ReadRequest(THINGS)):
            pass
        return len(api.asked)

    with closing(api.connector(attempts=4)) as connector:
        assert [tries() for _ in range(5)] == [4, 4, 4, 1, 1]
        status = 200
        assert tries() == 1
        status = 503
        assert [tries() for _ in range(4)] == [4, 4, 4, 1]


def test_requests_that_failed_at_the_same_time_failed_once() -> None:
    budget = RetryBudget(100)
    began = time.monotonic()
    for _ in range(8):
        budget.give_up(began)
    assert budget.take()
    for _ in range(2):
        budget.give_up(time.monotonic())
    assert not budget.take()


def test_a_server_that_drips_is_given_up(api: Api) -> None:
    drip = answer_of("Content-Length: 5000\r\n", b"[" + b" " * 5000)
    for limit in ("request_timeout", "page_timeout"):
        with raw_server(drip, pause=0.02) as url, pytest.raises(SourceError) as caught:
            read(api.connector(base_url=url, attempts=1, **{limit: "500ms"}), THINGS)
        assert caught.value.code == "too_slow"


def test_a_transfer_below_the_least_rate_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "_GRACE", 0.2)
    drip = answer_of("Content-Length: 5000\r\n", b"[" + b" " * 5000)
    with raw_server(drip, pause=0.02) as url, pytest.raises(SourceError, match="too slowly") as caught:
        read(api.connector(base_url=url, attempts=1, least_rate=1000), THINGS)
    assert caught.value.code == "too_slow"


def test_a_server_that_thinks_before_it_answers_is_not_slow(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(_wire, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def answer(_: Request) -> Response:
        now[0] += 59  # seconds
        return as_json([{"id": 1}])

    api.serve("/things", answer)
    assert read(api.connector(attempts=1), THINGS).num_rows == 1
    assert len(api.asked) == 1


def test_a_page_has_a_deadline_over_all_its_tries(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only pauses move: a request may take any time on a busy machine."""
    now = [0.0]

    def pause(_: object, seconds: float, __: str) -> None:
        now[0] += seconds

    monkeypatch.setattr(_wire.Network, "pause", pause)
    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=lambda: now[0]))
    api.serve("/things", lambda _: Response(status=503, headers={"Retry-After": "10"}))
    with pytest.raises(SourceError) as caught:
        read(api.connector(attempts=100, longest_wait="10s", page_timeout="25s"), THINGS)
    assert caught.value.code == "http_503"
    assert (len(api.asked), now) == (3, [20.0])


def test_no_more_requests_go_out_at_once_than_the_connection_says() -> None:
    """Neither those of parents' pages nor those of grandparents come on top."""
    lock, here, most = threading.Lock(), 0, 0

    def counted(records: object) -> Callable[[Request], Response]:
        def answer(_: Request) -> Response:
            nonlocal here, most
            with lock:
                here += 1
                most = max(most, here)
            time.sleep(0.01)  # so that others would be seen
            with lock:
                here -= 1
            return as_json(records)

        return answer

    with HTTPServer(threaded=True) as server:
        many = [{"id": number} for number in range(6)]
        server.expect_request("/a").respond_with_handler(counted(many))
        server.expect_request(re.compile("/a/.*")).respond_with_handler(counted(many))
        resources = {
            "a": "/a",
            "b": {"path": "/a/{a}", "parent": {"resource": "a", "fields": {"a": "id"}}},
            "c": {"path": "/a/{a}/{b}", "parent": {"resource": "b", "fields": {"a": "a", "b": "id"}}},
        }
        connector = Api(server).connector(resources=resources, pagination="none", concurrency=3)
        assert read(connector, Stream("c", table="c")).num_rows == 216
    assert most == 3


def test_headers_that_drip_are_given_up(api: Api) -> None:
    drip = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 5000
    with raw_server(drip, pause=0.02) as url, pytest.raises(SourceError) as caught:
        read(api.connector(base_url=url, request_timeout="500ms", attempts=1), THINGS)
    assert caught.value.code == "too_slow"


def test_an_answer_of_two_lengths_is_none(api: Api) -> None:
    two = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 5\r\n\r\n" + b'[{"id":1}]'
    with raw_server(two) as url, pytest.raises(SourceError) as caught:
        read(api.connector(base_url=url, attempts=1), THINGS)
    assert caught.value.code == "incomplete"


def test_a_server_that_says_nothing_is_given_up(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(SourceError) as caught:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        read(api.connector(base_url=url, timeout="200ms", attempts=1), THINGS)
    assert caught.value.code == "timeout"


@contextmanager
def hanging_server(*, answers: int = 0) -> Iterator[tuple[str, list[socket.socket]]]:
    """A server that answers so many requests and then hangs, and the connections that it took."""
    body = b'[{"id": 1}]'
    row = answer_of(f"Connection: close\r\nContent-Length: {len(body)}\r\n", body)
    taken: list[socket.socket] = []

    def answer(connection: socket.socket) -> None:
        taken.append(connection)
        if len(taken) <= answers:
            connection.recv(65536)
            connection.sendall(row)
            connection.shutdown(socket.SHUT_WR)

    with accepting(answer) as port:
        yield f"http://127.0.0.1:{port}", taken
    for connection in taken:
        connection.close()


@pytest.mark.parametrize(
    ("answers", "attempts", "tries"),
    [(0, 4, 4 + 1 + 1), (0, 1, 3 + 1 + 1), (0, 2, 3 + 1 + 1), (1, 4, 1 + 4 + 1)],
)
def test_a_server_that_hangs_is_waited_for_as_often_as_a_request_or_a_stream_is_tried(
    api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture, answers: int, attempts: int, tries: int
) -> None:
    """By whichever is more, and not by each try of the one as often as the other says."""
    caplog.set_level("INFO", NAME)
    now = RetryPolicy(attempts=3, first_wait=timedelta(0), longest_wait=timedelta(0))
    streams = [Stream(name, path=name) for name in "abc"]
    run = Run("r", "api", RunStatus.RUNNING, "test", datetime.now(UTC))
    with hanging_server(answers=answers) as (url, taken):
        source = api.connector(base_url=url, timeout="100ms", attempts=attempts, pagination="none")
        with closing(source), closing(warehouse(tmp_path)) as destination:
            events = list(
                run_streams(
                    run, source, destination, streams, limits=BatchLimits(), window=Window(), retry=now
                )
            )
        assert len(taken) == tries
    ended = events[-1]
    assert isinstance(ended, RunFinished)
    failures = [stream.error for stream in ended.run.streams if stream.error is not None]
    assert [failure.code for failure in failures] == ["timeout"] * (3 - answers)
    told = [f"{url}/{'abc'[answers]}: it did not answer in time (try {n} of {attempts}): trying again"
            for n in range(1, attempts)]  # fmt: skip
    assert caplog.messages == told


def test_waits_are_told_for_whom_and_how_long(
    api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waits, "_LONG", 0.3)
    caplog.set_level("INFO", NAME)

    def answer(_: Request) -> Response:
        if len(api.asked) == 1:
            return Response(status=429, headers={"Retry-After": "0.6"})
        return as_json([{"id": 1}], **{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "0.6"})

    api.serve("/things", answer)
    with closing(api.connector(longest_wait="1s", pagination="none")) as connector:
        for _ in range(2):
            with connector.open(ReadRequest(THINGS)) as extract:
                list(extract.batches())
    url = api.server.url_for("/things")
    assert [record.getMessage() for record in caplog.records if record.name == NAME] == [
        f"GET {url} was answered with 429 (try 1 of 3): waiting for 1 s",
        f"{url} has nothing left of its rate limit: waiting for 1 s",
    ]


def test_nobody_there(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(SourceError) as caught:
        read(api.connector(base_url=f"http://127.0.0.1:{port}/", attempts=1), THINGS)
    assert caught.value.code == "unreachable"


SECRETS = {
    "auth": {"type": "bearer", "token": "hush-hush"},
    "headers": {"X-Key": "hush-hush"},
}


@pytest.mark.parametrize("way", ["redirect", "next", "link"])
def test_no_credential_goes_to_another_server(api: Api, other: HTTPServer, way: str) -> None:
    elsewhere: list[Request] = []

    def answer_elsewhere(request: Request) -> Response:
        elsewhere.append(request)
        return as_json([{"id": 2}])

    other.expect_request("/more").respond_with_handler(answer_elsewhere)
    target = other.url_for("/more")

    def answer(_: Request) -> Response:
        if way == "redirect":
            return Response(status=302, headers={"Location": target, "Set-Cookie": "sid=hush-hush"})
        if way == "link":
            return as_json([{"id": 1}], Link=f'<{target}>; rel="next"')
        return as_json({"data": [{"id": 1}], "next": target})

    api.serve("/things", answer)
    resources = {"things": {"path": "things", "headers": {"X-Resource": "hush-hush"}}}
    pagination = "next_url" if way == "next" else "auto"
    connector = api.connector(**SECRETS, pagination=pagination, resources=resources)
    if way == "next":
        with pytest.raises(SourceError):  # the other server's list is not where the records are
            read(connector, THINGS)
    else:
        assert read(connector, THINGS).num_rows in (1, 2)
    (request,) = elsewhere
    assert "hush" not in str(request.headers)


@pytest.mark.parametrize("status", [307, 308])
def test_a_body_goes_to_no_other_server(api: Api, other: HTTPServer, status: int) -> None:
    other.expect_request("/more").respond_with_json([])
    api.serve("/things", lambda _: Response(status=status, headers={"Location": other.url_for("/more")}))
    things = {"path": "/things", "method": "POST", "body": {"pin": "hush-hush"}}
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources={"things": things}), Stream("things", table="things"))
    assert caught.value.code == "refused_redirect"
    assert not other.log


@pytest.mark.parametrize("home", [True, False])
def test_a_user_in_a_link_is_nobody(api: Api, other: HTTPServer, home: bool) -> None:
    """A client would send it as basic authentication, at home in the place of the API's own."""
    asked: list[Request] = []
    other.expect_request("/more").respond_with_handler(
        lambda request: (asked.append(request), as_json([]))[1]
    )
    api.serve("/more", lambda _: as_json([]))
    target = (api.server if home else other).url_for("/more").replace("//", "//user:pass@")
    api.serve("/things", lambda _: as_json([{"id": 1}], Link=f'<{target}>; rel="next"'))
    read(api.connector(auth={"type": "bearer", "token": "t"}), THINGS)
    sent = (api.asked[-1] if home else asked[0]).headers.get("Authorization")
    assert sent == ("Bearer t" if home else None)


def test_a_redirect_at_home_keeps_the_credentials(api: Api) -> None:
    api.serve("/things", lambda _: Response(status=307, headers={"Location": "/moved?x=1"}))
    api.serve("/moved", lambda _: as_json([{"id": 1}]))
    assert read(api.connector(**SECRETS), THINGS).num_rows == 1
    assert api.asked[-1].headers["Authorization"] == "Bearer hush-hush"


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://example.com/x",
        "http://169.254.169.254/latest",
        "http://[::1]:1/",
        "http://192.0.0.192/latest",
        "http://[64:ff9b::a9fe:a9fe]/latest",
        "http://[2002:a9fe:a9fe::]/latest",
    ],
)
def test_links_into_the_network_are_refused(api: Api, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    api.serve("/things", lambda _: Response(status=302, headers={"Location": target}))
    with pytest.raises(SourceError) as caught:
        read(api.connector(), THINGS)
    assert caught.value.code == "refused_redirect"


def test_an_address_of_the_internet_is_public_however_it_is_written() -> None:
    assert all(map(is_public, ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]))


def test_redirects_without_an_end(api: Api) -> None:
    api.serve("/things", lambda _: Response(status=302, headers={"Location": "/things"}))
    with pytest.raises(SourceError) as caught:
        read(api.connector(), THINGS)
    assert caught.value.code == "refused_redirect"


def test_the_environment_changes_nothing(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login hush password hush\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    api.serve("/things", lambda _: as_json([{"id": 1}]))
    read(api.connector(auth={"type": "bearer", "token": "t"}), THINGS)
    assert api.asked[0].headers["Authorization"] == "Bearer t"


def test_closing_does_not_wait_for_a_server(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connector = api.connector(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout="60s")
        asked = ReadRequest(THINGS)
        reading = connector._lists.reading(asked, connector._resource(THINGS))
        pages = Pages(connector._new(asked, reading))
        failures: list[SourceError] = []

        def wait() -> None:
            try:
                next(pages.read(), None)
            except SourceError as failure:
                failures.append(failure)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        silent.accept()
        pages.close()
        waiting.join(30)  # half of what it would wait
        connector.close()
    assert [failure.code for failure in failures] == ["given_up"]


TOO_MANY: dict[str, tuple[int, object]] = {
    "github": (403, {"message": "You have exceeded a secondary rate limit. Please wait a few minutes"}),
    "salesforce": (403, [{"message": "TotalRequests exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]),
    "google": (403, {"error": {"code": 403, "errors": [{"reason": "userRateLimitExceeded"}]}}),
    "quickbooks": (400, {"Fault": {"Error": [{"Message": "ThrottleExceeded"}], "type": "THROTTLE"}}),
    "aws": (400, {"__type": "ThrottlingException", "message": "Rate exceeded"}),
}


@pytest.mark.parametrize("empty_on", [[], [400, 403]])
@pytest.mark.parametrize("whose", TOO_MANY)
def test_too_many_requests_may_be_told_by_another_status(api: Api, whose: str, empty_on: list[int]) -> None:
    status, told = TOO_MANY[whose]
    refusals = [Response(json.dumps(told), status, content_type="application/json")] * 2
    api.serve("/things", lambda _: refusals.pop() if refusals else as_json([{"id": 1}, {"id": 2}]))
    resources = {"things": {"path": "/things", "empty_on": empty_on}}
    assert read(api.connector(resources=resources), THINGS).column("id").to_pylist() == [1, 2]
    refusals += [Response(json.dumps(told), status, content_type="application/json")] * 9
    with pytest.raises(SourceError, match=f"{status}") as caught:
        read(api.connector(resources=resources), THINGS)
    assert (caught.value.code, caught.value.retryable) == ("http_429", True)
