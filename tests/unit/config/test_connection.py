"""The effective connection: its layers, its validation, and `load_connection_config`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from atlas_etl.api.connection_config import load_connection_config
from atlas_etl.config.connection import connector_connection, validate_connection
from atlas_etl.config.definitions import load_definition
from atlas_etl.config.keys import dotted
from atlas_etl.config.layers import Layered
from atlas_etl.config.project import load_project
from atlas_etl.errors import ConfigError

Define = Callable[..., Path]
Refused = Callable[..., ConfigError]


class Tls(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    ca: str = ""
    depth: int = 1


class Connection(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    host: str = "localhost"
    port: int | None = Field(default=None, ge=1, le=65535)
    username: str | None = None
    password: SecretStr
    folder: str = ""
    tls: Tls | None = None
    compress: bool = False
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)

    @field_validator("folder")
    @classmethod
    def _below(cls, value: str, info: ValidationInfo) -> str:
        return f"{(info.context or {})['project']}/{value}"


@pytest.fixture
def layered(folder: Path) -> Callable[..., Layered]:
    def call(environ: Mapping[str, str]) -> Layered:
        loaded = load_definition(folder, "dev-shop", environ)
        return connector_connection(load_project(folder, environ), loaded, "postgresql", Connection)

    return call


@pytest.fixture
def validated(folder: Path, layered: Callable[..., Layered]) -> Callable[..., Connection]:
    def call(environ: Mapping[str, str]) -> Connection:
        context = load_project(folder, environ).context
        return validate_connection(Connection, layered(environ), context, file="connectors.d/dev-shop.yaml")

    return call


FILE = """\
protocol: postgres
env_prefix: SHOP
connection:
  host: ${env:DB_HOST:-db}
  password: ${env:PW}
  username: 12345
  options: {b: file, c: file, d: file, e: file}
