"""What SQL destinations know of a table's rows that are gone, and of those that another stream loaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.errors import DestinationError, OvertakenError
from atlas_etl.model import Checkpoint, Disposition, LoadPlan, TableState
from atlas_etl.pipeline.schema import conform
from tests.contract.destination_cases import DESTINATIONS
from tests.contract.test_destinations import SCHEMA, Warehouse, at, batch, names, warehouse

__all__ = ["warehouse"]

FILES = {"parquet", "jsonl", "csv"}
pytestmark = pytest.mark.parametrize(
    "warehouse",
    [case for case in DESTINATIONS if case.protocol not in FILES],
    indirect=True,
    ids=lambda case: case.name,
)


def execute(warehouse: Warehouse, statement: str) -> None:
    """A statement of somebody else, about the stream's table `{t}`."""
    assert isinstance(warehouse.destination, SqlDestination)
    with warehouse.destination.connect() as connection:
        connection.begin()
        connection.execute(statement.format(t=warehouse.case.quoted(warehouse.table())))
        connection.commit()


def joined(warehouse: Warehouse, *rows: tuple[int, str | None, int | None]) -> None:
    """Rows of the stream `others`, merged into the table of `orders`."""
    schema = warehouse.destination.storable(SCHEMA)
    plan = LoadPlan(
        "run-9", "shop", "others", warehouse.table(), Disposition.MERGE, schema, ("id",), None
    )  # fmt: skip
    with warehouse.destination.begin(plan) as session:
        session.write(conform(batch(*rows), schema))
        session.commit(None)


def foreign(state: TableState) -> tuple[bool, bool]:
    return state.shared, state.has_foreign_rows


@pytest.mark.parametrize("how", ["DELETE FROM {t}", "DROP TABLE {t}"])
def test_what_was_taken_away_is_loaded_again(warehouse: Warehouse, how: str) -> None:
    checkpoint = Checkpoint("seen", at(1), at(1))
    warehouse.load([batch((1, "a", 1))], checkpoint=checkpoint, cursor="seen")
    assert warehouse.state().checkpoint == checkpoint
    execute(warehouse, how)
    state = warehouse.state()
    assert (state.checkpoint, state.empty, foreign(state)) == (None, True, (False, False))


def test_a_checkpoint_that_a_person_set_holds_without_rows(warehouse: Warehouse) -> None:
    warehouse.load([batch()])
    earlier = Checkpoint("seen", at(1), at(1))
    warehouse.destination.set_checkpoint("shop", "orders", warehouse.table(), earlier)
    assert warehouse.state().checkpoint == earlier


@pytest.mark.parametrize("how", ["DELETE FROM {t}", "DROP TABLE {t}"])
def test_a_load_by_its_id_is_forgotten_with_its_rows(warehouse: Warehouse, how: str) -> None:
    def has(load_id: str) -> bool:
        return warehouse.destination.has_load("shop", "orders", warehouse.table(), load_id)

    warehouse.load([batch((1, "a", 1))], load_id="sha256:a/1")
    execute(warehouse, how)
    assert not has("sha256:a")
    after = warehouse.state().loaded_at
    assert after is not None
    warehouse.load([batch((2, "b", 1))], load_id="sha256:b/1", begins=True, after=after)
    assert [has("sha256:a"), has("sha256:b")] == [False, True]
    warehouse.load([batch((1, "a", 1))], load_id="sha256:a/2", after=warehouse.state().loaded_at)
    assert has("sha256:a")


def test_another_streams_rows_are_known_until_they_are_gone(warehouse: Warehouse) -> None:
    warehouse.load([batch((1, "a", 1))])
    assert foreign(warehouse.state()) == (False, False)
    joined(warehouse, (2, "b", 2))
    assert foreign(warehouse.state()) == (True, True)
    execute(warehouse, "DELETE FROM {t}")
    assert foreign(warehouse.state()) == (True, False)
    again = {"begins": True, "after": warehouse.state().loaded_at}
    warehouse.load([batch((1, "a", 1))], **again)
    assert foreign(warehouse.state()) == (False, False)


def test_rows_from_before_the_first_load_are_known(warehouse: Warehouse) -> None:
    warehouse.load([batch((1, "a", 1))], joins=True)
    assert foreign(warehouse.state()) == (True, True)
    warehouse.load([batch((1, "a", 1))], Disposition.REPLACE, after=warehouse.state().loaded_at)
    assert foreign(warehouse.state()) == (False, False)


@pytest.mark.parametrize(
    ("disposition", "tail"),
    [(Disposition.REPLACE, None), (Disposition.APPEND, Checkpoint("seen", at(1), at(1)))],
    ids=["replace", "append"],
)
def test_rows_that_come_after_the_plan_are_not_deleted(
    warehouse: Warehouse, disposition: Disposition, tail: Checkpoint | None
) -> None:
    warehouse.load([batch((1, "a", 1))])
    more = {"cursor": "seen", "tail": tail, "after": warehouse.state().loaded_at}
    plan = warehouse.plan(SCHEMA, disposition, **more)
    joined(warehouse, (2, "b", 2))
    with pytest.raises(OvertakenError), warehouse.destination.begin(plan):
        pass
    assert names(warehouse) == ["a", "b"]


def test_rows_that_come_while_others_are_replaced_are_known(warehouse: Warehouse) -> None:
    if warehouse.case.protocol not in {"postgresql", "duckdb"}:
        pytest.skip("whoever replaces a table has others wait")
    warehouse.load([batch((1, "a", 1))])
    plan = warehouse.plan(SCHEMA, Disposition.REPLACE, after=warehouse.state().loaded_at)
    with warehouse.destination.begin(plan) as session:
        joined(warehouse, (2, "b", 2))
        session.commit(None)
    assert names(warehouse) == ["b"]
    assert foreign(warehouse.state()) == (True, True)


def test_a_table_that_another_load_has_just_made_is_met_by_the_next_attempt(warehouse: Warehouse) -> None:
    plan = warehouse.plan(SCHEMA, Disposition.APPEND)
    warehouse.load([batch((1, "a", 1))])
    with pytest.raises(DestinationError) as caught, warehouse.destination.begin(plan):
        pass
    assert (caught.value.code, caught.value.retryable) == ("table_exists", True)


def test_commits_follow_each_other_whatever_the_clock_says(warehouse: Warehouse) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)
    warehouse.load([batch((1, "a", 1))], Disposition.REPLACE, after=ahead)
    found = warehouse.state().loaded_at
    assert found is not None
    assert found > ahead
    warehouse.load([batch((2, "b", 2))], load_id="sha256:b/1", after=found)
    assert warehouse.destination.has_load("shop", "orders", warehouse.table(), "sha256:b")
