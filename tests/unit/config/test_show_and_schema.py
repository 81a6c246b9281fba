"""What people and editors are shown of a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, SecretStr

from atlas_etl.config.connection import connector_connection
from atlas_etl.config.definitions import load_definition
from atlas_etl.config.project import load_project
from atlas_etl.config.schema import definition_schema
from atlas_etl.config.secrecy import MASK
from atlas_etl.config.show import effective_connector, effective_project

Define = Callable[..., Path]


class Auth(BaseModel):
    kind: Literal["basic", "bearer"] = "basic"
    pin: SecretStr


class Server(BaseModel):
    host: str = "localhost"
    port: int = 5432
    phrase: SecretStr | None = None
    auth: Auth | None = None
    base: Path = Path("data")


class File(BaseModel):
    path: Path
    header: bool = True


def test_a_connector_is_shown_whole_and_without_secrets(folder: Path, define: Define) -> None:
    define(
        "protocol: server\nconnection:\n  password: ${env:PW}\n  token: hunter2\n  phrase: hunter2\n"
        "  auth: {pin: hunter2}\nstreams:\n  - table: a\n    primary_key: [id]\n  - b\nenabled: false\n"
    )
    environ = {"ATLAS_CONNECTOR_SHOP__API_KEY": "hunter2", "ATLAS_CONNECTOR_SHOP__PORT": "1"}
    loaded = load_definition(folder, "shop", environ)
    layered = connector_connection(load_project(folder, environ), loaded, "server", Server)
    shown = effective_connector(loaded, layered, Server)
    assert "hunter2" not in repr(shown)
    assert [(setting.key, setting.value, setting.origin) for setting in shown] == [
        ("protocol", "server", "file connectors.d/shop.yaml:1"),
        ("connection.host", "localhost", "default"),
        ("connection.port", "1", "environment ATLAS_CONNECTOR_SHOP__PORT"),
        ("connection.base", "data", "default"),
        ("connection.password", "${env:PW}", "file connectors.d/shop.yaml:3"),
        ("connection.token", MASK, "file connectors.d/shop.yaml:4"),
        ("connection.phrase", MASK, "file connectors.d/shop.yaml:5"),
        ("connection.auth.pin", MASK, "file connectors.d/shop.yaml:6"),
        ("connection.api_key", MASK, "environment ATLAS_CONNECTOR_SHOP__API_KEY"),
        ("streams[0].table", "a", "file connectors.d/shop.yaml:7"),
        ("streams[0].primary_key", ["id"], "file connectors.d/shop.yaml:7"),
        ("streams[1]", "b", "file connectors.d/shop.yaml:7"),
        ("enabled", False, "file connectors.d/shop.yaml:11"),
        ("quarantine_limit", 0, "default"),
        ("metadata_columns", False, "default"),
        ("batch_bytes", 16777216, "default"),
        ("window.rows", 1000000, "default"),
        ("window.bytes", 536870912, "default"),
        ("retry.attempts", 3, "default"),
        ("retry.first_wait", "PT1S", "default"),
        ("retry.longest_wait", "PT1M", "default"),
    ]


def test_a_secret_is_masked_wherever_else_it_stands(folder: Path, define: Define) -> None:
    define(
        "protocol: server\ndescription: log in with hunter2hunter2\n"
        "connection:\n  host: shop\n  password: hunter2hunter2\n  token: shop\n"
        "streams:\n  - name: s\n    query: SELECT login('hunter2hunter2')\n"
    )
    loaded = load_definition(folder, "shop", {})
    shown = effective_connector(
        loaded, connector_connection(load_project(folder, {}), loaded, "server", Server), Server
    )
    values = {setting.key: setting.value for setting in shown}
    assert values["description"] == f"log in with {MASK}"
    assert values["streams[0].query"] == f"SELECT login('{MASK}')"
    assert (values["connection.token"], values["connection.host"]) == (MASK, "shop")


def test_a_project_is_shown_whole_and_without_secrets(folder: Path) -> None:
    (folder / "atlas.yaml").write_text(
        "destinations:\n  pg: postgresql://u:hunter2@h/d\n  b: ${env:NOT_SET}\n"
        "state: {protocol: x, password: hunter2}\n"
    )
    shown = effective_project(load_project(folder, {"ATLAS_TIMEZONE": "Asia/Tokyo"}))
    assert json.loads(json.dumps({setting.key: [setting.value, setting.origin] for setting in shown})) == {
        "timezone": ["Asia/Tokyo", "environment ATLAS_TIMEZONE"],
        "schedule.jobs": [4, "default"],
        "schedule.executor": ["process", "default"],
        "schedule.catch_up": ["once", "default"],
        "schedule.catch_up_window": ["P1D", "default"],
        "schedule.jitter": ["PT0S", "default"],
        "schedule.timeout": ["P1D", "default"],
        "schedule.retries": [3, "default"],
        "schedule.retry_wait": ["PT1M", "default"],
        "schedule.longest_retry_wait": ["PT1H", "default"],
        "schedule.breaker.failures": [5, "default"],
        "schedule.breaker.cooldown": ["PT15M", "default"],
        "schedule.test": ["every 15m", "default"],
        "schedule.test_timeout": ["PT1M", "default"],
        "schedule.test_jobs": [2, "default"],
        "schedule.late_after": ["PT10M", "default"],
        "schedule.shutdown_grace": ["PT30S", "default"],
        "history_retention": ["90d", "default"],
        "key_store": ["file", "default"],
        "destinations.pg": [f"postgresql://u:{MASK}@h/d", "file atlas.yaml:2"],
        "destinations.b": ["${env:NOT_SET}", "file atlas.yaml:3"],
        "state.protocol": ["x", "file atlas.yaml:4"],
        "state.password": [MASK, "file atlas.yaml:4"],
    }


def test_the_schema_knows_each_protocols_connection() -> None:
    schema = json.loads(json.dumps(definition_schema({"server": Server, "srv": Server, "file": File})))
    assert schema["required"] == ["protocol"]
    assert schema["properties"]["protocol"]["enum"] == ["server", "srv", "file"]
    assert schema["additionalProperties"] is False
    cases = {
        case["if"]["properties"]["protocol"]["const"]: case["then"]["properties"]["connection"]["$ref"]
        for case in schema["allOf"]
    }
    assert cases == {
        "server": "#/$defs/connection-server",
        "srv": "#/$defs/connection-server",
        "file": "#/$defs/connection-file",
    }
    for reference in _references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]
    file = schema["$defs"]["connection-file"]
    assert "required" not in file
    assert file["properties"]["header"] == {
        "title": "Header",
        "default": True,
        "anyOf": [{"type": "boolean"}, {"type": "string", "pattern": r"\$\{"}],
    }
    assert "required" not in schema["$defs"]["StreamDefinition"]


def _references(schema: object) -> list[str]:
    if isinstance(schema, dict):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [found for value in schema.values() for found in _references(value)]
    if isinstance(schema, list):
        return [found for value in schema for found in _references(value)]
    return []