"""


def test_later_layers_win_and_each_key_knows_its_layer(
    folder: Path, define: Define, layered: Callable[..., Layered]
) -> None:
    (folder / "atlas.yaml").write_text("defaults:\n  postgresql:\n    options: {a: default, b: default}\n")
    define(FILE, "dev-shop.yaml")
    found = layered(
        {
            "SHOP_OPTIONS__C": "prefix",
            "SHOP_OPTIONS__D": "prefix",
            "SHOP_HOME": "somebody else's",
            "ATLAS_CONNECTOR_DEV_SHOP__OPTIONS__D": "connector",
            "ATLAS_CONNECTOR_DEV_SHOP__OPTIONS__E": "connector",
            "ATLAS_CONNECTOR_DEV__OPTIONS__A": "another connector",
        }
    )
    assert found.values["options"] == {
        "a": "default",
        "b": "file",
        "c": "prefix",
        "d": "connector",
        "e": "connector",
    }
    assert {dotted(path): str(origin) for path, origin in found.origins.items()} == {
        "host": "file connectors.d/dev-shop.yaml:4",
        "password": "file connectors.d/dev-shop.yaml:5",
        "username": "file connectors.d/dev-shop.yaml:6",
        "options.a": "default atlas.yaml:3",
        "options.b": "file connectors.d/dev-shop.yaml:7",
        "options.c": "environment SHOP_OPTIONS__C",
        "options.d": "environment ATLAS_CONNECTOR_DEV_SHOP__OPTIONS__D",
        "options.e": "environment ATLAS_CONNECTOR_DEV_SHOP__OPTIONS__E",
    }


def test_values_become_what_the_model_wants(
    folder: Path, define: Define, validated: Callable[..., Connection]
) -> None:
    define(FILE + "  tls: {ca: 0123, depth: 0123}\n  folder: data\n", "dev-shop.yaml")
    found = validated(
        {
            "PW": "p${env:PW}",
            "ATLAS_CONNECTOR_DEV_SHOP__PORT": "5433",
            "ATLAS_CONNECTOR_DEV_SHOP__COMPRESS": "yes",
        }
    )
    assert found.password.get_secret_value() == "p${env:PW}"
    assert (found.host, found.port, found.compress, found.username) == ("db", 5433, True, "12345")
    assert found.tls == Tls(ca="0123", depth=123)
    assert found.folder == f"{folder}/data"


def test_a_reference_that_another_layer_replaces_is_not_looked_up(
    define: Define, validated: Callable[..., Connection]
) -> None:
    define(FILE, "dev-shop.yaml")
    assert validated({"SHOP_PASSWORD": "x"}).password.get_secret_value() == "x"


@pytest.mark.parametrize(
    ("line", "environ", "message"),
    [
        ("", {}, "connectors.d/dev-shop.yaml:5: connection.password: environment variable PW is not set"),
        (
            "  port: hunter2",
            {"PW": "x"},
            "connectors.d/dev-shop.yaml:8: connection.port: should be a valid integer",
        ),
        (
            "  port: 0",
            {"PW": "x"},
            "connectors.d/dev-shop.yaml:8: connection.port: should be greater than or",
        ),
        ("  hst: hunter2", {"PW": "x"}, "connectors.d/dev-shop.yaml:8: connection.hst: unknown key"),
        (
            "  tls: {dpeth: hunter2}",
            {"PW": "x"},
            "connectors.d/dev-shop.yaml:8: connection.tls.dpeth: unknown key",
        ),
        (
            "  folder: [hunter2]",
            {"PW": "x"},
            "connectors.d/dev-shop.yaml:8: connection.folder: should be text, not a list",
        ),
        ("  folder:", {"PW": "x"}, "connectors.d/dev-shop.yaml:8: connection.folder: has no value"),
        ("", {"PW": "x", "SHOP_PORT": "hunter2"}, "SHOP_PORT: connection.port: should be a valid integer"),
        (
            "",
            {"PW": "x", "ATLAS_CONNECTOR_DEV_SHOP__HSOT": "hunter2"},
            "ATLAS_CONNECTOR_DEV_SHOP__HSOT: connection.hsot: unknown key",
        ),
    ],
)
def test_mistakes_name_the_place_and_no_value(
    line: str,
    environ: Mapping[str, str],
    message: str,
    define: Define,
    validated: Callable[..., Connection],
) -> None:
    define(f"{FILE}{line}\n", "dev-shop.yaml")
    with pytest.raises(ConfigError) as caught:
        validated(environ)
    assert caught.value.message.startswith(message)
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"
    if "unknown key" in message:
        assert caught.value.hint in ("did you mean 'host'?", "did you mean 'depth'?")


def test_a_key_that_nobody_set(define: Define, validated: Callable[..., Connection]) -> None:
    define("protocol: x\n", "dev-shop.yaml")
    with pytest.raises(ConfigError) as caught:
        validated({})
    assert caught.value.message == "connectors.d/dev-shop.yaml: connection.password: is required"


def test_load_connection_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    (tmp_path / "atlas.yaml").write_text("")
    (tmp_path / "conf").mkdir()
    (tmp_path / "pw").write_text("s3cret\n")
    file = tmp_path / "conf/db.json"
    file.write_text('{"b": "file", "c": "file", "d": "file", "e": "file", "pw": "${file:pw}", "o": {"x": 1}}')
    for key in ("C", "D", "E", "O__Y"):
        monkeypatch.setenv(f"SHOP_{key}", "env")
    found = load_connection_config(
        {"a": "defaults", "b": "defaults"},
        file,
        "SHOP",
        {"d": "dict", "e": "dict", "literal": "${env:X}"},
        {"e": "overrides"},
        ["a", "o.x"],
    )
    assert found == {
        "a": "defaults",
        "b": "file",
        "c": "env",
        "d": "dict",
        "e": "overrides",
        "pw": "s3cret",
        "literal": "${env:X}",
        "o": {"x": 1, "y": "env"},
    }
    assert load_connection_config() == {}
    error = refused(
        "missing_settings", load_connection_config, {"a": None, "b": ""}, required=["a", "b", "o.z"]
    )
    assert error.message == "required settings are missing: a, b, o.z"
    error = refused("missing_settings", load_connection_config, file_path=file, required=["z"])
    assert error.hint == f"set them in {file}"
    refused("environment_prefix", load_connection_config, env_prefix="_")
    refused("file_unreadable", load_connection_config, file_path=tmp_path / "no.yaml")
