"""What shells are told may follow: as Typer would say, of the right project, with nothing heavy loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import typer
from tests.project import Project
from tests.terminal import program_on_terminal

from atlas_etl.cli import command_file, completing
from atlas_etl.cli.app import app
from atlas_etl.cli.shells import SHELLS
from atlas_etl.cli.start import main

COMMANDS: completing.Commands = json.loads(command_file.COMMANDS.read_bytes())
HEAVY = (
    "typer", "pydantic", "rich", "importlib.metadata", "atlas_etl.cli.app", "atlas_etl.model", "pyarrow",
    "numpy", "sqlalchemy", "duckdb", "psycopg", "pymysql", "requests",
)  # fmt: skip
DEFINITION = {
    "protocol": "postgresql",
    "connection": {"host": "db", "password": "${secret:shop/password}"},
    "streams": ["public.orders", {"name": "refunds: all", "query": "SELECT 1"}, {"table": '"a.b"'}],
}


@pytest.fixture
def shop(project: Project) -> Project:
    """Two connectors: `shop` with three streams, and one whose file's name has a blank."""
    project.write("connectors.d/shop.yaml", json.dumps(DEFINITION))
    project.write("connectors.d/old shop.json", json.dumps({**DEFINITION, "streams": []}))
    return project


def asked(shell: str, line: str) -> dict[str, str]:
    """What the script that Typer installs sets for a shell where the cursor stands at the end of `line`."""
    words = f"atlas {line}"
    place = len(words.split()) - (not words.endswith(" "))
    return {
        "_ATLAS_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(place),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": "" if words.endswith(" ") else words.rpartition(" ")[2],
    }


