"""What people are told, to whom, and that nothing which must not be shown is in it."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.config.notices import NoticeKind, NoticeTarget, notice_targets
from atlas_etl.config.project import load_project
from atlas_etl.config.show import effective_project
from atlas_etl.errors import ConfigError
from atlas_etl.model import Slot
from atlas_etl.scheduler.clock import Wish
from atlas_etl.scheduler.notices import Notice, is_wanted, message, notice_of
from atlas_etl.scheduler.overview import had_failed
from atlas_etl.scheduler.webhooks import Webhooks
from tests.unit.scheduler import world as worlds
from tests.unit.scheduler.world import LASTING, NOON, World

LATE = timedelta(minutes=10)
FAILURE = Notice(NoticeKind.FAILURE, "shop", NOON, NOON, "run-1", "no such table <orders>", "look")


def target(url: str = "https://hooks.example.com/T0/hush-hush", **more: object) -> NoticeTarget:
    return NoticeTarget.model_validate({"url": url, **more})


def told(world: World, hours: float) -> list[Notice]:
    daemon = world.daemon()
    found = []
    for event in daemon.run():
        notice = notice_of(
            event, world.wall, late_after=LATE, had_failed=lambda name: had_failed(world.stores, name)
        )
        if notice is not None:
            found.append(notice)
    return found


def stop_after(world: World, hours: float) -> None:
    world.signals.append((world.ticks + hours * 3600, Wish.STOP))


def test_a_failure_and_its_recovery_are_told_once(tmp_path: Path) -> None:
    broken = {2, 3}

    def outcome(slot: Slot) -> Exception | None:
        return LASTING if (slot.scheduled_at - NOON) // timedelta(hours=1) in broken else None

    world = World(tmp_path, outcome=outcome)
    world.define("shop")
    stop_after(world, 6.1)
    found = told(world, 6.1)
    kinds = [notice.kind for notice in found]
    assert kinds == [NoticeKind.FAILURE, NoticeKind.FAILURE, NoticeKind.RECOVERY]
    assert found[0].reason == LASTING.message
    assert found[0].scheduled_at == NOON + timedelta(hours=2)


def test_the_first_test_that_fails_is_told_and_the_first_that_succeeds_again(tmp_path: Path) -> None:
    world = World(tmp_path, is_tested=True)
    world.define("shop", None)
    broken = (NOON + timedelta(hours=1), NOON + timedelta(hours=2))
    world.finds = lambda _: worlds.FAILURE if broken[0] <= world.wall < broken[1] else worlds.SUCCESS
    stop_after(world, 3.1)
    found = told(world, 3.1)
    assert [(notice.kind, notice.reason, notice.hint) for notice in found] == [
        (NoticeKind.UNHEALTHY, "gone", "look"),
        (NoticeKind.HEALTHY, "", ""),
    ]
    texts = [message(target(), notice, "p")["text"] for notice in found]
    assert texts == ["shop fails its test: gone", "shop succeeds in its test again"]


def test_a_breaker_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, outcome=lambda _slot: LASTING)
    world.define("shop")
    world.settings("breaker: {failures: 2, cooldown: 1d}")
    stop_after(world, 4.1)
    kinds = [notice.kind for notice in told(world, 4.1)]
    assert kinds == [NoticeKind.FAILURE, NoticeKind.FAILURE, NoticeKind.BREAKER]


def test_a_run_that_begins_late_is_told(tmp_path: Path) -> None:
    world = World(tmp_path, takes=1800.0)
    world.settings("jobs: 1")
    world.define("first")
    world.define("second")
    stop_after(world, 2.2)
    found = [notice for notice in told(world, 2.2) if notice.kind is NoticeKind.LATE]
    assert found
    assert {notice.reason for notice in found} == {"0:30:00 after its time"}


def test_who_is_told() -> None:
    assert is_wanted(target(), FAILURE)
    assert is_wanted(target(connectors=["shop"], on=["failure"]), FAILURE)
    assert not is_wanted(target(connectors=["crm"]), FAILURE)
    assert not is_wanted(target(on=["recovery", "late"]), FAILURE)


def test_what_is_told() -> None:
    found = message(target(), FAILURE, "/srv/warehouse")
    assert found == {
        "event": "failure", "connector": "shop", "scheduled_at": "2026-06-01T12:00:00Z", "run_id": "run-1",
        "reason": "no such table <orders>", "hint": "look", "project": "/srv/warehouse",
        "at": "2026-06-01T12:00:00Z", "text": "shop failed for good: no such table <orders>",
    }  # fmt: skip
    slack = message(target(format="slack", template="{project} {connector}: {reason} & {{"), FAILURE, "p")
    assert slack == {"text": "p shop: no such table &lt;orders&gt; &amp; {{"}


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"url": "ftp://example.com/hush-hush"}, "https"),
        ({"url": "https://a/hush-hush", "template": "{password}"}, "password"),
        ({"url": "https://a/hush-hush", "on": ["sunrise"]}, "failure"), ({}, "url"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_meant(tmp_path: Path, wrong: dict[str, object], why: str) -> None:
    (tmp_path / "atlas.yaml").write_text(json.dumps({"notices": {"ops": wrong}}))
    with pytest.raises(ConfigError) as caught:
        notice_targets(load_project(tmp_path, {}))
    assert why in f"{caught.value.message} {caught.value.hint}"
    assert "hush" not in f"{caught.value.message} {caught.value.hint}"


def test_a_targets_address_may_be_a_reference(tmp_path: Path) -> None:
    (tmp_path / "atlas.yaml").write_text("notices: {ops: {url: '${env:HOOK}'}}")
    load_project(tmp_path, {})  # nobody but the scheduler needs it
    (found,) = notice_targets(load_project(tmp_path, {"HOOK": "https://a/hush-hush"})).values()
    assert found.url.get_secret_value() == "https://a/hush-hush"
    assert "hush" not in repr(found)
    (tmp_path / "atlas.yaml").write_text("notices: {ops: {url: 'https://a/hush-hush'}}")
    shown = effective_project(load_project(tmp_path, {}))
    assert "notices.ops.url" in [each.key for each in shown]
    assert "hush" not in str(shown)


class Hook:
    """A webhook that fails as often as it is told to."""

    def __init__(self, server: HTTPServer, *answers: int) -> None:
        self.answers = list(answers)
        self.posted: list[dict[str, object]] = []
        self.arrived = threading.Event()
        self.url = server.url_for("/hush-hush")
        server.expect_request("/hush-hush", method="POST").respond_with_handler(self.answer)

    def answer(self, request: Request) -> Response:
        status = self.answers.pop(0) if self.answers else 200
        if status == 200:
            self.posted.append(request.get_json())
            self.arrived.set()
        return Response(status=status, headers={"Location": "/elsewhere"} if status == 302 else {})


@pytest.fixture
def failures() -> list[tuple[str, str]]:
    return []


def test_a_notice_arrives_though_the_hook_fails_at_first(
    httpserver: HTTPServer, failures: list[tuple[str, str]]
) -> None:
    hook = Hook(httpserver, 503)
    with Webhooks({"ops": target(hook.url)}, "p", lambda name, _, why: failures.append((name, why))) as hooks:
        hooks.tell(FAILURE)
        assert hook.arrived.wait(20)
    assert [each["connector"] for each in hook.posted] == ["shop"]
    assert not failures


@pytest.mark.parametrize("status", [302, 404])
def test_a_hook_that_refuses_is_told_without_its_address(
    httpserver: HTTPServer, failures: list[tuple[str, str]], status: int
) -> None:
    hook = Hook(httpserver, status)
    given_up = threading.Event()

    def failed(name: str, _: Notice, why: str) -> None:
        failures.append((name, why))
        given_up.set()

    with Webhooks({"ops": target(hook.url)}, "p", failed) as hooks:
        hooks.tell(FAILURE)
        assert given_up.wait(20)
    assert failures == [("ops", f"localhost answered with {status}")]
    assert not hook.posted
