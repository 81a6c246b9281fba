"""Whether a copy equals its source, of every destination, and repairing it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from msgspec.structs import replace

from atlas_etl.errors import ConfigError, DataError, DestinationError
from atlas_etl.model import Deletes, Deletion, Disposition, NullCursor, Stream, TableName
from atlas_etl.pipeline.differences import Counts
from atlas_etl.pipeline.events import StreamFinished
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.repair import repair
from atlas_etl.pipeline.verify import Comparison, StreamVerified, VerifyJob, verify
from tests.stored_tables import edit_lines, tamper
from tests.unit.pipeline.house import House, orders

EQUAL = Counts()
WITHOUT_KEY = "CREATE TABLE orders (id INTEGER, name VARCHAR, amount DECIMAL(10,2), updated_at TIMESTAMP)"
MERGED = orders(cursor="updated_at", primary_key=("id",))
LOG = orders(cursor="updated_at", disposition=Disposition.APPEND)
ORDERS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, name VARCHAR, amount DECIMAL(10,2), updated_at TIMESTAMP)",
    "INSERT INTO orders VALUES (1, 'Ada 😀', 10.50, '2026-01-01 10:00:00.000001'),"
    " (2, '', -0.01, '2026-01-01 11:00:00'), (3, NULL, NULL, '2026-01-01 12:00:00'),"
    " (4, 'four', 4, '2026-01-01 12:00:00')",
)


def look(house: House, stream: Stream) -> Comparison:
    with closing(house.connector()) as source, closing(house.destination()) as target:
        *_, last = verify(source, target, VerifyJob(house.connector_name, stream))
    assert isinstance(last, StreamVerified)
    return last.comparison


def mend(house: House, stream: Stream) -> list[StreamVerified | StreamFinished]:
    """What the stream was before, what was done, and what it is now; only the first where it was equal."""
    house.runs += 1
    job = Job(f"repair-{house.runs}", house.connector_name, stream, datetime(2026, 7, 2, tzinfo=UTC))
    with (
        closing(house.connector()) as source,
        closing(house.destination()) as target,
        closing(repair(source, target, job)) as events,
    ):
        return [event for event in events if isinstance(event, StreamVerified | StreamFinished)]


def in_hours(house: House, *more: str, table: str = ORDERS[0]) -> None:
    """Four rows of different hours; the last one is the tail."""
    house.source(table, ORDERS[1], "UPDATE orders SET updated_at = '2026-01-01 13:00' WHERE id = 4", *more)


def keys(found: Comparison) -> list[str | None]:
    """The examples' keys, of one column."""
    return [text for example in found.examples for _, text in example.key]


def at_destination(house: House, stream: Stream, *statements: str) -> None:
    with closing(house.destination()) as target:
        table = house.place(target, stream)
    tamper(house.protocol, house.settings, table, statements)


@pytest.fixture
def merged(any_house: House) -> House:
    """Four rows; the last one is the tail."""
    in_hours(any_house)
    any_house.sync(MERGED)
    return any_house


def test_a_copy_equals_its_source(merged: House) -> None:
    found = look(merged, MERGED)
    assert found.is_equal
    assert (found.source_rows, found.destination_rows, found.counts, found.examples) == (4, 4, EQUAL, ())


