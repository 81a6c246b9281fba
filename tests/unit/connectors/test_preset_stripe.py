"""The preset `stripe` against a server that lists, filters and refuses as Stripe's API does."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, as_json, rows, sync
from tests.unit.connectors.preset_api import connector, stream, synced

FIELDS = {"api_key": "rk_test_s3cret"}
SIZE = 3
AT = 1_767_225_600


def event(number: int) -> dict[str, object]:
    data = {"object": {"id": f"ch_{number}", "amount": 1099}}
    return {
        "id": f"evt_{number:03}", "object": "event", "created": AT + number // 2, "type": "charge.succeeded",
        "data": data, "livemode": False, "pending_webhooks": 0,
    }  # fmt: skip


class Stripe:
    """Lists of objects, the newest first."""

    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.found = [event(number) for number in range(8)]
        self.refusals: list[Response] = []
        self.deleted: set[object] = set()
        self.leaving: set[object] = set()  # once the first page was given out
        for path in ("/events", "/subscriptions", "/charges"):
            self.api.serve(path, self.answer)

    def answer(self, request: Request) -> Response:
        assert request.headers["Authorization"] == "Bearer rk_test_s3cret"
        assert request.headers["Stripe-Version"] == "2026-08-26.dahlia"
        assert request.args["limit"] == "100"
        if self.refusals:
            return self.refusals.pop()
        since = int(request.args.get("created[gte]", "0"))
        wanted = [item for item in reversed(self.found) if int(str(item["created"])) >= since]
        if after := request.args.get("starting_after"):
            if after in self.deleted:
                return failed(400, "invalid_request_error", f"No such object: '{after}'")
            wanted = wanted[[item["id"] for item in wanted].index(after) + 1 :]
        if self.leaving and not after:
            self.deleted = self.leaving
            self.found = [item for item in self.found if item["id"] not in self.leaving]
        return as_json(
            {"object": "list", "url": "/v1/x", "has_more": len(wanted) > SIZE, "data": wanted[:SIZE]}
        )


def failed(status: int, kind: str, message: str) -> Response:
    made = as_json({"error": {"type": kind, "message": message}})
    made.status_code = status
    return made


@pytest.fixture
def stripe(httpserver: HTTPServer) -> Stripe:
    return Stripe(httpserver)


def test_events_come_once_and_then_only_those_since_the_last(stripe: Stripe, tmp_path: Path) -> None:
    assert synced(stripe.api, "stripe", tmp_path, "events", **FIELDS).rows_loaded == 8
    asked = [request.args.get("starting_after") for request in stripe.api.asked]
    assert asked == [None, "evt_005", "evt_002"]
    stripe.found += [event(8), event(9)]
    synced(stripe.api, "stripe", tmp_path, "events", **FIELDS)
    assert 0 < int(stripe.api.asked[0].args["created[gte]"]) <= AT + 3
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT id) FROM api.events") == [(10, 10)]


def test_an_object_that_is_deleted_while_pages_are_read_hides_none_behind_it(
    stripe: Stripe, tmp_path: Path
) -> None:
    """https://github.com/stripe/stripe-php/issues/1264: the last one of a page is where the next begins."""
    stripe.leaving = {"evt_005", "evt_006", "evt_004"}
    synced(stripe.api, "stripe", tmp_path, "charges", **FIELDS)
    found = rows(tmp_path, "SELECT string_agg(id[5:], ' ' ORDER BY id) FROM api.charges")
    assert found == [("000 001 002 003 005 006 007",)]


def test_objects_that_change_later_are_read_whole_unless_a_stream_has_a_cursor(
    stripe: Stripe, tmp_path: Path
) -> None:
    synced(stripe.api, "stripe", tmp_path, "charges", **FIELDS)
    stripe.found[0] = {**stripe.found[0], "type": "changed"}
    synced(stripe.api, "stripe", tmp_path, "charges", **FIELDS)
    assert "created[gte]" not in stripe.api.asked[0].args
    assert rows(tmp_path, "SELECT type FROM api.charges WHERE id = 'evt_000'") == [("changed",)]
    chosen = replace(stream("stripe", "charges", **FIELDS), name="chosen", cursor="created")
    for _ in range(2):
        stripe.api.asked.clear()
        sync(connector(stripe.api, "stripe", **FIELDS), tmp_path, chosen)
    assert "created[gte]" in stripe.api.asked[0].args


def test_ended_subscriptions_and_connected_accounts_are_asked_for(stripe: Stripe, tmp_path: Path) -> None:
    synced(stripe.api, "stripe", tmp_path, "subscriptions", **FIELDS, account="acct_1")
    assert {request.args["status"] for request in stripe.api.asked} == {"all"}
    assert {request.headers["Stripe-Account"] for request in stripe.api.asked} == {"acct_1"}
    synced(stripe.api, "stripe", tmp_path, "events", **FIELDS)
    assert not any("Stripe-Account" in request.headers for request in stripe.api.asked)


def test_a_rate_limit_is_waited_for_and_a_wrong_key_is_told(stripe: Stripe, tmp_path: Path) -> None:
    stripe.refusals = [failed(429, "rate_limit_error", "Request rate limit exceeded.")]
    assert synced(stripe.api, "stripe", tmp_path, "events", **FIELDS).rows_loaded == 8
    stripe.refusals = [failed(401, "invalid_request_error", "Invalid API Key provided: rk_test_s3cret")] * 3
    with pytest.raises(SourceError, match="401") as caught:
        synced(stripe.api, "stripe", tmp_path, "events", **FIELDS)
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"
