"""Syncs of GraphQL and SOAP that are killed under concurrent writes lose no row and double none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from tests.crash.api_sources import ApiSource, GraphqlSource, SoapSource
from tests.crash.conftest import harness
from tests.crash.harness import AFTER, ENDED, Moment
from tests.crash.sabotage import Point
from tests.crash.targets import Target
from tests.project import Project


@pytest.mark.parametrize("source", [GraphqlSource, SoapSource])
@pytest.mark.parametrize("target", ["sqlite", "duckdb", "postgresql"], indirect=True)
def test_a_killed_sync_of_an_api_loses_and_doubles_nothing(
    project: Project,
    httpserver: HTTPServer,
    tmp_path: Path,
    source: type[ApiSource],
    target: Target,
    seed: int,
) -> None:
    crash = harness(project, source(tmp_path, httpserver), target, seed, rows=1000)
    with crash.being_written():
        commit = crash.dice.choice([1, 2])  # the first stream's, or the other's
        assert crash.disturb(Point("commit", commit, "before")) != ENDED
        timing = crash.measure()
        crash.source.add(1000, crash.dice)
        crash.disturb(Moment(crash.dice.random(), in_load=True), timing)
        assert crash.disturb(Point("commit", 3 - commit, "after")) == AFTER
    assert not crash.finish()
    assert not crash.report.findings