def test_rows_that_differ_are_counted_named_and_repaired(merged: House) -> None:
    checkpoint = merged.state(MERGED).checkpoint
    at_destination(
        merged, MERGED,
        "DELETE FROM {t} WHERE id = 1",
        "UPDATE {t} SET name = 'x' WHERE id = 2",
        "UPDATE {t} SET amount = 0.01 WHERE id = 3",
        "INSERT INTO {t} (id, name) VALUES (99, 'not of the source')",
    )  # fmt: skip
    before = merged.rows(MERGED)
    found = look(merged, MERGED)
    assert not found.is_equal
    assert (found.source_rows, found.destination_rows) == (4, 4)
    assert found.counts == Counts(missing=1, extra=1, changed=2)
    assert found.differing_keys == 4
    assert [(str(example.kind), example.key) for example in found.examples] == [
        ("missing", (("id", "1"),)), ("changed", (("id", "2"),)),
        ("changed", (("id", "3"),)), ("extra", (("id", "99"),)),
    ]  # fmt: skip
    assert merged.rows(MERGED) == before  # looking changes nothing
    first, done, second = mend(merged, MERGED)
    assert isinstance(first, StreamVerified)
    assert first.comparison == found
    assert isinstance(done, StreamFinished)
    assert (done.outcome.rows_read, done.outcome.loads) == (3, 1)
    assert isinstance(second, StreamVerified)
    assert second.comparison.is_equal
    assert look(merged, MERGED).is_equal
    assert merged.state(MERGED).checkpoint == checkpoint
    (only,) = mend(merged, MERGED)
    assert isinstance(only, StreamVerified)


def test_what_the_source_did_since_the_sync_is_no_difference(merged: House) -> None:
    merged.source(
        "INSERT INTO orders VALUES (5, 'new', 5, '2026-01-02 00:00:00')",
        "UPDATE orders SET name = 'later', updated_at = '2026-01-02 00:00:00' WHERE id IN (1, 3)",
    )
    found = look(merged, MERGED)
    assert found.counts == Counts(pending=2)
    assert found.is_equal
    assert (found.source_rows, found.destination_rows) == (2, 4)
    (only,) = mend(merged, MERGED)
    assert isinstance(only, StreamVerified)
    merged.sync(MERGED)
    assert look(merged, MERGED).counts == EQUAL


def test_a_repair_leaves_rows_alone_that_the_next_sync_will_bring(merged: House) -> None:
    merged.source("UPDATE orders SET name = 'later', updated_at = '2026-01-02 00:00:00' WHERE id = 1")
    at_destination(merged, MERGED, "DELETE FROM {t} WHERE id = 2", "INSERT INTO {t} (id) VALUES (7)")
    assert look(merged, MERGED).counts == Counts(missing=1, extra=1, pending=1)
    mend(merged, MERGED)
    assert [row[:2] for row in merged.rows(MERGED)] == [
        ("1", "Ada 😀"),
        ("2", ""),
        ("3", None),
        ("4", "four"),
    ]


def test_what_the_source_lost_or_changed_before_its_checkpoint_is_a_difference(merged: House) -> None:
    merged.source("DELETE FROM orders WHERE id = 4", "UPDATE orders SET amount = 11 WHERE id = 1")
    assert look(merged, MERGED).counts == Counts(extra=1, changed=1)
    mend(merged, MERGED)
    assert [row[0] for row in merged.rows(MERGED)] == ["1", "2", "3"]


def test_rows_without_a_key_are_compared_as_often_as_they_come(any_house: House) -> None:
    any_house.source(
        "CREATE TABLE orders (name VARCHAR, updated_at TIMESTAMP)",
        "INSERT INTO orders VALUES ('a', '2026-01-01'), ('a', '2026-01-01'), ('b', '2026-01-02')",
    )
    any_house.sync(LOG)
    assert look(any_house, LOG).counts == EQUAL
    at_destination(any_house, LOG, "INSERT INTO {t} SELECT * FROM {t} WHERE name = 'b'")
    found = look(any_house, LOG)
    assert (found.counts, found.examples) == (Counts(extra=1), ())
    at_destination(any_house, LOG, "DELETE FROM {t} WHERE name = 'a'")
    assert look(any_house, LOG).counts == Counts(missing=2, extra=1)
    _, done, after = mend(any_house, LOG)
    assert isinstance(after, StreamVerified)
    assert after.comparison.is_equal
    assert isinstance(done, StreamFinished)
    assert done.outcome.rows_read == 3  # everything was loaded again
    checkpoint = any_house.state(LOG).checkpoint
    assert checkpoint is not None
    assert checkpoint.high.text == "2026-01-02T00:00:00.000000"


