"""The state for commands that only read: what this user may not write is read all the same."""

from __future__ import annotations

import codecs
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atlas_etl.errors import StateError
from atlas_etl.model import Run, RunStatus
from atlas_etl.state import LocalStateStore
from atlas_etl.state.only_read import StateLooks, open_to_read

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WRITE_AND_DIE = """
import os, sys
from atlas_etl.state import LocalStateStore
store = LocalStateStore(sys.argv[1])
with store.lease("shop", triggered_by="manual", destination=None):
    os._exit(1)
"""


def run(number: int) -> Run:
    started = NOON + timedelta(minutes=number)
    return Run(f"run-{number:04}", "shop", RunStatus.COMPLETED, "manual", started, started)


@pytest.fixture
def file() -> Iterator[Path]:
    """A state with one run in a folder that every user can read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="atlas-state-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with closing(LocalStateStore(folder / "state.db")) as store:
            store.finish(run(1))
        (folder / "state.db").chmod(0o644)
        yield folder / "state.db"


@contextmanager
def foreign(file: Path) -> Iterator[None]:
    """As somebody who may write neither the file nor its folder."""
    if os.geteuid() == 0:
        codecs.lookup("ascii")  # which would be unknown for ever, where Python's own files are root's alone
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    file.parent.chmod(0o555)
    try:
        yield
    finally:
        file.parent.chmod(0o755)


def runs(file: Path) -> list[Run]:
    with closing(open_to_read(file)) as store:
        return list(store.history())


def test_a_state_that_nobody_has_open(file: Path) -> None:
    with foreign(file):
        assert runs(file) == [run(1)]
    assert [each.name for each in file.parent.iterdir()] == ["state.db"]


def test_what_a_writer_has_in_its_log(file: Path) -> None:
    with closing(LocalStateStore(file)) as writer:
        writer.finish(run(2))
        with foreign(file):
            assert runs(file) == [run(2), run(1)]


def test_each_look_sees_what_was_written_since(file: Path) -> None:
    with closing(StateLooks(file)) as looks, closing(LocalStateStore(file)) as writer:
        for number in (2, 3):
            writer.finish(run(number))
            with foreign(file):
                assert looks.now().history(limit=1) == [run(number)]


def test_what_a_killed_writer_left_in_its_log(file: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(file)], check=False)
    assert file.with_name("state.db-wal").exists()
    with foreign(file):
        newest, _ = runs(file)
    assert newest.status is RunStatus.INTERRUPTED, "its process is gone, which only the copy knows"
    with closing(sqlite3.connect(file)) as there:
        assert there.execute("SELECT count(*) FROM scheduled_runs WHERE status = 'running'").fetchone() == (
            1,
        )


def test_a_log_without_its_index_is_not_passed_over(file: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(file)], check=False)
    file.with_name("state.db-shm").unlink()
    with foreign(file), pytest.raises(StateError) as caught:
        runs(file)
    assert caught.value.code == "state_unwritable"


def test_a_state_of_its_owner_alone_is_told_so(file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has a file that it may not read")
    for place, mode in ((file, 0o600), (file.parent, 0o700)):
        place.chmod(mode)
        with foreign(file), pytest.raises(StateError) as caught:
            runs(file)
        assert caught.value.code == "state_unreadable"


def test_a_state_that_is_not_there_and_cannot_be_made_is_empty(file: Path) -> None:
    with foreign(file):
        assert runs(file.parent / ".atlas" / "state.db") == []
