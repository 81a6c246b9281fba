"""`atlas dev new-protocol`: what it writes works at once, and what it refuses changes nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.test_scripts import copy_sources, plain_environment
from tests.project import Finished, Project

from atlas_etl.connectors import registry

VENV = Path(sys.executable).parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of these sources, in a folder whose name has a blank."""
    return copy_sources(tmp_path / "a copy")


def python(*arguments: str, cwd: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """This environment's Python, with what is in `path` before all that is installed."""
    environment = plain_environment(PYTHONPATH=str(path), PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def passed(done: subprocess.CompletedProcess[str]) -> int:
    """How many tests passed; none may have failed."""
    assert done.returncode == 0, done.stdout + done.stderr
    (count,) = re.findall(r"(\d+) passed", done.stdout)
    return int(count)


def new(project: Project, *arguments: str, cwd: Path | None = None) -> Finished:
    return project.atlas("dev", "new-protocol", *arguments, cwd=cwd)


def texts(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("driver", [None, "zeep>=4.3"])
def test_a_checkout_gets_a_protocol_that_keeps_the_contract(
    project: Project, checkout: Path, driver: str | None
) -> None:
    before = texts(checkout)
    chosen = ("--driver", driver) if driver else ()
    done = new(project, "my_ledger", "--summary", "Acme's ledgers", *chosen, "--json", cwd=checkout / "docs")
    assert done.returncode == 0, done.stderr
    told = done.json()
    assert (told["protocol"], Path(told["folder"])) == ("my_ledger", checkout)
    after = texts(checkout)
    assert sorted(after.keys() - before.keys()) == sorted(str(checkout / path) for path in told["wrote"])
    edited = {path for path in before if before[path] != after[path]}
    assert edited == {str(checkout / path) for path in told["changed"]}
    assert ("pyproject.toml" in told["changed"]) == (driver is not None)
    files = ["registry.py", "my_ledger.py", "my_ledger_source.py", "connector_cases.py"]
    paths = [path for path in after if Path(path).name in files]
    assert len(paths) == len(files)
    for judge in (["check"], ["format", "--check"]):
        linted = subprocess.run(
            [VENV / "ruff", *judge, *paths], cwd=checkout, capture_output=True, text=True, check=False
        )
        assert linted.returncode == 0, linted.stdout
    cases = [
        "tests/contract/test_connectors.py", "tests/integration/test_library.py",
        "tests/integration/test_examples.py", "tests/integration/test_protocol_pages.py",
    ]  # fmt: skip
    ran = python(
        "-m", "pytest", "-p", "no:xdist", *cases, "-k", "my_ledger", cwd=checkout,
        path=checkout / "src",
    )  # fmt: skip
    assert passed(ran) >= 30
    types = python("-m", "atlas_etl", "connector", "types", cwd=checkout, path=checkout / "src").stdout
    assert "my_ledger" in types
    assert "Acme's ledgers" in types
    after = texts(checkout)  # with what the tests have made
    again = new(project, "my_ledger", cwd=checkout)
    assert again.returncode == 2
    assert "already" in again.stderr
    assert texts(checkout) == after


def test_a_new_family_and_a_checkout_that_is_not_as_expected(project: Project, checkout: Path) -> None:
    cases = checkout / "tests/contract/connector_cases.py"
    cases.write_text(cases.read_text().replace("CONNECTORS = (", "CONNECTORS: tuple[ConnectorCase, ...] = ("))
    before = texts(checkout)
    done = new(project, "ledger", "--family", "streams", "--json", cwd=checkout)
    assert (done.returncode, done.json()["error"]["code"]) == (2, "unknown_checkout")
    assert texts(checkout) == before


def test_a_package_has_what_was_asked_for_and_is_ordinary(project: Project) -> None:
    umask = os.umask(0o022)
    try:
        done = new(project, "ledger", "--package", "atlas-ledger", "--driver", "httpx[http2]>=0.27")
    finally:
        os.umask(umask)
    assert done.returncode == 0, done.stderr
    assert "next: pip install --editable atlas-ledger" in done.stdout
    folder = project.folder / "atlas-ledger"
    assert '"httpx[http2]>=0.27"' in (folder / "pyproject.toml").read_text()
    module = folder / "src" / "atlas_ledger" / "__init__.py"
    assert "\nimport httpx  # noqa" in module.read_text()
    assert module.stat().st_mode & 0o777 == 0o644
    before = texts(project.folder)
    for where in ("atlas-ledger", "atlas-ledger/pyproject.toml"):
        again = new(project, "other", "--package", where, "--json")
        assert (again.returncode, again.json()["error"]["code"]) == (2, "folder_not_empty")
    assert texts(project.folder) == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["Ledger"], "protocol_name", "for example ledger"),
        (["my-ledger"], "protocol_name", "for example my_ledger"),
        (["../ledger"], "protocol_name", "for example ledger"),
        (["7up"], "protocol_name", "for example up"),
        (["class"], "protocol_name", "for example my_system"),
        (["a" * 31], "protocol_name", "at most 30"),
        (["postgres"], "protocol_exists", "PostgreSQL"),
        (["stripe"], "protocol_exists", "connector types"),
        (["ledger", "--summary", 'a """ b'], "protocol_summary", "without quotes"),
        (["ledger", "--summary", "two\nlines"], "protocol_summary", "one line"),
        (["ledger", "--driver", "a b"], "driver_name", "what pip calls"),
        (["ledger", "--driver", "sqlite3"], "driver_name", "part of Python"),
        (["ledger"], "no_checkout", "--package atlas-ledger"),
        (["ledger", "--package", "x", "--family", "sql"], "usage", "--family"),
    ],
)
def test_what_cannot_be_is_refused(project: Project, arguments: list[str], code: str, told: str) -> None:
    if "--package" not in arguments and code != "no_checkout":
        arguments = [*arguments, "--package", "x"]
    done = new(project, *arguments, "--json")
    error = done.json()["error"]
    assert (done.returncode, error["code"]) == (2, code)
    assert told in f"{error['message']} {error['hint']}"
    assert list(project.folder.iterdir()) == []


def test_a_suite_that_is_run_from_outside_shows_what_differs(project: Project) -> None:
    """A reader that loses rows fails, and pytest shows both sides: its assertions are rewritten."""
    new(project, "ledger", "--package", "p")
    package = project.folder / "p"
    info = package / "src" / "atlas_ledger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: atlas-ledger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[atlas_etl.connectors]\nledger = atlas_ledger\n")
    flags = ("-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider")
    assert passed(python(*flags, cwd=package, path=package / "src")) == 23
    module = package / "src" / "atlas_ledger" / "__init__.py"
    right = module.read_text()
    module.write_text(right.replace("lines)", "list(lines)[1:])"))
    assert module.read_text() != right
    done = python(*flags, "-k", "every_row_arrives", cwd=package, path=package / "src")
    assert done.returncode == 1
    assert "Right contains one more item" in done.stdout or "At index 0 diff" in done.stdout
    shutil.rmtree(info)
    lost = python(*flags, "-k", "every_row_arrives", cwd=package, path=package / "src")
    assert "there is no protocol 'ledger'" in lost.stdout
    assert "ledger" not in {info.protocol for info in registry.protocols()}
