"""A project on a disk that may only be read: what only reads works there, and says where nothing ran yet."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from tests.disks import mounted
from tests.project import Project

READS = (
    ("connector", "list"),
    ("connector", "history", "shop"),
    ("connector", "history", "--tests"),
    ("connector", "history", "--verifications"),
    ("state", "show", "shop"),
    ("state", "history", "shop"),
    ("audit",),
    ("schedule", "status"),
    ("schedule", "dead", "list"),
    ("watch",),
)


@pytest.mark.parametrize("ran", [True, False])
def test_what_only_reads_needs_no_place_to_write(tmp_path: Path, ran: bool) -> None:
    with mounted(tmp_path / "disk", "16m") as folder:
        project = Project(folder, tmp_path)
        with closing(sqlite3.connect(folder / "shop.db")) as shop:
            shop.executescript("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (1), (2);")
        project.write(
            "connectors.d/shop.yaml",
            "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [{table: t, cursor: id}]\n",
        )
        if ran:
            assert project.atlas("connector", "sync", "shop").returncode == 0
        before = sorted(str(each) for each in folder.rglob("*"))
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        for command in READS:
            done = project.atlas(*command, "--json")
            assert done.returncode == 0, done.stderr
            assert done.json()
        report = project.atlas("report", "--json", "--output", str(tmp_path / "report.html"))
        assert report.returncode == 0, report.stderr
        assert project.atlas("connector", "history", "--json").json()["total_runs"] == ran
        assert len(project.atlas("state", "show", "shop", "--json").json()["streams"]) == ran
        assert project.atlas("connector", "sync", "shop").returncode == 4
        assert sorted(str(each) for each in folder.rglob("*")) == before


@pytest.mark.parametrize("name", ["connectors.d/pipe.yaml", "atlas.yaml", ".atlas/secrets.json"])
def test_a_pipe_among_the_settings_holds_up_nobody(project: Project, name: str) -> None:
    project.write("connectors.d/shop.yaml", "protocol: sqlite\nconnection: {database_path: shop.db}\n")
    project.write(".atlas/there", "")
    os.mkfifo(project.folder / name)
    listing = ("secret", "list") if name.startswith(".atlas") else ("config", "check")
    done = project.atlas(*listing, timeout=30)
    assert done.returncode == 2
    assert f"{Path(name).name} cannot be read: it is no regular file" in done.stderr
