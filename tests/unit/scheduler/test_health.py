"""What a scheduler tells over HTTP of itself, and what it counts."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from atlas_etl.errors import StateError, UsageError
from atlas_etl.model import Slot
from atlas_etl.scheduler.agenda import read_agenda
from atlas_etl.scheduler.clock import Wish
from atlas_etl.scheduler.events import RunEnded, StoreFailed
from atlas_etl.scheduler.health import HealthServer
from atlas_etl.scheduler.metrics import Metrics
from atlas_etl.scheduler.overview import overview
from atlas_etl.scheduler.vitals import LATEST_BEAT, Vitals
from tests.unit.scheduler.world import FAILURE, LASTING, PASSING, SUCCESS, World

GOOD = Vitals(1.0, is_ready=True)


@contextmanager
def serving(vitals: Vitals = GOOD, store: Exception | None = None) -> Iterator[str]:
    def ask() -> bytes:
        if store is not None:
            raise store
        return b""

    with HealthServer("127.0.0.1", 0, vitals=lambda: vitals, ask_store=ask, metrics=ask) as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("vitals", "alive", "ready"),
    [
        (GOOD, 200, 200),
        (Vitals(1.0, is_ready=False), 200, 503),
        (Vitals(LATEST_BEAT, is_ready=True), 503, 503),
    ],
)
def test_a_loop_that_hangs_and_a_store_that_is_gone_are_told(vitals: Vitals, alive: int, ready: int) -> None:
    with serving(vitals) as url:
        found = [requests.get(f"{url}/{path}", timeout=60).status_code for path in ("healthz", "readyz")]
    assert found == [alive, ready]


def test_nothing_else_is_answered() -> None:
    with serving() as url:
        assert requests.get(f"{url}/connectors.d", timeout=60).status_code == 404
        assert requests.post(f"{url}/healthz", timeout=60).status_code == 501


@pytest.mark.parametrize("path", ["metrics", "readyz"])
def test_a_store_that_went_away_since_the_last_turn_is_told(path: str) -> None:
    with serving(store=StateError("the store is gone")) as url:
        gone = requests.get(f"{url}/{path}", timeout=60)
        assert requests.get(f"{url}/healthz", timeout=60).status_code == 200
    assert (gone.status_code, gone.text) == (503, "the store is gone\n")


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UsageError) as caught:
        HealthServer("127.0.0.1", taken.getsockname()[1], vitals=lambda: GOOD, ask_store=bytes, metrics=bytes)
    assert caught.value.code == "health_port"


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def test_runs_failures_and_the_store_are_counted(tmp_path: Path) -> None:
    def outcome(slot: Slot) -> Exception | None:
        return {"flaky": PASSING if slot.attempts == 0 else None, "broken": LASTING}.get(slot.connector)

    world = World(tmp_path, outcome=outcome)
    for name in ("good", "flaky", "broken"):
        world.define(name)
    world.settings("breaker: {failures: 2, cooldown: 5h}")
    metrics = Metrics()
    for event in world.run(3.1):
        run_id = event.slot.run_id if isinstance(event, RunEnded) else None
        metrics.count(event, world.store.run(run_id) if run_id else None)
    agenda = read_agenda(tmp_path, {})
    now = overview(agenda, world.stores, world.wall)
    found = samples(metrics.text(now, {"good": world.wall - timedelta(seconds=90)}))
    assert found["atlas_runs_total", ("good", "completed")] == 3
    assert (
        found["atlas_runs_total", ("flaky", "failed")]
        == found["atlas_retries_planned_total", ("flaky",)]
        == 3
    )
    assert found["atlas_runs_total", ("flaky", "completed")] == 3
    assert found["atlas_slots_died_total", ("broken",)] == 2
    assert found["atlas_slots_skipped_total", ("broken",)] == 1
    assert found["atlas_run_duration_seconds_count", ("good",)] == 3
    assert found["atlas_breaker_state", ("broken",)] == 2
    assert found["atlas_dead_letters", ()] == 2
    assert found["atlas_last_success_age_seconds", ("good",)] == 90
    assert ("atlas_last_success_age_seconds", ("broken",)) not in found


def test_tests_of_connections_are_counted(tmp_path: Path) -> None:
    world = World(tmp_path, is_tested=True, finds=lambda name: FAILURE if name == "broken" else SUCCESS)
    for name in ("good", "broken"):
        world.define(name, None)
    world.define("gone", None)
    world.at(0.9, (tmp_path / "connectors.d" / "gone.yaml").unlink)
    metrics = Metrics()
    for event in world.run(1.1):
        metrics.count(event, None)
    now = overview(read_agenda(tmp_path, {}), world.stores, world.wall)
    found = samples(metrics.text(now, {}))
    assert found["atlas_connection_tests_total", ("good", "success")] == 5
    assert found["atlas_connection_tests_total", ("broken", "failed")] == 5
    assert found["atlas_connector_healthy", ("good",)] == 1
    assert found["atlas_connector_healthy", ("broken",)] == 0
    assert 0 <= found["atlas_last_test_age_seconds", ("broken",)] < 900
    assert ("atlas_connector_healthy", ("gone",)) not in found


def test_a_loop_is_ready_while_its_store_answers_and_it_is_not_stopping(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.define("shop")
    daemon = world.daemon()
    seen: list[tuple[float, bool]] = []
    forgotten = world.store.schedule.recover

    def look() -> None:
        seen.append((world.ticks, daemon.vitals().is_ready))

    def fail(*_: object) -> None:
        raise StateError("gone")

    world.at(0.1, look)
    world.at(0.2, lambda: setattr(world.store.schedule, "recover", fail))
    world.at(0.3, look)
    world.at(0.4, lambda: setattr(world.store.schedule, "recover", forgotten))
    world.at(0.5, look)
    world.signals.append((world.ticks + 3600, Wish.STOP))
    events = list(daemon.run())
    assert [ready for _, ready in seen] == [True, False, True]
    assert any(isinstance(event, StoreFailed) for event in events)
    assert not daemon.vitals().is_ready
