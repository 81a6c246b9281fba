"""`atlas connector add` on a real terminal: what is asked, shown, written, and what is not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pytest_httpserver import HTTPServer
from tests.project import Project
from tests.servers import ServerAddress
from tests.servers import postgres as postgres_server
from tests.terminal import PATIENCE, Terminal, on_terminal

from atlas_etl.api.atlas import Atlas


@pytest.fixture
def source(project: Project) -> Path:
    """A SQLite file in the project, with a table to be copied by `updated_at` and forty others."""
    path = project.folder / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE orders "
            "(id INTEGER PRIMARY KEY, amount NUMERIC, note TEXT, updated_at TIMESTAMP NOT NULL)"
        )
        database.execute("CREATE INDEX by_time ON orders (updated_at)")
        database.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?)",
            [(n, n * 1.5, f"note {n}", f"2026-01-01 00:{n:02}:00") for n in range(1, 13)],
        )
        for n in range(40):
            database.execute(f"CREATE TABLE archive_{n:02} (id INTEGER PRIMARY KEY)")
    return path


def written(project: Project) -> dict[str, object]:
    """Every file of the project but the source."""
    return {
        str(file.relative_to(project.folder)): file.read_bytes()
        for file in project.folder.rglob("*")
        if file.is_file() and file.name != "shop.db"
    }


def test_a_connector_from_nothing_to_a_first_sync(project: Project, source: Path) -> None:
    with on_terminal(project, "connector", "add") as terminal:
        terminal.answer("name, which is also the file's:", "shop")
        terminal.answer("protocol, the kind of system", "sqlit")
        terminal.answer("database_path", "nowhere.db")
        terminal.answer("another setting", "")
        terminal.wait_for("It did not work: there is no SQLite file")
        terminal.answer("what now?", "correct")
        terminal.answer("[nowhere.db]:", "shop.db")
        terminal.answer("another setting", "")
        terminal.wait_for("It works: 41 tables and views")
        terminal.wait_for("and 21 more: type a part of a name to search")
        terminal.answer("tables (", "ordes")
        terminal.wait_for("did you mean 'orders'?")
        terminal.answer("tables (", "rder")
        terminal.wait_for("orders: about 12 rows, 4 columns")
        terminal.wait_for("key: id, the table's own primary key")
        terminal.wait_for("Proposed: updated_at, because its name says that changes move it; indexed")
        terminal.answer("cursor, the column that grows", "")
        terminal.answer("disposition", "")
        terminal.wait_for("destination: warehouse, duckdb")
        terminal.answer("schedule, in words", "weekdays at 06:30")
        terminal.answer("time zone", "Europe/Berlin")
        terminal.wait_for("30 6 * * 1-5 means from Monday to Friday at 06:30")
        terminal.wait_for("the first rows of orders:")
        terminal.wait_for("note 10")
        terminal.wait_for("connectors.d/shop.yaml:")
        assert written(project) == {}, "nothing is written before the last question"
        terminal.answer("write it?", "")
        terminal.wait_for("wrote connectors.d/shop.yaml")
        assert terminal.end() == 0
        shown = terminal.shown
    text = (project.folder / "connectors.d/shop.yaml").read_text()
    assert yaml.safe_load(text) == {
        "protocol": "sqlite",
        "connection": {"database_path": "shop.db"},
        "streams": [{"table": "orders", "cursor": "updated_at"}],
        "schedule": "30 6 * * 1-5",
        "timezone": "Europe/Berlin",
    }
    assert text in shown
    (run,) = project.atlas("connector", "sync", "shop", "--json").json()["runs"]
    assert (run["status"], run["rows_processed"]) == ("completed", 12)


def test_a_password_is_never_shown_and_is_encrypted(project: Project, postgres: ServerAddress) -> None:
    with postgres_server.connect(postgres) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    address = [f"host={postgres.host}", f"port={postgres.port}", f"database={postgres.database}"]
    flags = [word for each in address for word in ("--set", each)]
    command = ("connector", "add", "shop", "--protocol", "postgresql", *flags, "--table", "orders")
    with on_terminal(project, *command[:-2]) as terminal:
        terminal.answer("username", postgres.username)
        terminal.answer("password (unseen", "not the password", hidden=True)
        terminal.answer("another setting", "")
        terminal.answer("what now?", "")
        for question in ("host", "port", "database", "username"):
            terminal.answer(question, "")
        terminal.answer("password (unseen", postgres.password, hidden=True)
        terminal.answer("another setting", "")
        terminal.answer("tables (", "")
        terminal.answer("cursor, the column", "none")
        terminal.answer("schedule, in words", "")
        terminal.answer("write it?", "y")
        terminal.wait_for("encrypted shop/password")
        assert terminal.end() == 0
        shown = terminal.shown
    for secret in (postgres.password, "not the password"):
        assert secret not in shown
        assert not any(
            secret.encode() in file.read_bytes() for file in project.folder.rglob("*") if file.is_file()
        )
    assert "${secret:shop/password}" in (project.folder / "connectors.d/shop.yaml").read_text()
    assert Atlas.open(project.folder, {}).secrets().get("shop/password") == postgres.password


QUESTIONS = ("name,", "protocol,", "database_path", "another setting", "tables (", "cursor,", "disposition",
             "schedule,", "time zone", "write it?")  # fmt: skip
ANSWERS = ("shop", "sqlite", "shop.db", "", "orders", "", "", "daily", "")


@pytest.mark.parametrize("press", [Terminal.interrupt, Terminal.end_input], ids=["ctrl-c", "ctrl-d"])
@pytest.mark.parametrize("stop", [0, 2, 4, 9])
def test_breaking_off_writes_nothing(
    project: Project, source: Path, stop: int, press: Callable[[Terminal, str], None]
) -> None:
    with on_terminal(project, "connector", "add") as terminal:
        for question, answer in zip(QUESTIONS[:stop], ANSWERS[:stop], strict=True):
            terminal.answer(question, answer)
        press(terminal, QUESTIONS[stop])
        terminal.wait_for("interrupted; nothing was written")
        assert terminal.end() == 130
    assert written(project) == {}


def test_a_token_that_the_trial_replaced_outlives_breaking_off(
    project: Project, httpserver: HTTPServer
) -> None:
    """The one that was typed is worth nothing any more."""
    token = {"access_token": "a", "expires_in": 3600, "refresh_token": "the-second-token"}
    httpserver.expect_request("/token").respond_with_json(token)
    httpserver.expect_request("/v1/things").respond_with_json([{"id": 1}])
    httpserver.expect_request("/v1").respond_with_json([])
    url = httpserver.url_for
    settings = {
        "base_url": url("/v1"), "auth.type": "oauth2", "auth.grant": "refresh_token",
        "auth.token_url": url("/token"), "auth.client_id": "me", "auth.refresh_token": "the-first-token",
        "resources.things.path": "/things",
    }  # fmt: skip
    flags = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    with on_terminal(project, "connector", "add", "api", "--protocol", "http", *flags) as terminal:
        terminal.answer("another setting", "")
        terminal.wait_for("It works")
        terminal.interrupt("streams (")
        terminal.wait_for("the source replaced api/auth/refresh_token while it was tried")
        terminal.wait_for("nothing was written")
        assert terminal.end() == 130
        assert "the-second-token" not in terminal.shown
    assert not (project.folder / "connectors.d").exists()
    assert project.atlas("secret", "list", "--json").json()["secrets"][0]["name"] == "api/auth/refresh_token"


def test_saying_no_writes_nothing(project: Project, source: Path) -> None:
    with on_terminal(project, "connector", "add") as terminal:
        for question, answer in zip(QUESTIONS, (*ANSWERS, "n"), strict=True):
            terminal.answer(question, answer)
        terminal.wait_for("nothing was written")
        assert terminal.end() == 130
    assert written(project) == {}


def test_what_flags_say_completely_is_not_asked_for(project: Project, source: Path) -> None:
    command = ("connector", "add", "shop", "--protocol", "sqlite", "--set", "database_path=shop.db")
    with on_terminal(project, *command, "--table", "orders", "--schedule", "every day at 06:30") as terminal:
        terminal.wait_for("wrote connectors.d/shop.yaml")
        assert terminal.end() == 0
    assert "schedule: 30 6 * * *" in (project.folder / "connectors.d/shop.yaml").read_text()
    with on_terminal(project, *command[:2], "two", *command[3:], "--no-input") as terminal:
        terminal.wait_for("wrote connectors.d/two.yaml")
        assert terminal.end() == 0
    with on_terminal(project, *command[:2], "three", *command[3:], "--json") as terminal:
        assert terminal.end() == 0
        assert '"connector": "three"' in terminal.shown


def test_without_a_terminal_nothing_is_asked(project: Project, source: Path) -> None:
    nameless = project.atlas("connector", "add")
    assert (nameless.returncode, nameless.stdout) == (2, "")
    assert "Missing argument 'NAME'" in nameless.stderr
    kindless = project.atlas("connector", "add", "shop", input="sqlite\n")
    assert (kindless.returncode, "--protocol is missing" in kindless.stderr) == (2, True)
    words = project.atlas("connector", "add", "shop", "--protocol", "sqlite", "--schedule", "now and then")
    assert (words.returncode, "every day at 06:30" in words.stderr) == (2, True)
    done = project.atlas("connector", "add", "shop", "--protocol", "sqlite", "--set", "database_path=shop.db")
    assert done.returncode == 0, done.stderr
    changed = project.atlas("connector", "update", "shop", "--set", "schedule=weekdays at 7")
    assert changed.returncode == 0, changed.stderr
    assert "schedule: 0 7 * * 1-5" in (project.folder / "connectors.d/shop.yaml").read_text()


def test_the_guide_is_what_happens(project: Project) -> None:
    """Each line of the guide's transcript is shown, in this order; `...` stands for others."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "first-connector.md").read_text(encoding="utf-8")
    transcript = guide.partition("```text\n")[2].partition("```")[0]
    assert project.atlas("quickstart", timeout=PATIENCE * 2).returncode == 0
    answers = (*QUESTIONS[1:], "")
    with on_terminal(replace(project, folder=project.folder / "atlas-quickstart"),
                     "connector", "add", "departures") as terminal:  # fmt: skip
        for question in answers[:-1]:
            line = next(line for line in transcript.splitlines() if line.startswith(question))
            terminal.answer(question, "" if line.endswith(":") else line.rpartition(": ")[2])
        terminal.wait_for("next: atlas connector sync departures")
        assert terminal.end() == 0
    shown = [" ".join(line.split()) for line in terminal.shown.splitlines()]
    at = 0
    for line in filter(None, (" ".join(line.split()) for line in transcript.splitlines())):
        begin = line.partition("...")[0] if line.endswith("...") and "trying" not in line else line
        found = next((n for n, each in enumerate(shown[at:], at) if each.startswith(begin)), None)
        assert found is not None, f"{line!r} is not shown after {shown[at - 1]!r}"
        at = found