def test_an_append_keeps_what_a_row_was_and_that_is_extra(house: House) -> None:
    house.source(*ORDERS)
    stream = replace(MERGED, disposition=Disposition.APPEND)
    house.sync(stream)
    house.source("UPDATE orders SET name = 'later', updated_at = '2026-01-02 00:00:00' WHERE id = 1")
    assert look(house, stream).counts == Counts(pending=1)
    house.sync(stream)
    found = look(house, stream)
    assert found.counts == Counts(extra=1)
    assert keys(found) == ["1"]


def test_of_a_log_the_latest_row_of_a_key_counts(any_house: House) -> None:
    any_house.source(
        "CREATE TABLE orders (id INTEGER, name VARCHAR, updated_at TIMESTAMP)",
        "INSERT INTO orders VALUES (1, 'old', '2026-01-01'), (1, 'new', '2026-01-02'),"
        " (2, 'b', '2026-01-03')",
    )
    any_house.sync(MERGED)
    found = look(any_house, MERGED)
    assert (found.counts, found.source_rows, found.destination_rows) == (EQUAL, 2, 2)
    at_destination(
        any_house, MERGED, "UPDATE {t} SET name = 'old' WHERE id = 1", "INSERT INTO {t} (id) VALUES (3)"
    )
    assert look(any_house, MERGED).counts == Counts(extra=1, changed=1)
    any_house.source("INSERT INTO orders VALUES (3, 'c', '2026-01-04'), (2, 'B', '2026-01-04')")
    assert look(any_house, MERGED).counts == Counts(changed=1, pending=1)
    mend(any_house, MERGED)
    assert [row[:2] for row in any_house.rows(MERGED)] == [("1", "new"), ("2", "b"), ("3", None)]
    any_house.sync(MERGED)
    assert look(any_house, MERGED).counts == EQUAL


def test_of_rows_that_are_equally_late_any_counts(house: House) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, name VARCHAR, updated_at TIMESTAMP)",
        "INSERT INTO orders VALUES (1, 'x', '2026-01-03'), (1, 'y', '2026-01-03'), (1, 'z', NULL)",
    )
    stream = replace(MERGED, null_cursor=NullCursor.INCLUDE)
    house.sync(stream)
    for name, counts in (("x", EQUAL), ("y", EQUAL), ("z", Counts(changed=1))):
        at_destination(
            house, stream, f"UPDATE {{t}} SET name = '{name}', updated_at = '2026-01-03 00:00:00.000000'"
        )
        assert look(house, stream).counts == counts, name
    unordered = replace(stream, cursor=None, disposition=Disposition.MERGE, name="unordered")
    house.sync(unordered)
    assert look(house, unordered).counts == EQUAL


def test_a_replaced_table_is_compared_whole(any_house: House) -> None:
    any_house.source(*ORDERS)
    stream = orders()
    any_house.sync(stream)
    assert look(any_house, stream).counts == EQUAL
    any_house.source("DELETE FROM orders WHERE id = 1", "INSERT INTO orders (id) VALUES (5), (6)")
    assert look(any_house, stream).counts == Counts(missing=2, extra=1)
    _, done, _ = mend(any_house, stream)
    assert isinstance(done, StreamFinished)
    assert done.outcome.rows_read == 2  # by key, though a sync would bring everything
    assert look(any_house, stream).counts == EQUAL


def test_a_table_that_was_never_loaded_misses_every_row(any_house: House) -> None:
    any_house.source(*ORDERS)
    found = look(any_house, MERGED)
    assert (found.counts, found.source_rows, found.destination_rows) == (Counts(missing=4), 4, 0)
    mend(any_house, MERGED)
    assert look(any_house, MERGED).counts == EQUAL
    assert any_house.state(MERGED).checkpoint is not None


