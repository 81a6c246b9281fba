"""What a machine does to a sync: a full disk, SIGTERM, damaged files, another sync at the same time."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pytest

from tests.crash.conftest import DESTINATIONS, harness, until_waiting
from tests.crash.harness import DEADLINE, Harness, end
from tests.crash.sabotage import Plan, Point
from tests.crash.sources import SqliteSource
from tests.crash.targets import PostgresTarget, Target, embedded
from tests.project import Project
from tests.servers import ServerAddress

ON_DISK = ("duckdb", "sqlite", "parquet", "jsonl", "csv")
DESTINATION_FAILED, LOCKED, BAD_DATA, INTERRUPTED = 4, 6, 7, 130


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own; skips the test where none may be mounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room that there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return ballast


@pytest.mark.parametrize("protocol", ON_DISK)
def test_a_full_disk_and_then_room_again(
    project: Project, sqlite_source: SqliteSource, tmp_path: Path, protocol: str, seed: int
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        crash = harness(project, sqlite_source, embedded(protocol, disk), seed, rows=500)
        assert not crash.finish()
        crash.source.add(20_000, crash.dice)
        ballast = fill(disk)
        done = crash.sync()
        assert done.returncode == DESTINATION_FAILED, done.stderr
        ballast.unlink()
        assert not crash.finish()


@pytest.mark.parametrize("protocol", ["duckdb", "sqlite", "jsonl"])
def test_a_file_that_may_not_grow(
    project: Project, sqlite_source: SqliteSource, tmp_path: Path, protocol: str, seed: int
) -> None:
    crash = harness(project, sqlite_source, embedded(protocol, tmp_path), seed, rows=20_000)
    done = crash.sync(Plan(protocol, file_size=192 * 1024))
    assert done.returncode == DESTINATION_FAILED, done.stderr
    assert "free space" in done.stderr or "make room" in done.stderr
    assert not crash.finish()


@pytest.mark.parametrize("target", DESTINATIONS, indirect=True)
def test_sigterm_around_a_commit(
    project: Project, sqlite_source: SqliteSource, target: Target, seed: int
) -> None:
    crash = harness(project, sqlite_source, target, seed, rows=2000)
    for side in ("before", "after"):
        point = Point("commit", crash.dice.choice([1, 2]), side)
        done = crash.sync(Plan(target.protocol, point, action="terminate"))
        assert done.returncode == INTERRUPTED, done.stderr
        crash.source.add(100, crash.dice)
    assert not crash.finish()


@pytest.fixture
def synced(project: Project, sqlite_source: SqliteSource, tmp_path: Path, seed: int) -> Harness:
    """A DuckDB warehouse that has everything but some newer rows."""
    crash = harness(project, sqlite_source, embedded("duckdb", tmp_path), seed, rows=500)
    assert not crash.finish()
    crash.source.add(50, crash.dice)
    return crash


def rows_read(crash: Harness) -> int:
    """How many rows a sync reads, all streams together."""
    runs = crash.project.atlas("connector", "sync", "c", "--json").json()["runs"]
    return sum(stream["rows_read"] for run in runs for stream in run["streams"])


def test_a_lost_state_file_costs_no_rows_and_no_reload(synced: Harness) -> None:
    for file in (synced.project.folder / ".atlas").iterdir():
        file.unlink()
    assert rows_read(synced) < 1000
    assert not synced.compare()


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_damaged_state_file_is_an_error(synced: Harness, damage: str) -> None:
    state = synced.project.folder / ".atlas" / "state.db"
    with closing(sqlite3.connect(state)) as client:  # so that all is in one file
        client.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"not a database\n" * 500)
    loads = synced.target.loads()
    done = synced.sync()
    assert done.returncode == DESTINATION_FAILED, done.stderr
    assert "state.db" in done.stderr
    assert synced.target.loads() == loads
    state.unlink()
    assert not synced.finish()


def test_a_checkpoint_edited_by_hand_is_an_error(synced: Harness) -> None:
    loads, path = synced.target.loads(), str(synced.target.connection()["path"])
    with duckdb.connect(path) as client:
        client.execute("UPDATE c._atlas_checkpoints SET tail_from = 'yesterday'")
    done = synced.sync()
    assert done.returncode in (DESTINATION_FAILED, BAD_DATA), done.stderr
    assert synced.target.loads() == loads
    assert synced.project.atlas("state", "reset", "c").returncode == 0
    assert not synced.finish()


@pytest.mark.parametrize("damage", ["truncated", "edited"])
def test_a_damaged_manifest_is_an_error(
    project: Project, sqlite_source: SqliteSource, tmp_path: Path, damage: str, seed: int
) -> None:
    target = embedded("parquet", tmp_path)
    crash = harness(project, sqlite_source, target, seed, rows=500)
    assert not crash.finish()
    crash.source.add(50, crash.dice)
    manifest = Path(str(target.connection()["path"])) / "c" / "appended" / "_atlas_manifest.json"
    whole = manifest.read_text()
    edited = json.loads(whole)
    edited["mark"]["checkpoint"]["tail_from"]["text"] = "yesterday"
    manifest.write_text(whole[: len(whole) // 2] if damage == "truncated" else json.dumps(edited))
    done = crash.sync()
    assert done.returncode != 0, done.stderr
    manifest.write_text(whole)
    assert not crash.finish()


def test_of_two_syncs_at_once_one_is_refused(synced: Harness) -> None:
    first = synced.start(Plan("duckdb", Point("commit", 1, "before"), action="pause"))
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "paused\n"
        second = synced.sync()
        assert second.returncode == LOCKED, second.stderr
        _, said = first.communicate("go on\n", timeout=DEADLINE)
    finally:
        end(first)
    assert first.returncode == 0, said
    assert not synced.compare()


def test_two_syncs_that_share_no_state_double_nothing(
    project: Project, sqlite_source: SqliteSource, postgres: ServerAddress, tmp_path: Path, seed: int
) -> None:
    """Two hosts, each with a state file of its own: neither sees the other's lease."""
    target = PostgresTarget(postgres)
    crash = harness(project, sqlite_source, target, seed, rows=100)
    assert not crash.finish()
    crash.source.add(50, crash.dice)
    other_project = Project(tmp_path / "other", tmp_path / "home")
    other_project.folder.mkdir()
    other = Harness(other_project, sqlite_source, target, seed=seed)
    first = crash.start(Plan("postgresql", Point("commit", 1, "before"), action="pause"))
    second = None
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "paused\n"
        second = other.start()
        until_waiting(postgres, second)
        first.communicate("go on\n", timeout=DEADLINE)
        second.communicate(timeout=DEADLINE)
    finally:
        for process in (first, second):
            if process is not None:
                end(process)
    assert not crash.finish()
