"""Data, names and errors that would steer a terminal, or write lines into a log of their own."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from tests.project import Project

from atlas_etl.cli import render
from atlas_etl.cli.output import LogFormat, Output
from atlas_etl.errors import DestinationError

ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b31mred\r\nerror: forged\u202egnp.exe\u2028\u2066end\x00\x7f"
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x9b31mred\x0d\x0aerror: forged\u202egnp.exe\u2028\u2066end\x00\x7f"
STEERING = {*map(chr, range(32)), *map(chr, range(127, 160)), "\u2028", "\u202e", "\u2066"} - {"\n"}


def steers(text: str) -> set[str]:
    return STEERING & set(text)


@pytest.fixture
def shop(project: Project) -> Project:
    """A database whose table, column and value are the attack."""
    name = ATTACK.replace("\x00", "")
    with closing(sqlite3.connect(project.folder / "shop.db")) as made:
        quoted = '"' + name.replace('"', '""') + '"'
        made.execute(f"CREATE TABLE t (id INTEGER PRIMARY KEY, {quoted} TEXT)")
        made.execute("INSERT INTO t VALUES (1, ?)", [name])
        made.execute(f"CREATE TABLE {quoted} (id INTEGER)")
        made.commit()
    project.write(
        "connectors.d/shop.yaml", "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [t]\n"
    )
    return project


def test_data_and_names_are_shown_harmlessly(shop: Project) -> None:
    assert shop.atlas("connector", "sync", "shop").returncode == 0
    shown = SHOWN.replace(r"\x00", "")
    for command in (
        ["connector", "preview", "shop"],
        ["query", "SELECT * FROM shop.t"],
    ):
        done = shop.atlas(*command)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(shown) == 2  # the column and the value
        assert not steers(done.stdout + done.stderr)
        as_json = shop.atlas(*command, "--json")
        assert not steers(as_json.stdout)
        assert as_json.json()["rows"] == [[1, ATTACK.replace("\x00", "")]]
    found = shop.atlas("connector", "discover", "shop")
    assert shown in found.stdout
    assert not steers(found.stdout)


def test_errors_and_logs_with_names_of_the_source_are_harmless(shop: Project) -> None:
    name = ATTACK.replace("\x00", "")
    shop.write(
        "connectors.d/shop.json",
        json.dumps({"protocol": "sqlite", "connection": {"database_path": "shop.db"},
                    "streams": [{"table": "t", "cursor": "id", "columns": ["id", f"{name[:-4]}"]}]}),
    )  # fmt: skip
    (shop.folder / "connectors.d/shop.yaml").unlink()
    for command in (["sync", "shop"], ["-vv", "sync", "shop"], ["sync", "shop", "--log-format", "json"]):
        given = [*(["-vv"] if "-vv" in command else []), "connector", *[c for c in command if c != "-vv"]]
        done = shop.atlas(*given)
        assert done.returncode in (2, 3), done.stderr
        assert not steers(done.stdout + done.stderr)
        assert not any(line.startswith("error: forged") for line in done.stderr.splitlines())
    history = shop.atlas("connector", "history", "shop")
    assert not steers(history.stdout)


def test_a_value_that_an_error_quotes_begins_no_line(project: Project) -> None:
    with closing(sqlite3.connect(project.folder / "shop.db")) as made:
        made.execute("CREATE TABLE t (id TEXT PRIMARY KEY, n REAL)")
        made.executemany(
            "INSERT INTO t VALUES (?, ?)", [("a", 1.5), ("b\nerror: forged", "2\r\nerror: forged")]
        )
        made.commit()
    project.write(
        "connectors.d/shop.yaml", "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [t]\n"
    )
    done = project.atlas("connector", "sync", "shop")
    assert done.returncode == 7
    assert "forged" in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.strip().startswith("error: forged")]
    assert not steers(done.stderr)


def test_a_failure_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    failure = DestinationError(f"no {ATTACK}", hint=f"try {ATTACK}", connector="shop")
    output = Output()
    output.failure(failure)
    told = capsys.readouterr().err
    assert told == f"error: shop: no {_indented(SHOWN)}\n  hint: try {_indented(SHOWN)}\n"
    output.configure(log_format=LogFormat.JSON)
    output.failure(failure)
    told = capsys.readouterr().err
    assert not steers(told)
    assert json.loads(told)["message"] == f"no {ATTACK}"
    assert told.count("\n") == 1


def test_every_code_that_steers_is_escaped() -> None:
    for code in range(0x3000):
        text = render.safe(chr(code))
        assert len(text) == 1 or (text.startswith("\\") and text.isascii())
        if chr(code) in STEERING or chr(code) == "\n":
            assert text.startswith("\\")
    assert render.safe("ボストン שלום \\ é\u200d") == "ボストン שלום \\ é\u200d"


def _indented(text: str) -> str:
    return text.replace(r"\x0a", "\n    ")
