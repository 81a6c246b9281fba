"""Environment variables as a layer."""

from __future__ import annotations

from collections.abc import Callable

from atlas_etl.config.environment import environment_layer
from atlas_etl.config.layers import merge
from atlas_etl.errors import ConfigError


def test_names_become_keys_and_values_stay_text() -> None:
    environ = {
        "SHOP_PORT": "5432",
        "SHOP_OPTIONS__SSL__MODE": "on",
        "SHOPS": "x",
        "SHOP_": "y",
        "shop_a": "z",
    }
    layered = merge([environment_layer("SHOP_", environ)])
    assert layered.values == {"port": "5432", "options": {"ssl": {"mode": "on"}}}
    assert str(layered.origin(("port",))) == "environment SHOP_PORT"
    assert str(layered.origin(("options", "ssl", "mode"))) == "environment SHOP_OPTIONS__SSL__MODE"


def test_keys_that_are_there_keep_their_spelling() -> None:
    below = {"options": {"keepAlive": 1}, "my-wh": {"path": "x"}}
    environ = {"A_OPTIONS__KEEPALIVE": "2", "A_MY_WH__PATH": "y", "A_OTHER__KEY": "z"}
    assert merge([environment_layer("A_", environ, beside=below)]).values == {
        "options": {"keepAlive": "2"},
        "my-wh": {"path": "y"},
        "other": {"key": "z"},
    }


def test_with_known_keys_other_variables_are_left_alone() -> None:
    environ = {"PG_HOST": "h", "PG_COLOR": "always", "PG___": "x", "PG_VERSION__": "x"}
    assert merge([environment_layer("PG_", environ, known={"host", "port"})]).values == {"host": "h"}


def test_an_empty_variable_is_an_empty_value() -> None:
    assert merge([environment_layer("A_", {"A_PASSWORD": ""})]).values == {"password": ""}


def test_conflicts(refused: Callable[..., ConfigError]) -> None:
    for environ in (
        {"A_OPTIONS": "hunter2", "A_OPTIONS__X": "hunter2"},
        {"A_HOST": "hunter2", "A_host": "hunter2"},
    ):
        error = refused("environment_conflict", environment_layer, "A_", environ)
        first, second = sorted(environ)
        assert error.message == f"environment variables {first} and {second} set the same key"
    error = refused("environment_key", environment_layer, "A_", {"A_OPTIONS__": "hunter2"})
    assert error.message == "environment variable A_OPTIONS__ names an empty key"
    assert error.hint == "write A_KEY, or A_KEY__KEY for a key inside another"
