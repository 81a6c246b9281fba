"""A definition's own keys: what they mean, and how each mistake is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from atlas_etl.config.definition import ConnectorDefinition
from atlas_etl.config.definitions import load_definition
from atlas_etl.errors import ConfigError
from atlas_etl.model import (
    BatchLimits,
    Deletes,
    Deletion,
    Disposition,
    Hazard,
    HazardPolicy,
    NullCursor,
    Stream,
    TableName,
)

Define = Callable[..., Path]
Refused = Callable[..., ConfigError]


@pytest.fixture
def load(folder: Path, define: Define) -> Callable[[str], ConnectorDefinition]:
    def call(text: str) -> ConnectorDefinition:
        define(text)
        return load_definition(folder, "shop", {"A": "4MiB"}).definition

    return call


Load = Callable[[str], ConnectorDefinition]


def test_the_least_is_a_protocol(load: Load) -> None:
    definition = load("protocol: postgresql\nconnection:\nstreams:\ndescription:\n")
    assert definition == ConnectorDefinition(name="shop", protocol="postgresql")
    assert definition.enabled
    assert definition.batch_limits == BatchLimits(bytes=16 * 1024 * 1024)
    assert definition.to_streams() == ()


def test_everything_arrives(load: Load) -> None:
    definition = load(
        """
protocol: postgresql
description: 2024
connection: {host: db, password: "${env:NOT_SET}"}
destination: lake
schedule: "*/5 * * * *"
timezone: Europe/Berlin
enabled: no
env_prefix: SHOP
hazards: {infinity: null, zero_date: text}
quarantine_limit: 20
metadata_columns: true
batch_bytes: ${env:A}
streams:
  - public.items
  - table: public.orders
    cursor: updated_at
    primary_key: id
    disposition: merge
    null_cursor: exclude
    lag: 1h30m
    columns: [id, updated_at, total]
    hazards: {zero_date: error}
    timezone: UTC
    into: mart.shop_orders
    quarantine_limit: 0
    metadata_columns: off
  - name: refunds
    query: |
      SELECT 1
    into: {table: a.b}
    exclude: pin
  - {table: items, name: short, cursor: ts, deletes: reconcile}
  - {table: items, name: long, cursor: ts, deletes: {mode: reconcile, how: soft, every: 1d, max_share: 0.25}}
  - {table: items, name: mapping, cursor: ts, deletes: {every: null}}
