"""Rows that are refused are kept whole, the others land, and what becomes of both in later loads."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.errors import AtlasError, DataError
from atlas_etl.model import (
    BatchLimits,
    Disposition,
    Hazard,
    HazardPolicy,
    QuarantinedRow,
    Run,
    RunStatus,
    Stream,
    StreamRun,
    Window,
)
from atlas_etl.pipeline.differences import Counts
from atlas_etl.pipeline.events import RowsRefused, StreamFinished, WindowCommitted
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.repair import repair
from atlas_etl.pipeline.replay import Replayed, replay
from atlas_etl.pipeline.verify import StreamVerified
from tests.unit.pipeline.conftest import server_house
from tests.unit.pipeline.house import House, orders

BOTH = pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
SMALL = BatchLimits(rows=100)

# Ids 0 to 999 in the cursor's order, four rows share each moment; a note is missing and an amount negative.
TABLE = """CREATE TABLE orders AS SELECT i::BIGINT AS id,
  TIMESTAMP '2026-01-01' + INTERVAL (i // 4) MINUTE AS moment,
  CASE WHEN i = 503 THEN -1 ELSE i END::INTEGER AS amount, CASE WHEN i <> 7 THEN 'note ' || i END AS note
  FROM range(1000) AS numbers(i)"""  # fmt: skip
INFINITE = "INSERT INTO orders VALUES (2000, TIMESTAMP '2026-01-05', 1, 'a', 'infinity')"


@pytest.fixture(params=["duckdb", "sqlite", "postgresql", "mysql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    """A database whose table of orders, made by its owner, has rules."""
    house = server_house(request, tmp_path)
    house.source(TABLE)
    place = house.destination().table_name(house.connector_name, orders())
    execute(house, *schema_of(house), created(house, f"{place}"))
    return house


def schema_of(house: House) -> list[str]:
    if house.protocol == "sqlite":
        return []
    return [f"CREATE {'DATABASE' if house.protocol == 'mysql' else 'SCHEMA'} {house.connector_name}"]


def created(house: House, table: str, rules: str = "NOT NULL, CHECK (amount >= 0)") -> str:
    note, _, check = rules.partition(",")
    moment = {"mysql": "DATETIME(6)"}.get(house.protocol, "TIMESTAMP")
    columns = f"id BIGINT, moment {moment}, amount INTEGER, note VARCHAR(100) {note}"
    return f"CREATE TABLE {table} ({columns}{f', {check}' if check else ''})"


def execute(house: House, *statements: str) -> None:
    with closing(house.destination()) as target:
        assert isinstance(target, SqlDestination)
        with target.connect() as connection:
            for statement in statements:
                connection.execute(statement)


def stream(disposition: Disposition = Disposition.APPEND, limit: int = 10, **more: object) -> Stream:
    key = ("id",) if disposition is Disposition.MERGE else ()
    settings: dict[str, object] = {
        "cursor": "moment",
        "disposition": disposition,
        "primary_key": key,
        "quarantine_limit": limit,
    }
    return orders(**settings | more)


def quarantine(house: House, what: Stream) -> tuple[QuarantinedRow, ...]:
    return house.state(what).quarantine


def ids(rows: tuple[QuarantinedRow, ...]) -> list[str | None]:
    return sorted((row.row["id"] for row in rows), key=str)


def counts(outcome: StreamRun) -> tuple[int, int, int]:
    return outcome.rows_read, outcome.rows_loaded, outcome.rows_quarantined


def replayed(house: House, what: Stream) -> Replayed:
    run = Run("replay-1", house.connector_name, RunStatus.RUNNING, "test", datetime.now(UTC))
    with closing(house.destination()) as target:
        return replay(target, what, run)


@BOTH
def test_rows_that_a_table_refuses_are_kept_whole_and_the_others_land(
    shop: House, disposition: Disposition
) -> None:
    what = stream(disposition)
    *_, finished = events = list(shop.events(what, limits=SMALL))
    assert isinstance(finished, StreamFinished)
    assert counts(finished.outcome) == (1000, 998, 2)
    assert sum(isinstance(event, RowsRefused) for event in events) == 1
    landed = {row[0] for row in shop.rows(what)}
    assert landed == {str(number) for number in range(1000)} - {"7", "503"}
    note, amount = sorted(quarantine(shop, what), key=lambda row: len(str(row.row["id"])))
    assert note.row == {"id": "7", "moment": "2026-01-01T00:01:00.000000", "amount": "7", "note": None}
    assert amount.row["amount"] == "-1"
    assert amount.key == ({"id": "503"} if disposition is Disposition.MERGE else {})
    assert (note.stream, note.run_id) == ("orders", "run-1")
    assert note.reason
    loads = shop.destination().query(f"SELECT load_id FROM {ledger(shop)}").column(0).to_pylist()
    assert note.load_id in loads


def ledger(house: House) -> str:
    return "_atlas_loads" if house.protocol == "sqlite" else f"{house.connector_name}._atlas_loads"


@BOTH
def test_rows_of_the_tail_that_come_again_are_kept_and_counted_once(
    shop: House, disposition: Disposition
) -> None:
    shop.source("UPDATE orders SET amount = -5 WHERE id IN (998, 999)")
    what = stream(disposition)
    assert counts(shop.sync(what)) == (1000, 996, 4)
    before = quarantine(shop, what)
    shop.source("INSERT INTO orders VALUES (1000, TIMESTAMP '2026-01-02', 1, 'new')")
    again = shop.sync(what)
    assert (again.rows_loaded, again.rows_quarantined) == (1, 0)
    assert {row.quarantine_id for row in quarantine(shop, what)} == {row.quarantine_id for row in before}


@BOTH
def test_a_row_that_loads_later_leaves_the_quarantine(shop: House, disposition: Disposition) -> None:
    shop.source("UPDATE orders SET amount = -5 WHERE id = 999")
    what = stream(disposition)
    shop.sync(what)
    assert ids(quarantine(shop, what)) == ["503", "7", "999"]
    # One is corrected where the tail has it; of the other, which lies before the tail, a newer row comes.
    shop.source(
        "UPDATE orders SET amount = 5 WHERE id = 999",
        "UPDATE orders SET note = 'there', moment = TIMESTAMP '2026-01-03' WHERE id = 7",
    )
    shop.sync(what)
    stays = ["503"] if disposition is Disposition.MERGE else ["503", "7"]  # an append keeps what a row was
    assert ids(quarantine(shop, what)) == stays
    assert {"7", "999"} <= {row[0] for row in shop.rows(what)}


@BOTH
def test_more_rows_than_the_limit_fail_the_load(shop: House, disposition: Disposition) -> None:
    what = stream(disposition, limit=1)
    with pytest.raises(DataError) as caught:
        shop.sync(what)
    assert (caught.value.code, caught.value.exit_code) == ("too_many_quarantined", 7)
    key = "id=7" if disposition is Disposition.MERGE else "moment=2026-01-01T00:01:00.000000"
    assert f"with {key}: " in caught.value.message
    assert "quarantine_limit: 1" in caught.value.message
    assert "raise `quarantine_limit`" in str(caught.value.hint)
    assert shop.rows(what) == []
    assert not quarantine(shop, what)
    assert shop.state(what).checkpoint is None


def test_the_limit_is_one_for_all_loads(shop: House) -> None:
    what = stream(Disposition.MERGE, limit=2)
    shop.sync(what)
    shop.source("INSERT INTO orders VALUES (1000, TIMESTAMP '2026-01-02', -1, 'new')")
    with pytest.raises(DataError) as caught:
        shop.sync(what)
    assert caught.value.code == "too_many_quarantined"
    # Where one leaves in the same load, another may come.
    shop.source("UPDATE orders SET amount = 5, moment = TIMESTAMP '2026-01-03' WHERE id = 503")
    assert counts(shop.sync(what))[1:] == (1, 1)
    assert ids(quarantine(shop, what)) == ["1000", "7"]


def test_without_a_limit_the_first_refused_row_fails_the_load(shop: House) -> None:
    what = stream(limit=0)
    with pytest.raises(AtlasError) as caught:
        shop.sync(what)
    assert caught.value.exit_code == 7
    assert caught.value.code != "too_many_quarantined"
    assert "set `quarantine_limit`" in str(caught.value.hint)
    assert shop.rows(what) == []


@BOTH
def test_rows_are_refused_window_by_window(shop: House, disposition: Disposition) -> None:
    what = stream(disposition)
    events = list(shop.events(what, limits=SMALL, window=Window(rows=200)))
    finished = events[-1]
    assert isinstance(finished, StreamFinished)
    assert sum(isinstance(event, WindowCommitted) for event in events) >= 2
    assert counts(finished.outcome)[1:] == (998, 2)
    assert len({row[0] for row in shop.rows(what)}) == len(shop.rows(what)) == 998
    assert ids(quarantine(shop, what)) == ["503", "7"]


@BOTH
def test_a_load_that_is_undone_leaves_the_quarantine_as_it_was(shop: House, disposition: Disposition) -> None:
    what = stream(disposition)
    shop.sync(what)
    before = quarantine(shop, what)
    shop.source("UPDATE orders SET note = 'there', moment = TIMESTAMP '2026-01-03' WHERE id = 7")
    events = shop.events(what)
    for event in events:
        if type(event).__name__ == "StreamRead":
            break
    events.close()
    assert quarantine(shop, what) == before


@BOTH
def test_a_full_refresh_keeps_what_it_refuses_and_nothing_else(shop: House, disposition: Disposition) -> None:
    what = stream(disposition)
    shop.sync(what)
    shop.source("DELETE FROM orders WHERE id = 503")
    outcome = shop.sync(what, full_refresh=True)
    assert outcome.rows_quarantined == 1
    assert ids(quarantine(shop, what)) == ["7"]
    assert len(shop.rows(what)) == 998


@BOTH
def test_replayed_rows_land_and_leave_the_others_stay(shop: House, disposition: Disposition) -> None:
    what = stream(disposition)
    shop.sync(what)
    place = str(shop.place(shop.destination(), what))
    side = place.replace("orders", "aside")
    back = {"mysql": f"RENAME TABLE {side} TO {place}"}.get(
        shop.protocol, f"ALTER TABLE {side} RENAME TO {place.rpartition('.')[2]}"
    )
    rows = f"INSERT INTO {side} SELECT * FROM {place}"
    execute(shop, created(shop, side, ", CHECK (amount >= 0)"), rows, f"DROP TABLE {place}", back)
    checkpoint = shop.state(what).checkpoint
    done = replayed(shop, what)
    assert (done.outcome.rows_loaded, done.outdated, done.remaining) == (1, 0, 1)
    assert {row[0] for row in shop.rows(what)} == {str(number) for number in range(1000)} - {"503"}
    assert len(shop.rows(what)) == 999
    (stays,) = quarantine(shop, what)
    assert (stays.row["id"], stays.run_id) == ("503", "replay-1")
    assert shop.state(what).checkpoint == checkpoint
    assert replayed(shop, what).remaining == 1
    assert counts(shop.sync(what))[1:] == (0, 0)


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE, Disposition.REPLACE])
def test_a_row_that_a_hazard_refuses_is_kept_with_the_sources_own_text(
    any_house: House, disposition: Disposition
) -> None:
    any_house.source(TABLE, "ALTER TABLE orders ADD COLUMN day TIMESTAMP", INFINITE)
    what = stream(disposition)
    outcome = any_house.sync(what)
    assert counts(outcome)[1:] == (1000, 1)
    (row,) = quarantine(any_house, what)
    assert row.row["day"] == "infinity"
    assert (row.row["id"], row.column, row.code) == ("2000", "day", "value_hazard")
    assert replayed(any_house, what).remaining == 1
    any_house.source("UPDATE orders SET day = NULL WHERE id = 2000")
    any_house.sync(what)
    assert not quarantine(any_house, what)
    assert len(any_house.rows(what)) == 1001


def test_lists_of_uuids_and_documents_land_beside_rows_that_are_kept_aside(any_house: House) -> None:
    any_house.source(
        TABLE,
        "ALTER TABLE orders ADD COLUMN us UUID[]",
        "ALTER TABLE orders ADD COLUMN js JSON[]",
        "UPDATE orders SET us = [uuid()], js = ['{}']",
        "UPDATE orders SET id = NULL WHERE id = 5",
    )
    what = stream(Disposition.MERGE)
    assert counts(any_house.sync(what)) == (1000, 999, 1)
    assert replayed(any_house, what).remaining == 1
    any_house.source("UPDATE orders SET id = 5 WHERE id IS NULL")
    any_house.sync(what, full_refresh=True)
    assert not quarantine(any_house, what)
    assert len(any_house.rows(what)) == 1000


def test_a_hazard_whose_policy_is_error_fails_the_load_whatever_the_limit(duck: House) -> None:
    duck.source(TABLE, "ALTER TABLE orders ADD COLUMN day TIMESTAMP", INFINITE)
    with pytest.raises(DataError, match="infinite"):
        duck.sync(stream(hazards={Hazard.INFINITY: HazardPolicy.ERROR}))
    with pytest.raises(DataError, match="infinite"):
        duck.sync(stream(limit=0, hazards={Hazard.INFINITY: HazardPolicy.QUARANTINE}))


def test_rows_of_a_merge_without_a_key_are_kept_aside(any_house: House) -> None:
    any_house.source(TABLE, "UPDATE orders SET id = NULL WHERE id IN (5, 6)")
    what = stream(Disposition.MERGE)
    any_house.sync(what)
    assert len(any_house.rows(what)) == 998
    rows = quarantine(any_house, what)
    assert [row.code for row in rows] == ["null_key", "null_key"]
    assert replayed(any_house, what).remaining == 2
    assert len(any_house.rows(what)) == 998


def test_equal_rows_without_a_key_are_several(any_house: House) -> None:
    any_house.source(TABLE, "ALTER TABLE orders ADD COLUMN day TIMESTAMP", INFINITE, INFINITE)
    what = stream(Disposition.APPEND)
    assert any_house.sync(what).rows_quarantined == 2
    assert any_house.sync(what).rows_quarantined == 0
    assert ids(quarantine(any_house, what)) == ["2000", "2000"]


def test_times_that_a_zone_has_twice_are_kept_aside_as_they_were(duck: House) -> None:
    duck.source(TABLE, "UPDATE orders SET moment = TIMESTAMP '2026-10-25 02:30:00' WHERE id = 5")
    what = stream(cursor=None, disposition=Disposition.REPLACE, timezone="Europe/Berlin")
    duck.sync(what)
    (row,) = quarantine(duck, what)
    assert row.row["moment"] == "2026-10-25T02:30:00.000000"
    assert row.code == "ambiguous_time"
    assert len(duck.rows(what)) == 999
    assert replayed(duck, what).remaining == 1  # a local time is no instant


def test_metadata_columns_are_no_part_of_a_row(shop: House) -> None:
    what = stream(Disposition.MERGE, metadata_columns=True)
    shop.sync(what)
    before = quarantine(shop, what)
    assert set(before[0].row) == {"id", "moment", "amount", "note"}
    assert shop.sync(what).rows_quarantined == 0


def test_a_replayed_row_does_not_take_the_place_of_a_newer_one(duck: House) -> None:
    duck.source(TABLE, "ALTER TABLE orders ADD COLUMN day TIMESTAMP")
    what = stream(Disposition.MERGE)
    duck.sync(what)
    duck.source(
        "INSERT INTO orders VALUES (2000, TIMESTAMP '2026-01-06', 2, 'newer', NULL)",
        INFINITE,  # the older row of the key comes after it in one read
    )
    duck.sync(what)
    assert ids(quarantine(duck, what)) == ["2000"]
    execute(duck, "ALTER TABLE shop.orders ALTER COLUMN day TYPE VARCHAR")
    done = replayed(duck, what)
    assert (done.outcome.rows_loaded, done.outdated, done.remaining) == (0, 1, 0)
    (row,) = (row for row in duck.rows(what) if row[0] == "2000")
    assert row[3] == "newer"


def test_a_repair_does_not_take_a_refused_row_for_one_that_is_gone(duck: House) -> None:
    duck.source(TABLE, "ALTER TABLE orders ADD COLUMN day TIMESTAMP")
    what = stream(Disposition.MERGE)
    duck.sync(what)
    duck.source(
        "UPDATE orders SET day = 'infinity' WHERE id = 5",
        "UPDATE orders SET note = 'x' WHERE id = 6",
    )
    job = Job("repair-1", duck.connector_name, what, datetime.now(UTC))
    with closing(duck.connector()) as source, closing(duck.destination()) as target:
        *_, last = repair(source, target, job)
    assert isinstance(last, StreamVerified)
    assert last.comparison.counts == Counts(changed=1)
    assert len(duck.rows(what)) == 1000


def test_text_that_postgresql_cannot_hold_is_kept_aside(postgresql_house: House) -> None:
    postgresql_house.source(TABLE, "UPDATE orders SET note = 'a' || chr(0) || 'b' WHERE id = 5")
    what = stream(Disposition.MERGE)
    assert counts(postgresql_house.sync(what)) == (1000, 999, 1)
    (row,) = quarantine(postgresql_house, what)
    assert row.row["note"] == "a\0b"


def test_a_limit_changes_nothing_where_no_row_is_refused(shop: House) -> None:
    shop.source("UPDATE orders SET amount = 1, note = 'a'")
    what = replace(stream(Disposition.MERGE), quarantine_limit=5)
    events = list(shop.events(what))
    assert not any(isinstance(event, RowsRefused) for event in events)
    assert len(shop.rows(what)) == 1000
