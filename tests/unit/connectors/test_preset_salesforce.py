"""The preset `salesforce` against a server that describes objects and works on jobs as Salesforce does."""

from __future__ import annotations

import csv
import gzip
import io
import re
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.api.atlas import Atlas
from atlas_etl.connectors.http._prior import sent
from atlas_etl.connectors.http._wire import Network
from atlas_etl.connectors.preview import preview
from atlas_etl.errors import SourceError
from atlas_etl.model import RunStatus
from atlas_etl.pipeline.events import RunFinished
from tests.unit.connectors.http_api import Api, as_json, rows
from tests.unit.connectors.preset_api import connector, stream, synced

SIZE = 2  # records of a page, however many are asked for
DATA = "/services/data/v67.0"
KEY = "750R0000000zlh9IAA"
QUERY = r"SELECT (\S+) FROM (?:Account|Invoice__c) WHERE SystemModstamp >= (\S+)(?: LIMIT (\d+))?"
TYPES = {
    "Id": "id", "IsDeleted": "boolean", "Name": "string", "BillingAddress": "address",
    "AnnualRevenue": "currency", "NumberOfEmployees": "int", "CreatedDate": "datetime",
    "LastActivityDate": "date", "SystemModstamp": "datetime", "Logo__c": "base64", "Place__c": "location",
    "Size__c": "double", "External_Number__c": "string",
}  # fmt: skip
ASKED = [name for name, kind in TYPES.items() if kind not in ("address", "base64", "location")]


def account(number: int, day: int, **more: str) -> dict[str, str]:
    """A line of a result, whose cells are texts."""
    at = f"2026-01-{day:02}T00:00:00.000Z"
    return {
        "Id": f"001xx000003DGb{number}AAG", "IsDeleted": "false", "Name": "n", "AnnualRevenue": "1.5E8",
        "NumberOfEmployees": "120", "CreatedDate": at, "LastActivityDate": "", "SystemModstamp": at,
        "Size__c": "", "External_Number__c": "10", **more,
    }  # fmt: skip


class Salesforce:
    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.url = server.url_for("").rstrip("/")
        self.fields = {"instance_url": self.url, "client_id": "app", "client_secret": "s3cret"}
        self.found = [account(number, number) for number in range(1, 6)]
        self.states = ["InProgress", "JobComplete"]
        self.answer: dict[str, object] = {}
        self.columns: list[str] = []
        self.results: list[dict[str, str]] = []
        self.left: list[str] = []
        self.deleted = self.aborted = 0
        self.api.serve("/services/oauth2/token", self.token)
        self.api.serve(f"{DATA}/sobjects/Account/describe", self.describe)
        self.api.serve(f"{DATA}/sobjects/Invoice__c/describe", self.describe)
        self.api.serve(f"{DATA}/jobs/query", self.create)
        self.api.serve(f"{DATA}/jobs/query/{KEY}", self.job)
        self.api.serve(f"{DATA}/jobs/query/{KEY}/results", self.page)

    def token(self, request: Request) -> Response:
        assert (request.form["client_id"], request.form["client_secret"]) == ("app", "s3cret")
        assert request.form["grant_type"] == "client_credentials"
        return as_json({"access_token": "00Dxx!t0ken", "token_type": "Bearer", "instance_url": "x"})

    def describe(self, request: Request) -> Response:
        assert request.headers["Authorization"] == "Bearer 00Dxx!t0ken"
        fields = [
            {"name": name, "type": kind, "custom": name.endswith("__c"), "label": "L", "picklistValues": []}
            for name, kind in TYPES.items()
        ]
        return as_json({"name": "Account", "queryable": True, "childRelationships": [], "fields": fields})

    def create(self, request: Request) -> Response:
        assert request.method == "POST"
        assert request.headers["Authorization"] == "Bearer 00Dxx!t0ken"
        given = request.get_json()
        asked = re.fullmatch(QUERY, given["query"])
        if asked is None or given["operation"] != "queryAll":
            made = as_json([{"errorCode": "API_ERROR", "message": "MALFORMED_QUERY: unexpected token"}])
            made.status_code = 400
            return made
        self.columns, since = asked[1].split(","), asked[2].removesuffix("Z")
        self.results = [item for item in self.found if item["SystemModstamp"][:19] >= since]
        self.results = self.results[: int(asked[3] or 1_000_000)]
        self.left = [*self.states]
        return as_json(self.told("UploadComplete"))

    def told(self, state: str) -> dict[str, object]:
        return {
            "id": KEY, "operation": "queryAll", "object": "Account", "createdById": "005R0000000GiwjIAC",
            "createdDate": "2026-01-10T17:50:19.000+0000", "state": state, "concurrencyMode": "Parallel",
            "contentType": "CSV", "apiVersion": 61.0, "lineEnding": "LF", "columnDelimiter": "COMMA",
        }  # fmt: skip

    def job(self, request: Request) -> Response:
        if request.method == "PATCH":
            assert request.get_json() == {"state": "Aborted"}
            self.aborted += 1
            return as_json(self.told("Aborted"))
        if request.method == "DELETE":
            self.deleted += 1
            return Response(status=204)
        state = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        return as_json({**self.told(state), "jobType": "V2Query", "numberRecordsProcessed": 5, **self.answer})

    def page(self, request: Request) -> Response:
        assert request.headers["Accept"].startswith("text/csv")
        assert request.args["maxRecords"] == "10000"
        start = int(request.args.get("locator", "MTAw0")[4:])
        page, after = self.results[start : start + SIZE], start + SIZE
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(page)
        following = f"MTAw{after}" if after < len(self.results) else "null"
        told = {"Sforce-Locator": following, "Sforce-NumberOfRecords": str(len(page))}
        return Response(
            gzip.compress(text.getvalue().encode()),
            content_type="text/csv",
            headers={"Content-Encoding": "gzip", **told},
        )


