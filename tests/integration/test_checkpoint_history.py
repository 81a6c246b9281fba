"""A checkpoint put back: what comes past it is read again, nothing is doubled, every change is recorded."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

import pytest
from tests.project import Project
from tests.servers import ServerAddress

from atlas_etl import Atlas
from atlas_etl.api import checkpoints
from atlas_etl.api.checkpoints import Checkpoints
from atlas_etl.cli.app import run
from atlas_etl.errors import LockedError, UsageError
from atlas_etl.model import CheckpointChange, CommittedCheckpoint, Run, RunStatus
from atlas_etl.pipeline.events import RunFinished

# By `code` the source orders without case, which no destination does.
TABLE = """CREATE TABLE orders (id INTEGER PRIMARY KEY, placed_at TIMESTAMP NOT NULL,
  code TEXT COLLATE NOCASE NOT NULL, amount INTEGER)"""
CURSORS = {"id": "30", "placed_at": "2026-01-01T00:15:30", "code": "C0031"}


@dataclass(frozen=True)
class Shop:
    """A SQLite shop and its one connector, in this process."""

    project: Project

    @property
    def atlas(self) -> Atlas:
        return Atlas.open(self.project.folder, {})

    @property
    def checkpoints(self) -> Checkpoints:
        return self.atlas.checkpoints("shop")

    def define(self, cursor: str | None, disposition: str, **more: object) -> None:
        stream = {"table": "orders", "cursor": cursor, "disposition": disposition, **more}
        definition = {"protocol": "sqlite", "connection": {"database_path": "shop.db"}, "streams": [stream]}
        self.project.write("connectors.d/shop.json", json.dumps(definition))

    def execute(self, *statements: str) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        with closing(sqlite3.connect(self.project.folder / "shop.db")) as connection, connection:
            for statement in statements:
                rows = connection.execute(statement).fetchall()
        return rows

    def add(self, ids: range) -> None:
        """Orders, two at each instant and of each code (in another case)."""
        rows = []
        for number in ids:
            pair = number - number % 2 + 1
            code = f"{'cC'[number % 2]}{pair:04}"
            rows.append(f"({number}, datetime('2026-01-01', '+{pair * 30} seconds'), '{code}', {number})")
        self.execute(f"INSERT INTO orders VALUES {', '.join(rows)}")

    def sync(self) -> Run:
        *_, finished = self.atlas.sync(["shop"])
        assert isinstance(finished, RunFinished)
        assert finished.run.status is RunStatus.COMPLETED, finished.run.error
        return finished.run

    def changes(self) -> Sequence[CheckpointChange]:
        with self.atlas.state() as store:
            return store.checkpoint_changes("shop")

    def committed(self) -> CommittedCheckpoint:
        (committed,) = self.checkpoints.committed()
        return committed

    def copy_is_equal(self) -> bool:
        loaded = self.atlas.query("SELECT id, code, amount FROM shop.orders ORDER BY id").to_pylist()
        there = self.execute("SELECT id, code, amount FROM orders ORDER BY id")
        return [tuple(row.values()) for row in loaded] == there


@pytest.fixture
def shop(project: Project) -> Shop:
    made = Shop(project)
    made.execute(TABLE)
    return made


def place(shop: Shop, destination: str, request: pytest.FixtureRequest) -> None:
    """Let the shop be copied into this, and not into the DuckDB file."""
    if destination == "postgresql":
        address: ServerAddress = request.getfixturevalue("postgres")
        shop.project.write("atlas.yaml", f"destinations: {{there: '{address.url('postgresql')}'}}\n")
    if destination == "jsonl":
        shop.project.write("atlas.yaml", "destinations: {there: {protocol: jsonl, path: lake}}\n")


@pytest.mark.parametrize(
    ("destination", "cursor", "disposition"),
    [
        *itertools.product(["duckdb"], CURSORS, ["append", "merge"]),
        ("postgresql", "id", "append"),
        ("postgresql", "code", "append"),
        ("postgresql", "placed_at", "merge"),
        ("jsonl", "placed_at", "append"),
        ("jsonl", "code", "append"),
    ],
)
def test_after_going_back_a_sync_makes_the_copy_equal_again(
    shop: Shop, destination: str, cursor: str, disposition: str, request: pytest.FixtureRequest
) -> None:
    place(shop, destination, request)
    shop.define(cursor, disposition)
    for ids in (range(20), range(20, 40), range(40, 60)):
        shop.add(ids)
        shop.sync()
    last, _, first = shop.changes()
    # The source was repaired in place, which no cursor shows.
    shop.execute("UPDATE orders SET amount = -amount WHERE id > 18")
    put_back = shop.checkpoints.put_back(first.change_id, reason="amounts had the wrong sign")
    assert put_back.checkpoint.high == first.after.high
    assert put_back.checkpoint.tail_from == first.after.tail_from
    assert shop.committed().checkpoint == put_back.checkpoint
    if disposition == "merge" or cursor != "code":
        assert put_back.checkpoint == first.after
    shop.add(range(60, 65))
    at_the_checkpoint = 1 if cursor == "id" else 2
    assert shop.sync().streams[0].rows_read == 45 + at_the_checkpoint
    assert shop.copy_is_equal()
    shop.execute("UPDATE orders SET amount = -amount WHERE id >= 30")
    shop.checkpoints.set(None, CURSORS[cursor])
    shop.sync()
    assert shop.copy_is_equal()
    shop.checkpoints.put_back(last.change_id)  # forward, though not as far as it is now
    shop.sync()
    assert shop.copy_is_equal()
    assert [change.action for change in shop.changes()] == [
        "load", "set", "load", "set", "load", "set", "load", "load", "load",
    ]  # fmt: skip


def test_a_reset_can_be_taken_back(shop: Shop) -> None:
    shop.define("id", "append")
    shop.add(range(10))
    run = shop.sync()
    assert shop.checkpoints.reset(["orders"], reason="by mistake") == ["orders"]
    reset, load = shop.changes()
    shop.checkpoints.put_back(load.change_id)
    assert shop.committed().checkpoint == load.after
    assert shop.sync().streams[0].rows_read == 1
    assert shop.copy_is_equal()
    assert (load.run_id, load.before, load.after) == (run.run_id, None, run.streams[0].checkpoint)
    assert (reset.before, reset.after, reset.reason) == (load.after, None, "by mistake")
    assert reset.changed_by == load.changed_by
    with shop.atlas.state() as store:
        causes = {run.run_id: run.triggered_by for run in store.history("shop")}
    assert [causes[str(change.run_id)] for change in shop.changes()] == ["state set", "state reset", "manual"]


def test_a_sync_that_found_nothing_new_is_no_change(shop: Shop) -> None:
    shop.define("id", "merge")
    shop.add(range(10))
    for _ in range(3):
        shop.sync()
    assert len(shop.changes()) == 1


def test_what_a_run_committed_before_it_died_is_a_change_when_it_is_seen(shop: Shop) -> None:
    shop.define("id", "merge")
    shop.add(range(10))
    run = shop.sync()
    for file in (shop.project.folder / ".atlas").iterdir():
        file.unlink()
    shop.checkpoints.committed()
    (seen,) = shop.changes()
    assert (seen.run_id, seen.changed_by, seen.after) == (run.run_id, None, run.streams[0].checkpoint)
    shop.checkpoints.set(None, "3")
    after, before = shop.changes()
    assert before == seen
    assert after.before == seen.after


def test_the_history_is_pruned_with_the_runs(shop: Shop) -> None:
    shop.define("id", "append")
    shop.project.write("atlas.yaml", "history_retention: 2\n")
    for number in range(4):
        shop.add(range(number, number + 1))
        shop.sync()
    assert [change.after.high.text for change in shop.changes() if change.after] == ["3", "2"]
    shop.project.write("atlas.yaml", "history_retention: 0d\n")
    shop.sync()
    assert [change.after.high.text for change in shop.changes() if change.after] == ["3"]


def test_a_change_that_cannot_be_put_back_is_refused_and_nothing_is_touched(shop: Shop) -> None:
    shop.define("id", "append")
    shop.add(range(10))
    shop.sync()
    shop.checkpoints.reset(["orders"])
    shop.sync()
    again, reset, load = shop.changes()
    before = shop.committed()
    with pytest.raises(UsageError, match="there is no change 99") as caught:
        shop.checkpoints.put_back(99)
    assert "atlas state history shop" in str(caught.value.hint)
    with pytest.raises(UsageError, match=f"change {reset.change_id} forgot the checkpoint"):
        shop.checkpoints.put_back(reset.change_id)
    with pytest.raises(UsageError, match="is one of stream 'orders'"):
        shop.checkpoints.put_back(load.change_id, stream="refunds")
    definition = (shop.project.folder / "connectors.d/shop.json").read_text()
    shop.project.write("connectors.d/other.json", definition)
    with pytest.raises(UsageError, match="is one of connector 'shop'"):
        shop.atlas.checkpoints("other").put_back(load.change_id)
    shop.define("placed_at", "append")
    with pytest.raises(UsageError, match="the cursor was 'id' then, and is 'placed_at' now"):
        shop.checkpoints.put_back(load.change_id)
    assert shop.committed() == before
    assert list(shop.changes()) == [again, reset, load]
    (shop.project.folder / "warehouse.duckdb").unlink()
    shop.define("id", "append")
    with pytest.raises(UsageError, match="no table that stream 'orders' was loaded into"):
        shop.checkpoints.put_back(load.change_id)


def test_a_change_waits_for_no_run_and_disturbs_none(shop: Shop) -> None:
    shop.define("id", "append")
    shop.add(range(10))
    shop.sync()
    with (
        shop.atlas.state() as store,
        store.lease("shop", triggered_by="t", destination=None),
        pytest.raises(LockedError),
    ):
        shop.checkpoints.put_back(1)
    assert len(shop.changes()) == 1


def test_a_text_cursor_goes_back_no_further_than_one_delete_reaches(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "MOST_TAIL_VALUES", 9)
    shop.define("code", "append")
    shop.add(range(10))
    shop.sync()
    with pytest.raises(UsageError, match="more than 9 texts of the cursor 'code'") as caught:
        shop.checkpoints.set(None, "C0000")
    assert "atlas state reset shop --stream orders" in str(caught.value.hint)
    shop.checkpoints.set(None, "C0005")
    shop.sync()
    assert shop.copy_is_equal()
    shop.define("code", "merge")
    shop.checkpoints.set(None, "C0000")


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def state(shop: Shop, capsys: pytest.CaptureFixture[str]) -> Command:
    """`atlas state ...` in this process: its exit code and what it wrote."""

    def call(*arguments: str) -> tuple[int, str]:
        code = run(["-C", str(shop.project.folder), "state", *arguments])
        written = capsys.readouterr()
        return code, written.out + written.err

    return call


def test_on_the_command_line(shop: Shop, state: Command) -> None:
    shop.define("id", "append")
    shop.add(range(3))
    shop.sync()
    done = json.loads(state("set", "shop", "1", "--reason", "a try", "--json")[1])
    assert done["streams"][0]["high"] == "1"
    document = json.loads(state("history", "shop", "--json")[1])
    assert document["connector"] == "shop"
    first, second = document["changes"]
    assert second["action"] == "load"
    assert first == {
        "change_id": second["change_id"] + 1,
        "stream": "orders",
        "action": "set",
        "before": {"high": "2", "tail_from": "2"},
        "after": {"high": "1", "tail_from": "1"},
        "changed_at": first["changed_at"],
        "changed_by": second["changed_by"],
        "run_id": first["run_id"],
        "reason": "a try",
    }
    assert first["changed_at"].endswith("Z")
    assert "@" in first["changed_by"]
    back = state("set", "shop", "--to", str(second["change_id"]), "--reason", "and back")
    assert back == (0, "shop orders: the next sync reads from 2\n")
    code, table = state("history", "shop", "--limit", "1")
    assert (code, "and back" in table, "a try" in table) == (0, True, False)
    assert state("reset", "shop", "--reason", "gone")[0] == 0
    latest = json.loads(state("history", "shop", "--stream", "orders", "--limit", "1", "--json")[1])
    assert (latest["changes"][0]["after"], latest["changes"][0]["reason"]) == (None, "gone")


def test_a_checkpoint_that_moves_on_says_which_rows_are_never_read(shop: Shop, state: Command) -> None:
    shop.define("id", "append")
    shop.add(range(3))
    shop.sync()
    code, written = state("set", "shop", "7")
    assert code == 0
    assert "warning: shop orders: no sync reads rows whose 'id' is from 2 up to 7 any more" in written
    assert "`atlas state set shop 2 --stream orders` goes back" in written
    back = state("set", "shop", "2", "--stream", "orders", "--json")[1]
    assert json.loads(back)["streams"][0]["warnings"] == []
    further = state("set", "shop", "7", "-q", "--json")[1]
    assert "from 2 up to 7" in json.loads(further)["streams"][0]["warnings"][0]
    assert state("set", "shop", "7") == (0, "shop orders: the next sync reads from 7\n")


def test_a_stream_without_a_cursor_has_no_checkpoint_to_move(shop: Shop, state: Command) -> None:
    shop.define(None, "replace")
    shop.add(range(3))
    shop.sync()
    code, written = state("set", "shop", "2")
    assert (code, "'orders' has no cursor" in written) == (2, True)


def test_a_checkpoint_of_a_cursor_that_was_another_meanwhile_is_put_back(shop: Shop) -> None:
    shop.define("id", "append")
    shop.add(range(3))
    shop.sync()
    shop.define("placed_at", "append")
    shop.checkpoints.reset([])
    shop.sync()
    shop.define("id", "append")
    put_back = shop.checkpoints.put_back(shop.changes()[-1].change_id)
    assert (put_back.checkpoint.high.text, put_back.passes_over) == ("2", None)
    shop.add(range(3, 5))
    shop.sync()
    assert shop.copy_is_equal()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["set", "shop", "5", "--to", "1"], "either a cursor value or --to"),
        (["set", "shop"], "either a cursor value or --to"),
        (["set", "shop", "--to", "77"], "there is no change 77"),
        (["history", "shpo"], "did you mean 'shop'?"),
        (["history", "shop", "--stream", "ordres"], "did you mean 'orders'?"),
    ],
)
def test_what_is_wrong_on_the_command_line(
    shop: Shop, state: Command, arguments: list[str], words: str
) -> None:
    shop.define("id", "append")
    code, written = state(*arguments)
    assert code == 2
    assert words in written
