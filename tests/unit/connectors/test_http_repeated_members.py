"""Members that stand twice in an object of an answer: nothing is loaded, wherever they stand."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from pytest_httpserver import HTTPServer

from atlas_etl.connectors.http._documents.repeated_members import repeated_member
from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync

THINGS = Stream("things", table="/things")


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def twice(api: Api, *pages: str, **config: object) -> None:
    api.serve_pages("/things", pages)
    with pytest.raises(SourceError, match="stands twice") as caught:
        read(api.connector(**{"pagination": "none", **config}), THINGS)
    assert caught.value.code == "member_twice"


@pytest.mark.parametrize(
    ("page", "config"),
    [
        ('[{"id": 1, "a": 1, "a": 2}]', {}),
        ('[{"id": 1}, {"id":2,"a":3,"a":3}]', {}),
        ('[{"id": 1, "o": {"a": 1, "a": 2}}]', {"nested": "flatten"}),
        ('{"data": [{"id": 1}], "data": [{"id": 2}]}', {}),
        ('{"data": [{"id": 1}], "data": [{"id": 2}]}', {"records": "data"}),
        ('{"d": {"rows": [{"id": 1}], "rows": []}}', {"records": "d.rows"}),
        ('{"e": [{"node": {"id": 1}, "node": {"id": 2}}]}', {"records": "e[*].node"}),
        ('{"id": 1, "id": 2}\n{"id": 3}', {"format": "jsonl"}),
    ],
)  # fmt: skip
def test_nothing_is_loaded(api: Api, page: str, config: dict[str, object]) -> None:
    twice(api, page, **config)


def test_a_position_that_is_told_twice_is_none(api: Api) -> None:
    answer = '{"data": [{"id": 1}], "more": true, "more": false}'
    api.serve("/things", lambda _: as_json(answer))
    with pytest.raises(SourceError) as caught:
        read(api.connector(pagination={"type": "page", "has_more": "more"}), THINGS)
    assert caught.value.code == "member_twice"


@pytest.mark.parametrize("late", ['"a": 1, "a": 2', '"o": {"b": 1}, "o": {"b": 2}', '"x": 1.5, "x": 2.5'])
def test_later_pages_are_looked_at_too(api: Api, tmp_path: Path, late: str) -> None:
    """Whichever way they are read, with columns that the parser reads and with others."""
    records = [{"id": n, "a": n, "o": {"b": n}, "x": n / 4} for n in range(12_000)]
    last = f'[{{"id": 0, {late}}}]'
    api.serve_pages("/things", [json.dumps(records[:6_000]), json.dumps(records[6_000:]), last])
    with pytest.raises(SourceError) as caught:
        sync(api.connector(pagination="page"), tmp_path, THINGS)
    assert caught.value.code == "member_twice"


def test_objects_within_a_document_stay_as_they_were_written(api: Api, tmp_path: Path) -> None:
    api.serve_pages("/things", ['[{"id": 1, "o": {"a": 1, "a": 2}}, {"id": 2, "o": {"o": 3}}]'])
    sync(api.connector(pagination="page"), tmp_path, THINGS)
    assert rows(tmp_path, "SELECT o::VARCHAR FROM api.things WHERE id = 1") == [('{"a": 1, "a": 2}',)]


@pytest.mark.parametrize(
    "text",
    [rb'{"\u0061": 1, "b": {"a": 2, "a": 3}}', b'{ "a" : 1 }', b"{}", '{"\u00e9": "\\u00e9"}'.encode()],
)
def test_names_that_are_written_otherwise_are_no_others(text: bytes) -> None:
    assert repeated_member(text, msgspec.json.decode(text, type=dict[str, msgspec.Raw])) is None
