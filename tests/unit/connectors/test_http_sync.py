"""From an API into DuckDB through the data path: pages, types that widen, and what is new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from atlas_etl.connectors.http import _rows
from atlas_etl.connectors.http._parents.parent_bounds import PARENT
from atlas_etl.errors import NullCursorError, SourceError
from atlas_etl.model import Disposition, Stream
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync

PAGES = {"type": "page"}


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


@pytest.fixture
def small_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first page is looked at before rows are loaded, and each page is decoded by itself."""
    monkeypatch.setattr(_rows, "_SURVEY_ROWS", 1)
    monkeypatch.setattr(_rows, "_CHUNK_BYTES", 1)


def test_one_plain_resource_is_replaced_by_each_sync(api: Api, tmp_path: Path) -> None:
    held = [{"id": 1, "name": "Ada"}, {"id": 2, "name": None}]
    api.serve("/people", lambda _: as_json(held))
    stream = Stream("people", path="people")
    outcome = sync(api.connector(), tmp_path, stream)
    assert (outcome.disposition, outcome.rows_loaded) == (Disposition.REPLACE, 2)
    held.pop()
    sync(api.connector(), tmp_path, stream)
    assert rows(tmp_path, "SELECT * FROM api.people") == [(1, "Ada")]


@pytest.mark.parametrize(
    ("disposition", "key"), [(Disposition.MERGE, ("id",)), (Disposition.APPEND, ())], ids=str
)
def test_only_what_is_new_is_loaded(
    api: Api, tmp_path: Path, disposition: Disposition, key: tuple[str, ...]
) -> None:
    held = [{"id": n, "at": f"2026-01-0{n}T00:00:00Z"} for n in (1, 2, 3)]
    api.serve("/orders", lambda _: as_json({"data": held}))
    stream = Stream("orders", path="orders", cursor="at", primary_key=key, disposition=disposition)
    first = sync(api.connector(), tmp_path, stream)
    assert first.checkpoint is not None
    assert first.checkpoint.high.text == "2026-01-03T00:00:00.000000Z"
    held += [{"id": 4, "at": "2026-01-03T00:00:00Z"}, {"id": 5, "at": "2026-01-04T00:00:00Z"}]
    second = sync(api.connector(), tmp_path, stream)
    assert second.rows_read == 3
    assert rows(tmp_path, "SELECT id FROM api.orders ORDER BY id") == [(n,) for n in (1, 2, 3, 4, 5)]


@pytest.mark.usefixtures("small_survey")
def test_an_id_that_turns_into_a_string_later_widens_and_is_fetched_once(api: Api, tmp_path: Path) -> None:
    pages = [
        '[{"id": 1, "x": null}]',
        '[{"id": 9007199254740993, "x": 1.50}]',
        '[{"id": "A-7", "new": true}]',
    ]
    api.serve_pages("/things", pages)
    outcome = sync(api.connector(pagination=PAGES), tmp_path, Stream("things", path="things"))
    assert outcome.rows_loaded == 3
    assert rows(tmp_path, "SELECT id, x::VARCHAR, new FROM api.things ORDER BY id") == [
        ("1", None, None), ("9007199254740993", "1.50", None), ("A-7", None, True),
    ]  # fmt: skip
    assert len(api.asked) == 4


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ('{"id": 1, "v": 1}', '{"id": 2, "v": "x"}', "VARCHAR"),
        ('{"id": 1, "v": "x"}', '{"id": 2, "v": "2026-01-01"}', "VARCHAR"),
        ('{"id": 1, "v": "2026-01-01T00:00:00Z"}', '{"id": 2, "v": null}', "TIMESTAMP WITH TIME ZONE"),
        ('{"id": 1, "v": 1e-7}', '{"id": 2, "v": 3}', "DOUBLE"),
        ('{"id": 1, "v": {"a": 1}}', '{"id": 2, "v": 3}', "JSON"),
        ('{"id": 1, "v": 1.5}', '{"id": 2, "v": 3}', "DECIMAL(18,1)"),
        ('{"id": 1}', '{"id": 2, "v": true}', "BOOLEAN"),
        ('{"id": 1, "v": null}', '{"id": 2, "v": 5}', "BIGINT"),
    ],
)
def test_types_hold_over_runs(api: Api, tmp_path: Path, first: str, second: str, kind: str) -> None:
    held = [first]
    api.serve("/things", lambda _: as_json(f"[{','.join(held)}]"))
    stream = Stream("things", path="things", cursor="id", primary_key=("id",))
    sync(api.connector(), tmp_path, stream)
    held[:] = [second]
    sync(api.connector(), tmp_path, stream)
    ((found,),) = set(rows(tmp_path, "SELECT typeof(v) FROM api.things"))
    assert found == kind
    shown = rows(tmp_path, "SELECT v::VARCHAR FROM api.things ORDER BY id")
    for text, (cell,) in zip((first, second), shown, strict=True):
        value = json.loads(text).get("v")
        assert (cell is None) == (value is None)


