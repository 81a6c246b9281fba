"""`atlas audit`: who changed what, through the command line, with the state in a file and on a server."""

from __future__ import annotations

import io
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from tests.project import Project

from atlas_etl import Atlas
from atlas_etl.cli.app import run
from atlas_etl.scheduler.agenda import read_agenda
from atlas_etl.scheduler.clock import SystemClock
from atlas_etl.scheduler.daemon import Daemon
from atlas_etl.scheduler.events import Started
from atlas_etl.scheduler.processes import ProcessExecutor
from atlas_etl.scheduler.stores import open_stores

Command = Callable[..., str]


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A SQLite shop, and where the state is."""
    with closing(sqlite3.connect(project.folder / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO orders VALUES (1), (2)")
    if request.param == "postgres":
        monkeypatch.setenv("ATLAS_STATE", request.getfixturevalue("postgres").url("postgresql"))
    monkeypatch.setenv("SUDO_USER", "ada")
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.7 50000 192.0.2.1 22")
    return project


def where() -> dict[str, str]:
    """The environment of this test's project, and nothing of who runs it."""
    return {name: text for name, text in os.environ.items() if name == "ATLAS_STATE"}


@pytest.fixture
def atlas(shop: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A function: the command in this process; gives back stdout."""

    def call(*arguments: str, stdin: str = "", code: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        ended = run(["-C", str(shop.folder), *arguments])
        shown = capsys.readouterr()
        assert ended == code, shown.err
        return shown.out

    return call


def add(atlas: Command) -> None:
    atlas("connector", "add", "shop", "--protocol", "sqlite", "--set", "database_path=shop.db",
          "--table", "orders", "--cursor", "id")  # fmt: skip


def entries(atlas: Command, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(atlas("audit", *options, "--json"))["entries"]
    return found


def told(found: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    return [(each["kind"], each["action"], each["subject"], each["command"]) for each in found]


def test_every_kind_of_change_is_told_the_latest_first(atlas: Command) -> None:
    add(atlas)
    atlas("connector", "sync", "shop")
    atlas("connector", "disable", "shop")
    atlas("connector", "update", "shop", "--set", "schedule=0 6 * * *", "--set", "description=Orders")
    atlas("secret", "set", "shop/password", stdin="caNary-of-the-shop")
    atlas("state", "set", "shop", "1", "--reason", "prices were wrong")
    atlas("state", "reset", "shop")
    atlas("connector", "sync", "shop", "--full-refresh")
    atlas("connector", "remove", "shop")
    found = entries(atlas, "shop")
    assert told(found) == [
        ("secret", "removed", "shop/password", "atlas connector remove"),
        ("definition", "removed", None, "atlas connector remove"),
        ("checkpoint", "full_refresh", "orders", "atlas connector sync"),
        ("checkpoint", "reset", "orders", "atlas state reset"),
        ("checkpoint", "set", "orders", "atlas state set"),
        ("secret", "added", "shop/password", "atlas secret set"),
        ("schedule", "changed", None, "atlas connector update"),
        ("definition", "changed", None, "atlas connector update"),
        ("schedule", "disabled", None, "atlas connector disable"),
        ("definition", "added", None, "atlas connector add"),
    ]
    set_back = found[4]
    assert set_back["before"] == {"high": "2", "tail_from": "2"}
    assert set_back["after"] == {"high": "1", "tail_from": "1"}
    assert set_back["reason"] == "prices were wrong"
    assert (set_back["on_behalf_of"], set_back["address"]) == ("ada (sudo)", "192.0.2.7")
    assert found[6]["after"] == {"schedule": "0 6 * * *"}
    assert not any(each["outside"] for each in found)
    assert "caNary" not in json.dumps(found)


def test_the_question_who_reset_this_checkpoint_has_its_answer_on_a_line(atlas: Command) -> None:
    add(atlas)
    atlas("connector", "sync", "shop")
    atlas("state", "reset", "shop", "--reason", "a new tax")
    atlas("state", "reset", "shop")
    shown = atlas("audit", "shop", "--kind", "checkpoint", "--since", "1h", "--limit", "1")
    assert "1 of 2 changes" in shown
    line = next(line for line in atlas("audit", "--kind", "checkpoint").splitlines() if "a new tax" in line)
    for part in ("reset", "orders", "high: 2 → -", "ada (sudo), 192.0.2.7", "atlas state reset"):
        assert part in line


def test_what_was_changed_by_hand_is_noticed_by_the_next_command(shop: Project, atlas: Command) -> None:
    add(atlas)
    atlas("connector", "sync", "shop")
    file = shop.folder / "connectors.d" / "shop.yaml"
    file.write_text(file.read_text() + "description: by hand\n")
    atlas("connector", "sync", "shop")
    (noticed, _) = entries(atlas, "shop")
    assert (noticed["outside"], noticed["command"]) == (True, "atlas connector sync")
    assert (noticed["before"], noticed["after"]) == ({}, {"description": "by hand"})
    file.rename(file.with_name("store.yaml"))
    renamed = entries(atlas, "--limit", "2")
    assert {(each["connector"], each["action"], each["outside"]) for each in renamed} == {
        ("shop", "removed", True),
        ("store", "added", True),
    }


def test_a_definition_that_cannot_be_read_is_neither_changed_nor_gone(shop: Project, atlas: Command) -> None:
    add(atlas)
    before = entries(atlas)
    shop.write("connectors.d/shop.yaml", "protocol: [")
    assert entries(atlas) == before


def test_a_change_that_failed_is_not_told(atlas: Command) -> None:
    add(atlas)
    before = entries(atlas)
    atlas("connector", "update", "shop", "--set", "schedule=never", code=2)
    atlas("connector", "update", "shop", "--set", "database_path=", code=2)
    assert entries(atlas) == before


def test_a_definition_is_changed_where_the_audit_cannot_be_reached(
    shop: Project, atlas: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(atlas)
    with monkeypatch.context() as away:
        away.setenv("ATLAS_STATE", "postgresql://etl:caNary-of-the-state@127.0.0.1:1/none")
        atlas("connector", "disable", "shop")
    assert "enabled: false" in (shop.folder / "connectors.d" / "shop.yaml").read_text()
    (noticed,) = entries(atlas, "--kind", "schedule")
    assert (noticed["action"], noticed["outside"]) == ("disabled", True)


def test_the_daemon_notices_what_is_changed_while_it_runs(shop: Project, atlas: Command) -> None:
    add(atlas)
    agenda = read_agenda(shop.folder, where())
    with open_stores(agenda.project) as stores, SystemClock() as clock:
        executor = ProcessExecutor(shop.folder, {})
        daemon = Daemon(agenda, where(), stores, executor, clock, tester=executor)
        daemon._files_at = 0.0
        events = daemon.run()
        assert isinstance(next(events), Started)
        file = shop.folder / "connectors.d" / "shop.yaml"
        file.write_text(file.read_text() + "schedule: 0 6 * * *\n")
        again = next(events)
        assert isinstance(again, Started)
        assert again.reloaded
        latest = stores.state.audit.entries(limit=1)[0]
        events.close()
    assert (latest.change.kind, latest.change.action, latest.outside) == ("schedule", "changed", True)


def test_nothing_is_made_where_nothing_was_ever_run(project: Project, atlas: Command) -> None:
    if not (project.folder / ".atlas").exists():
        assert entries(atlas) == []


def test_a_script_is_told_by_its_name(shop: Project, atlas: Command) -> None:
    add(atlas)
    atlas("connector", "sync", "shop")
    opened = Atlas.open(shop.folder, where(), "nightly.py")
    opened.checkpoints("shop").reset(())
    (latest, *_) = entries(atlas)
    assert (latest["command"], latest["on_behalf_of"]) == ("nightly.py", None)


@pytest.mark.parametrize("command", ["init", "quickstart"])
def test_a_project_that_a_command_made_was_not_made_outside_of_it(project: Project, command: str) -> None:
    folder = project.folder / "made"
    assert project.atlas(command, str(folder)).returncode == 0
    found = project.atlas("-C", str(folder), "audit", "--json").json()["entries"]
    ours = [(entry["subject"], entry["action"], entry["command"], entry["outside"])
            for entry in found if entry["subject"] == "atlas.yaml"]  # fmt: skip
    assert ours == [("atlas.yaml", "added", f"atlas {command}", False)]
    again = project.atlas("init", str(folder))
    assert again.returncode == 0
    assert project.atlas("-C", str(folder), "audit", "--json").json()["entries"] == found
