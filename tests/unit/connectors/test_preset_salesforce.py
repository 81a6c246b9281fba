"""The preset `salesforce` against a server that answers SOQL as Salesforce's REST API does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from tests.unit.connectors.http_api import Api, as_json, rows
from tests.unit.connectors.preset_api import synced

SIZE = 2
DATA = "/services/data/v61.0"
QUERY = r"SELECT FIELDS\(STANDARD\) FROM Account WHERE SystemModstamp >= (\S+) ORDER BY SystemModstamp, Id"


def account(number: int, day: int) -> dict[str, object]:
    at = f"2026-01-{day:02}T00:00:00.000+0000"
    key = f"001xx000003DGb{number}AAG"
    return {
        "attributes": {"type": "Account", "url": f"{DATA}/sobjects/Account/{key}"}, "Id": key, "Name": "n",
        "IsDeleted": False, "CreatedDate": at, "LastModifiedDate": at, "SystemModstamp": at,
    }  # fmt: skip


class Salesforce:
    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.fields = {
            "instance_url": server.url_for("").rstrip("/"), "client_id": "app", "client_secret": "s3cret",
        }  # fmt: skip
        self.found = [account(number, number) for number in range(1, 6)]
        self.kept: list[dict[str, object]] = []
        self.api.serve("/services/oauth2/token", self.token)
        self.api.serve(f"{DATA}/queryAll", self.query)
        self.api.server.expect_request(re.compile(f"{DATA}/query/.*")).respond_with_handler(self.more)

    def token(self, request: Request) -> Response:
        assert (request.form["client_id"], request.form["client_secret"]) == ("app", "s3cret")
        assert request.form["grant_type"] == "client_credentials"
        return as_json({"access_token": "00Dxx!t0ken", "token_type": "Bearer", "instance_url": "x"})

    def query(self, request: Request) -> Response:
        assert request.headers["Authorization"] == "Bearer 00Dxx!t0ken"
        asked = re.fullmatch(QUERY, request.args["q"])
        if asked is None:
            made = as_json([{"message": "unexpected token", "errorCode": "MALFORMED_QUERY"}])
            made.status_code = 400
            return made
        since = asked[1].removesuffix("Z")
        self.kept = sorted(
            (item for item in self.found if str(item["SystemModstamp"])[:19] >= since),
            key=lambda item: str(item["SystemModstamp"]),
        )
        return self.page(0)

    def more(self, request: Request) -> Response:
        return self.page(int(request.path.rpartition("-")[2]))

    def page(self, start: int) -> Response:
        is_done = start + SIZE >= len(self.kept)
        following = {} if is_done else {"nextRecordsUrl": f"{DATA}/query/01gD0000002HU6KIAW-{start + SIZE}"}
        page = self.kept[start : start + SIZE]
        return as_json({"totalSize": len(self.kept), "done": is_done, **following, "records": page})


@pytest.fixture
def salesforce(httpserver: HTTPServer) -> Salesforce:
    return Salesforce(httpserver)


def test_accounts_come_once_and_then_only_those_that_changed(salesforce: Salesforce, tmp_path: Path) -> None:
    assert synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields).rows_loaded == 5
    salesforce.found[0] = account(1, 9) | {"Name": "new", "IsDeleted": True}
    again = synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields)
    assert 1 <= again.rows_read < 5
    found = rows(tmp_path, 'SELECT "Name", "IsDeleted" FROM api.accounts ORDER BY "Id"')
    assert found == [("new", True), *[("n", False)] * 4]


def test_a_query_that_is_refused_is_told(salesforce: Salesforce, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        synced(salesforce.api, "salesforce", tmp_path, "contacts", **salesforce.fields)
    assert caught.value.code == "http_400"
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"
