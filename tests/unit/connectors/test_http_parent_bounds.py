"""Incremental per parent: each is read from its own bound, one that appears later from its beginning."""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from atlas_etl.connectors.http._parents import parent_bounds
from atlas_etl.connectors.http._parents.parent_bounds import PARENT, ParentBounds, ParentRows
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import Checkpoint, CursorKind, CursorValue, Stream
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.repair import repair
from tests.unit.connectors.http_api import Api, as_json, read, rows, sync, warehouse


class Shop:
    """Orders and their notes, which change between syncs."""

    def __init__(self, server: HTTPServer) -> None:
        self.api = Api(server)
        self.notes: dict[int, list[dict[str, object]]] = defaultdict(list)
        self.hidden: set[int] = set()
        self.asked: list[str] = []
        self.api.serve("/orders", lambda _: as_json([{"id": key} for key in self.shown()]))
        server.expect_request(re.compile("/orders/.*")).respond_with_handler(self._answer)

    def shown(self) -> list[int]:
        return [key for key in self.notes if key not in self.hidden]

    def _answer(self, request: Request) -> Response:
        order = int(request.path.split("/")[2])
        since = request.args.get("since")
        self.asked.append(f"{order} from {since}")
        found = self.notes[order]
        return as_json([note for note in found if since is None or str(note["at"]) >= since])

    def add(self, order: int, *cursors: object) -> None:
        for at in cursors:
            self.notes[order].append({"id": f"{order}/{len(self.notes[order])}", "at": at})

    def sync(self, folder: Path, *, key: bool, filtered: bool = False, **parent: object) -> list[str]:
        """One run; gives back what its records were asked from."""
        self.asked.clear()
        described = {
            "orders": "/orders",
            "notes": {
                "path": "/orders/{order_id}/notes",
                "parent": {"resource": "orders", "fields": {"order_id": "id"}, **parent},
                "incremental": {"parameter": "since", "format": "plain"} if filtered else {},
            },
        }
        stream = Stream("notes", table="notes", cursor="at", primary_key=("id",) if key else ())
        outcome = sync(self.api.connector(resources=described, pagination="none"), folder, stream)
        self.warnings = outcome.warnings
        return self.asked

    def difference(self, folder: Path) -> list[tuple[object, ...]]:
        """What the table has and the API has not, or the other way round."""
        loaded = rows(folder, 'SELECT order_id, id, "at"::VARCHAR FROM api.notes ORDER BY ALL')
        kept = sorted(
            (order, note["id"], str(note["at"])) for order in self.shown() for note in self.notes[order]
        )
        return [row for row in (*loaded, *kept) if loaded.count(row) != kept.count(row)]


@pytest.fixture
def shop(httpserver: HTTPServer) -> Shop:
    return Shop(httpserver)


@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("filtered", [True, False])
def test_a_parent_that_appears_later_is_read_from_its_beginning(
    shop: Shop, tmp_path: Path, key: bool, filtered: bool
) -> None:
    shop.add(1, "2026-03-01", "2026-03-05")
    shop.add(2, "2026-03-02")
    shop.sync(tmp_path, key=key, filtered=filtered)
    shop.add(1, "2026-03-06")
    shop.add(2, "2026-03-03")  # shown later than others that are newer
    shop.add(3, "2026-02-01", "2026-03-06")
    asked = shop.sync(tmp_path, key=key, filtered=filtered)
    assert not shop.difference(tmp_path)
    if filtered:
        assert asked == ["1 from 2026-03-05", "2 from 2026-03-02", "3 from None"]
    shop.sync(tmp_path, key=key, filtered=filtered)
    assert not shop.difference(tmp_path)


@pytest.mark.parametrize("key", [True, False])
def test_a_number_that_each_parent_counts_for_itself(shop: Shop, tmp_path: Path, key: bool) -> None:
    shop.add(1, *range(1, 101))
    shop.add(2, 1, 2)
    shop.sync(tmp_path, key=key)
    shop.add(2, 3, 4)
    shop.add(1, 101)
    shop.sync(tmp_path, key=key)
    assert not shop.difference(tmp_path)


@pytest.mark.parametrize("key", [True, False])
def test_a_parent_that_goes_and_comes_back(shop: Shop, tmp_path: Path, key: bool) -> None:
    shop.add(1, "2026-03-01", "2026-03-05")
    shop.add(2, "2026-03-04", "2026-03-05", "2026-03-05")
    shop.sync(tmp_path, key=key)
    shop.hidden.add(2)
    shop.add(1, "2026-03-08")
    shop.sync(tmp_path, key=key)  # an append deletes what it had of the tail
    shop.add(2, "2026-03-06")
    shop.hidden.clear()
    shop.sync(tmp_path, key=key)
    assert not shop.difference(tmp_path)


def test_ties_of_a_parent_that_others_are_past(shop: Shop, tmp_path: Path) -> None:
    """Merged rows are told by their key. Appended ones cannot be told apart, and are no silent loss."""
    shop.add(1, "2026-03-01", "2026-03-01")
    shop.add(2, "2026-03-05")
    for folder in (tmp_path / "merged", tmp_path / "appended"):
        folder.mkdir()
        shop.sync(folder, key=folder.name == "merged")
    shop.add(1, "2026-03-01")
    shop.sync(tmp_path / "merged", key=True)
    assert not shop.difference(tmp_path / "merged")
    with pytest.raises(SourceError) as caught:
        shop.sync(tmp_path / "appended", key=False)
    assert caught.value.code == "parent_ties"


