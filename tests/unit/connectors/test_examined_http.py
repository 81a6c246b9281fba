"""What a close look at an API finds, by the answers that it gives to a test."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler

import pytest
from pytest_httpserver import HTTPServer

from atlas_etl.model import Severity, Stream
from tests.unit.connectors.findings import Findings, look
from tests.unit.connectors.http_api import Api, as_json

ORDERS = Stream("orders", table="orders", cursor="at", primary_key=("id",))


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def found_with(api: Api, *, incremental: dict[str, str] | None = None, **headers: str) -> Findings:
    api.serve("/orders", lambda _: as_json([{"id": 1, "at": "2026-01-01T00:00:00Z"}], **headers))
    resource = {"path": "orders", "incremental": incremental or {}}
    with closing(api.connector(resources={"orders": resource})) as connector:
        connector.test()
        asked = len(api.asked)
        found = look(connector, ORDERS)
        assert len(api.asked) == asked  # the test's answer tells all of it
    return found


def test_an_api_that_tells_nothing(api: Api) -> None:
    found = found_with(api)
    assert found.severity("quota", "source") is Severity.NOTE
    assert found.severity("clock", "source") is Severity.OK
    assert found.severity("primary_key", "orders") is Severity.OK
    index = found["cursor_index", "orders.at"]
    assert index.severity is Severity.NOTE
    assert index.fix is not None
    assert index.fix.startswith("incremental:")


def test_an_api_that_is_asked_for_what_is_new(api: Api) -> None:
    found = found_with(api, incremental={"parameter": "since"})
    assert found.severity("cursor_index", "orders.at") is Severity.OK


@pytest.mark.parametrize(
    ("left", "severity"), [("0", Severity.WARNING), ("99", Severity.WARNING), ("500", Severity.OK)]
)
def test_what_is_left_of_its_limit(api: Api, left: str, severity: Severity) -> None:
    limits = {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": left, "X-RateLimit-Reset": "1"}
    quota = found_with(api, **limits)["quota", "source"]
    assert quota.severity is severity
    assert f"{left} of 1,000 requests are left" in quota.message


def test_the_least_of_several_limits(api: Api) -> None:
    quota = found_with(api, RateLimit='"day";r=5000;t=30, "minute";r=7;t=1')["quota", "source"]
    assert "7 requests are left" in quota.message


def answering_at(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The test's server goes by this clock."""
    monkeypatch.setattr(BaseHTTPRequestHandler, "date_time_string", lambda _self, _at=None: text)


@pytest.mark.parametrize(("minutes", "words"), [(10, "ahead of"), (-10, "behind")])
def test_a_clock_that_is_wrong(api: Api, monkeypatch: pytest.MonkeyPatch, minutes: int, words: str) -> None:
    then = datetime.now(UTC) + timedelta(minutes=minutes)
    answering_at(monkeypatch, format_datetime(then, usegmt=True))
    clock = found_with(api)["clock", "source"]
    assert clock.severity is Severity.WARNING
    assert words in clock.message


def test_a_clock_that_cannot_be_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    answering_at(monkeypatch, "yesterday")
    assert found_with(api).severity("clock", "source") is Severity.NOTE


def test_records_that_nothing_tells_apart(api: Api) -> None:
    api.serve("/orders", lambda _: as_json([{"id": 1}]))
    with closing(api.connector(resources={"orders": "orders"})) as connector:
        connector.test()
        found = look(connector, Stream("orders", table="orders", cursor="at"))
    assert found.severity("primary_key", "orders") is Severity.WARNING
