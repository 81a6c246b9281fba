"""What sources say on a person's terminal: names, rows, quarantined rows and errors steer nothing there."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing

import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from tests.terminal import on_terminal
from werkzeug import Request, Response

ATTACK = (
    "\x1b]0;owned\x07\x1b[2J\x1b[1;1H\x9b31mred\x1bPq\x1b\\\r\nerror: forged\u202egnp.exe\u2028\u2066"
    "\x1b]8;;http://evil.test\x1b\\x\x08\x7f"
)
# Colours, and what draws a line again in its place.
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\x1b\[[0-9]*[AGK]|\r")
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|forged\n|\nerror: forged")


def screen(project: Project, *arguments: str) -> tuple[int, str]:
    """The exit code, and what the terminal was sent but for codes of ours."""
    with on_terminal(project, *arguments) as terminal:
        code = terminal.end()
    return code, OURS.sub("", terminal.sent.decode().replace("\r\n", "\n"))


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.fixture
def shop(project: Project) -> Project:
    """A database whose tables, columns, keys and values are the attack, one of which the table refuses."""
    with closing(sqlite3.connect(project.folder / "shop.db")) as made:
        made.execute(f"CREATE TABLE {quoted(ATTACK)} (id INTEGER)")
        made.execute(f"CREATE TABLE orders (id TEXT PRIMARY KEY, {quoted(ATTACK)} REAL, note TEXT)")
        made.execute(
            "INSERT INTO orders VALUES (?, 1, ?), (?, ?, ?)",
            [ATTACK, ATTACK, f"{ATTACK}2", ATTACK, ATTACK],
        )
        made.commit()
    definition = {
        "protocol": "sqlite", "connection": {"database_path": "shop.db"}, "schedule": "@daily",
        "streams": [{"name": "orders", "table": "orders", "quarantine_limit": 5}],
    }  # fmt: skip
    project.write("connectors.d/shop.json", json.dumps(definition))
    return project


COMMANDS = [
    ("connector", "sync", "shop"),
    ("quarantine", "list"),
    ("quarantine", "replay", "shop"),
    ("connector", "preview", "shop"),
    ("connector", "discover", "shop"),
    ("connector", "show", "shop"),
    ("connector", "list"),
    ("connector", "plan", "shop"),
    ("connector", "verify", "shop"),
    ("connector", "scan", "shop"),
    ("connector", "doctor", "shop"),
    ("connector", "test", "shop"),
    ("connector", "history", "shop"),
    ("state", "show", "shop"),
    ("config", "show", "shop", "--origin"),
    ("query", "SELECT * FROM shop.orders"),
    ("query", f"SELECT {quoted(ATTACK + 'x')} FROM shop.orders"),
    ("schedule", "next"),
    ("audit",),
]


def test_no_command_lets_a_source_steer_the_terminal(shop: Project) -> None:
    seen = {}
    for command in COMMANDS:
        code, said = screen(shop, *command, *(["-vv"] if {"sync", "replay"} & {*command} else []))
        assert not STEERING.findall(said), (command, said)
        assert code != 1, (command, said)
        seen[command[:2]] = said
    assert "refused and kept aside" in seen["connector", "sync"], seen["connector", "sync"]
    shown = r"\x1b]0;owned\x07\x1b[2J"
    flat = {command: "".join(said.split()) for command, said in seen.items()}  # lines are folded
    for command in (("quarantine", "list"), ("connector", "preview"), ("connector", "discover")):
        assert shown in flat[command], seen[command]
    page = shop.folder / "atlas-report.html"
    assert shop.atlas("report").returncode == 0
    assert not STEERING.findall(page.read_text())


@pytest.mark.parametrize("place", ["reason", "json", "text", "header", "rows"])
def test_an_api_steers_no_terminal(project: Project, httpserver: HTTPServer, place: str) -> None:
    def answer(_: Request) -> Response:
        if place == "rows":
            return Response(json.dumps([{"id": 1, ATTACK: ATTACK}]), content_type="application/json")
        if place == "json":
            said = json.dumps({"error": ATTACK, "message": ATTACK, "errors": [{"message": ATTACK}]})
            return Response(said, status=400, content_type="application/json")
        told = ATTACK.replace("\r", "").replace("\n", "")
        if place == "reason":
            return Response("", status=f"400 {told.encode('ascii', 'ignore').decode()}")
        if place == "header":
            location = "http://x.test/" + told.encode("ascii", "ignore").decode()
            return Response("", status=302, headers={"Location": location})
        return Response(ATTACK, status=500, content_type="text/plain; charset=utf-8")

    httpserver.expect_request("/things").respond_with_handler(answer)
    definition = {
        "protocol": "http", "connection": {"base_url": httpserver.url_for(""), "attempts": 1},
        "streams": [{"name": "things", "path": "/things"}], "retry": {"attempts": 1},
    }  # fmt: skip
    project.write("connectors.d/api.json", json.dumps(definition))
    for command in (("connector", "test"), ("connector", "sync"), ("connector", "preview"),
                    ("connector", "history"), ("connector", "doctor")):  # fmt: skip
        code, said = screen(project, *command, "api", "-vv")
        assert not STEERING.findall(said), (command, said)
        assert code != 1, (command, said)