def test_a_forgotten_checkpoint_compares_everything(duck: House) -> None:
    duck.source(*ORDERS)
    duck.sync(MERGED)
    duck.source("INSERT INTO orders VALUES (5, 'new', 5, '2026-01-02 00:00:00')")
    assert look(duck, MERGED).counts == EQUAL
    with closing(duck.destination()) as target:
        target.set_checkpoint("shop", "orders", duck.place(target, MERGED), None)
    assert look(duck, MERGED).counts == Counts(missing=1)


@pytest.mark.parametrize("cursor", ["name", "ratio", "id"])
def test_the_source_says_which_rows_come_after_the_checkpoint(duck: House, cursor: str) -> None:
    duck.source(
        "CREATE TABLE orders (id HUGEINT, name VARCHAR COLLATE NOCASE, ratio DOUBLE)",
        "INSERT INTO orders VALUES (1, 'a', 0.1), (2, 'B', 0.2)",
    )
    stream = orders(cursor=cursor, primary_key=("id",), disposition=Disposition.APPEND)
    duck.sync(stream)
    assert look(duck, stream).counts == EQUAL
    duck.source("INSERT INTO orders VALUES (30, 'C', 'nan')")
    found = look(duck, stream)
    assert (found.counts, found.source_rows) == (EQUAL, 2)


def test_rows_without_a_cursor_are_compared_where_they_are_loaded(house: House) -> None:
    house.source(*ORDERS, "INSERT INTO orders VALUES (5, 'no time', 5, NULL)")
    for policy, rows in ((NullCursor.INCLUDE, 5), (NullCursor.EXCLUDE, 4)):
        stream = replace(MERGED, name=f"orders_{policy}", null_cursor=policy)
        house.sync(stream)
        found = look(house, stream)
        assert (found.counts, found.source_rows, found.destination_rows) == (EQUAL, rows, rows)


def test_columns_come_and_go(house: House) -> None:
    house.source(*ORDERS)
    house.sync(MERGED)
    house.source("ALTER TABLE orders DROP COLUMN name")
    assert look(house, MERGED).counts == EQUAL  # what the source has no more is not compared
    house.source("ALTER TABLE orders ADD COLUMN note VARCHAR")
    assert look(house, MERGED).counts == EQUAL
    house.source("UPDATE orders SET note = 'n' WHERE id = 1")
    assert look(house, MERGED).counts == Counts(changed=1)
    mend(house, MERGED)
    assert look(house, MERGED).counts == EQUAL
    assert [row[4] for row in house.rows(MERGED)] == ["n", None, None, None]


def test_a_wider_type_is_the_same_value(house: House) -> None:
    house.source(*ORDERS)
    house.sync(MERGED)
    house.source("DROP TABLE orders", *(line.replace("DECIMAL(10,2)", "DECIMAL(20,4)") for line in ORDERS))
    assert look(house, MERGED).counts == EQUAL


def test_rows_marked_as_deleted_count_as_absent_and_a_repair_marks(house: House) -> None:
    in_hours(house)
    stream = replace(MERGED, deletes=Deletes(Deletion.SOFT, every=timedelta(days=1), max_share=1))
    house.sync(stream)
    house.source("DELETE FROM orders WHERE id = 2")
    assert look(house, stream).counts == Counts(extra=1)
    mend(house, stream)
    found = look(house, stream)
    assert (found.counts, found.destination_rows) == (EQUAL, 3)
    marked = [row[0] for row in house.rows(stream) if row[4] is not None]
    assert (marked, len(house.rows(stream))) == (["2"], 4)
    house.source("INSERT INTO orders VALUES (2, '', -0.01, '2026-01-01 11:00:00')")
    assert look(house, stream).counts == Counts(missing=1)
    mend(house, stream)
    assert look(house, stream).counts == EQUAL
    assert [row[4] for row in house.rows(stream)] == [None] * 4


