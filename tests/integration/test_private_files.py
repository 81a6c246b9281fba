"""Whatever a command makes is for its owner alone, whatever the umask; definitions follow it, as ever."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
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


def open_to_others(folder: Path) -> list[str]:
    """What anybody but its owner may do something with."""
    return [
        f"{path.relative_to(folder)}: {stat.S_IMODE(path.stat().st_mode):o}"
        for path in (folder, *folder.rglob("*"))
        if path.stat().st_mode & 0o077 and path.name not in SHARED
    ]


def run(project: Project, *arguments: str, **env: str) -> str:
    """A command of whoever leaves everything open."""
    done = subprocess.run(
        [sys.executable, "-m", "atlas_etl", *arguments],
        cwd=project.folder, env=project.environment(env), capture_output=True, text=True, umask=0, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, 7), done.stderr
    return done.stdout


@pytest.mark.parametrize("destination", ["duckdb", "sqlite", "parquet", "csv"])
def test_rows_that_are_kept_aside_and_written_out_are_for_their_owner(
    project: Project, httpserver: HTTPServer, destination: str
) -> None:
    """The quarantine, cassettes, files that are exported, and what is left of temporary ones."""
    project.folder.chmod(0o700)
    temporary = project.folder / "tmp"
    temporary.mkdir(mode=0o700)
    httpserver.expect_request("/things").respond_with_json([{"id": 1}])
    with closing(sqlite3.connect(project.folder / "source.db")) as made:
        made.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n REAL)")
        made.executemany("INSERT INTO t VALUES (?, ?)", [(1, 1.5), (2, "no number")])
        made.commit()
    key = "database_path" if destination == "sqlite" else "path"
    project.write(
        "atlas.yaml", f"destinations: {{w: {{protocol: {destination}, {key}: out.{destination}}}}}\n"
    )
    project.write(
        "connectors.d/shop.yaml",
        "protocol: sqlite\nconnection: {database_path: source.db}\nschedule: '@daily'\n"
        "streams: [{table: t, quarantine_limit: 5}]\n",
    )
    project.write(
        "connectors.d/api.yaml",
        f"protocol: http\nconnection: {{base_url: '{httpserver.url_for('')}'}}\n"
        "streams: [{name: things, path: /things}]\n",
    )
    for path in project.folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    env = {"TMPDIR": str(temporary)}
    assert "shop" in run(project, "connector", "sync", "shop", "--json", **env)
    assert '"total": 1' in run(project, "quarantine", "list", "shop", "--json", **env)
    run(project, "connector", "sync", "api", "--record", "tape.yaml", **env)
    run(project, "connector", "verify", "shop", **env)
    for name in ("t.csv", "t.jsonl", "t.parquet", "t.csv.gz"):
        run(project, "query", "SELECT 1 AS n", "--to", name, **env)
    run(project, "report", "--output", "page.html", **env)
    assert {"t.parquet", "t.csv.gz", "page.html", "tape.yaml"} <= {
        path.name for path in project.folder.iterdir()
    }
    assert open_to_others(project.folder) == []
    assert list(temporary.iterdir()) == []


def test_what_is_piped_in_lies_where_nobody_else_looks(project: Project, tmp_path: Path) -> None:
    temporary = tmp_path / "shared"
    temporary.mkdir()
    temporary.chmod(0o1777)
    with subprocess.Popen(
        [sys.executable, "-m", "atlas_etl", "load", "w.duckdb", "--table", "t"],
        cwd=project.folder, env=project.environment({"TMPDIR": str(temporary)}), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, umask=0,
    ) as load:  # fmt: skip
        assert load.stdin is not None
        load.stdin.write(b"id\n" + b"1\n" * 2_000_000)  # more than a pipe holds, so some of it is there
        load.stdin.flush()
        (folder,) = temporary.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert [stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()] == [0o600]
        load.stdin.close()
        load.stdin = None
        assert load.wait(60) == 0
    assert list(temporary.iterdir()) == []
