"""`atlas schedule next | list | status | dead` and `connector resume`, as scripts use them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.project import Project

from atlas_etl.cli.app import run
from atlas_etl.model import BreakerPolicy, ConnectionTest, DecidedSchedule, RunError
from atlas_etl.state import SqlStateStore, open_state_store

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
POLICY = BreakerPolicy(failures=1, cooldown=timedelta(minutes=15))
Answer = Callable[..., tuple[int, Any]]


@pytest.fixture
def shop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("ATLAS_PROJECT", raising=False)
    base = "protocol: sqlite\nconnection: {database_path: shop.db}\nstreams: [t]\n"
    project.write("connectors.d/shop.yaml", f"{base}schedule: '30 1 * * *'\ntimezone: America/New_York\n")
    project.write("connectors.d/logs.yaml", f"{base}schedule: 'every 6h'\n")
    project.write("connectors.d/off.yaml", f"{base}schedule: '@daily'\nenabled: false\n")
    return project


@pytest.fixture
def atlas(shop: Project, capsys: pytest.CaptureFixture[str]) -> Answer:
    def answer(*arguments: str) -> tuple[int, Any]:
        code = run(["--project", str(shop.folder), *arguments, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return answer


def store(shop: Project) -> SqlStateStore:
    return open_state_store(shop.folder / ".atlas" / "state.db")


def fail(shop: Project, at: datetime = NOON) -> None:
    """The slot's run failed for good, and the breaker opened."""
    with closing(store(shop)) as state:
        slot = state.schedule.claim("shop", at, daemon="d", now=at, policy=POLICY)
        assert slot is not None
        state.schedule.fail_claim(slot, RunError("source", "no such table", "name another one"))
        failed = state.schedule.slot("shop", at)
        assert failed is not None
        state.schedule.bury(failed, policy=POLICY, now=datetime.now(UTC))


