"""The preset `erpnext` against a server that lists, filters and refuses as Frappe's REST API does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, as_json, rows
from tests.unit.connectors.preset_api import synced


def invoice(number: int, minute: int) -> dict[str, object]:
    at = f"2026-01-01 {minute // 60:02}:{minute % 60:02}:00.250000"
    return {"name": f"INV-{number:05}", "creation": at, "modified": at, "grand_total": 10.5, "docstatus": 1}


class Frappe:
    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.fields = {"site": server.url_for("").rstrip("/"), "api_key": "k3y", "api_secret": "s3cret"}
        self.found = [invoice(number, number) for number in range(1100)]
        self.api.serve("/api/resource/Sales Invoice", self.answer)

    def answer(self, request: Request) -> Response:
        assert request.headers["Authorization"] == "token k3y:s3cret"
        assert json.loads(request.args["fields"]) == ["*"]
        assert request.args["order_by"] == "name asc"
        ((field, operator, since),) = json.loads(request.args["filters"])
        assert (field, operator) == ("modified", ">=")
        start, size = int(request.args["limit_start"]), int(request.args["limit_page_length"])
        wanted = [item for item in self.found if str(item["modified"]) >= since]
        return as_json({"data": wanted[start : start + size]})


@pytest.fixture
def frappe(httpserver: HTTPServer) -> Frappe:
    return Frappe(httpserver)


def test_documents_come_once_and_then_only_those_that_changed(frappe: Frappe, tmp_path: Path) -> None:
    assert synced(frappe.api, "erpnext", tmp_path, "sales_invoices", **frappe.fields).rows_loaded == 1100
    assert [request.args["limit_start"] for request in frappe.api.asked] == ["0", "490", "980"]
    frappe.found[3] = invoice(3, 1200)
    again = synced(frappe.api, "erpnext", tmp_path, "sales_invoices", **frappe.fields)
    assert again.rows_read <= 122  # one a minute, of the two hours that a clock may be put back by
    assert rows(
        tmp_path, "SELECT count(*), max(modified)::text, max_by(name, modified) FROM api.sales_invoices"
    ) == [(1100, "2026-01-01 20:00:00.25", "INV-00003")]


def test_a_user_without_rights_is_told(frappe: Frappe, tmp_path: Path) -> None:
    frappe.api.server.clear()
    refused = as_json({"exc_type": "PermissionError", "exception": "frappe.exceptions.PermissionError"})
    refused.status_code = 403
    frappe.api.serve("/api/resource/Sales Invoice", lambda _: refused)
    with pytest.raises(SourceError) as caught:
        synced(frappe.api, "erpnext", tmp_path, "sales_invoices", **frappe.fields)
    assert caught.value.code == "http_403"