def test_a_string_has_one_spelling_whatever_comes_beside_it(api: Api, tmp_path: Path) -> None:
    pages = ['[{"id": 1, "v": "a"}]', '[{"id": 2, "v": "a"}, {"id": 3, "v": {"b": "c"}}, {"id": 4, "v": 5}]']
    held = [""]
    api.serve("/things", lambda _: as_json(held[0]))
    stream = Stream("things", path="things", cursor="id", primary_key=("id",))
    for page in (*pages, '[{"id": 5, "v": "a"}, {"id": 6, "v": ["x"]}]'):
        held[0] = page
        sync(api.connector(), tmp_path, stream)
    found = rows(tmp_path, "SELECT v FROM api.things ORDER BY id")
    assert found == [("a",), ("a",), ('{"b": "c"}',), ("5",), ("a",), ('["x"]',)]


def test_nothing_new_and_nothing_ever(api: Api, tmp_path: Path) -> None:
    held: list[dict[str, object]] = []
    api.serve("/orders", lambda _: as_json({"data": held}))
    stream = Stream("orders", path="orders", cursor="id", primary_key=("id",))
    assert sync(api.connector(), tmp_path, stream).rows_loaded == 0
    held.append({"id": 1, "v": 1.5})
    assert sync(api.connector(), tmp_path, stream).rows_loaded == 1
    held.clear()
    assert sync(api.connector(), tmp_path, stream).rows_read == 0
    assert rows(tmp_path, "SELECT * FROM api.orders") != []
    emptied = Stream("orders", path="orders", disposition=Disposition.REPLACE)
    sync(api.connector(), tmp_path, emptied)
    assert rows(tmp_path, "SELECT * FROM api.orders") == []


@pytest.mark.usefixtures("small_survey")
def test_a_record_without_a_cursor_is_found_wherever_it_is(api: Api, tmp_path: Path) -> None:
    api.serve_pages("/orders", ['[{"id": 1, "at": "2026-01-01"}]', '[{"id": 2, "at": null}]'])
    with pytest.raises(NullCursorError):
        sync(api.connector(pagination=PAGES), tmp_path, Stream("orders", path="orders", cursor="at"))
    tables = rows(tmp_path, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'api'")
    assert ("orders",) not in tables


def test_pages_that_wait_are_bounded_and_come_in_order(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas_etl.connectors.http._pages._AHEAD", 100)
    api.serve_pages("/things", [f'[{{"id": {n}, "text": "{"x" * 90}"}}]' for n in range(20)])
    found = read(api.connector(pagination=PAGES), Stream("things", path="things"))
    assert found.column("id").to_pylist() == list(range(20))


def test_discover_describes_what_the_definition_names(api: Api) -> None:
    api.serve("/v1/orders", lambda _: as_json([{"id": 1, "at": "2026-01-01", "to": {"a": 1}}, {"id": 2}]))
    connector = api.connector(resources={"orders": {"path": "/v1/orders", "primary_key": "id"}})
    (found,) = connector.discover()
    assert [(column.name, column.type, column.nullable) for column in found.columns] == [
        ("id", "int64", False), ("at", "date", True), ("to", "json", True),
    ]  # fmt: skip
    assert (found.name, found.primary_key, found.cursor_candidates) == ("orders", ("id",), ("id",))
    assert connector.test().message == "orders answered, with 2 records on its first page"
    connector.close()


def test_two_members_are_not_flattened_into_one(api: Api) -> None:
    api.serve("/things", lambda _: as_json('[{"a": {"b": 1}, "a__b": 2}]'))
    with pytest.raises(SourceError) as caught:
        read(api.connector(nested="flatten"), Stream("things", path="things"))
    assert caught.value.code == "flattened_twice"


def test_a_member_of_any_name_comes(api: Api) -> None:
    api.serve("/things", lambda _: as_json([{PARENT: 1, "id": 2}]))
    assert read(api.connector(), Stream("things", path="things")).to_pylist() == [{PARENT: 1, "id": 2}]
