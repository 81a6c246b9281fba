"""One-line connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlas_etl.config.layers import LayerKind, Origin
from atlas_etl.config.references import ReferenceContext, expand_uri
from atlas_etl.config.uri import parse_location, parse_uri
from atlas_etl.errors import ConfigError


@pytest.mark.parametrize(
    ("uri", "values"),
    [
        ("postgresql://h", {"protocol": "postgresql", "host": "h"}),
        (
            "postgresql+psycopg://u%20x:p%40%2Fw@h:5433/d%20b?sslmode=require&a=",
            {
                "protocol": "postgresql",
                "host": "h",
                "port": 5433,
                "database": "d b",
                "username": "u x",
                "password": "p@/w",
                "options": {"sslmode": "require", "a": ""},
            },
        ),
        ("mysql://root@[::1]:3307/", {"protocol": "mysql", "host": "::1", "port": 3307, "username": "root"}),
        ("postgresql:///d?host=/run/pg", {"protocol": "postgresql", "host": "/run/pg", "database": "d"}),
        ("sqlite:///shop.db", {"protocol": "sqlite", "database_path": "shop.db"}),
        ("sqlite:////abs/shop.db", {"protocol": "sqlite", "database_path": "/abs/shop.db"}),
        ("sqlite://", {"protocol": "sqlite", "database_path": ":memory:"}),
        ("duckdb:///x%20y.duckdb", {"protocol": "duckdb", "path": "x y.duckdb"}),
        ("duckdb://", {"protocol": "duckdb"}),
        ("csv:///data/*.csv", {"protocol": "csv", "path": "data/*.csv"}),
        ("postgres://a,b/d", {"protocol": "postgres", "host": "a,b", "database": "d"}),
        (
            "postgresql://u@a:5433,[::1]:5433/d?target_session_attrs=read-write",
            {
                "protocol": "postgresql",
                "host": "a,::1",
                "port": 5433,
                "database": "d",
                "username": "u",
                "options": {"target_session_attrs": "read-write"},
            },
        ),
        (
            "postgresql://a:1,b:2",
            {"protocol": "postgresql", "host": "a,b", "options": {"port": "1,2"}},
        ),
        (
            "postgresql://%2Frun%2FPG/d",
            {"protocol": "postgresql", "host": "/run/PG", "database": "d"},
        ),
    ],
)
def test_read(uri: str, values: object) -> None:
    assert parse_uri(uri) == values


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("./shop.db", {"protocol": "sqlite", "database_path": "./shop.db"}),
        ("/data/Orders.CSV.gz", {"protocol": "csv", "path": "/data/Orders.CSV.gz"}),
        ("orders-*.ndjson", {"protocol": "jsonl", "path": "orders-*.ndjson"}),
        ("lake/", {"protocol": "parquet", "path": "lake/"}),
        ("file:///data/x%20y.duckdb", {"protocol": "duckdb", "path": "/data/x y.duckdb"}),
        ("mysql://h", {"protocol": "mysql", "host": "h"}),
    ],
)
def test_paths_say_what_they_hold(path: str, values: object) -> None:
    assert parse_location(path) == values


@pytest.mark.parametrize(
    "text",
    [
        "hunter2", "host=h password=hunter2", "postgresql://u:1/hunter2@h/d", "postgresql://u:hunter2#@h",
        "postgresql://u:hunter2@h:0/d", "postgresql://u:hunter2@a:1,b:x/d",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_location(text)
    assert caught.value.code == "invalid_uri"
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


def test_a_reference_in_a_uri_is_plain_text_and_one_that_is_all_of_it_a_uri(tmp_path: Path) -> None:
    environ = {"PASSWORD": "a@b/c:%41", "URL": "mysql://u:a%40b@h"}
    context, origin = ReferenceContext(tmp_path, environ), Origin(LayerKind.OVERRIDE, variable="SOURCE")
    found = parse_uri(expand_uri("mysql://u:${env:PASSWORD}@h/$${", (), origin, context))
    assert (found["password"], found["host"], found["database"]) == ("a@b/c:%41", "h", "${")
    assert parse_uri(expand_uri("${env:URL}", (), origin, context))["password"] == "a@b"
    with pytest.raises(ConfigError, match=r"^SOURCE: environment variable NOWHERE is not set$"):
        expand_uri("${env:NOWHERE}", (), origin, context)
