"""Syncs of GraphQL and SOAP that are killed under concurrent writes lose no row and double none."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from tests.crash.api_sources import ApiSource, GraphqlSource, SoapSource
from tests.crash.conftest import harness, kill_around_commits
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
    kill_around_commits(crash, rows=1000)
