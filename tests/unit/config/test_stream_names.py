"""Streams that completion offers are those of the loaded definition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atlas_etl.config.definitions import load_definition
from atlas_etl.config.stream_names import stream_names
from atlas_etl.connectors import registry
from atlas_etl.errors import ConfigError

EXAMPLES = Path(__file__).parents[3] / "examples"
ENVIRON = {"SCHEMA": "sales"}
STREAMS: dict[str, list[object]] = {
    "none": [],
    "short": ["orders", "sales.refunds", '"a.b"', "sales.`c``d`", "${env:SCHEMA}.items"],
    "named": [{"name": "x y", "query": "SELECT 1"}, {"name": None, "table": "t"}],
    "files": [{"path": "in/orders-*.csv.gz"}, {"path": "s3://bucket/*/*.parquet"}],
}


@pytest.mark.parametrize("streams", STREAMS.values(), ids=STREAMS)
def test_names_are_those_of_the_definition(tmp_path: Path, streams: list[object]) -> None:
    (tmp_path / "connectors.d").mkdir()
    file = tmp_path / "connectors.d" / "shop.json"
    file.write_text(json.dumps({"protocol": "csv", "streams": streams}))
    names = stream_names(tmp_path, "shop", ENVIRON)
    assert names == [stream.name for stream in load_definition(tmp_path, "shop", ENVIRON).definition.streams]
    assert len(names) == len(streams)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("[!a]*.yaml")), ids=lambda path: path.stem)
def test_names_of_the_examples(tmp_path: Path, example: Path) -> None:
    (tmp_path / "connectors.d").mkdir()
    (tmp_path / "connectors.d" / example.name).write_text(example.read_text())
    loaded = load_definition(tmp_path, example.stem, {}).definition
    names = stream_names(tmp_path, example.stem, {}, registry.preset)
    adapter = registry.load(str(loaded.protocol))
    if loaded.streams or adapter.taped is None:
        assert names == [stream.name for stream in loaded.streams]
        return
    connection = load_definition(tmp_path, example.stem, {}).written.values["connection"]
    offered = adapter.default_streams(adapter.connection.model_validate(connection))
    assert names == [stream.name for stream in offered] != []


@pytest.mark.parametrize(
    "protocol", [info.protocol for info in registry.protocols() if info.preset is not None]
)
def test_a_preset_offers_its_resources(tmp_path: Path, protocol: str) -> None:
    (tmp_path / "connectors.d").mkdir()
    (tmp_path / "connectors.d" / "crm.yaml").write_text(f"protocol: {protocol.upper()}\n")
    resources = registry.load(protocol).connection.preset().connection["resources"]
    assert stream_names(tmp_path, "crm", {}, registry.preset) == list(resources) != []


def test_objects_that_a_definition_asks_a_preset_for_are_streams_too(tmp_path: Path) -> None:
    (tmp_path / "connectors.d").mkdir()
    definition = {"protocol": "salesforce", "connection": {"objects": ["Invoice__c"]}}
    (tmp_path / "connectors.d" / "crm.json").write_text(json.dumps(definition))
    names = stream_names(tmp_path, "crm", {}, registry.preset)
    assert names[:2] == ["Invoice__c", "accounts"]


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        stream_names(tmp_path, "nothing", {})
    (tmp_path / "connectors.d").mkdir()
    (tmp_path / "connectors.d" / "odd.yaml").write_text("streams: {a: 1}\n")
    assert stream_names(tmp_path, "odd", {}) == []