def test_the_run_columns_are_not_compared_and_a_repair_fills_them(house: House) -> None:
    house.source(*ORDERS)
    stream = replace(MERGED, metadata_columns=True)
    house.sync(stream)
    at_destination(house, stream, "DELETE FROM {t} WHERE id = 1")
    assert look(house, stream).counts == Counts(missing=1)
    mend(house, stream)
    assert look(house, stream).counts == EQUAL
    assert [row[4] for row in house.rows(stream)] == ["repair-2", "run-1", "run-1", "run-1"]


def test_naive_times_are_compared_in_their_zone(house: House) -> None:
    house.source(*ORDERS)
    stream = replace(MERGED, timezone="Europe/Berlin")
    house.sync(stream)
    assert look(house, stream).counts == EQUAL
    house.source("INSERT INTO orders VALUES (5, 'new', 5, '2026-01-01 12:30:00')")
    assert look(house, stream).counts == EQUAL
    house.source("INSERT INTO orders VALUES (6, 'late', 5, '2026-01-01 11:30:00')")
    assert look(house, stream).counts == Counts(missing=1)


def test_special_values(any_house: House) -> None:
    numbers = "'nan', 'nan', 'inf', '-inf'," if any_house.protocol != "mysql" else ""
    doubles = [*(n.strip() for n in numbers.split(",") if n.strip()), "0.1", "-0.0", "5e-324", "NULL"]
    rows = ", ".join(
        f"({n}, {double}, {double}, '\\x00\\xFF'::BLOB, '123e4567-e89b-12d3-a456-42661417400{n}',"
        f" '0001-01-01', '9999-12-31 23:59:59.9', 123456789012345678901234567890.12345678, {n % 2 == 0},"
        " '{\"a\": [1, 2.50]}', '12:00', [1, NULL],"
        " ['123e4567-e89b-12d3-a456-426614174000', NULL], '')"
        for n, double in enumerate(doubles)
    )
    any_house.source(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, d DOUBLE, f FLOAT, b BLOB, u UUID, day DATE,"
        " t TIMESTAMPTZ, n DECIMAL(38,8), flag BOOLEAN, j JSON, c TIME, l INTEGER[], us UUID[], e VARCHAR)",
        f"INSERT INTO orders VALUES {rows}",
    )
    stream = orders(primary_key=("id",))
    any_house.sync(stream)
    assert look(any_house, stream).counts == EQUAL
    at_destination(any_house, stream, "UPDATE {t} SET d = 0.10000000000000002 WHERE d = 0.1")
    assert look(any_house, stream).counts == Counts(changed=1)
    at_destination(any_house, stream, "UPDATE {t} SET d = 0.1 WHERE d > 0.1 AND d < 1")
    assert look(any_house, stream).counts == EQUAL
    at_destination(any_house, stream, "UPDATE {t} SET e = NULL WHERE id = 0")
    assert look(any_house, stream).counts == Counts(changed=1)
    mend(any_house, stream)
    assert look(any_house, stream).counts == EQUAL


@pytest.mark.parametrize("protocol", ["jsonl", "csv"])
def test_files_of_text(tmp_path: Path, protocol: str) -> None:
    house = House(tmp_path, protocol)
    house.settings = {"path": str(tmp_path / "files")}
    house.source(*ORDERS)
    stream = orders(primary_key=("id",))
    house.sync(stream)
    assert look(house, stream).counts == EQUAL
    folder = tmp_path / "files" / "shop" / "orders"

    def change(lines: list[str]) -> list[str]:
        return [line.replace("four", "FOUR") for line in lines if "Ada" not in line]

    edit_lines(folder, change)
    assert look(house, stream).counts == Counts(missing=1, changed=1)
    mend(house, stream)
    assert look(house, stream).counts == EQUAL


