"""The guide to a new protocol, followed literally: in a fresh environment, and in a copy of the sources."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import unavailable
from tests.integration.test_scripts import copy_sources, plain_environment, registry_refusal

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "new-protocol.md").read_text(encoding="utf-8")
SECONDS = 600


class Reader:
    """Somebody who has a fresh environment, and types what the guide says."""

    def __init__(self, folder: Path, sources: Path) -> None:
        self.folder = folder
        folder.mkdir()
        venv = folder / ".venv"
        if uv := shutil.which("uv"):
            self._do(uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(venv))
            self._do(uv, "pip", "install", "--quiet", "--python", str(venv), str(sources), "pytest")
        else:
            self._do(sys.executable, "-m", "venv", str(venv))
            self._do(str(venv / "bin" / "pip"), "install", "--quiet", str(sources), "pytest")
        self._bin = venv / "bin"

    def types(self, command: str) -> subprocess.CompletedProcess[str]:
        """One line in a shell whose environment is active."""
        environment = plain_environment(HOME=str(self.folder), PYTHONDONTWRITEBYTECODE="1")
        environment["PATH"] = f"{self._bin}:{environment['PATH']}"
        return subprocess.run(
            ["sh", "-c", command], cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip

    def _do(self, *arguments: str) -> None:
        done = subprocess.run(arguments, env=plain_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def section(title: str) -> str:
    return GUIDE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def blocks(text: str) -> Iterator[tuple[str, str, int]]:
    """Each block of code: its language, its text, and where it begins."""
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M):
        yield found[1], found[2], found.start()


def commands(text: str) -> list[str]:
    return [line for language, block, _ in blocks(text) if not language for line in block.splitlines()]


def files(text: str) -> Iterator[tuple[str, str]]:
    """Each file that the guide shows, with the path that it names last before it."""
    for language, block, start in blocks(text):
        if language:
            yield re.findall(r"`((?:src|tests|shop)/[^`]+)`", text[:start])[-1], block


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS)
def test_the_guide_leads_to_a_package_that_reads_another_system(tmp_path: Path) -> None:
    if refusal := registry_refusal(tmp_path / "probe"):
        unavailable("registry", f"no package registry can be reached: {refusal}")
    reader = Reader(tmp_path / "a folder", copy_sources(tmp_path / "sources"))
    for command in commands(section("A package that anybody can install")):
        done = reader.types(command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    assert "23 passed" in done.stdout

    own = section("To your own system")
    (judge,) = commands(own)
    written = list(files(own))
    assert [path for path, _ in written] == ["tests/ledger_source.py", "src/atlas_ledger/__init__.py"]
    for (path, text), fails in zip(written, (True, False), strict=True):
        (reader.folder / "atlas-ledger" / path).write_text(text, encoding="utf-8")
        done = reader.types(judge)
        assert (done.returncode == 1) == fails, done.stdout
    assert "23 passed" in done.stdout

    use = section("Using it")
    for path, text in files(use):
        (reader.folder / path).parent.mkdir(parents=True)
        (reader.folder / path).write_text(text, encoding="utf-8")
    types, sync, query = commands(use)
    assert "books of accounts, from XML files" in " ".join(reader.types(types).stdout.split())
    listed = json.loads(reader.types(f"{types} --json").stdout)["connector_types"]
    (ledger,) = [line for line in listed if line["protocol"] == "ledger"]
    assert (ledger["reads"], ledger["writes"], ledger["installed"]) == (True, False, True)
    done = reader.types(f"{sync} --json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(reader.types(f"{query} --json").stdout)
    assert answer["rows"] == [[1, "-950.00"], [2, "12345678.90"]]
    again = json.loads(reader.types(f"{sync} --json").stdout)["runs"][0]["streams"][0]
    assert (again["rows_read"], again["rows_loaded"]) == (1, 0)


def environment_of(sources: Path) -> None:
    """The `.venv` that the scripts of these sources would make: our packages, their own Atlas."""
    programs = sources / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, arguments in (("python", ""), ("atlas", "-m atlas_etl ")):
        program = programs / name
        line = f'exec env PYTHONPATH="{sources}/src" "{sys.executable}" {arguments}"$@"'
        program.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        program.chmod(0o755)
    ready = 'echo "$PWD $(cat pyproject.toml uv.lock | cksum)" | tee .venv/.ready-run >.venv/.ready-dev'
    subprocess.run(["sh", "-c", ready], cwd=sources, check=True)


def test_the_guide_leads_to_a_protocol_of_atlas_itself(tmp_path: Path) -> None:
    sources = copy_sources(tmp_path / "a copy")
    environment_of(sources)
    for command in commands(section("In Atlas itself")):
        done = subprocess.run(
            ["sh", "-c", command], cwd=sources, env=plain_environment(), capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert "Setting up" not in done.stderr
    page = (sources / "docs" / "protocols" / "ledger.md").read_text(encoding="utf-8")
    assert "| `folder` |" in page
