"""Stores that earlier versions of this package wrote, as they were dumped then, open and lose nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import inspect

from atlas_etl.model import Checkpoint, CheckpointAction, CheckpointChange, CursorKind, CursorValue, RunStatus
from atlas_etl.state import SqlStateStore, open_state_store, schema

DUMPS = Path(__file__).parent / "stores"
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
RUN = "0195511e-9a40-7000-8000-000000000001"
CITY = CursorValue(CursorKind.TEXT, "Łódź")
NAMES = Checkpoint("name", CITY, CITY, ("Łódź", "łódź"))

Place = Callable[[str], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def restored(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A function: the dump of that version, loaded; its location. A new and empty place without a version."""

    def in_a_file(version: str) -> str:
        file = tmp_path / f"state{version}.db"
        if version:
            with closing(sqlite3.connect(file)) as connection:
                connection.executescript((DUMPS / f"version_{version}.sqlite.sql").read_text())
        return str(file)

    def on_a_server(version: str) -> str:
        url: str = request.getfixturevalue("postgres").url("postgresql")
        with psycopg.connect(url, autocommit=True) as client:
            client.execute("DROP SCHEMA IF EXISTS pipeline CASCADE")
            if version:
                client.execute((DUMPS / f"version_{version}.postgresql.sql").read_text().encode())
        return url

    return in_a_file if request.param == "sqlite" else on_a_server


def described(state: SqlStateStore) -> dict[str, object]:
    """Every table's columns, key and indexes, as the database tells them."""
    with state._database.reading() as connection:
        seen = inspect(connection)
        where = {"schema": state._database.schema}
        return {
            name: (
                [{**column, "type": str(column["type"])} for column in seen.get_columns(name, **where)],
                seen.get_pk_constraint(name, **where),
                sorted(str(index) for index in seen.get_indexes(name, **where)),
            )
            for name in sorted([*seen.get_table_names(**where), *seen.get_view_names(**where)])
        }


def test_version_1_gets_a_history_of_checkpoints_that_begins_with_what_it_mirrored(restored: Place) -> None:
    location = restored("1")
    for _ in range(2):
        with closing(open_state_store(location)) as state:
            names, orders = state.checkpoint_changes("shop")
            (events,) = state.checkpoint_changes("other")
    integer = CursorValue(CursorKind.INTEGER, "41")
    first = orders if orders.stream == "orders" else names
    assert first.after == Checkpoint("id", integer, CursorValue(CursorKind.INTEGER, "40"))
    second = names if names.stream == "names" else orders
    assert second == CheckpointChange(
        second.change_id,
        "shop",
        "names",
        CheckpointAction.LOAD,
        None,
        NAMES,
        NOON.replace(second=2),
        None,
        RUN,
    )
    assert (events.action, events.run_id, events.changed_at) == (CheckpointAction.SET, None, NOON)


def test_version_1_keeps_its_runs_and_checkpoints_and_works_on(restored: Place) -> None:
    with closing(open_state_store(restored("1"))) as state:
        assert [run.status for run in state.history("shop")] == ["completed", "failed", "completed"]
        oldest = state.history("shop")[-1]
        assert (oldest.run_id, oldest.started_at, oldest.streams[1].checkpoint) == (RUN, NOON, NAMES)
        assert state.checkpoints("shop")[0].checkpoint == NAMES
        with state.lease("shop", triggered_by="t", destination=None) as lease:
            assert lease.token == 2
        before = state.checkpoint_changes("shop")[0].change_id
        state.change_checkpoint("shop", "names", CheckpointAction.RESET, None, run_id=lease.run.run_id)
        latest = state.checkpoint_changes("shop")[0]
        assert (latest.before, latest.after) == (NAMES, None)
        assert latest.change_id > before
        assert state.count_runs(status=RunStatus.INTERRUPTED) == 1


def test_an_upgraded_store_has_what_a_new_one_has(restored: Place) -> None:
    with closing(open_state_store(restored("1"))) as state:
        upgraded = described(state)
        with state._database.reading() as connection:
            versions = connection.execute(schema.schema_version.select()).scalars().all()
    assert versions == [1, schema.SCHEMA_VERSION]
    with closing(open_state_store(restored(""))) as state:
        assert upgraded == described(state)