@pytest.fixture
def salesforce(httpserver: HTTPServer) -> Salesforce:
    return Salesforce(httpserver)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, which pass at once."""
    found: list[float] = []
    monkeypatch.setattr(Network, "pause", lambda _, seconds, __="": found.append(seconds))
    return found


def test_accounts_come_with_all_fields_once_and_then_only_those_that_changed(
    salesforce: Salesforce, tmp_path: Path, waits: list[float]
) -> None:
    salesforce.found[1]["Name"] = 'a "big" one,\nof two lines'
    salesforce.found[2] |= {
        "External_Number__c": "007",
        "Size__c": "2.0E-3",
        "LastActivityDate": "2026-01-31",
    }
    assert synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields).rows_loaded == 5
    assert salesforce.columns == ASKED
    assert salesforce.deleted == 1
    assert [wait for wait in waits if wait > 0.1] == [1.0, 1.5]
    salesforce.found[0] = account(1, 9, Name="new", IsDeleted="true")
    again = synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields)
    assert again.rows_read == 2  # the newest of before comes again
    found = rows(tmp_path, 'SELECT "Name", "IsDeleted" FROM api.accounts ORDER BY "Id"')
    assert found == [("new", True), ('a "big" one,\nof two lines', False), *[("n", False)] * 3]


def test_columns_have_the_types_that_the_object_says(salesforce: Salesforce, tmp_path: Path) -> None:
    salesforce.found = [account(1, 1), account(2, 2, AnnualRevenue="1.05", External_Number__c="1.10")]
    synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields)
    described = rows(tmp_path, "SELECT column_name, column_type FROM (DESCRIBE api.accounts)")
    assert {name: kind for name, kind in described if not str(name).startswith("_atlas")} == {
        "Id": "VARCHAR", "IsDeleted": "BOOLEAN", "Name": "VARCHAR", "AnnualRevenue": "DOUBLE",
        "NumberOfEmployees": "BIGINT", "CreatedDate": "TIMESTAMP WITH TIME ZONE", "LastActivityDate": "DATE",
        "SystemModstamp": "TIMESTAMP WITH TIME ZONE", "Size__c": "DOUBLE", "External_Number__c": "VARCHAR",
    }  # fmt: skip
    cells = rows(
        tmp_path, 'SELECT "AnnualRevenue", "External_Number__c", "Size__c" FROM api.accounts ORDER BY 2'
    )
    assert cells == [(1.05, "1.10", None), (150_000_000.0, "10", None)]


def test_without_new_records_nothing_changes(salesforce: Salesforce, tmp_path: Path) -> None:
    synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields)
    salesforce.found = []
    again = synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields)
    assert again.rows_read == 0
    assert rows(tmp_path, "SELECT count(*) FROM api.accounts") == [(5,)]


def test_a_job_that_fails_loads_nothing_and_says_why(salesforce: Salesforce, tmp_path: Path) -> None:
    salesforce.states = ["InProgress", "Failed"]
    salesforce.answer = {
        "errorMessage": "InvalidBatch : Failed to process query: 'ada@example.com' of Account"
    }
    with pytest.raises(SourceError) as caught:
        synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields)
    assert caught.value.code == "job_failed"
    assert caught.value.message == (
        f"{salesforce.url}{DATA}/jobs/query: the job ended as Failed: "
        "InvalidBatch : Failed to process query: ... of Account"
    )
    assert [request.path for request in salesforce.api.asked].count(f"{DATA}/jobs/query/{KEY}/results") == 0


def test_a_query_that_is_refused_is_told(salesforce: Salesforce, tmp_path: Path) -> None:
    salesforce.api.serve(f"{DATA}/sobjects/Contact/describe", salesforce.describe)
    with pytest.raises(SourceError) as caught:
        synced(salesforce.api, "salesforce", tmp_path, "contacts", **salesforce.fields)
    assert caught.value.code == "http_400"
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_connection_is_tested_and_an_object_described_without_a_job(salesforce: Salesforce) -> None:
    made = connector(salesforce.api, "salesforce", **salesforce.fields)
    assert made.test().message == "accounts answered with its description; no job was begun"
    info = made.describe(stream("salesforce", "accounts", **salesforce.fields))
    made.close()
    assert [column.name for column in info.columns] == ASKED
    assert {column.name: column.type for column in info.columns}["Size__c"] == "double"
    assert (info.primary_key, info.cursor_candidates) == (("Id",), ("SystemModstamp",))
    assert f"{DATA}/jobs/query" not in [request.path for request in salesforce.api.asked]


def test_further_objects_are_streams_of_their_own(salesforce: Salesforce, tmp_path: Path) -> None:
    fields = {**salesforce.fields, "objects": ["Invoice__c"]}
    assert synced(salesforce.api, "salesforce", tmp_path, "Invoice__c", **fields).rows_loaded == 5
    assert rows(tmp_path, "SELECT count(*) FROM api.invoice__c") == [(5,)]
    with pytest.raises(ValueError, match="objects"):
        connector(salesforce.api, "salesforce", **salesforce.fields, objects=["x FROM y"])


def test_a_preview_asks_for_a_few_records_and_leaves_no_job(salesforce: Salesforce) -> None:
    with closing(connector(salesforce.api, "salesforce", **salesforce.fields)) as made:
        _, found = preview(made, stream("salesforce", "accounts", **salesforce.fields), 3)
    assert len(found) == len(salesforce.results) == 3
    assert (salesforce.deleted, salesforce.aborted) == (1, 0)


def test_a_job_that_is_not_done_in_time_is_aborted(
    salesforce: Salesforce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    salesforce.states = ["InProgress"]
    ticks = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(sent, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with pytest.raises(SourceError) as caught:
        synced(salesforce.api, "salesforce", tmp_path, "accounts", **salesforce.fields)
    assert caught.value.code == "job_deadline"
    assert (salesforce.deleted, salesforce.aborted) == (1, 1)


def test_what_was_recorded_is_replayed_with_its_looks_at_the_job(
    salesforce: Salesforce, tmp_path: Path
) -> None:
    def project(name: str) -> Atlas:
        (tmp_path / name / "connectors.d").mkdir(parents=True)
        given = {
            "protocol": "salesforce", "connection": salesforce.fields, "streams": [{"table": "accounts"}]
        }  # fmt: skip
        (tmp_path / name / "connectors.d" / "crm.yaml").write_text(yaml.safe_dump(given))
        return Atlas.open(tmp_path / name, {})

    def loaded(atlas: Atlas, **tape: Path) -> list[dict[str, object]]:
        *_, last = atlas.sync(["crm"], **tape)  # type: ignore[arg-type]
        assert isinstance(last, RunFinished)
        assert last.run.status is RunStatus.COMPLETED, last.run.error
        found = atlas.query('SELECT "Id", "Name", "AnnualRevenue" FROM crm.accounts ORDER BY 1')
        return found.to_pylist()  # type: ignore[no-any-return]

    cassette = tmp_path / "crm.cassette.yaml"
    first = loaded(project("recorded"), record=cassette)
    salesforce.api.server.clear()  # nobody answers any more
    assert len(first) == 5
    assert loaded(project("replayed"), replay=cassette) == first
    assert "s3cret" not in cassette.read_text()
