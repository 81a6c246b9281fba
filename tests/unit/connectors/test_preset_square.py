"""The preset `square` against a server that searches, lists and refuses as Square's API does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, as_json, rows
from tests.unit.connectors.preset_api import synced

FIELDS = {"token": "EAAA-s3cret"}
SIZE = 2


def order(number: int, location: str) -> dict[str, object]:
    return {
        "id": f"o{number}", "location_id": location, "state": "OPEN", "version": number,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": f"2026-01-0{number}T00:00:00.25Z",
        "total_money": {"amount": 1 << 53, "currency": "USD"},
    }  # fmt: skip


class Square:
    """Searches by body and lists by query; an empty list is no member at all."""

    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.found = [order(number, f"L{1 + number // 5}") for number in range(1, 7)]
        self.refusals: list[Response] = []
        self.api.serve(
            "/v2/locations", lambda _: as_json({"locations": [{"id": f"L{n}"} for n in (1, 2, 3)]})
        )
        self.api.serve("/v2/orders/search", self.search)
        self.api.serve("/v2/payments", lambda request: self.listed("payments", request))
        self.api.serve("/v2/refunds", lambda request: self.listed("refunds", request))
        self.api.serve("/v2/inventory/counts/batch-retrieve", self.counts)

    def search(self, request: Request) -> Response:
        assert request.method == "POST"
        assert request.headers["Square-Version"] == "2026-07-15"
        assert request.headers["Authorization"] == "Bearer EAAA-s3cret"
        if self.refusals:
            return self.refusals.pop()
        asked = json.loads(request.data)
        query = asked["query"]
        assert query["sort"]["sort_field"] == "UPDATED_AT"
        since = query.get("filter", {}).get("date_time_filter", {}).get("updated_at", {}).get("start_at", "")
        (location,) = asked["location_ids"]
        wanted = [item for item in self.found if item["location_id"] == location]
        return self.page("orders", wanted, since, asked.get("cursor"))

    def listed(self, name: str, request: Request) -> Response:
        asked = request.args
        assert (asked["begin_time"] < "2010", asked["sort_field"]) == (True, "UPDATED_AT")
        return self.page(name, self.found, asked.get("updated_at_begin_time", ""), asked.get("cursor"))

    def counts(self, request: Request) -> Response:
        """After a time, and not at it."""
        asked = json.loads(request.data)
        after = asked.get("updated_after", "")
        found = [
            {
                "catalog_object_id": each["id"], "location_id": each["location_id"], "state": "IN_STOCK",
                "quantity": "1.50", "calculated_at": each["updated_at"], "updated_at": each["updated_at"],
            }
            for each in self.found if str(each["updated_at"]) > after
        ]  # fmt: skip
        return self.page("counts", found, "", asked.get("cursor"))

    def page(self, name: str, found: list[dict[str, object]], since: str, cursor: str | None) -> Response:
        wanted = [item for item in found if str(item["updated_at"]) >= since]
        start = int(cursor or "0")
        answer: dict[str, object] = {name: wanted[start : start + SIZE]} if wanted else {}
        return as_json(answer | ({"cursor": str(start + SIZE)} if start + SIZE < len(wanted) else {}))


def failed(status: int, category: str, code: str) -> Response:
    made = as_json({"errors": [{"category": category, "code": code, "detail": "no"}]})
    made.status_code = status
    return made


@pytest.fixture
def square(httpserver: HTTPServer) -> Square:
    return Square(httpserver)


def test_orders_of_each_location_come_once_and_then_only_what_changed(square: Square, tmp_path: Path) -> None:
    assert synced(square.api, "square", tmp_path, "orders", **FIELDS).rows_loaded == 6
    square.found[0] = {**square.found[0], "updated_at": "2026-01-09T00:00:00Z", "state": "COMPLETED"}
    again = synced(square.api, "square", tmp_path, "orders", **FIELDS)
    assert 1 <= again.rows_read < 6
    found = rows(tmp_path, "SELECT id, state, location_id FROM api.orders ORDER BY id")
    assert found[0] == ("o1", "COMPLETED", "L1")
    assert [row[0] for row in found] == [f"o{number}" for number in range(1, 7)]


@pytest.mark.parametrize("name", ["payments", "refunds"])
def test_payments_and_refunds_are_listed_from_the_checkpoint_on(
    square: Square, tmp_path: Path, name: str
) -> None:
    assert synced(square.api, "square", tmp_path, name, **FIELDS).rows_loaded == 6
    assert len(square.api.asked) == 3
    synced(square.api, "square", tmp_path, name, **FIELDS)
    assert "2026-01-06" <= square.api.asked[0].args["updated_at_begin_time"] <= "2026-01-06T00:00:00.25Z"
    square.found.clear()
    assert synced(square.api, "square", tmp_path, name, **FIELDS).rows_read == 0
    assert rows(tmp_path, f"SELECT count(*) FROM api.{name}") == [(6,)]


def test_counts_at_the_checkpoint_are_read_again(square: Square, tmp_path: Path) -> None:
    assert synced(square.api, "square", tmp_path, "inventory_counts", **FIELDS).rows_loaded == 6
    square.found.append({**square.found[-1], "id": "o7"})
    synced(square.api, "square", tmp_path, "inventory_counts", **FIELDS)
    found = rows(tmp_path, "SELECT count(*), min(quantity) FROM api.inventory_counts")
    assert found == [(7, "1.50")]


def test_a_rate_limit_is_waited_for_and_other_errors_are_told(square: Square, tmp_path: Path) -> None:
    square.refusals = [failed(429, "RATE_LIMIT_ERROR", "RATE_LIMITED")]
    assert synced(square.api, "square", tmp_path, "orders", **FIELDS).rows_loaded == 6
    square.refusals = [failed(403, "AUTHENTICATION_ERROR", "INSUFFICIENT_SCOPES")]
    with pytest.raises(SourceError) as caught:
        synced(square.api, "square", tmp_path, "orders", **FIELDS)
    assert caught.value.code == "http_403"
    square.refusals = [as_json("[]")]
    with pytest.raises(SourceError) as caught:
        synced(square.api, "square", tmp_path, "orders", **FIELDS)
    assert caught.value.code == "records_not_found"
