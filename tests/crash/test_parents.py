"""Records of many parents: syncs killed at every commit lose none and double none, of new parents either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.crash.harness import sabotaged
from tests.crash.sabotage import Plan, Point
from tests.project import Project

SYNC = ("connector", "sync", "shop")
KEYED = {"table": "notes", "cursor": "at", "primary_key": ["id"], "disposition": "merge"}
PLAIN = {"table": "notes", "cursor": "at", "disposition": "append"}


@pytest.mark.parametrize(("protocol", "stream"), [("duckdb", KEYED), ("duckdb", PLAIN), ("parquet", PLAIN)])
def test_a_killed_sync_of_many_parents_loses_and_doubles_nothing(
    project: Project, httpserver: HTTPServer, tmp_path: Path, protocol: str, stream: dict[str, object]
) -> None:
    notes: dict[str, list[int]] = {"a": [1, 2, 3], "b": [1]}  # each order counts its own

    def answer(request: Request) -> Response:
        order = request.path.split("/")[2]
        found = [{"id": f"{order}{at}", "at": at} for at in notes[order]]
        return Response(json.dumps(found), content_type="application/json")

    def orders(_: Request) -> Response:
        return Response(json.dumps([{"id": order} for order in notes]), content_type="application/json")

    httpserver.expect_request("/orders").respond_with_handler(orders)
    for order in "abcd":
        httpserver.expect_request(f"/orders/{order}/notes").respond_with_handler(answer)
    parent = {"resource": "orders", "fields": {"order": "id"}}
    resources = {"orders": "/orders", "notes": {"path": "/orders/{order}/notes", "parent": parent}}
    path = str(tmp_path / "copy.duckdb") if protocol == "duckdb" else str(tmp_path / "copy")
    project.write("atlas.yaml", json.dumps({"destinations": {"d": {"protocol": protocol, "path": path}}}))
    definition = {
        "protocol": "http",
        "connection": {"base_url": httpserver.url_for("/"), "resources": resources, "pagination": "none"},
        "streams": [stream],
        "destination": "d",
    }
    project.write("connectors.d/shop.yaml", json.dumps(definition))

    def killed(number: int, side: str) -> None:
        done = sabotaged(project, Plan(protocol, Point("commit", number, side)), *SYNC)
        assert done.returncode == -9, done.stderr

    killed(1, "after")
    notes["a"] += [4]
    notes["b"] += [2]
    notes["c"] = [1, 2]
    killed(1, "before")
    killed(1, "after")
    notes["b"] += [3]
    notes["d"] = [1]
    done = project.atlas(*SYNC)
    assert done.returncode == 0, done.stderr
    sql = 'SELECT "order", "at" FROM shop.notes ORDER BY ALL'
    found = project.atlas("query", "--destination", "d", sql, "--json")
    loaded = [tuple(row) for row in found.json()["rows"]]
    assert loaded == sorted((order, at) for order, ats in notes.items() for at in ats)