def test_the_coming_slots(atlas: Answer) -> None:
    code, document = atlas("schedule", "next", "--count", "6", "--from", "2026-10-31T23:00:00Z")
    assert code == 0
    assert document == {
        "slots": [
            {"connector": name, "scheduled_at": at, "local_time": local}
            for name, at, local in [
                ("logs", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00+00:00"),
                ("shop", "2026-11-01T05:30:00Z", "2026-11-01T01:30:00-04:00"),
                ("logs", "2026-11-01T06:00:00Z", "2026-11-01T06:00:00+00:00"),
                ("logs", "2026-11-01T12:00:00Z", "2026-11-01T12:00:00+00:00"),
                ("logs", "2026-11-01T18:00:00Z", "2026-11-01T18:00:00+00:00"),
                ("logs", "2026-11-02T00:00:00Z", "2026-11-02T00:00:00+00:00"),
            ]
        ]
    }
    code, document = atlas("schedule", "next", "shop", "--count", "2", "--from", "2026-11-01T05:30:00Z")
    assert [slot["scheduled_at"] for slot in document["slots"]] == [
        "2026-11-02T06:30:00Z",
        "2026-11-03T06:30:00Z",
    ]


def test_names_that_are_not_scheduled(atlas: Answer) -> None:
    assert atlas("schedule", "next", "off")[1]["error"]["code"] == "not_scheduled"
    assert atlas("schedule", "next", "shpo")[1]["error"]["hint"] == "did you mean 'shop'?"
    assert atlas("schedule", "next", "--from", "soon")[0] == 2


def test_a_year_of_slots(atlas: Answer) -> None:
    slots = atlas("schedule", "next", "shop", "--count", "365", "--from", "2026-01-01T05:00:00Z")[1]["slots"]
    assert slots[-1]["local_time"] == "2026-12-31T01:30:00-05:00"


def test_what_is_scheduled_and_what_is_wrong(shop: Project, atlas: Answer) -> None:
    shop.write("connectors.d/shop.yaml", "protocol: sqlite\nschedule: '0 0 31 2 *'\n")
    code, document = atlas("schedule", "list")
    assert code == 2
    (line,) = document["schedules"]
    assert (line["connector"], line["schedule"], line["timezone"]) == ("logs", "every 6h", "UTC")
    assert (line["catch_up"], line["timeout_seconds"], line["retries"]) == ("once", 86400, 3)
    checked = atlas("config", "check")
    assert checked[0] == 2
    assert "no such month has a day 31" in str(checked[1])


def test_definitions_are_refused_when_they_are_added(shop: Project, atlas: Answer) -> None:
    refused = {"0 0 31 2 *": "no such month", "@reboot": "no clock says", "* * * * * *": "has 6"}
    for schedule, why in refused.items():
        code, document = atlas(
            "connector", "add", "new", "--protocol", "sqlite", "--set", "database_path=s.db",
            "--table", "t", "--schedule", schedule, "--no-test",
        )  # fmt: skip
        assert code == 2
        assert why in document["error"]["message"]
    code, document = atlas(
        "connector", "add", "new", "--protocol", "sqlite", "--set", "database_path=s.db",
        "--table", "t", "--schedule", "@daily", "--timezone", "Europe/Berlim", "--no-test",
    )  # fmt: skip
    assert code == 2
    assert "Europe/Berlin" in f"{document['error']['message']} {document['error']['hint']}"


def test_status_shows_what_is_late_rests_and_died(shop: Project, atlas: Answer) -> None:
    with closing(store(shop)) as state:
        now = datetime.now(UTC)
        state.schedule.decide({"logs": DecidedSchedule("every 6h", "UTC", now - timedelta(hours=13))})
    fail(shop)
    code, document = atlas("schedule", "status")
    assert code == 0
    assert document["daemons"] == document["running"] == []
    assert [late["connector"] for late in document["late"]] == ["logs"]
    assert document["late"][0]["seconds"] > 6 * 3600
    assert [(each["connector"], each["state"]) for each in document["breakers"]] == [("shop", "open")]
    assert document["dead"] == 1
    assert len(document["next"]) == 5
    with closing(store(shop)) as state, state.schedule.enlisted():
        assert len(atlas("schedule", "status")[1]["daemons"]) == 1


def test_dead_letters_are_listed_retried_and_dropped(shop: Project, atlas: Answer) -> None:
    fail(shop)
    fail(shop, NOON + timedelta(days=2000))  # after the breaker's cooldown
    code, document = atlas("schedule", "dead", "list", "shop")
    first = document["dead"][0]
    assert (first["scheduled_at"], first["attempts"]) == ("2026-06-01T12:00:00Z", 1)
    assert first["error"] == {"code": "source", "message": "no such table", "hint": "name another one"}
    assert len(document["dead"]) == 2
    assert atlas("schedule", "dead", "retry", "shop", "--slot", "2026-06-01T12:00:00Z")[1]["retried"] == 1
    assert atlas("schedule", "dead", "drop", "shop")[1]["dropped"] == 1
    code, document = atlas("schedule", "dead", "drop", "shop")
    assert (code, document["error"]["code"]) == (2, "no_dead_letter")
    assert atlas("schedule", "dead", "list")[1] == {"dead": []}


def test_resume_closes_a_breaker_that_the_list_shows(shop: Project, atlas: Answer) -> None:
    fail(shop)
    breakers = {line["name"]: line["breaker"] for line in atlas("connector", "list")[1]["connectors"]}
    assert breakers == {"shop": "open", "logs": "closed", "off": "closed"}
    assert atlas("connector", "resume", "shop")[1] == {"connector": "shop", "breaker": "open", "failures": 1}
    assert atlas("connector", "resume", "shop")[1]["breaker"] == "closed"
    assert atlas("connector", "resume", "shpo")[0] == 2


def test_the_daemon_loads_neither_what_copies_rows_nor_a_warehouse() -> None:
    code = "import atlas_etl.cli.schedule_daemon, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"duckdb", "rich", "psycopg", "requests", "atlas_etl.pipeline.run"} & set(done.stdout.split())


def test_what_tests_found_is_in_list_history_and_status(atlas: Answer, shop: Project) -> None:
    refused = RunError("source", "connection refused", "is it up?")
    with closing(store(shop)) as state:
        for number, error in enumerate((None, refused, refused)):
            at = NOON + number * timedelta(minutes=15)
            assert state.health.begin("shop", at, now=at, limit=timedelta(minutes=1))
            state.health.finish(at, ConnectionTest("shop", at, 0.5, "there", "SQLite 3", ("old",), error))
    failing = {
        "status": "failing",
        "since": "2026-06-01T12:15:00Z",
        "tested_at": "2026-06-01T12:30:00Z",
        "error": {"code": "source", "message": "connection refused", "hint": "is it up?"},
    }
    _, listed = atlas("connector", "list")
    never = {"status": "never_tested", "since": None, "tested_at": None, "error": None}
    assert {line["name"]: line["health"] for line in listed["connectors"]} == {
        "shop": failing,
        "logs": never,
        "off": never,
    }
    _, status = atlas("schedule", "status")
    assert status["health"] == [{"connector": "shop", **failing}]
    _, history = atlas("connector", "history", "shop", "--tests", "--limit", "3")
    assert (history["connector"], history["total_tests"]) == ("shop", 3)
    assert history["tests"][2] == {
        "connector": "shop",
        "tested_at": "2026-06-01T12:00:00Z",
        "connection_status": "success",
        "message": "there",
        "duration_seconds": 0.5,
        "server_version": "SQLite 3",
        "warnings": ["old"],
        "error": None,
    }
    assert [test["connection_status"] for test in history["tests"]] == ["failed", "failed", "success"]
    assert atlas("connector", "history", "logs", "--tests")[1]["tests"] == []
    assert atlas("connector", "history", "nobody", "--tests")[0] == 2
    assert atlas("connector", "history", "--tests", "--status", "failed")[0] == 2
