"""What a checkpoint holds of parents whose values are hidden: nothing that guessing them would confirm."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from pytest_httpserver import HTTPServer
from tests.project import Project
from werkzeug import Request, Response

from atlas_etl import Atlas
from atlas_etl.connectors.http._parents.values import parent_key
from atlas_etl.pipeline.events import RunFinished
from atlas_etl.protection import connector

CUSTOMERS = ("ann@example.org", "bea@example.org")
RULES = {"hash": "hash", "mask": "mask", "drop": "drop"}


class Notes:
    """An API with notes of each customer, and a connector of them."""

    def __init__(self, project: Project, server: HTTPServer, rule: str) -> None:
        self.project = project
        self.kept = {customer: [1, 2] for customer in CUSTOMERS}
        server.expect_request("/customers").respond_with_handler(
            lambda _: as_json([{"id": customer} for customer in self.kept])
        )
        for customer in CUSTOMERS:
            server.expect_request(f"/customers/{customer}/notes").respond_with_handler(self.of)
        parent = {"resource": "customers", "fields": {"customer": "id"}}
        resources = {
            "customers": "/customers",
            "notes": {"path": "/customers/{customer}/notes", "parent": parent},
        }
        connection = {"base_url": server.url_for("/"), "pagination": "none", "resources": resources}
        stream = {"table": "notes", "cursor": "at", "disposition": "append", "protect": {"customer": rule}}
        definition = {"protocol": "http", "connection": connection, "streams": [stream]}
        project.write("connectors.d/shop.yaml", json.dumps(definition))

    def of(self, request: Request) -> Response:
        return as_json([{"at": number} for number in self.kept[request.path.split("/")[2]]])

    def sync(self, key: str = "a key of this test alone") -> str | None:
        *_, last = Atlas.open(self.project.folder, {"ATLAS_PROTECT_KEY": key}).sync(["shop"])
        assert isinstance(last, RunFinished)
        return last.run.error and last.run.error.code

    def loaded(self) -> list[int]:
        with closing(duckdb.connect(str(self.project.folder / "warehouse.duckdb"))) as warehouse:
            return [at for (at,) in warehouse.execute('SELECT "at" FROM shop.notes ORDER BY 1').fetchall()]

    def expected(self) -> list[int]:
        return sorted(number for numbers in self.kept.values() for number in numbers)


def as_json(content: object) -> Response:
    return Response(json.dumps(content), content_type="application/json")


def told_of(folder: Path) -> list[str]:
    """Customers that somebody who has the project's files, and not its key, could confirm."""
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    digests = {customer: parent_key({"customer": customer}).encode() for customer in CUSTOMERS}
    return [name for name, digest in digests.items() if any(digest in content for content in files)]


@pytest.mark.parametrize("rule", RULES)
def test_a_checkpoint_confirms_no_guess_of_a_parent(
    project: Project, httpserver: HTTPServer, rule: str
) -> None:
    notes = Notes(project, httpserver, rule)
    for _ in range(2):
        assert notes.sync() is None
        notes.kept[CUSTOMERS[0]].append(len(notes.kept[CUSTOMERS[0]]) + 1)
    assert notes.sync() is None
    assert notes.loaded() == notes.expected()
    assert told_of(project.folder) == []
    assert notes.sync("another key of this test") == "rules_changed"


@pytest.mark.parametrize("rule", RULES)
def test_a_checkpoint_of_an_earlier_version_is_gone_on_with(
    project: Project, httpserver: HTTPServer, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes(project, httpserver, rule)
    with monkeypatch.context() as earlier:
        earlier.setattr(connector, "keyed", lambda keys, digest: digest)
        assert notes.sync() is None
    assert told_of(project.folder) == [*CUSTOMERS]
    del notes.kept[CUSTOMERS[1]]  # what is remembered of it stays, and is keyed as well
    notes.kept[CUSTOMERS[0]].append(3)
    assert notes.sync() is None
    assert notes.loaded() == [1, 1, 2, 3]  # the tail is what the API has now
    with closing(duckdb.connect(str(project.folder / "warehouse.duckdb"))) as warehouse:
        (parents,) = warehouse.execute("SELECT parents FROM shop._atlas_checkpoints").fetchone() or ("",)
    assert [len(key) for key, *_ in json.loads(parents)] == [24, 24]
