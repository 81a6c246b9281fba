"""The scripts as a newcomer meets them: a fresh copy of the sources, no environment yet, one command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import unavailable

ROOT = Path(__file__).parents[2]
SHELL_SCRIPTS = sorted(
    path
    for path in (*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run")
    if path.suffix == ".sh" or path.read_bytes().splitlines()[0].endswith((b"/sh", b" bash"))
)

SECONDS_TO_INSTALL = 600
INSTALLING = "Setting up"


def copy_sources(target: Path) -> Path:
    """What git would give to somebody who clones this working tree."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git working tree: what belongs to the sources is not known")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def plain_environment(**more: str) -> dict[str, str]:
    """The shell's environment without what an active environment or these tests have put there."""
    ours = ("ATLAS_", "PYTEST_", "VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def run_script(
    script: Path, *arguments: str, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [script, *arguments],
        cwd=cwd,
        env=plain_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_INSTALL,
        check=False,
    )


def registry_refusal(folder: Path) -> str:
    """Why the installer that the scripts would use cannot get a small package of ours; empty when it can."""
    if uv := shutil.which("uv"):
        download = [uv, "pip", "install", "--no-cache", "--no-deps", "--target"]
    else:
        download = [sys.executable, "-m", "pip", "download", "--no-cache-dir", "--no-deps", "--dest"]
    done = subprocess.run(
        [*download, str(folder), "hatchling"],
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_and_can_be_executed(script: Path) -> None:
    first_line = script.read_text().splitlines()[0]
    shell = "bash" if first_line.endswith("bash") else "sh"
    parsed = subprocess.run([shell, "-n", script], capture_output=True, text=True, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, "")
    assert os.access(script, os.X_OK) == first_line.startswith("#!")


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS_TO_INSTALL)
def test_quickstart_from_a_fresh_copy(tmp_path: Path) -> None:
    if refusal := registry_refusal(tmp_path / "probe"):
        unavailable("registry", f"no package registry can be reached: {refusal}")
    copy = copy_sources(tmp_path / "a copy" / "of atlas")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    first = run_script(copy / "scripts" / "quickstart", cwd=elsewhere)
    assert first.returncode == 0, first.stderr
    assert "incremental" in (first.stdout + first.stderr).lower()
    assert INSTALLING in first.stderr

    again = run_script(copy / "scripts" / "quickstart", "--help", cwd=elsewhere)
    assert again.returncode == 0, again.stderr
    assert INSTALLING not in again.stderr


def test_no_usable_python_is_said_plainly(tmp_path: Path) -> None:
    copy = copy_sources(tmp_path / "copy")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "dirname", "cat", "cksum"):
        (programs / name).symlink_to(str(shutil.which(name)))
    old_python = programs / "python3"
    old_python.write_text("#!/bin/sh\nexit 1\n")
    old_python.chmod(0o755)

    done = run_script(copy / "scripts" / "quickstart", cwd=tmp_path, PATH=str(programs))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "error: no Python 3.11 or newer" in done.stderr
    assert not (copy / ".venv").exists()
