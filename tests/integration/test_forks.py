"""A command that is a fork of a process with the libraries is the command that an interpreter starts."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests import forks
from tests.project import Project

pytestmark = pytest.mark.skipif(not forks.serves({}), reason="commands are started by an interpreter here")


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (("--version",), ""),
        (("conector",), ""),
        (("secret", "set", "shop/password"), "hunter2\n"),
        (("explain", "locked"), ""),
        (("connector", "list", "--json"), ""),
        (("config", "show"), ""),
    ],
    ids=" ".join,
)
def test_a_fork_says_what_a_process_says(project: Project, arguments: tuple[str, ...], given: str) -> None:
    environment = project.environment({"ATLAS_DEFAULTS__HTTP__TIMEOUT": "7"})
    by_itself = subprocess.run(
        [sys.executable, "-m", "atlas_etl", *arguments],
        cwd=project.folder, env=environment, input=given, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    fork = forks.run(arguments, cwd=project.folder, env=environment, given=given, timeout=60)
    assert (fork.returncode, fork.stdout, fork.stderr) == (
        by_itself.returncode, by_itself.stdout, by_itself.stderr,
    )  # fmt: skip


def test_what_is_too_late_is_killed(project: Project) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forks.run(["schedule"], cwd=project.folder, env=project.environment(), given="", timeout=0.5)
    assert project.atlas("--version").returncode == 0


@pytest.mark.parametrize("more", [{"TERM": "xterm"}, {"PYTHONPATH": "."}])
def test_what_a_library_reads_while_it_is_loaded_is_left_to_an_interpreter(more: dict[str, str]) -> None:
    assert not forks.serves(more)
