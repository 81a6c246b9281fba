"""Folders for temporary files: their owner's alone, gone with their use, or after a kill with the next."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atlas_etl.temporary import Purpose, TemporaryFolder

MAKE = """
import sys, time
from atlas_etl.temporary import Purpose, TemporaryFolder
made = TemporaryFolder(Purpose.LOAD)
(made.path / "input").write_text("a row")
print(made.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def another() -> tuple[subprocess.Popen[str], Path]:
    """A process with a folder, which goes on until it is told."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().rstrip("\n"))


def test_a_folder_is_its_owners_and_gone_with_its_use(here: Path) -> None:
    before = os.umask(0)
    try:
        with TemporaryFolder(Purpose.QUERY) as made:
            assert (made.path.parent, made.path.name.startswith("atlas-query-")) == (here, True)
            assert stat.S_IMODE(made.path.stat().st_mode) == 0o700
            (made.path / "inner").mkdir()
    finally:
        os.umask(before)
    made.close()
    assert list(here.iterdir()) == []


def test_a_folder_of_a_killed_process_goes_with_the_next_one(here: Path) -> None:
    process, left = another()
    with process:
        with TemporaryFolder(Purpose.SCRATCH):
            assert (left / "input").read_text() == "a row"  # in use
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert left.exists()
    with TemporaryFolder(Purpose.SCRATCH):
        assert not left.exists()
    assert list(here.iterdir()) == []


def test_a_process_that_ends_takes_its_folder_along(here: Path) -> None:
    process, made = another()
    process.communicate("")
    assert (process.returncode, made.exists(), list(here.iterdir())) == (0, False, [])


def test_what_only_has_such_a_name_is_left_alone(here: Path) -> None:
    other = here / "other"
    other.mkdir()
    (other / "kept").touch()
    os.symlink(other, here / "atlas-load-link")
    (here / "atlas-load-file").touch()
    with TemporaryFolder(Purpose.LOAD):
        pass
    assert sorted(path.name for path in here.iterdir()) == ["atlas-load-file", "atlas-load-link", "other"]
    assert (other / "kept").exists()
