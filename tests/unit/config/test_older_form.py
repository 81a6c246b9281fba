"""The older JSON form has the same meaning as today's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from atlas_etl.config.definitions import load_definition, read_definition, update_definition
from atlas_etl.config.older_form import from_older_form, is_older_form
from atlas_etl.config.yaml_source import parse_mapping
from atlas_etl.errors import ConfigError

Define = Callable[..., Path]


def _convert(old: Mapping[str, object]) -> object:
    return from_older_form(parse_mapping(json.dumps(old), "old.json"), "old.json").values


OLD = {
    "source_type": "postgres",
    "source_name": "shop",
    "description": "Orders",
    "enabled": False,
    "config": {
        "host": "db",
        "port": 5432,
        "username": "etl",
        "password": "hunter2",
        "database": None,
        "auth_type": "bearer",
        "auth_token": "hunter2",
        "api_key": "hunter2",
        "additional_params": {"sslmode": "require"},
    },
    "table": "public.orders",
    "query": None,
    "incremental": True,
    "timestamp_column": "updated_at",
    "schedule_cron": "0 * * * *",
}
NEW = {
    "name": "shop",
    "protocol": "postgres",
    "description": "Orders",
    "enabled": False,
    "connection": {
        "host": "db",
        "port": 5432,
        "username": "etl",
        "password": "hunter2",
        "auth_type": "bearer",
        "auth_token": "hunter2",
        "api_key": "hunter2",
        "options": {"sslmode": "require"},
    },
    "streams": [{"table": "public.orders", "cursor": "updated_at"}],
    "schedule": "0 * * * *",
}


def test_everything() -> None:
    assert _convert(OLD) == NEW


@pytest.mark.parametrize(
    ("changes", "streams"),
    [
        ({"incremental": False}, [{"table": "public.orders"}]),
        ({"incremental": None}, [{"table": "public.orders", "cursor": "updated_at"}]),
        (
            {"table": "", "query": "SELECT 1"},
            [{"name": "shop", "query": "SELECT 1", "cursor": "updated_at"}],
        ),
        ({"table": None, "incremental": False}, None),
    ],
)
def test_streams(changes: Mapping[str, object], streams: object) -> None:
    converted = _convert({**OLD, **changes})
    assert isinstance(converted, dict)
    assert converted.get("streams") == streams


def test_the_least() -> None:
    old = {"source_type": "sqlite", "source_name": "a", "schedule_cron": "", "config": None}
    assert _convert(old) == {"name": "a", "protocol": "sqlite", "connection": {}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"incremantal": True}, "old.json:1: incremantal: unknown key"),
        ({"source_name": None}, "old.json:1: source_name: is required in the older form"),
        ({"query": "SELECT 1"}, "old.json:1: query: table and query are both given, and one stream reads"),
        ({"timestamp_column": None}, "old.json:1: incremental: needs a timestamp_column"),
        ({"incremental": "maybe"}, "old.json:1: incremental: should be true or false"),
        ({"table": None}, "old.json:1: timestamp_column: needs a table or a query"),
        ({"config": ["hunter2"]}, "old.json:1: config: should be a mapping"),
        (
            {"config": {"additional_params": "hunter2"}},
            "old.json:1: config: additional_params and options should",
        ),
        (
            {"config": {"additional_params": {"a": 1}, "options": {"a": 2}}},
            "old.json:1: config: additional_params and options set the same key",
        ),
    ],
)
def test_mistakes(changes: Mapping[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _convert({**OLD, **changes})
    assert caught.value.message.startswith(message)
    assert caught.value.code == "older_form"


def test_the_nearest_key() -> None:
    with pytest.raises(ConfigError) as caught:
        _convert({**OLD, "incremantal": True})
    assert caught.value.hint == "did you mean 'incremental'?"


def test_it_is_recognised() -> None:
    assert is_older_form({"source_type": "x"})
    assert not is_older_form({"protocol": "x"})


def test_it_loads_from_the_folder_and_from_a_file(folder: Path, define: Define) -> None:
    path = define(json.dumps(OLD), "shop.json")
    loaded = load_definition(folder, "shop", {})
    assert loaded.written.values == NEW
    assert loaded.definition.to_streams()[0].cursor == "updated_at"
    assert read_definition(path, "other", {}) == {key: value for key, value in NEW.items() if key != "name"}
    update_definition(folder, "shop", {("enabled",): True}, {})
    assert json.loads(path.read_text()) == {**NEW, "enabled": True}
