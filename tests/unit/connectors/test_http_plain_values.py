"""Lists of plain values: rows with the column that the definition names, and else an error."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync

THINGS = Stream("things", table="things")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def described(**resource: object) -> dict[str, object]:
    return {"things": {"path": "/things", "pagination": "none", **resource}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'["EUR", "U\\u0053D", null]', ["EUR", "USD", None]),
        (b"[1, 12345678901234567890.5]", [Decimal(1), Decimal("12345678901234567890.5")]),
        (b'[[1, "0.10"],\n [2, "0.20"]]', ['[1, "0.10"]', '[2, "0.20"]']),
    ],
)
def test_each_value_is_a_row(api: Api, content: bytes, expected: list[object]) -> None:
    api.serve("/things", lambda _: Response(content, content_type="application/json"))
    found = read(api.connector(resources=described(value_column="currency code")), THINGS)
    assert found.column("currency code").to_pylist() == expected


def test_pages_of_values_arrive_in_the_table(api: Api, tmp_path: Path) -> None:
    codes = [f"c{number}" for number in range(25)]

    def page(request: Request) -> Response:
        first = int(request.args.get("offset", "0"))
        return as_json({"codes": {"list": codes[first : first + 10]}})

    api.serve("/things", page)
    pagination = {"type": "offset", "page_size": 10}
    resources = described(
        records="codes.list", value_column="code", pagination=pagination, primary_key=["code"]
    )
    sync(api.connector(resources=resources), tmp_path, THINGS)
    assert rows(tmp_path, "SELECT code FROM api.things ORDER BY code") == sorted((code,) for code in codes)


def test_objects_stay_as_they_are(api: Api) -> None:
    api.serve("/things", lambda _: as_json({"id": 1}))
    assert read(api.connector(resources=described(value_column="v")), THINGS).to_pylist() == [{"id": 1}]


def test_values_without_a_name_are_refused_with_the_word_for_it(api: Api) -> None:
    api.serve("/things", lambda _: as_json(["EUR"]))
    with pytest.raises(SourceError) as caught:
        read(api.connector(resources=described()), THINGS)
    assert caught.value.code == "not_objects"
    assert "value_column" in str(caught.value.hint)