def offered(
    project: Project, line: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> list[str]:
    """What bash is told."""
    done = project.atlas(env={**asked("bash", line), **(env or {})}, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return [value for value in done.stdout.split("\n") if value]


def lines() -> Iterator[str]:
    """Of each command: what may come first, its options, and the values of options."""
    for words, command in COMMANDS.items():
        begun = f"{words} ".lstrip()
        yield begun
        yield f"{begun}s"
        yield f"{begun}-"
        yield f"{begun}--s"
        yield f"{begun}shop "
        yield f"{begun}shop --"
        for option in command["options"]:
            for name in option["names"]:
                if name not in {"--help", "--version"}:  # Typer would show it
                    yield f"{begun}{name} "
                    yield f"{begun}{name} --"
            if "values" in option:
                yield f"{begun}shop {option['names'][0]} r"
                yield f"{begun}shop {option['names'][0]}="


def answered_by(answering, capfd: pytest.CaptureFixture[str]) -> tuple[str, object]:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit) as ended:
        answering()
    return capfd.readouterr().out, ended.value.code or 0


@pytest.mark.parametrize("shell", SHELLS)
def test_typer_would_say_the_same(
    shop: Project, shell: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Typer looks into the commands themselves, so this shows that commands.json is theirs, too."""
    monkeypatch.chdir(shop.folder)
    monkeypatch.setenv("TERMINAL_WIDTH", "1000")  # Typer folds longer helps
    command = typer.main.get_command(app)
    differing, compared = [], 0
    for line in (
        lines() if shell == "bash" else ("", "-", "connector ", "connector sync --", "explain n", "init ")
    ):
        for name, value in asked(shell, line).items():
            monkeypatch.setenv(name, value)
        ours = answered_by(main, capfd)
        theirs = answered_by(lambda: command.main([], prog_name="atlas"), capfd)
        differing += [] if ours == theirs else [(line, ours, theirs)]
        compared += ours[0].strip() != ""
    assert differing == []
    assert compared > (300 if shell == "bash" else 3)


def test_fish_asks_first_whether_there_is_an_answer(shop: Project) -> None:
    for line, code in (("connector sync ", 0), ("init ", 1)):
        env = {**asked("fish", line), "_TYPER_COMPLETE_FISH_ACTION": "is-args"}
        done = shop.atlas(env=env)
        assert (done.returncode, done.stdout.strip(), done.stderr) == (code, "", "")


def test_names_are_those_of_the_project_that_the_line_means(shop: Project, tmp_path: Path) -> None:
    other = tmp_path / "another one"
    (other / "connectors.d").mkdir(parents=True)
    (other / "connectors.d" / "crm.yml").write_text(
        json.dumps({"source_type": "mysql", "source_name": "crm", "table": "leads"})
    )
    inner = shop.folder / "sub" / "folder"
    inner.mkdir(parents=True)
    assert offered(shop, "connector sync ") == ["old shop", "shop"]
    assert offered(shop, "connector sync ", cwd=inner) == ["old shop", "shop"]
    assert offered(shop, "connector sync ", {"ATLAS_PROJECT": str(other)}) == ["crm"]
    quoted = f"'{other}'"
    for option in (f"-C {quoted}", f"--project {quoted}", f"--project={quoted}", f"-C{quoted}"):
        line = {"COMP_CWORD": "5" if " " in option.replace(quoted, "") else "4"}
        assert offered(shop, f"{option} connector sync ", line) == ["crm"]
        assert offered(shop, f"connector sync {option} c", line) == ["crm"]
    assert offered(shop, f"-C {quoted} connector plan crm --stream ", {"COMP_CWORD": "7"}) == ["leads"]
    assert offered(shop, "-C /nowhere connector sync ") == []


def test_options_that_every_command_takes_are_passed_over(shop: Project) -> None:
    assert offered(shop, "connector --json sync -q s") == ["shop"]
    assert offered(shop, "connector sync --log-format json s") == ["shop"]
    assert offered(shop, "connector sync --log-format ") == ["text", "json"]
    assert offered(shop, "connector sync --json --full") == ["--full-refresh"]


def test_streams_are_those_of_the_connectors_that_are_named(shop: Project) -> None:
    assert offered(shop, "connector sync shop --stream ") == ["orders", "refunds: all", "a.b"]
    assert offered(shop, "connector sync shop --stream=o") == ["orders"]
    assert offered(shop, "connector sync shop --stream = o", {"COMP_CWORD": "6"}) == [
        "orders"
    ]  # bash splits there
    assert offered(shop, "connector sync shop --stream orders --stream r") == ["refunds: all"]
    assert offered(shop, "connector sync nothing --stream ") == []
    assert offered(shop, "connector sync --stream ") == []
    project_file = {**DEFINITION, "streams": ["${env:FIRST}"]}
    shop.write("connectors.d/shop.yaml", json.dumps(project_file))
    assert offered(shop, "state show shop --stream ", {"FIRST": "public.items"}) == ["items"]
    shop.write("connectors.d/shop.yaml", "streams: [")
    assert offered(shop, "state show shop --stream ") == []


def test_secrets_are_those_that_the_files_refer_to(shop: Project) -> None:
    shop.write(
        "atlas.yaml", "destinations:\n  lake: {protocol: postgresql, password: '${secret:lake/password}'}\n"
    )
    assert offered(shop, "secret set ") == ["lake/password", "shop/password"]
    assert offered(shop, "secret remove lake/password s") == ["shop/password"]


def test_streams_that_nobody_named_are_those_of_the_api(shop: Project) -> None:
    resources = "{resources: {orders: {path: /o}, items: {path: /i}}}"
    shop.write("connectors.d/api.yaml", f"protocol: http\nconnection: {resources}\n")
    assert offered(shop, "connector sync api --stream ") == ["orders", "items"]
    shop.write("connectors.d/pay.yaml", "protocol: stripe\nconnection: {api_key: '${secret:pay/key}'}\n")
    assert offered(shop, "connector sync pay --stream cust") == ["customers"]


def test_protocols_and_destinations(shop: Project) -> None:
    assert offered(shop, "connector add new --protocol s")[:2] == ["salesforce", "shopify"]
    assert offered(shop, "connector add new --protocol=post") == ["postgresql"]
    assert offered(shop, "query x --destination ") == ["warehouse"]
    lakes = "{lake: {protocol: parquet, path: lake}, mart: {protocol: duckdb, path: mart.duckdb}}"
    shop.write("atlas.yaml", f"destinations: {lakes}\n")
    assert offered(shop, "connector add new --destination ") == ["lake", "mart"]
    assert offered(shop, "query x --destination m") == ["mart"]
    shop.write("atlas.yaml", "destinations: [")
    assert offered(shop, "query x --destination ") == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "connector s",
        "connector sync ",
        "connector sync --",
        "connector sync shop --stream ",
        "secret set ",
        "explain ",
        "query x --destination ",
    ],
)
def test_nothing_heavy_is_loaded(shop: Project, line: str) -> None:
    script = (
        "import sys\nfrom atlas_etl.cli.start import main\ntry: main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=shop.folder, env=shop.environment(asked("bash", line)),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() != ""
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_tab_key_completes_by_what_is_installed(shop: Project, tmp_path: Path, name: str) -> None:
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"there is no {name}")
    atlas = tmp_path / "bin" / "atlas"
    atlas.parent.mkdir()
    atlas.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m atlas_etl \"$@\"\n")
    atlas.chmod(0o755)
    env = {"PATH": f"{atlas.parent}:{os.environ['PATH']}"}
    installed = subprocess.run(
        [shell, "-c", "atlas --install-completion; true"],  # Typer asks which program has started it
        env=shop.environment(env), cwd=shop.folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{name} completion installed" in installed.stdout, installed.stderr
    with program_on_terminal(shop, shell, "-i", env=env) as terminal:
        terminal.type("echo rea''dy\n")
        terminal.wait_for("ready")
        terminal.type("atlas connector no\t\x15")  # zsh reads Typer's script when it is first asked for
        terminal.type("atlas connector sync sh\t")
        terminal.wait_for("op")
        terminal.type("--full\t")
        terminal.wait_for("-refresh")
        terminal.type("--stream ord\t")
        terminal.wait_for("ers")
