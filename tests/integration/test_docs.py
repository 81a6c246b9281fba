"""What the documentation tells people to type is there: commands, options, definitions, linked files."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from tests.project import Project

from atlas_etl.api.atlas import Atlas
from atlas_etl.cli import app as cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("*/*.md"))]
GENERATED = {"cli.md"}
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]
ALWAYS = {"--help", "--version"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command that begins a line of a block without a language."""
    for block in blocks(page, ""):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"(?:^|&& |^\$ |\* )atlas (\S.*)", line)
            if found and not found[1].startswith("schedule export --to crontab|"):
                text = re.split(r" {3,}| \| | && | > |  #", found[1])[0]
                yield shlex.split(text, comments=True)


def options_of(words: list[str]) -> set[str]:
    """The options that this command takes. Raises AssertionError where there is none."""
    command = typer.main.get_command(cli.app)
    context = typer.Context(command, info_name="atlas")
    known = set(ALWAYS)
    rest = words
    while True:
        known |= {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        if not hasattr(command, "resolve_command"):
            return known
        while rest and rest[0].startswith("-"):
            rest = rest[2:] if rest[0] in ("-C", "--project") else rest[1:]
        if not rest or rest[0] not in command.list_commands(context):
            assert getattr(command, "invoke_without_command", False) or not rest, f"no command {words}"
            return known
        _, command, rest = command.resolve_command(context, rest)
        context = typer.Context(command, parent=context)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in GENERATED], ids=str)
def test_commands_and_their_options_are_there(page: Path) -> None:
    for words in commands(page):
        known = options_of(words)
        options = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
        assert options <= known, f"{page.name}: atlas {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=PAGE_IDS)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [str(page.relative_to(DOCS)) for page in PAGES[1:] if page.parent.name != "errors"]
    assert [page for page in pages if f": {page}\n" not in site] == []


@pytest.mark.parametrize("found", blocks(DOCS / "concepts.md", "yaml"))
def test_the_definitions_of_the_concepts_are_valid(project: Project, found: str) -> None:
    project.write("connectors.d/shop.yaml", found)
    Atlas.open(project.folder, {}).connector("shop")


def test_the_quickstart_does_what_it_says(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's first two sections after the installation, in the project that `atlas quickstart` makes."""
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert cli.run(["quickstart"]) == 0
    monkeypatch.chdir(project.folder / "atlas-quickstart")
    page = (DOCS / "quickstart.md").read_text(encoding="utf-8")
    typed = re.search(r"## Look around(.*?)## Your own data", page, re.S)
    assert typed
    lines = re.findall(r"^atlas (.*)$", typed[1], re.M)
    assert len(lines) == 8
    for line in lines:
        assert cli.run(shlex.split(line)) == 0, capsys.readouterr().err
