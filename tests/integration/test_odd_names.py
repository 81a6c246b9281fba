"""Members of API records that no destination can hold by their own names: longer than it allows, or empty."""

from __future__ import annotations

import json

import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from werkzeug import Response

LONG = "ä" * 60  # characters that PostgreSQL counts twice, and more than MySQL allows in an alias


@pytest.fixture(params=["postgresql", "mysql", "sqlite", "duckdb", "parquet", "jsonl", "csv"])
def destination(request: pytest.FixtureRequest, project: Project) -> str:
    protocol: str = request.param
    settings = {"sqlite": "database_path: out.db", "duckdb": "path: out.duckdb"}.get(protocol, "path: out")
    if protocol in ("postgresql", "mysql"):
        server = request.getfixturevalue({"postgresql": "postgres"}.get(protocol, protocol))
        settings = (
            f"host: {server.host}, port: {server.port}, database: {server.database}, "
            f"username: {server.username}, password: '{server.password}'"
        )
    project.write("atlas.yaml", f"destinations: {{out: {{protocol: {protocol}, {settings}}}}}\n")
    return protocol


@pytest.mark.parametrize("cursor", ["", ", cursor: id"], ids=["replace", "merge"])
def test_they_are_kept_under_names_that_stay(
    project: Project, httpserver: HTTPServer, destination: str, cursor: str
) -> None:
    held: list[dict[str, object]] = [{"id": 1, LONG: 1, "": "x"}]
    httpserver.expect_request("/things").respond_with_handler(lambda _: as_json(held))
    project.write(
        "connectors.d/api.yaml",
        f"protocol: http\nconnection: {{base_url: '{httpserver.url_for('')}'}}\n"
        f"streams: [{{name: things, path: /things, primary_key: [id]{cursor}}}]\ndestination: out\n",
    )
    for added in (None, {"id": 2, LONG: None, "": None}, {"id": 3, LONG: 10**12, "": "y"}, {"id": 4}):
        held += [added] if added is not None else []
        done = project.atlas("connector", "sync", "api", "--json")
        assert done.returncode == 0, done.stderr
        (stream,) = done.json()["runs"][0]["streams"]
        assert stream["schema_changes"] == []
    verified = project.atlas("connector", "verify", "api", "--json")
    assert verified.returncode == 0, verified.stdout
    (compared,) = verified.json()["streams"]
    assert (compared["status"], compared["source_rows"], compared["destination_rows"]) == ("equal", 4, 4)


def as_json(records: list[dict[str, object]]) -> Response:
    return Response(json.dumps(records), content_type="application/json")
