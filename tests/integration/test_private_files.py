"""Whatever a command makes is for its owner alone, whatever the umask; definitions follow it, as ever."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing

import pytest
from tests.project import Project

SHARED = {".gitignore", "atlas.yaml", "shop.yaml"}  # what people commit


@pytest.mark.parametrize("destination", ["duckdb", "sqlite", "parquet", "jsonl", "csv"])
def test_data_and_secrets_are_for_their_owner(project: Project, destination: str) -> None:
    with closing(sqlite3.connect(project.folder / "source.db")) as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n TEXT)")
        made.executemany("INSERT INTO t VALUES (?, ?)", [(i, "x" * 100) for i in range(1000)])
        made.commit()
    key = "database_path" if destination == "sqlite" else "path"
    project.write(
        "atlas.yaml", f"destinations: {{w: {{protocol: {destination}, {key}: out.{destination}}}}}\n"
    )
    given = set(project.folder.rglob("*"))
    # A process whose owner leaves everything open; `sync` is killed by a second one that keeps the log files.
    add = [
        "connector",
        "add",
        "shop",
        "--protocol",
        "sqlite",
        "--set",
        "database_path=source.db",
        "--table",
        "t",
    ]
    for command in (
        add,
        ["secret", "set", "other/token"],
        ["connector", "sync", "shop"],
        ["connector", "sync", "shop", "--full-refresh"],
        ["query", "SELECT 1 AS n", "--to", "t.csv"],
        ["report"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "atlas_etl", *command],
            cwd=project.folder, env=project.environment(), input="hunter2", capture_output=True, text=True,
            umask=0, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    made_now = set(project.folder.rglob("*")) - given
    assert any(path.name.startswith("out.") for path in made_now)
    assert {"t.csv", "atlas-report.html"} <= {path.name for path in made_now}
    shared = {p.name: stat.S_IMODE(p.stat().st_mode) for p in made_now if p.is_file() and p.name in SHARED}
    assert shared["shop.yaml"] == 0o666
    for path in made_now:
        if path.name not in SHARED:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode & 0o077 == 0, (path, oct(mode))


def test_a_page_that_its_owner_shares_stays_shared(project: Project) -> None:
    page = project.folder / "atlas-report.html"
    page.touch()
    page.chmod(0o644)
    assert project.atlas("report").returncode == 0
    assert (stat.S_IMODE(page.stat().st_mode), page.stat().st_size > 0) == (0o644, True)


def test_a_duckdb_files_log_is_private_too(project: Project) -> None:
    code = (
        "import os, sys, duckdb\n"
        "from atlas_etl.config.atomic import keep_new_files_private\n"
        "keep_new_files_private()\n"
        "made = duckdb.connect('w.duckdb')\n"
        "made.execute('CREATE TABLE t AS SELECT 1')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project.folder, umask=0, check=True, timeout=60)
    files = [path for path in project.folder.iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"w.duckdb", "w.duckdb.wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