"""
    )
    assert (definition.description, definition.enabled) == ("2024", False)
    assert definition.batch_limits.bytes == 4 * 1024 * 1024
    assert definition.connection == {"host": "db", "password": "${env:NOT_SET}"}
    assert "NOT_SET" not in repr(definition)
    defaults = {Hazard.INFINITY: HazardPolicy.NULL, Hazard.ZERO_DATE: HazardPolicy.TEXT}
    reconciled = Stream(
        "x", table="items", cursor="ts", hazards=defaults, metadata_columns=True, quarantine_limit=20
    )
    assert definition.to_streams() == (
        Stream(
            name="items",
            table="public.items",
            hazards=defaults,
            metadata_columns=True,
            quarantine_limit=20,
        ),
        Stream(
            name="orders",
            table="public.orders",
            cursor="updated_at",
            primary_key=("id",),
            disposition=Disposition.MERGE,
            null_cursor=NullCursor.EXCLUDE,
            lag=timedelta(minutes=90),
            columns=("id", "updated_at", "total"),
            hazards={**defaults, Hazard.ZERO_DATE: HazardPolicy.ERROR},
            timezone="UTC",
            into=TableName("shop_orders", "mart"),
            metadata_columns=False,
        ),
        Stream(
            name="refunds",
            query="SELECT 1\n",
            exclude=("pin",),
            into=TableName("a.b"),
            hazards=defaults,
            metadata_columns=True,
            quarantine_limit=20,
        ),
        replace(reconciled, name="short", deletes=Deletes()),
        replace(reconciled, name="long", deletes=Deletes(Deletion.SOFT, timedelta(days=1), 0.25)),
        replace(reconciled, name="mapping", deletes=Deletes(Deletion.HARD, None, 0.1)),
    )


@pytest.mark.parametrize("written", ["-1", "100001", "1%", "many"])
def test_a_quarantine_limit_is_a_number_of_rows(written: str, load: Load) -> None:
    for place in ("quarantine_limit: {}", "streams:\n  - {{table: a, quarantine_limit: {}}}"):
        with pytest.raises(ConfigError, match="quarantine_limit"):
            load(f"protocol: x\n{place.format(written)}\n")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("table: orders", "orders"),
        ("table: public.orders", "orders"),
        ("table: db.dbo.orders", "orders"),
        ("table: 2024", "2024"),
        ("table: 'public.\"my.orders\"'", "my.orders"),
        ('table: \'"a""b"\'', 'a"b'),
        ("table: '`a.b`.`c`'", "c"),
        ("table: 'we\"ird;--'", 'we"ird;--'),
        ("path: data/orders.csv", "orders"),
        ("path: data/orders.csv.gz", "orders"),
        ("path: data/orders-*.jsonl.zst", "orders"),
        ("path: 'data/orders/**/*.parquet'", "orders"),
        ("path: s3://bucket/orders_2024-??.csv", "orders_2024"),
        ("path: ../2024/Ümläute.csv", "Ümläute"),
    ],
)
def test_a_stream_is_named_after_what_it_reads(written: str, name: str, load: Load) -> None:
    assert load(f"protocol: x\nstreams:\n  - {written}\n").to_streams()[0].name == name


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", ["connectors.d/shop.yaml: protocol: is required"]),
        ("protocol:", ["connectors.d/shop.yaml:1: protocol: is required"]),
        (
            "protocol: x\nname: store",
            ["connectors.d/shop.yaml:2: name: differs from the file's name, 'shop'"],
        ),
        ("protocol: x\nstreams:\n  - tabel: a", ["connectors.d/shop.yaml:3: streams[0].tabel: unknown key"]),
        ("protocol: x\nstreams:\n  - query: q", ["connectors.d/shop.yaml:3: streams[0].name: is required"]),
        (
            "protocol: x\nstreams:\n  - path: '*.csv'",
            ["connectors.d/shop.yaml:3: streams[0].name: is required"],
        ),
        (
            "protocol: x\nstreams:\n  - cursor: q",
            [
                "connectors.d/shop.yaml:3: streams[0]: needs exactly one of table, query and path, "
                "and has none of them"
            ],
        ),
        (
            "protocol: x\nstreams:\n  - a\n  - {table: a, query: b}",
            [
                "connectors.d/shop.yaml:4: streams[1]: needs exactly one of table, query and path, "
                "and has table and query"
            ],
        ),
        ("protocol: x\nstreams: a", ["connectors.d/shop.yaml:2: streams: should be a list"]),
        (
            "protocol: x\nstreams:\n- [a]",
            ["connectors.d/shop.yaml:3: streams[0]: should be a mapping (`key: value` lines)"],
        ),
        (
            "protocol: x\nstreams: [a.b, c.b]",
            [
                "connectors.d/shop.yaml:2: streams: two streams are called 'b'; "
                "give one of them another `name`"
            ],
        ),
        (
            "protocol: x\nstreams: [a, {table: b, into: shop.a}]",
            ["connectors.d/shop.yaml: streams 'a' and 'b' land in the same table 'a'"],
        ),
        (
            "protocol: x\nstreams: [{table: a, into: a.b.c}]",
            [
                "connectors.d/shop.yaml:2: streams[0].into: holds more than one dot; "
                "write {schema: ..., table: ...}"
            ],
        ),
        (
            "protocol: x\nstreams: [_atlas_loads]",
            ["connectors.d/shop.yaml:2: streams[0]: names that begin with _atlas_ are Atlas's own"],
        ),
        (
            "protocol: x\nstreams: [{table: a, cursor: ts, columns: [id]}]",
            ["connectors.d/shop.yaml:2: streams[0]: leaves out the cursor column 'ts', which"],
        ),
        (
            "protocol: x\nstreams: [{table: a, primary_key: [ID], exclude: [id]}]",
            ["connectors.d/shop.yaml:2: streams[0]: leaves out the key column 'ID', which every load needs"],
        ),
        (
            "protocol: x\nstreams: [{table: a, columns: [b], exclude: [c]}]",
            ["connectors.d/shop.yaml:2: streams[0]: has both columns and exclude; one of them says it all"],
        ),
        (
            "protocol: x\nstreams: [{name: a, query: SELECT 1, partitions: 2}]",
            ["connectors.d/shop.yaml:2: streams[0]: has partitions, but only a table is read in several"],
        ),
        (
            "protocol: x\nstreams: [{table: a, deletes: reconcile}]",
            ["connectors.d/shop.yaml:2: streams[0]: has deletes, and the disposition replace, which leaves"],
        ),
        (
            "protocol: x\nstreams: [{table: a, cursor: b, disposition: replace, deletes: reconcile}]",
            ["connectors.d/shop.yaml:2: streams[0]: has deletes, and the disposition replace, which leaves"],
        ),
        (
            "protocol: x\nstreams: [{table: a, cursor: b, deletes: hard}]",
            ["connectors.d/shop.yaml:2: streams[0].deletes: should be 'reconcile'"],
        ),
        (
            "protocol: x\nstreams: [{table: a, cursor: b, deletes: {how: softly}}]",
            ["connectors.d/shop.yaml:2: streams[0].deletes.how: should be 'hard' or 'soft'"],
        ),
        (
            "protocol: x\nstreams: [{table: a, cursor: b, deletes: {max_share: 10, evry: 1d}}]",
            [
                "connectors.d/shop.yaml:2: streams[0].deletes.max_share: should be less than or equal to 1",
                "connectors.d/shop.yaml:2: streams[0].deletes.evry: unknown key (did you mean 'every'?)",
            ],
        ),
        (
            "protocol: x\nstreams: [{table: a, cursor: b, deletes: {max_share: true}}]",
            ["connectors.d/shop.yaml:2: streams[0].deletes.max_share: should be a valid number"],
        ),
        (
            "protocol: x\nstreams: [{table: a, columns: [b, b]}]",
            ["connectors.d/shop.yaml:2: streams[0].columns: names a column twice"],
        ),
        (
            "protocol: x\nstreams: [{table: a, lag: soon}]",
            [
                "connectors.d/shop.yaml:2: streams[0].lag: should be a length of time such as 90s, 5m, "
                "1h30m or 2d (ms, s, m, h, d, w)"
            ],
        ),
        ("protocol: x\nenabled: maybe", ["connectors.d/shop.yaml:2: enabled: should be true or false"]),
        ("protocol: x\nschedule: ' '", ["connectors.d/shop.yaml:2: schedule: should be five cron fields "]),
        (
            "protocol: x\nschedule: 'a\n\n  b'",
            ["connectors.d/shop.yaml:2: schedule: should be five cron fields "],
        ),
        ("protocol: true", ["connectors.d/shop.yaml:1: protocol: should be text; put it in quotes"]),
        (
            "protocol: x\ndestination: {protocol: duckdb}",
            ["connectors.d/shop.yaml:2: destination: should be text, not a mapping"],
        ),
        ("protocol: x\nconnection: hunter2", ["connectors.d/shop.yaml:2: connection: should be a mapping "]),
        (
            "protocol: x\nenv_prefix: 'A B'",
            ["connectors.d/shop.yaml:2: env_prefix: string should match pattern"],
        ),
        (
            "protocol: x\nbatch_bytes: 16 apples",
            ["connectors.d/shop.yaml:2: batch_bytes: should be a number of bytes, such as 16777216 or 16MiB"],
        ),
        (
            "protocol: x\nbatch_bytes: 1",
            ["connectors.d/shop.yaml:2: batch_bytes: should be greater than or "],
        ),
        (
            "protocol: x\ndestination: my lake",
            ["connectors.d/shop.yaml:2: destination: a name is made of letters and digits, "],
        ),
        (
            "protocol: x\nschedule: ${env:S}",
            ["connectors.d/shop.yaml:2: schedule: environment variable S is not"],
        ),
        (
            "protocol:\n  - x\nbatch_bytes: 0\nstreams:\n  - table: a\n    curser: b\n    disposition: merg\n"
            "timezone: europe/berlin\nenv_prefx: A\n",
            [
                "connectors.d/shop.yaml:1: protocol: should be text, not a list",
                "connectors.d/shop.yaml:7: streams[0].disposition: should be 'append', 'merge' or 'replace' "
                "(did you mean 'merge'?)",
                "connectors.d/shop.yaml:6: streams[0].curser: unknown key (did you mean 'cursor'?)",
                "connectors.d/shop.yaml:8: timezone: is not a known time zone; did you mean 'Europe/Berlin'",
                "... and 2 more",
            ],
        ),
    ],
)
def test_mistakes(text: str, lines: list[str], load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    found = caught.value.message.splitlines()
    assert len(found) == len(lines) <= 5
    for line, beginning in zip(found, lines, strict=True):
        assert line.startswith(beginning)
    assert caught.value.connector == "shop"
    assert "hunter2" not in str(caught.value)


def test_the_nearest_key_is_the_hint(load: Load) -> None:
    for text, hint in {
        "protocol: x\nstreams: [{table: a, curser: b}]": "did you mean 'cursor'?",
        "protocol: x\nstreams: [{table: a, into: {table: x, shema: b}}]": "did you mean 'schema'?",
        "protocol: x\nschedul: x": "did you mean 'schedule' or 'scheduling'?",
        "protocol: x\nhazards: {infinty: null}": "did you mean 'infinity'?",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert caught.value.hint == hint
    with pytest.raises(ConfigError) as caught:
        load("protocol: x\nstreams: [{table: a, into: {table: x, zzz: b}}]")
    assert caught.value.hint == "the keys here are table, schema"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5m", 300),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("250ms", 0.25),
        ("2d", 172800),
        ("1w", 604800),
        ("300", 300),
        ("0.5", 0.5),
        ("0", 0),
    ],
)
def test_lengths_of_time(written: str, seconds: float, load: Load) -> None:
    stream = load(f"protocol: x\nstreams: [{{table: a, lag: {written}}}]").to_streams()[0]
    assert stream.lag == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written", ["-5", "-5m", "5 minutes", "5M", "m", "'5:00'", "99999999999w", "true", "[5]"]
)
def test_no_lengths_of_time(written: str, load: Load) -> None:
    with pytest.raises(ConfigError, match=r"streams\[0\]\.lag: (should|is too long)"):
        load(f"protocol: x\nstreams: [{{table: a, lag: {written}}}]")


@pytest.mark.parametrize("zone", ["Mars/Base", "../../etc/passwd", "/etc/passwd", "America", "", "CEST"])
def test_no_time_zones(zone: str, load: Load) -> None:
    with pytest.raises(ConfigError, match="timezone: is not a known time zone"):
        load(f"protocol: x\ntimezone: '{zone}'")


@pytest.mark.parametrize("name", ["1shop", "my shop", "shop_", "a__b", "a--b", "-a", "ä", "a" * 64, "a.b"])
def test_names_that_cannot_be(name: str, folder: Path, define: Define, refused: Refused) -> None:
    define("protocol: x", f"{name}.yaml")
    error = refused("invalid_config", load_definition, folder, name, {})
    assert error.message.startswith(f"connectors.d/{name}.yaml: name: a name is made of letters and digits")


@pytest.mark.parametrize("name", ["a", "dev-shop_2", "A1", "a" * 63])
def test_names_that_can_be(name: str, folder: Path, define: Define) -> None:
    define("protocol: x", f"{name}.yaml")
    assert load_definition(folder, name, {}).definition.name == name