def test_rows_that_no_stream_loaded_are_not_deleted(duck: House) -> None:
    duck.source(*ORDERS)
    at_destination(
        duck, MERGED, "CREATE SCHEMA shop", "CREATE TABLE {t} (id INTEGER)", "INSERT INTO {t} VALUES (1), (9)"
    )
    assert look(duck, MERGED).counts == Counts(missing=3, extra=1, changed=1)
    with pytest.raises(DestinationError) as caught:
        mend(duck, MERGED)
    assert caught.value.code == "table_not_ours"


def test_rows_of_another_stream_are_not_deleted(duck: House) -> None:
    in_hours(duck)
    first, second = (replace(MERGED, name=name, into=TableName("both", "shop")) for name in ("one", "two"))
    duck.sync(first)
    duck.source("UPDATE orders SET id = id + 10")
    duck.sync(second)
    assert look(duck, second).counts == Counts(extra=4)
    with pytest.raises(DestinationError) as caught:
        mend(duck, second)
    assert caught.value.code == "table_not_ours"
    assert len(duck.rows(second)) == 8


def test_another_cursor_is_refused_as_a_sync_would(duck: House) -> None:
    duck.source(*ORDERS)
    duck.sync(MERGED)
    with pytest.raises(ConfigError) as caught:
        look(duck, replace(MERGED, cursor="id"))
    assert caught.value.code == "cursor_changed"


@pytest.fixture
def without_keys(duck: House) -> House:
    duck.source(*ORDERS)
    duck.sync(MERGED)
    return duck


def test_a_key_that_the_destination_has_twice_is_repaired(without_keys: House) -> None:
    at_destination(
        without_keys, MERGED,
        "INSERT INTO {t} SELECT * FROM {t} WHERE id = 1",
        "INSERT INTO {t} SELECT * REPLACE ('other' AS name) FROM {t} WHERE id = 2",
        "INSERT INTO {t} (name) VALUES ('without a key')",
    )  # fmt: skip
    found = look(without_keys, MERGED)
    assert found.counts == Counts(extra=3)
    assert sorted(keys(found), key=str) == ["1", "2", None]
    mend(without_keys, MERGED)
    assert look(without_keys, MERGED).counts == EQUAL
    at_destination(
        without_keys, MERGED, "INSERT INTO {t} SELECT * REPLACE ('other' AS name) FROM {t} WHERE id = 2"
    )
    _, done, after = mend(without_keys, MERGED)
    assert isinstance(done, StreamFinished)
    assert done.outcome.rows_read == 1
    assert isinstance(after, StreamVerified)
    assert after.comparison.is_equal


def test_a_repair_that_is_given_up_changes_nothing(merged: House) -> None:
    at_destination(merged, MERGED, "DELETE FROM {t} WHERE id = 1", "INSERT INTO {t} (id) VALUES (9)")
    before = merged.rows(MERGED)
    job = Job("given-up", merged.connector_name, MERGED, datetime(2026, 7, 2, tzinfo=UTC))
    with closing(merged.connector()) as source, closing(merged.destination()) as target:
        for event in (events := repair(source, target, job)):
            if type(event).__name__ == "StreamRead":
                events.close()
                break
    assert merged.rows(MERGED) == before


def test_many_rows_are_compared_in_batches(duck: House) -> None:
    duck.source(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, name VARCHAR, updated_at TIMESTAMP)",
        "INSERT INTO orders SELECT i, 'n' || i, TIMESTAMP '2026-01-01' + i * INTERVAL 1 SECOND"
        " FROM range(300_000) AS r(i)",
    )
    duck.sync(MERGED)
    at_destination(
        duck, MERGED, "UPDATE {t} SET name = 'x' WHERE id % 1000 = 7", "DELETE FROM {t} WHERE id % 1000 = 8"
    )
    found = look(duck, MERGED)
    assert (found.counts, found.differing_keys) == (Counts(missing=300, changed=300), 600)
    assert keys(found) == ["7", "8", "1007", "1008", "2007", "2008", "3007", "3008", "4007", "4008"]
    mend(duck, MERGED)
    assert look(duck, MERGED).counts == EQUAL


