"""Presets: protocols made of YAML files, with nothing but substitution between a field and a request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from pytest_httpserver import HTTPServer

from atlas_etl.api.atlas import Atlas
from atlas_etl.config.secrecy import secret_fields
from atlas_etl.connectors import registry
from atlas_etl.connectors.http.preset import PresetConnection, adapter
from atlas_etl.model import Stream
from tests.unit.connectors.http_api import Api, as_json, read

PRESETS = [info for info in registry.protocols() if info.preset is not None]
FILE = """# Shop: a shop's orders
documentation: https://example.com/docs
fields:
  key: {help: the key, type: secret}
  shop: {help: the shop, pattern: "[a-z ]+"}
  site: {help: one site, optional: true}
  size: {help: of pages, type: integer, default: 50}
  all: {help: closed ones too, type: boolean, default: false}
connection:
  base_url: https://{shop}.example.com
  auth: {type: api_key, api_key: "{key}"}
  headers: {X-Client: atlas}
  pagination: none
  resources:
    orders:
      path: /shops/{shop}/orders/{unknown}
      params: {site: "{site}", size: "{size}", all: "{all}", note: "of {shop}, {size}"}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(FILE)
    return tmp_path / "shop.yaml"


def described(file: Path, **given: object) -> PresetConnection:
    return adapter(file).connection.model_validate(given)


def test_fields_come_where_the_template_names_them(shop: Path) -> None:
    http = described(shop, key="{shop}", shop="a b").http()
    orders = http.resources["orders"]
    assert http.base_url == "https://a b.example.com"
    assert http.auth.api_key == SecretStr("{shop}")
    assert orders.path == "/shops/a%20b/orders/{unknown}"
    assert orders.params == {"size": 50, "all": False, "note": "of a b, 50"}
    assert described(shop, key="k", shop="b", site="x").http().resources["orders"].params["site"] == "x"


def test_settings_of_a_definition_win_over_those_of_the_preset(shop: Path) -> None:
    http = described(
        shop, key="k", shop="b", base_url="https://own.example.com", headers={"X-Two": "2"}, attempts=1
    ).http()
    assert (http.base_url, http.attempts) == ("https://own.example.com", 1)
    assert http.headers == {"X-Client": "atlas", "X-Two": "2"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"shop": "a"}, "key"),
        ({"key": "k", "shop": "evil.com/"}, "should look like"),
        ({"key": "k", "shop": "a", "size": "x"}, "size"),
        ({"key": "k", "shop": "a", "shoop": "x"}, "shoop"),
    ],
)
def test_what_cannot_be_meant_is_refused(shop: Path, given: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        described(shop, **given)
    assert "evil" not in str(caught.value)


def test_secrets_are_secrets(shop: Path) -> None:
    model = adapter(shop).connection
    assert ("key",) in set(secret_fields(model))
    assert "s3cret" not in repr(model.model_validate({"key": "s3cret", "shop": "a"}))
    assert model.model_json_schema()["properties"]["key"]["format"] == "password"


def test_a_field_cannot_take_the_name_of_a_setting(shop: Path) -> None:
    shop.write_text(FILE.replace("  site:", "  headers:"))
    with pytest.raises(ValidationError, match="headers is a setting"):
        adapter(shop)


@pytest.mark.parametrize("info", PRESETS, ids=lambda info: info.protocol)
def test_every_preset_says_what_it_is_and_where_it_is_from(info: registry.ProtocolInfo) -> None:
    loaded = registry.load(info.protocol)
    schema = loaded.connection.model_json_schema()
    assert ": " in info.summary
    assert info.installed
    assert "written from https://" in schema["description"]
    assert schema["required"]
    for name in schema["required"]:
        assert schema["properties"][name]["description"]


def test_a_stream_that_names_a_resource_has_its_cursor_and_key(tmp_path: Path) -> None:
    folder = tmp_path / "connectors.d"
    folder.mkdir()
    definition = {
        "protocol": "github",
        "connection": {"token": "t", "owner": "octo"},
        "streams": [{"table": "issues"}, {"table": "commits"}, {"table": "issues", "name": "again"}],
    }
    (folder / "hub.yaml").write_text(json.dumps(definition))
    streams = Atlas.open(tmp_path, {}).connector("hub").streams()
    assert [stream.cursor for stream in streams] == ["updated_at", None, "updated_at"]
    definition["streams"] = [{"table": "issues", "disposition": "replace"}, {"path": "/meta"}]
    (folder / "hub.yaml").write_text(json.dumps(definition))
    assert [stream.cursor for stream in Atlas.open(tmp_path, {}).connector("hub").streams()] == [None, None]


def test_statuses_may_mean_no_records(httpserver: HTTPServer) -> None:
    api = Api(httpserver)
    gone = as_json({"message": "gone"})
    gone.status_code = 410
    api.serve("/list", lambda _: as_json([{"id": 1}, {"id": 2}]))
    api.serve("/1/more", lambda _: gone)
    api.serve("/2/more", lambda _: as_json([{"n": 7}]))
    more = {"path": "/{id}/more", "parent": {"resource": "list", "fields": {"id": "id"}}, "empty_on": [410]}
    found = read(api.connector(resources={"list": "/list", "more": more}), Stream("more", table="more"))
    assert found.to_pylist() == [{"id": 2, "n": 7}]