def test_a_parent_that_is_listed_twice_is_asked_for_once(httpserver: HTTPServer) -> None:
    api = Api(httpserver)
    api.serve("/orders", lambda _: as_json([{"customer": 7}, {"customer": 8}, {"customer": 7}]))
    httpserver.expect_request(re.compile("/customers/.*")).respond_with_json([{"n": 1}])
    parent = {"resource": "orders", "fields": {"customer": "customer"}}
    described = {"orders": "/orders", "cards": {"path": "/customers/{customer}/cards", "parent": parent}}
    found = read(api.connector(resources=described, pagination="none"), Stream("cards", table="cards"))
    assert found.column("customer").to_pylist() == [7, 8]


def test_more_parents_than_a_checkpoint_keeps(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent_bounds, "MOST_PARENTS", 2)
    for order in (1, 2, 3):
        shop.add(order, "2026-03-01", "2026-03-05")
    shop.sync(tmp_path, key=False)
    assert "more parents than" in " ".join(shop.warnings)
    shop.add(2, "2026-03-06")
    shop.sync(tmp_path, key=False)
    assert not shop.difference(tmp_path)
    shop.hidden.add(1)  # then they can be told apart again
    shop.sync(tmp_path, key=False)
    assert not shop.warnings
    shop.hidden.clear()


@pytest.mark.parametrize("shared", [True, False])
def test_numbers_of_too_many_parents(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    monkeypatch.setattr(parent_bounds, "MOST_PARENTS", 2)
    for order in (1, 2, 3):
        shop.add(order, order)
    if shared:
        shop.sync(tmp_path, key=True, shared_cursor=True)
        assert not shop.difference(tmp_path)
        return
    with pytest.raises(ConfigError) as caught:
        shop.sync(tmp_path, key=True)
    assert caught.value.code == "too_many_parents"


def test_a_checkpoint_is_mirrored_without_parents(shop: Shop, tmp_path: Path) -> None:
    shop.add(1, "2026-03-01")
    shop.sync(tmp_path, key=True)
    with closing(warehouse(tmp_path)) as destination:
        (committed,) = destination.checkpoints("api")
    assert committed.checkpoint.parents is not None
    assert committed.checkpoint.without_parents().parents is None


def test_what_is_repaired_does_not_come_again_with_the_next_sync(shop: Shop, tmp_path: Path) -> None:
    shop.add(1, *range(1, 10))
    shop.sync(tmp_path, key=False)
    shop.add(2, 1, 2)  # missing, and what the next sync brings
    parent = {"resource": "orders", "fields": {"order_id": "id"}}
    described = {"orders": "/orders", "notes": {"path": "/orders/{order_id}/notes", "parent": parent}}
    stream = Stream("notes", table="notes", cursor="at")
    connector = shop.api.connector(resources=described, pagination="none")
    with closing(connector) as source, closing(warehouse(tmp_path)) as destination:
        for _ in repair(source, destination, Job("repair", "api", stream, datetime.now(UTC))):
            pass
    assert not shop.difference(tmp_path)
    shop.sync(tmp_path, key=False)
    assert not shop.difference(tmp_path)


# What an append by one cursor over many parents leaves, with times, counters and parents that come and go.
CHANGES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["add", "add", "add", "hide", "show"]), st.integers(0, 9)),
    max_size=12,
)


@settings(max_examples=400, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=6), st.integers(0, 3), st.booleans())
def test_an_append_of_many_parents_is_exact(
    loads: list[list[tuple[int, str, int]]], lag: int, back: bool
) -> None:
    """Cursors grow within each parent, by whatever step; nothing holds between parents."""
    source: dict[int, list[int]] = defaultdict(list)
    hidden: set[int] = set()
    table: list[tuple[int, int]] = []
    checkpoint: Checkpoint | None = None
    for number, changes in enumerate([*loads, [(parent, "show", 0) for parent in range(4)]]):
        for parent, what, step in changes:
            if what == "add":
                source[parent].append((source[parent] or [-1])[-1] + 1 + step)
            elif what == "hide":
                hidden.add(parent)
            else:
                hidden.discard(parent)
        if back and number == 2 and checkpoint is not None:  # `state set` to an earlier value
            tail = CursorValue(CursorKind.INTEGER, str(int(checkpoint.tail_from.text) // 2))
            checkpoint = Checkpoint("at", tail, tail, parents=checkpoint.parents)
        shown = {parent: found for parent, found in source.items() if parent not in hidden}
        table, checkpoint = _appended(table, checkpoint, shown, lag)
    assert sorted(table) == sorted((parent, at) for parent, found in source.items() for at in found)


def _appended(
    table: list[tuple[int, int]], checkpoint: Checkpoint | None, shown: dict[int, list[int]], lag: int
) -> tuple[list[tuple[int, int]], Checkpoint | None]:
    since = checkpoint.tail_from if checkpoint is not None else None
    bounds = ParentBounds(since, checkpoint.parents if checkpoint is not None else None, is_clock=False)
    passing = ParentRows(bounds, "at", where="notes", appends=True)
    read: list[tuple[int, int]] = []
    for parent, found in shown.items():
        number, bound = bounds.number(str(parent)), bounds.bound(len(bounds.keys) - 1).value
        asked = [at for at in found if bound is None or at >= int(bound.text)]
        columns = {"at": asked, PARENT: [number] * len(asked)}
        batch = pa.record_batch({name: pa.array(cells, pa.int64()) for name, cells in columns.items()})
        read += [(parent, at) for at in passing.kept(batch).column("at").to_pylist()]
    kept = [row for row in table if since is None or row[1] < int(since.text)]
    if not read:
        return kept, checkpoint
    high = max(at for _, at in read)
    tail = CursorValue(CursorKind.INTEGER, str(high - lag))
    return kept + read, Checkpoint(
        "at", CursorValue(CursorKind.INTEGER, str(high)), tail, parents=passing.reached(tail)
    )
