"""The preset `shopify` against a server that pages, filters and refuses as Shopify's Admin API does."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors import registry
from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, as_json, rows
from tests.unit.connectors.preset_api import synced

FIELDS = {"shop": "my-shop", "token": "shpat_s3cret"}
SIZE = 2
ADMIN = "/admin/api/2026-10"


def order(number: int, hour: int) -> dict[str, object]:
    at = f"2026-01-01T{hour:02}:00:00-05:00"
    return {
        "id": 450_789_469_000_000_000 + number, "name": f"#{number}", "updated_at": at,
        "total_price": "409.94",
        "created_at": "2026-01-01T00:00:00-05:00", "cancelled_at": None,
        "line_items": [{"id": 1, "price": "199.00"}],
    }  # fmt: skip


class Shopify:
    """One list of orders: the next page's link holds `page_info` and `limit`, and nothing else may."""

    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.orders = [order(number, number) for number in range(5)]
        self.refusals: list[Response] = []
        self._filters: list[str] = []
        self.api.serve(f"{ADMIN}/orders.json", self.answer)

    def answer(self, request: Request) -> Response:
        assert request.headers["X-Shopify-Access-Token"] == "shpat_s3cret"
        if self.refusals:
            return self.refusals.pop()
        if token := request.args.get("page_info"):
            if set(request.args) - {"page_info", "limit"}:
                return failed(400, "Bad Request")
            which, start = map(int, token.split("-"))
            since = self._filters[which]
        else:
            assert (request.args["limit"], request.args["status"]) == ("250", "any")
            since, start = request.args.get("updated_at_min", ""), 0
            self._filters.append(since)
            which = len(self._filters) - 1
        wanted = [item for item in self.orders if self.instant(item) >= since]
        response = as_json({"orders": wanted[start : start + SIZE]})
        response.headers["X-Shopify-Shop-Api-Call-Limit"] = "1/40"
        if start + SIZE < len(wanted):
            here = f"{request.base_url}?limit={SIZE}&page_info={which}"
            response.headers["Link"] = f'<{here}-0>; rel="previous", <{here}-{start + SIZE}>; rel="next"'
        return response

    @staticmethod
    def instant(item: dict[str, object]) -> str:
        at = str(item["updated_at"])
        return f"{at[:11]}{int(at[11:13]) + 5:02}:00:00Z"


def failed(status: int, message: str) -> Response:
    made = as_json({"errors": message})
    made.status_code = status
    return made


@pytest.fixture
def shopify(httpserver: HTTPServer) -> Shopify:
    return Shopify(httpserver)


def test_orders_come_once_and_then_only_those_that_changed(shopify: Shopify, tmp_path: Path) -> None:
    assert synced(shopify.api, "shopify", tmp_path, "orders", **FIELDS).rows_loaded == 5
    assert len(shopify.api.asked) == 3
    shopify.orders[0] = order(0, 6) | {"total_price": "1.50"}
    again = synced(shopify.api, "shopify", tmp_path, "orders", **FIELDS)
    assert shopify.api.asked[0].args["updated_at_min"].endswith("Z")
    assert again.rows_read < 5
    found = rows(tmp_path, "SELECT name, total_price, id FROM api.orders ORDER BY id")
    assert found[0] == ("#0", "1.50", 450_789_469_000_000_000)
    assert [row[0] for row in found] == ["#0", "#1", "#2", "#3", "#4"]


@pytest.mark.parametrize("name", ["refunds", "transactions"])
def test_what_orders_that_changed_have_is_asked_for(shopify: Shopify, tmp_path: Path, name: str) -> None:
    for at in shopify.orders:
        number = int(str(at["id"]))
        refund = {"id": number + 7, "order_id": number, "created_at": at["updated_at"], "note": None}
        shopify.api.serve(
            f"{ADMIN}/orders/{number}/{name}.json", lambda _, refund=refund: as_json({name: [refund]})
        )
    assert synced(shopify.api, "shopify", tmp_path, name, **FIELDS).rows_loaded == 5
    synced(shopify.api, "shopify", tmp_path, name, **FIELDS)
    assert sum(request.path.endswith(f"{name}.json") for request in shopify.api.asked) < 5
    assert rows(tmp_path, f"SELECT count(*), count(DISTINCT order_id) FROM api.{name}") == [(5, 5)]


def test_a_transaction_that_changes_later_is_loaded_again(shopify: Shopify, tmp_path: Path) -> None:
    """One that was pending, behind which another one came: its own time stays, and the order's moves."""
    shopify.orders = [order(1, 1), order(2, 5)]
    number = shopify.orders[0]["id"]
    first, second = (
        {"id": at, "order_id": number, "created_at": f"2026-01-01T0{at}:00:00-05:00", "status": "pending"}
        for at in (1, 2)
    )
    shopify.api.serve(
        f"{ADMIN}/orders/{number}/transactions.json", lambda _: as_json({"transactions": [first, second]})
    )
    other = {"id": 9, "order_id": 2, "created_at": "2026-01-01T05:00:00-05:00", "status": "success"}
    shopify.api.serve(
        f"{ADMIN}/orders/{shopify.orders[1]['id']}/transactions.json",
        lambda _: as_json({"transactions": [other]}),
    )
    synced(shopify.api, "shopify", tmp_path, "transactions", **FIELDS)
    first["status"] = "success"
    shopify.orders[0]["updated_at"] = "2026-01-01T07:00:00-05:00"
    synced(shopify.api, "shopify", tmp_path, "transactions", **FIELDS)
    found = rows(tmp_path, "SELECT id, status FROM api.transactions ORDER BY id")
    assert found == [(1, "success"), (2, "pending"), (9, "success")]


def test_a_full_bucket_is_waited_for_and_a_missing_scope_is_told(shopify: Shopify, tmp_path: Path) -> None:
    full = failed(429, "Exceeded 2 calls per second for api client.")
    full.headers["Retry-After"] = "2.0"
    shopify.refusals = [full]
    assert synced(shopify.api, "shopify", tmp_path, "orders", **FIELDS).rows_loaded == 5
    shopify.refusals = [failed(403, "[API] This action requires merchant approval for read_orders scope.")]
    with pytest.raises(SourceError) as caught:
        synced(shopify.api, "shopify", tmp_path, "orders", **FIELDS)
    assert caught.value.code == "http_403"


def test_the_shop_is_the_address() -> None:
    made = registry.load("shopify").connection.model_validate(FIELDS)
    assert made.http().base_url == "https://my-shop.myshopify.com"
