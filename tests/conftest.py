"""Fixtures for all tests: database servers, a fresh database in them, and a project folder with `atlas`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from hypothesis import HealthCheck, settings

from atlas_etl import redactor
from tests.cage import Cage
from tests.project import Project
from tests.servers import ServerAddress, Unavailable, required
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe
from tests.servers import ssh as ssh_recipe
from tests.servers import stub_mssql as stub_mssql_recipe
from tests.servers import stub_oracle as stub_oracle_recipe
from tests.servers.ssh import SshServer
from tests.servers.stub_mssql import StubServer
from tests.servers.stub_oracle import StubOracle

Served = TypeVar("Served")


def pytest_configure() -> None:
    """A misspelt name in ATLAS_TEST_REQUIRE would hide the very skip it is there to show.

    A busy machine is no failure of a property. With ATLAS_TEST_FIXED_EXAMPLES properties are tried with the
    same examples each time, so that a verdict is of the change and not of the draw. A shell that starts the
    tests in its background has them ignore the interrupt, and with them each command that they interrupt.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile(
        "atlas",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=bool(os.environ.get("ATLAS_TEST_FIXED_EXAMPLES")),
    )
    settings.load_profile("atlas")
    try:
        required()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Three for two processors: a test waits a good part of its time, for a disk, a server or the clock."""
    return len(os.sched_getaffinity(0)) * 3 // 2 if sys.platform == "linux" else os.cpu_count() or 1


def unavailable(name: str, reason: str) -> NoReturn:
    """Skips the test, or fails it where `ATLAS_TEST_REQUIRE` names what is missing."""
    if name in required():
        pytest.fail(f"ATLAS_TEST_REQUIRE names {name}, but: {reason}", pytrace=False)
    pytest.skip(str(reason))


def _served(name: str, serve: Callable[[], AbstractContextManager[Served]]) -> Iterator[Served]:
    try:
        with serve() as address:
            yield address
        return
    except Unavailable as missing:
        reason = str(missing)
    unavailable(name, reason)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[ServerAddress]:
    """The superuser of a PostgreSQL server; roles made there outlive a test, so name them uniquely."""
    yield from _served("postgres", postgres_recipe.serve)


@pytest.fixture(scope="session")
def mysql_server() -> Iterator[ServerAddress]:
    """The root account of a MariaDB server; accounts made there outlive a test, so name them uniquely."""
    yield from _served("mysql", mysql_recipe.serve)


@pytest.fixture
def postgres(postgres_server: ServerAddress) -> Iterator[ServerAddress]:
    """An empty PostgreSQL database, dropped after the test."""
    with postgres_recipe.fresh_database(postgres_server) as address:
        yield address


@pytest.fixture
def mysql(mysql_server: ServerAddress) -> Iterator[ServerAddress]:
    """An empty MariaDB database, dropped after the test."""
    with mysql_recipe.fresh_database(mysql_server) as address:
        yield address


@pytest.fixture(scope="session")
def stub_mssql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubServer]:
    """A stand-in for SQL Server; its databases are files that outlive a test."""
    with stub_mssql_recipe.serve(tmp_path_factory.mktemp("stub mssql")) as server:
        yield server


@pytest.fixture
def stub_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StubOracle:
    """A stand-in for Oracle's driver in this process."""
    monkeypatch.setattr(stub_oracle_recipe.oracledb, "connect", stub_oracle_recipe.connect)
    return StubOracle(tmp_path)


@pytest.fixture(autouse=True)
def no_secret_is_known() -> Iterator[None]:
    """What one test takes for a secret is an ordinary word in the next."""
    yield
    redactor.forget()


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[SshServer]:
    """An SSH server that forwards, for this test to break."""
    yield from _served("ssh", lambda: ssh_recipe.serve(tmp_path))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty project folder; `project.atlas("connector", "list")` runs the command there."""
    made = Project(folder=tmp_path / "project", home=tmp_path / "home")
    made.folder.mkdir()
    made.home.mkdir()
    return made


@pytest.fixture
def cage(project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cage:
    """The project folder with canaries in it; no command there knows a secret of the one before."""
    return Cage(project, monkeypatch, capfd)
