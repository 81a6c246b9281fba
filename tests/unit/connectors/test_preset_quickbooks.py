"""The preset `quickbooks` against a server that answers queries as QuickBooks Online does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, as_json, rows
from tests.unit.connectors.preset_api import synced

QUERY = (
    r"SELECT \* FROM Invoice WHERE MetaData.LastUpdatedTime >= '([^']+)' "
    r"ORDERBY Id STARTPOSITION (\d+) MAXRESULTS (\d+)"
)


def invoice(number: int, hour: int) -> dict[str, object]:
    at = f"2026-01-01T{hour:02}:00:00-08:00"
    return {
        "Id": f"{number:05}", "SyncToken": "0", "TotalAmt": 362.07, "sparse": False, "domain": "QBO",
        "MetaData": {"CreateTime": at, "LastUpdatedTime": at}, "Line": [{"Id": "1", "Amount": 1.5}],
    }  # fmt: skip


class QuickBooks:
    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.fields = {
            "realm_id": "4620816365", "client_id": "app", "client_secret": "s3cret",
            "refresh_token": "r3fresh", "token_url": server.url_for("/oauth2/v1/tokens/bearer"),
        }  # fmt: skip
        self.found = [invoice(number, 1) for number in range(1100)]
        self.refusals: list[Response] = []
        self.api.server.expect_request("/oauth2/v1/tokens/bearer").respond_with_json(
            {"access_token": "t0ken", "expires_in": 3600, "token_type": "bearer", "refresh_token": "r3fresh"}
        )
        self.api.serve("/v3/company/4620816365/query", self.answer)

    def answer(self, request: Request) -> Response:
        assert request.headers["Authorization"] == "Bearer t0ken"
        assert request.headers["Accept"] == "application/json"
        assert request.args["minorversion"] == "75"
        if self.refusals:
            return self.refusals.pop()
        asked = re.fullmatch(QUERY, request.args["query"])
        if asked is None:
            return failed(400, "QueryParserError")
        since, start, size = asked[1].removesuffix("Z"), int(asked[2]), int(asked[3])
        assert (start >= 1, size) == (True, 1000)
        wanted = [item for item in self.found if self.instant(item) >= since][start - 1 : start - 1 + size]
        inside = {"Invoice": wanted, "startPosition": start, "maxResults": len(wanted)} if wanted else {}
        return as_json({"QueryResponse": inside, "time": "2026-01-02T00:00:00.000-08:00"})

    @staticmethod
    def instant(item: dict[str, object]) -> str:
        inside = item["MetaData"]
        assert isinstance(inside, dict)
        return f"2026-01-01T{int(inside['LastUpdatedTime'][11:13]) + 8:02}:00:00"


def failed(status: int, message: str) -> Response:
    made = as_json({"Fault": {"Error": [{"Message": message, "code": "4000"}], "type": "ValidationFault"}})
    made.status_code = status
    return made


@pytest.fixture
def quickbooks(httpserver: HTTPServer) -> QuickBooks:
    return QuickBooks(httpserver)


def test_invoices_come_once_and_then_only_those_that_changed(quickbooks: QuickBooks, tmp_path: Path) -> None:
    assert synced(quickbooks.api, "quickbooks", tmp_path, "invoices", **quickbooks.fields).rows_loaded == 1100
    assert len(quickbooks.api.asked) == 2
    quickbooks.found = [invoice(3, 9) | {"TotalAmt": 1.25}]
    again = synced(quickbooks.api, "quickbooks", tmp_path, "invoices", **quickbooks.fields)
    assert again.rows_read == 1
    quickbooks.found = []
    assert synced(quickbooks.api, "quickbooks", tmp_path, "invoices", **quickbooks.fields).rows_read == 0
    assert rows(tmp_path, 'SELECT count(*), min("TotalAmt")::text FROM api.invoices') == [(1100, "1.25")]


def test_a_rate_limit_is_waited_for_and_a_refused_query_is_told(
    quickbooks: QuickBooks, tmp_path: Path
) -> None:
    quickbooks.refusals = [failed(429, "ThrottleExceeded")]
    assert synced(quickbooks.api, "quickbooks", tmp_path, "invoices", **quickbooks.fields).rows_loaded == 1100
    with pytest.raises(SourceError) as caught:
        synced(quickbooks.api, "quickbooks", tmp_path, "customers", **quickbooks.fields)
    assert caught.value.code == "http_400"
