"""File systems of their own for tests: small, full, or read-only. Only root may mount them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(point: Path, size: str) -> Iterator[Path]:
    """A file system of this size (`64k`, `32m`) in a new folder; skips the test where it cannot be had."""
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(point)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)
