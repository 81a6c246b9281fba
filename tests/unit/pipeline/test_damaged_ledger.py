"""Atlas's own tables, edited by hand: an error that names the table, nothing loaded, and a way out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from atlas_etl.errors import DestinationError
from atlas_etl.model import Disposition, Stream, TableName
from tests.stored_tables import tamper
from tests.unit.pipeline.house import House, orders

STREAM = orders(cursor="id", disposition=Disposition.APPEND)
DAMAGES = {
    "cursor_kind": "'nope'",
    "high": "NULL",
    "tail_values": "'{{bad'",
    "watermarks": "'[{{}}]'",
    "parents": "'[[1]]'",
    "version": "'x'",
    "committed_at": "'yesterday'",
}


@pytest.fixture(params=["duckdb", "sqlite"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    house = House(tmp_path, request.param)
    house.source("CREATE TABLE orders (id BIGINT)", "INSERT INTO orders VALUES (1), (2)")
    house.sync(STREAM)
    return house


def edit(house: House, table: str, statement: str) -> None:
    schema = None if house.protocol == "sqlite" else house.connector_name
    tamper(house.protocol, house.settings, TableName(table, schema), [statement])


@pytest.mark.parametrize("column", DAMAGES)
def test_a_damaged_checkpoint(loaded: House, column: str) -> None:
    edit(loaded, "_atlas_checkpoints", f"UPDATE {{t}} SET {column} = {DAMAGES[column]}")
    with pytest.raises(DestinationError, match="_atlas_checkpoints is damaged") as raised:
        loaded.sync(STREAM)
    assert raised.value.code == "corrupt_ledger"
    if column != "version":
        with pytest.raises(DestinationError, match="damaged"), closing(loaded.destination()) as opened:
            opened.checkpoints(loaded.connector_name)
    edit(loaded, "_atlas_checkpoints", "DELETE FROM {t}")
    loaded.sync(STREAM)
    assert loaded.rows(STREAM) == [("1",), ("2",)]


@pytest.mark.parametrize("column", ["parents", "protection", "high"])
def test_a_ledger_of_another_version_says_what_to_do(loaded: House, column: str) -> None:
    edit(loaded, "_atlas_checkpoints", f"ALTER TABLE {{t}} DROP COLUMN {column}")
    with pytest.raises(DestinationError) as told, closing(loaded.destination()) as opened:
        opened.checkpoints(loaded.connector_name)
    assert told.value.code == "ledger_version"
    with pytest.raises(DestinationError, match="not as this version of Atlas keeps it") as raised:
        loaded.sync(STREAM)
    assert raised.value.code == "ledger_version"
    assert "the next sync reads everything" in (raised.value.hint or "")


def test_a_damaged_checkpoint_can_be_forgotten(loaded: House) -> None:
    edit(loaded, "_atlas_checkpoints", "UPDATE {t} SET cursor_kind = 'nope'")
    with closing(loaded.destination()) as opened:
        opened.set_checkpoint(loaded.connector_name, STREAM.name, loaded.place(opened, STREAM), None)
    loaded.sync(STREAM)
    assert loaded.rows(STREAM) == [("1",), ("2",)]


@pytest.mark.parametrize("damage", ["row = '{{'", "quarantined_at = 'yesterday'"])
def test_a_damaged_quarantine(tmp_path: Path, damage: str) -> None:
    house = House(tmp_path, "sqlite")
    house.source(
        "CREATE TABLE orders (id BIGINT, seen TIMESTAMP)", "INSERT INTO orders VALUES (1, 'infinity')"
    )
    stream: Stream = orders(cursor="id", quarantine_limit=5)
    house.sync(stream)
    edit(house, "_atlas_quarantine", f"UPDATE {{t}} SET {damage}")
    with pytest.raises(DestinationError, match="_atlas_quarantine is damaged"):
        house.sync(stream)
