"""The pages of errors: each tells of an error that there is, and shows what its own command says."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path

import pytest
from tests.integration.error_scenes import SCENES, Stage
from tests.project import Project

from atlas_etl.cli import explanations
from atlas_etl.cli.app import run

ROOT = Path(__file__).parents[2]
SECTIONS = ["What it says", "Why", "What to do"]
# What a scene cannot bring about by itself: other processes, certificates, a full disk.
UNSEEN = {
    "database_locked", "disk_full", "locked", "missing_driver", "tls",
    "value_does_not_fit",
}  # fmt: skip


def told(code: str) -> tuple[str, list[str]]:
    """The command that the page shows, and the lines of the error."""
    first = re.search(r"## What it says\n\n```\n\$ (.*?)\n(.*?)```", explanations.page(code), re.S)
    assert first, code
    return first[1], first[2].splitlines()


def same_everywhere(text: str, project: Project) -> str:
    """Output without what differs from machine to machine."""
    text = text.replace(str(project.folder), "/srv/warehouse")
    text = re.sub(r"http://(localhost|127\.0\.0\.1):\d+", "https://api.example.com", text)
    return re.sub(r'"127\.0\.0\.1", port \d\d+', '"127.0.0.1", port 5432', text)


@pytest.mark.parametrize("code", sorted(SCENES))
def test_a_page_shows_what_is_said(
    code: str,
    project: Project,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(*arguments: str, stdin: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        capsys.readouterr()
        run(["-C", str(project.folder), *arguments])
        return capsys.readouterr().err

    monkeypatch.setenv("HOME", str(project.home))
    monkeypatch.chdir(project.folder)
    SCENES[code](Stage(project, request, monkeypatch, call))
    command, expected = told(code)
    lines = same_everywhere(call(*shlex.split(command)[1:]), project).splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("error: "))
    assert lines[begin : begin + len(expected)] == expected
    assert expected[-1] == f"  more: atlas explain {code}"


@pytest.mark.parametrize("code", explanations.codes())
def test_a_page_is_whole(code: str) -> None:
    page = explanations.page(code)
    assert page.startswith(f"# {code}\n\n")
    assert re.findall(r"^## (.*)$", page, re.M) == SECTIONS
    assert explanations.summary(code).endswith(".")
    assert code in SCENES or code in UNSEEN
    assert told(code)[1][-1] == f"  more: atlas explain {code}"


def test_every_page_tells_of_a_code_of_the_program() -> None:
    written = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    for code in explanations.codes():
        name = "http_{status}" if code.startswith("http_") else code
        assert f'"{name}"' in written, code
    assert len(explanations.codes()) >= 30


def test_the_command_prints_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "null_cursor"]) == 0
    assert capsys.readouterr().out == explanations.page("null_cursor")
    assert run(["explain", "null_cursor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["page"] == explanations.page("null_cursor")


def test_the_command_lists_the_pages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n{code} " in listed for code in explanations.codes())


def test_a_code_without_a_page_has_the_nearest_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "null_cursr"]) == 2
    assert "did you mean 'null_cursor'" in capsys.readouterr().err
