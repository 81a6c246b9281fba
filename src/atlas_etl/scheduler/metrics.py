"""What Prometheus may ask of one scheduler: what it ran, and how the schedule stands in the store.

Names and units as Prometheus has them: https://prometheus.io/docs/practices/naming/. Counters tell of the
runs and tests that this process began; where several share a state store, theirs are to be added up. Gauges
tell of the store, so that each process says the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from atlas_etl.model import BreakerState, Run, RunStatus
from atlas_etl.scheduler.events import ConnectionTested, Event, RetryPlanned, RunEnded, SlotDied, SlotSkipped
from atlas_etl.scheduler.overview import Overview

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
_BREAKER = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


class Metrics:
    """The numbers of one scheduler. May be used by several threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        by = ("connector",)
        self._runs = Counter(
            "atlas_runs", "Runs that ended, by how.", (*by, "status"), registry=self._registry
        )
        self._rows = Counter(
            "atlas_run_rows", "Rows that runs added or changed.", by, registry=self._registry
        )
        self._bytes = Counter("atlas_run_bytes", "Bytes that runs read.", by, registry=self._registry)
        self._seconds = Histogram(
            "atlas_run_duration_seconds", "How long runs took.", by, registry=self._registry, buckets=_SECONDS
        )
        self._skipped = Counter(
            "atlas_slots_skipped", "Slots that were given up.", by, registry=self._registry
        )
        self._retries = Counter(
            "atlas_retries_planned", "Failed runs that are run again.", by, registry=self._registry
        )
        self._died = Counter(
            "atlas_slots_died", "Slots whose run failed for good.", by, registry=self._registry
        )

        self._tests = Counter(
            "atlas_connection_tests",
            "Tests of connections, by how.",
            (*by, "status"),
            registry=self._registry,
        )

    def count(self, event: Event, run: Run | None) -> None:
        """Take note of what the scheduler did; `run` is a RunEnded's, where it is known."""
        match event:
            case RunEnded(slot=slot):
                status = run.status if run is not None else RunStatus(slot.status.value)
                self._runs.labels(slot.connector, status.value).inc()
                self._seconds.labels(slot.connector).observe(event.seconds)
                self._rows.labels(slot.connector).inc(run.rows_processed if run is not None else 0)
                self._bytes.labels(slot.connector).inc(run.bytes_processed if run is not None else 0)
            case SlotSkipped():
                self._skipped.labels(event.connector).inc()
            case RetryPlanned(slot=slot):
                self._retries.labels(slot.connector).inc()
            case ConnectionTested(test=test):
                self._tests.labels(test.connector, "failed" if test.error else "success").inc()
            case SlotDied(slot=slot):
                self._died.labels(slot.connector).inc()

    def text(self, overview: Overview, last_completed: Mapping[str, datetime]) -> bytes:
        """Everything in Prometheus' text format, the store as the overview shows it."""
        return generate_latest(self._registry) + generate_latest(_gauges(overview, last_completed))


def _gauges(found: Overview, last_completed: Mapping[str, datetime]) -> CollectorRegistry:
    registry = CollectorRegistry()
    plain = {
        "atlas_schedulers": ("Schedulers that are alive.", len(found.daemons)),
        "atlas_runs_running": ("Runs that go on.", len(found.running)),
        "atlas_retries_waiting": ("Failed slots that wait to be run again.", len(found.retries)),
        "atlas_dead_letters": ("Slots whose run failed for good and nobody looked at.", len(found.dead)),
    }
    for name, (what, value) in plain.items():
        Gauge(name, what, registry=registry).set(value)
    behind = Gauge(
        "atlas_schedule_lag_seconds", "How long a due slot has waited.", ("connector",), registry=registry
    )
    for late in found.late:
        behind.labels(late.connector).set(late.seconds)
    breaker = Gauge(
        "atlas_breaker_state", "0 closed, 1 half open, 2 open.", ("connector",), registry=registry
    )
    for each in found.breakers:
        breaker.labels(each.connector).set(_BREAKER[each.state])
    healthy = Gauge(
        "atlas_connector_healthy",
        "1 where the last test of the connection succeeded, else 0.",
        ("connector",),
        registry=registry,
    )
    tested = Gauge(
        "atlas_last_test_age_seconds",
        "How long ago the last test of the connection began.",
        ("connector",),
        registry=registry,
    )
    for health in found.health:
        healthy.labels(health.connector).set(health.is_healthy)
        tested.labels(health.connector).set(max(0.0, (found.at - health.last.tested_at).total_seconds()))
    age = Gauge(
        "atlas_last_success_age_seconds",
        "How long ago the last run completed.",
        ("connector",),
        registry=registry,
    )
    for connector, at in last_completed.items():
        age.labels(connector).set(max(0.0, (found.at - at).total_seconds()))
    return registry
