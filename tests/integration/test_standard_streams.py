"""Callers that close, fill up or no longer read the command's streams, or know no UTF-8."""

from __future__ import annotations

import json
import os
import shlex
import sqlite3
import subprocess
import sys

import pytest
from tests.project import Project


def shell(
    project: Project, script: str, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs a line of shell in which $ATLAS is the command, with a stdout that the test reads."""
    atlas = f"{shlex.quote(sys.executable)} -m atlas_etl"
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script.replace('$ATLAS', atlas)}"],
        cwd=project.folder, env=project.environment(env), stdin=subprocess.DEVNULL, capture_output=True,
        timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def shop(project: Project) -> Project:
    with sqlite3.connect(project.folder / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        database.execute("INSERT INTO orders VALUES (1, 'Łukasz 😀')")
    project.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [orders]\n",
    )
    return project


@pytest.mark.parametrize("flag", ["", "--json"])
def test_a_reader_who_has_seen_enough_is_no_failure(project: Project, flag: str) -> None:
    done = shell(project, f"$ATLAS query 'SELECT repeat(chr(120), 200) FROM range(1000)' {flag} | head -c 5")
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_a_sync_that_nobody_hears_is_done(shop: Project, closed: str) -> None:
    assert shell(shop, f"$ATLAS connector sync shop {closed}").returncode == 0
    answer = shop.atlas("query", "SELECT id FROM shop.orders", "--json")
    assert answer.json()["rows"] == [[1]]


def test_an_answer_without_room_is_said_to_be_lost(shop: Project) -> None:
    done = shell(shop, "$ATLAS connector list > /dev/full")
    assert done.returncode == 1
    assert b"standard output: No space left" in done.stderr
    assert b"bug" not in done.stderr


def test_streams_that_know_no_utf8(shop: Project) -> None:
    ascii_only = {"PYTHONIOENCODING": "ascii"}
    shop.atlas("connector", "sync", "shop")
    query = "$ATLAS query 'SELECT name FROM shop.orders'"
    assert shell(shop, query, ascii_only).stdout.splitlines()[1] == rb"\u0141ukasz \U0001f600"
    assert json.loads(shell(shop, f"{query} --json", ascii_only).stdout)["rows"] == [["Łukasz 😀"]]


def test_bytes_that_are_no_text(shop: Project) -> None:
    """Names of files may have them; arguments, and the project's own folder, must not."""
    done = shell(shop, r"$ATLAS connector sync $'\xff' --json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"

    folder = os.fsencode(shop.folder)
    with open(folder + b"/a-\xff.csv", "w", encoding="utf-8") as file:
        file.write("id\n1\n")
    definition = "protocol: csv\nconnection: {path: .}\nstreams: [{name: s, path: a-*.csv}]\n"
    shop.write("connectors.d/files.yaml", definition)
    assert shop.atlas("connector", "sync", "files").returncode == 0
    with open(folder + b"/a-\xff.csv", "w", encoding="utf-8") as file:
        file.write("id,id\n1,2\n")
    failed = shop.atlas("connector", "sync", "files", "--json")
    assert failed.returncode == 3
    assert "\\udcff" in failed.json()["runs"][0]["error"]["message"]

    os.mkdir(folder + b"/\xff")
    elsewhere = shell(shop, r"mkdir $'\xff/connectors.d'; cd $'\xff'; $ATLAS connector list")
    assert elsewhere.returncode == 2
    assert b"not UTF-8" in elsewhere.stderr