def test_a_schema_has_the_same_bytes_on_both_sides() -> None:
    """Nothing but names and values counts: not the width of a type, nor its nullability."""
    from atlas_etl.pipeline.digest import row_digests

    narrow = pa.RecordBatch.from_pydict({"a": pa.array([1, None], pa.int8())})
    wide = pa.RecordBatch.from_pydict({"b": pa.array([1, None], pa.int64())})
    assert (row_digests(narrow) == row_digests(wide)).all()


def test_a_row_that_came_into_the_tail_is_pending(any_house: House) -> None:
    in_hours(any_house)
    for stream in (MERGED, replace(LOG, name="log")):
        any_house.sync(stream)
    any_house.source("INSERT INTO orders VALUES (5, 'a tie', 5, '2026-01-01 13:00:00')")
    for stream in (MERGED, replace(LOG, name="log")):
        assert look(any_house, stream).counts == Counts(pending=1)
        assert len(mend(any_house, stream)) == 1
        any_house.sync(stream)
        assert look(any_house, stream).counts == EQUAL


def test_a_row_that_came_before_the_tail_is_missing(duck: House) -> None:
    in_hours(duck)
    duck.sync(MERGED)
    duck.source("INSERT INTO orders VALUES (5, 'late', 5, '2026-01-01 12:59:59.999999')")
    assert look(duck, MERGED).counts == Counts(missing=1)


def test_a_row_that_changed_within_the_tail_is_pending(duck: House) -> None:
    in_hours(duck)
    stream = replace(MERGED, lag=timedelta(minutes=90))
    duck.sync(stream)
    duck.source("UPDATE orders SET name = 'later', updated_at = '2026-01-01 12:30' WHERE id = 3")
    assert look(duck, stream).counts == Counts(pending=1)
    duck.source("UPDATE orders SET name = 'in silence' WHERE id = 2")
    assert look(duck, stream).counts == Counts(changed=1, pending=1)
    duck.sync(stream)
    assert look(duck, stream).counts == Counts(changed=1)


def test_a_table_that_lost_the_checkpoint_s_row_has_no_open_tail(any_house: House) -> None:
    in_hours(any_house)
    any_house.sync(MERGED)
    at_destination(any_house, MERGED, "DELETE FROM {t} WHERE id = 4")
    assert look(any_house, MERGED).counts == Counts(missing=1)
    mend(any_house, MERGED)
    assert look(any_house, MERGED).counts == EQUAL


def test_where_all_is_tail_all_counts(duck: House) -> None:
    duck.source(*ORDERS, "UPDATE orders SET updated_at = '2026-01-01'")
    duck.sync(MERGED)
    at_destination(duck, MERGED, "DELETE FROM {t} WHERE id = 2")
    assert look(duck, MERGED).counts == Counts(missing=1)


def test_what_an_append_deletes_to_read_it_again_is_pending(any_house: House) -> None:
    in_hours(any_house, table=WITHOUT_KEY)
    any_house.sync(LOG)
    any_house.source("UPDATE orders SET name = 'later' WHERE id = 4")
    assert look(any_house, LOG).counts == Counts(pending=2)  # one goes and another comes
    any_house.sync(LOG)
    assert look(any_house, LOG).counts == EQUAL
    at_destination(any_house, LOG, "INSERT INTO {t} (name, updated_at) VALUES ('x', '2026-01-01 14:00:00')")
    assert look(any_house, LOG).counts == Counts(extra=1)  # no load brought what is past the checkpoint


def test_a_row_that_is_stored_twice_is_extra_in_the_tail_too(any_house: House) -> None:
    in_hours(any_house, table=WITHOUT_KEY)
    any_house.sync(LOG)
    at_destination(any_house, LOG, "INSERT INTO {t} SELECT * FROM {t} WHERE id = 4")
    assert look(any_house, LOG).counts == Counts(extra=1)
    mend(any_house, LOG)
    assert look(any_house, LOG).counts == EQUAL


