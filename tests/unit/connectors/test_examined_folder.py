"""What the doctor says of a folder that takes no file: what is to be done depends on why."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlas_etl.connectors.examined import folder
from atlas_etl.model import Severity
from tests.disks import mounted


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    with mounted(tmp_path / "disk", "64k") as point:
        yield point


def test_a_disk_that_is_read_only_is_not_mended_by_rights(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    found = next(iter(folder("destination", disk / "lake")))
    assert (found.check, found.severity) == ("write_permission", Severity.PROBLEM)
    assert (found.fix or "").startswith(f"findmnt -T {disk} ")


def test_a_disk_without_room_is_told_as_that(disk: Path) -> None:
    for number in range(1000):  # a file takes an inode, and this file system has few
        try:
            (disk / str(number)).write_bytes(bytes(4096))
        except OSError:
            break
    subprocess.run(["mount", "-o", f"remount,nr_inodes={len(os.listdir(disk)) + 1}", str(disk)], check=True)
    found = next(iter(folder("destination", disk)))
    assert found.severity is Severity.PROBLEM
    assert (found.fix or "").startswith(f"df -ih {disk} ")
