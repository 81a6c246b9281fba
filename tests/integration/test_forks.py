"""A command that is a fork of a process with the libraries is the command that an interpreter starts."""

from __future__ import annotations

import subprocess

import pytest
from tests import forks
from tests.project import Project

pytestmark = pytest.mark.skipif(forks.runner({}) is not forks.forked, reason="forks are of Linux")


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
    ids=["version", "misspelt", "from standard input", "explain", "list", "config"],
)
def test_a_fork_says_what_a_process_says(project: Project, arguments: tuple[str, ...], given: str) -> None:
    environment = project.environment({"ATLAS_DEFAULTS__HTTP__TIMEOUT": "7"})
    process, fork = (
        run(arguments, cwd=project.folder, env=environment, given=given, timeout=60)
        for run in (forks.interpreted, forks.forked)
    )
    assert (fork.returncode, fork.stdout, fork.stderr) == (process.returncode, process.stdout, process.stderr)


def test_what_is_too_late_is_killed(project: Project) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        forks.forked(["schedule"], cwd=project.folder, env=project.environment(), given="", timeout=0.5)
    assert project.atlas("--version").returncode == 0


@pytest.mark.parametrize("more", [{"TERM": "xterm"}, {"PYTHONPATH": "."}])
def test_what_a_library_reads_while_it_is_loaded_is_left_to_an_interpreter(more: dict[str, str]) -> None:
    assert forks.runner(more) is forks.interpreted
