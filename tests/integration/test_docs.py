"""What the documentation tells people to type is there: commands, options, definitions, linked files."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from tests.documents import DOCS, PAGES, ROOT, blocks
from tests.project import Project
from tests.servers import ServerAddress

from atlas_etl.cli import app as cli

GENERATED = {"cli.md"}
PAGE_IDS = [str(page.relative_to(ROOT)) for page in PAGES]
ALWAYS = {"--help", "--version"}


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each command that begins a line of a block without a language."""
    for block in blocks(page):
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


def test_the_state_is_kept_in_postgresql_as_the_guide_says(project: Project, postgres: ServerAddress) -> None:
    """With the guide's role, database and settings; nothing else has to be made, and nothing is in a file."""
    guide = DOCS / "guides" / "state-in-postgresql.md"
    (made,), (settings,), (typed,) = blocks(guide, "sql"), blocks(guide, "yaml"), blocks(guide)
    own = f"atlas_{postgres.database}"
    there = f"postgresql://{own}:...@{postgres.host}:{postgres.port}/{own}"
    project.write("atlas.yaml", settings)
    project.write(
        "connectors.d/shop.yaml", "protocol: csv\nconnection: {path: .}\nstreams: [{path: '*.csv'}]\n"
    )
    with psycopg.connect(postgres.url("postgresql"), autocommit=True) as owner:
        try:
            for statement in re.sub(r"\batlas\b", own, made).split(";\n"):
                owner.execute(statement.encode())
            for line in typed.splitlines():
                done = project.atlas(*line.split()[1:], env={"ATLAS_STATE_URL": there})
                assert done.returncode == 0, done.stderr
            with psycopg.connect(there) as state:
                found = state.execute("SELECT 1 FROM pg_tables WHERE tablename = 'scheduled_runs'")
                assert found.fetchall() == [(1,)]
            assert not (project.folder / ".atlas" / "state.db").exists()
        finally:
            owner.execute(f"DROP DATABASE IF EXISTS {own} WITH (FORCE)".encode())
            owner.execute(f"DROP ROLE {own}".encode())


def test_the_grants_of_an_error_are_those_of_the_guide() -> None:
    (named,) = blocks(DOCS / "errors" / "permission_denied.md", "sql")
    (read, *_) = blocks(DOCS / "guides" / "permissions.md", "sql")
    assert set(named.splitlines()) <= set(read.splitlines())


def test_the_lines_for_cron_and_ci_run(project: Project) -> None:
    """Each in a shell that has few variables, as cron's; the last one without its reader, `jq`."""
    project.write("data/orders.csv", "id\n1\n")
    definition = "protocol: csv\nconnection: {path: data}\nstreams: [{name: orders, path: '*.csv'}]\n"
    project.write("connectors.d/shop.yaml", f"{definition}schedule: '@daily'\n")
    atlas = project.write("bin/atlas", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m atlas_etl "$@"\n')
    atlas.chmod(0o755)
    typed = [line for block in blocks(DOCS / "guides" / "cron-and-ci.md") for line in block.splitlines()]
    assert len(typed) == 4
    for line in typed:
        command = line.removeprefix("0 * * * *").replace("/srv/warehouse", shlex.quote(str(project.folder)))
        ran = subprocess.run(
            ["sh", "-c", re.sub(r"\| jq .*", "", command)],
            env=project.environment({"PATH": f"{atlas.parent}:/usr/bin:/bin"}),
            cwd=project.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, (line, ran.stdout, ran.stderr)
    assert json.loads(ran.stdout)["runs"][0]["streams"][0].keys() >= {"name", "rows_loaded"}
