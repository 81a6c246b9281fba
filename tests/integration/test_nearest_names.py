"""Whoever misspells a name is told the nearest ones that there are."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest
from tests.project import Project

from atlas_etl.cli.app import run

ORDERS = {"table": "orders", "cursor": "updated_at"}


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    with closing(sqlite3.connect(project.folder / "shop.db")) as database, database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, amount REAL, updated_at TIMESTAMP)")
    monkeypatch.chdir(project.folder)
    project.write(
        "atlas.yaml", json.dumps({"destinations": {"lake": {"protocol": "duckdb", "path": "l.db"}}})
    )
    return project


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("conector list", "connector"),
        ("connector snc shop", "sync"),
        ("connector sync shop --ful-refresh", "--full-refresh"),
        ("copy a b --tabel x", "--table"),
        ("state shw shop", "show"),
        ("connector sync shop --log-format jsn", "json"),
        ("connector sync shpo", "shop"),
        ("connector sync shop --stream order", "orders"),
        ("connector history shop --status complete", "completed"),
        ("state show shop --stream order", "orders"),
        ("state history shop --stream order", "orders"),
        ("quarantine list shop --stream order", "orders"),
        ("schedule export --to crontabs", "crontab"),
        ("audit shpo", "shop"),
        ("connector add x --protocol sqlit", "sqlite"),
        ("connector update shop --set databse_path=x", "database_path"),
        ("query SELECT+1+FROM+duckdb_tabls()", "duckdb_tables"),
    ],
)
def test_on_the_command_line(
    shop: Project, capsys: pytest.CaptureFixture[str], command: str, wanted: str
) -> None:
    _define(shop, ORDERS)
    assert run([word.replace("+", " ") for word in command.split()]) == 2
    told = capsys.readouterr().err
    assert re.search(rf"hint: did you mean ['\"]{re.escape(wanted)}['\"]", told), told


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("sync shop", "did you mean `atlas connector sync`?"),
        ("connector export", "did you mean `atlas schedule export`?"),
        ("history shop", "did you mean `atlas connector history` or `atlas state history`?"),
    ],
)
def test_a_command_of_another_group(capsys: pytest.CaptureFixture[str], command: str, wanted: str) -> None:
    assert run(command.split()) == 2
    assert wanted in capsys.readouterr().err


def test_where_nothing_is_near_the_hint_is_the_help_of_that_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("connector sync --xyzzy", "state set shop --to never", "copy a"):
        assert run(command.split()) == 2
        words = command.split()[: 1 if command.startswith("copy") else 2]
        assert f"hint: `atlas {' '.join(words)} --help` shows what there is" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stream", "more", "wanted"),
    [
        ({"table": "order"}, {}, "orders"),
        ({"table": "orders", "cursor": "updatedat"}, {}, "updated_at"),
        ({"table": "orders", "primary_key": ["idd"]}, {}, "id"),
        ({"table": "orders", "exclude": ["amont"]}, {}, "amount"),
        ({"table": "orders", "columns": ["amont"]}, {}, "amount"),
        ({"table": "orders", "curser": "id"}, {}, "cursor"),
        ({"table": "orders", "disposition": "mrge"}, {}, "merge"),
        ({"table": "orders", "hazards": {"infinty": "text"}}, {}, "infinity"),
        (ORDERS, {"destination": "lakee"}, "lake"),
        (ORDERS, {"timezone": "Europe/Berln"}, "Europe/Berlin"),
        (ORDERS, {"protocol": "sqlit"}, "sqlite"),
        (ORDERS, {"connection": {"database_path": "${envv:X}"}}, "env"),
    ],
)
def test_in_a_definition(
    shop: Project,
    capsys: pytest.CaptureFixture[str],
    stream: dict[str, object],
    more: dict[str, object],
    wanted: str,
) -> None:
    _define(shop, stream, **more)
    assert run(["connector", "sync", "shop"]) in (2, 3)
    assert f"did you mean '{wanted}'" in capsys.readouterr().err


def _define(shop: Project, stream: dict[str, object], **more: object) -> None:
    known = {"protocol": "sqlite", "connection": {"database_path": "shop.db"}, "streams": [stream]}
    shop.write("connectors.d/shop.yaml", json.dumps({**known, **more}))