def test_an_append_gets_only_what_it_misses(any_house: House) -> None:
    more = "INSERT INTO orders VALUES (7, 'm', 1, '2026-01-01'), (7, 'm', 1, '2026-01-01')"
    in_hours(any_house, more, table=WITHOUT_KEY)
    any_house.sync(LOG)
    at_destination(any_house, LOG, "DELETE FROM {t} WHERE name = 'm'", "DELETE FROM {t} WHERE id = 1")
    before = any_house.state(LOG)
    assert look(any_house, LOG).counts == Counts(missing=3)
    _, done, after = mend(any_house, LOG)
    assert isinstance(done, StreamFinished)
    assert (done.outcome.rows_read, done.outcome.loads) == (3, 1)
    assert isinstance(after, StreamVerified)
    assert after.comparison.counts == EQUAL
    assert any_house.state(LOG).checkpoint == before.checkpoint
    any_house.source("INSERT INTO orders VALUES (10, 'new', 1, '2026-01-02')")
    any_house.sync(LOG)
    assert look(any_house, LOG).counts == EQUAL


def test_a_source_that_lost_most_of_its_rows_is_not_followed(duck: House) -> None:
    in_hours(duck)
    duck.sync(MERGED)
    duck.source("DELETE FROM orders")
    assert look(duck, MERGED).counts == Counts(extra=4)
    with pytest.raises(DataError) as caught:
        mend(duck, MERGED)
    assert caught.value.code == "too_many_deletes"
    assert len(duck.rows(MERGED)) == 4
    duck.source("INSERT INTO orders SELECT i, 'n', 1, TIMESTAMP '2026-01-01' FROM range(12_000) AS r(i)")
    duck.sync(MERGED, full_refresh=True)
    duck.source("DELETE FROM orders WHERE id > 10_000")
    with pytest.raises(DataError) as caught:
        mend(duck, MERGED)
    assert "1,999 of the 12,000" in caught.value.message
    duck.source(
        "DELETE FROM orders WHERE id = 5",
        "INSERT INTO orders SELECT i, 'n', 1, TIMESTAMP '2026-01-01' FROM range(10_001, 12_000) AS r(i)",
    )
    mend(duck, MERGED)
    assert look(duck, MERGED).counts == EQUAL


@pytest.mark.parametrize("stream", [MERGED, LOG], ids=["merge", "append"])
def test_rows_in_quarantine_are_told_and_no_differences(duck: House, stream: Stream) -> None:
    in_hours(duck, "INSERT INTO orders VALUES (5, 'infinite', 5, '2026-01-01 10:30')", table=WITHOUT_KEY)
    duck.source("ALTER TABLE orders ADD COLUMN due TIMESTAMP")
    at_destination(
        duck,
        stream,
        "CREATE SCHEMA shop",
        "CREATE TABLE {t} (id INTEGER, name VARCHAR, amount DECIMAL(10,2) CHECK (amount >= 0),"
        " updated_at TIMESTAMP, due TIMESTAMP)",
    )
    stream = replace(stream, quarantine_limit=5)
    duck.source(
        "UPDATE orders SET due = 'infinity' WHERE id = 5"
    )  # refused as it is read; -0.01 by the table
    duck.sync(stream)
    assert len(duck.state(stream).quarantine) == 2
    found = look(duck, stream)
    assert (found.counts, found.quarantined, found.destination_rows) == (EQUAL, 2, 3)
    at_destination(duck, stream, "DELETE FROM {t} WHERE id = 1")
    assert look(duck, stream).counts == Counts(missing=1)
    mend(duck, stream)
    found = look(duck, stream)
    assert (found.counts, found.quarantined, found.destination_rows) == (EQUAL, 2, 3)
    assert len(duck.state(stream).quarantine) == 2
