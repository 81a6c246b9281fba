"""The tail, end to end: every kind of cursor, NULLs, lag and time zones."""

from __future__ import annotations

from datetime import timedelta

import pytest

from atlas_etl.errors import ConfigError, DataError, SchemaChangeError
from atlas_etl.model import (
    NullCursor,
)
from tests.unit.pipeline.house import House, orders

# Every kind of cursor: rows at the tail change, come and go, and the copy is the source


KINDS = {
    "INTEGER": ("1", "2", "3"),
    "BIGINT": ("-9223372036854775808", "9007199254740993", "9223372036854775807"),
    "UBIGINT": ("0", "9223372036854775808", "18446744073709551615"),
    "DECIMAL(12,2)": ("-1.50", "9.99", "10.00"),
    "DECIMAL(38,10)": ("1.0000000001", "9999999999999999999999999999.0000000001",
                       "9999999999999999999999999999.0000000002"),
    "DOUBLE": ("-0.1", "0.1", "1e300"),
    "VARCHAR": ("APPLE", "apple", "äpfel 😀"),
    "DATE": ("0001-01-01", "1969-12-31", "2024-02-29"),
    "TIMESTAMP": ("2026-01-01 09:00:00.000001", "2026-01-01 09:00:00.000002", "2026-01-01 09:00:00.000003"),
    "TIMESTAMPTZ": ("1969-12-31 23:59:59.999999Z", "2026-01-01 09:00:00Z", "2026-01-01 09:00:00.000001Z"),
    "TIMESTAMP_NS": ("2026-01-01 09:00:00.000000001", "2026-01-01 09:00:00.000000002",
                     "2026-01-01 09:00:00.000000003"),
    "UUID": ("00000000-0000-4000-8000-000000000000", "7fffffff-ffff-4fff-8fff-ffffffffffff",
             "ffffffff-ffff-4fff-8fff-ffffffffffff"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_tail_is_exact_for_every_kind_of_cursor(any_house: House, kind: str) -> None:
    house = any_house
    low, middle, high = KINDS[kind]
    stream = orders(cursor="c")

    def insert(cursor: str, *texts: str) -> None:
        for text in texts:
            house.source(f"INSERT INTO orders VALUES (CAST('{cursor}' AS {kind}), '{text}')")

    def texts() -> list[str | None]:
        return sorted(row[1] or "" for row in house.rows(stream))

    house.source(f"CREATE TABLE orders (c {kind}, v VARCHAR)")
    insert(low, "low", "tie of low")
    insert(middle, "middle", "tie of middle")
    assert house.sync(stream).rows_loaded == 4
    insert(middle, "late tie")
    house.source(
        "DELETE FROM orders WHERE v = 'tie of middle'", "UPDATE orders SET v = 'M' WHERE v = 'middle'"
    )
    house.sync(stream)
    assert texts() == ["M", "late tie", "low", "tie of low"]
    insert(high, "high")
    outcome = house.sync(stream)
    assert (outcome.rows_read, outcome.rows_loaded) == (3, 1)
    assert texts() == ["M", "high", "late tie", "low", "tie of low"]
    house.source("DELETE FROM orders WHERE v = 'high'")
    again = house.sync(stream)
    assert (again.rows_read, again.checkpoint) == (0, outcome.checkpoint)
    assert texts() == ["M", "late tie", "low", "tie of low"]
    insert(high, "new high")
    house.sync(stream)
    assert texts() == ["M", "late tie", "low", "new high", "tie of low"]


@pytest.mark.parametrize("policy", [NullCursor.INCLUDE, NullCursor.EXCLUDE])
def test_null_cursors_as_the_stream_wants_them(house: House, policy: NullCursor) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, v VARCHAR)", "INSERT INTO orders VALUES (1, 'a'), (NULL, 'b')"
    )
    stream = orders(cursor="id", null_cursor=policy)
    house.sync(stream)
    house.source("INSERT INTO orders VALUES (NULL, 'c'), (2, 'd')", "DELETE FROM orders WHERE v = 'b'")
    for _ in range(2):
        house.sync(stream)
        kept = ["a", "c", "d"] if policy is NullCursor.INCLUDE else ["a", "d"]
        assert sorted(row[1] or "" for row in house.rows(stream)) == kept
    house.source("DELETE FROM orders WHERE id IS NOT NULL")
    house.sync(stream)
    assert sorted(row[1] or "" for row in house.rows(stream)) == [v for v in kept if v != "d"]


def test_rows_that_are_all_without_a_cursor_are_read_whole_every_time(house: House) -> None:
    house.source("CREATE TABLE orders (id INTEGER, v VARCHAR)", "INSERT INTO orders VALUES (NULL, 'a')")
    stream = orders(cursor="id", null_cursor=NullCursor.INCLUDE)
    for added in ("b", "c"):
        assert house.sync(stream).checkpoint is None
        house.source(f"INSERT INTO orders VALUES (NULL, '{added}')")
    house.sync(stream)
    assert [row[1] for row in house.rows(stream)] == ["a", "b", "c"]


def test_lag_reads_again_what_may_come_late(house: House) -> None:
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP, v VARCHAR)",
        "INSERT INTO orders VALUES ('2026-01-01 09:00', 'a'), ('2026-01-01 09:30', 'b')",
        "INSERT INTO orders VALUES ('2026-01-01 10:00', 'c')",
    )
    stream = orders(cursor="seen", lag=timedelta(minutes=30))
    checkpoint = house.sync(stream).checkpoint
    assert checkpoint is not None
    assert (checkpoint.high.text, checkpoint.tail_from.text) == (
        "2026-01-01T10:00:00.000000", "2026-01-01T09:30:00.000000",
    )  # fmt: skip
    house.source(
        "INSERT INTO orders VALUES ('2026-01-01 09:30', 'late'), ('2026-01-01 09:29:59.999999', 'too late')",
        "DELETE FROM orders WHERE v = 'b'",
    )
    outcome = house.sync(stream)
    assert (outcome.rows_read, outcome.checkpoint) == (2, checkpoint)
    assert sorted(row[1] or "" for row in house.rows(stream)) == ["a", "c", "late"]
    with pytest.raises(ConfigError, match="lag") as caught:
        house.sync(orders(cursor="v", lag=timedelta(minutes=1)), full_refresh=True)
    assert caught.value.code == "lag"


# Zones


def test_naive_times_get_the_zone_of_the_stream(house: House) -> None:
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP, zoned TIMESTAMPTZ, day DATE, v VARCHAR)",
        "INSERT INTO orders VALUES "
        "('2026-07-01 12:00', '2026-07-01 12:00Z', '2026-07-01', 'summer'),"
        "('2026-01-01 12:00', NULL, NULL, 'winter')",
    )
    stream = orders(cursor="seen", timezone="Europe/Berlin")
    outcome = house.sync(stream)
    assert house.rows(stream) == [
        ("2026-01-01T11:00:00.000000Z", None, None, "winter"),
        ("2026-07-01T10:00:00.000000Z", "2026-07-01T12:00:00.000000Z", "2026-07-01", "summer"),
    ]
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.high.text == "2026-07-01T12:00:00.000000"  # the source's own
    house.source(
        "UPDATE orders SET v = 'summer 2' WHERE v = 'summer'",
        "INSERT INTO orders VALUES ('2026-07-01 12:00', NULL, NULL, 'tie')",
        "INSERT INTO orders VALUES ('2026-07-01 12:30', NULL, NULL, 'new')",
    )
    for _ in range(2):
        house.sync(stream)
        assert [(row[0], row[3]) for row in house.rows(stream)] == [
            ("2026-01-01T11:00:00.000000Z", "winter"),
            ("2026-07-01T10:00:00.000000Z", "summer 2"),
            ("2026-07-01T10:00:00.000000Z", "tie"),
            ("2026-07-01T10:30:00.000000Z", "new"),
        ]


@pytest.mark.parametrize("moment", ["2026-10-25 02:30", "2026-03-29 02:30"], ids=["twice", "never"])
@pytest.mark.parametrize("cursor", ["id", "seen"])
def test_a_local_time_that_is_twice_or_never_is_refused(house: House, moment: str, cursor: str) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, seen TIMESTAMP)",
        f"INSERT INTO orders VALUES (1, '2026-01-01 12:00'), (2, '{moment}')",
    )
    stream = orders(cursor=cursor, timezone="Europe/Berlin")
    with pytest.raises(DataError, match=r"'seen'.*Europe/Berlin") as caught:
        house.sync(stream)
    assert (caught.value.code, caught.value.column, caught.value.exit_code) == ("ambiguous_time", "seen", 7)
    assert not house.state(stream).loaded_by_atlas
    house.sync(orders(cursor=cursor))
    assert len(house.rows(stream)) == 2


@pytest.mark.parametrize(
    ("high", "lag", "rows"),
    [
        # 30 minutes before 03:10 is 02:40, which that day has not.
        ("2026-03-29 03:10", 30, ("2026-03-29 01:59:59.999999", "2026-03-29 03:00")),
        # 30 minutes before 03:10 is 02:40, which that day has twice.
        ("2026-10-25 03:10", 30, ("2026-10-25 01:59:59.999999", "2026-10-25 03:00")),
    ],
    ids=["gap", "fold"],
)
def test_a_tail_may_begin_where_the_zone_has_no_single_time(
    house: House, high: str, lag: int, rows: tuple[str, str]
) -> None:
    before, within = rows
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP, v VARCHAR)",
        f"INSERT INTO orders VALUES ('{before}', 'before'), ('{within}', 'within'), ('{high}', 'high')",
    )
    stream = orders(cursor="seen", timezone="Europe/Berlin", lag=timedelta(minutes=lag))
    house.sync(stream)
    house.source(f"INSERT INTO orders VALUES ('{within}', 'late')", "DELETE FROM orders WHERE v = 'within'")
    for _ in range(2):
        assert house.sync(stream).rows_read == 2
        assert sorted(row[1] or "" for row in house.rows(stream)) == ["before", "high", "late"]


def test_whole_microseconds_may_come_as_nanoseconds(any_house: House) -> None:
    house = any_house
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP_NS, v VARCHAR)",
        "INSERT INTO orders VALUES ('2026-07-01 12:00:00.000001', 'a'), ('2026-07-01 12:00:00.000002', 'b')",
    )
    stream = orders(cursor="seen")
    house.sync(stream)
    house.source("INSERT INTO orders VALUES ('2026-07-01 12:00:00.000002', 'tie')")
    house.sync(stream)
    assert sorted(row[1] or "" for row in house.rows(stream)) == ["a", "b", "tie"]


def test_nanoseconds_get_their_zone_too(any_house: House) -> None:
    house = any_house
    house.source(
        "CREATE TABLE orders (seen TIMESTAMP_NS, v VARCHAR)",
        "INSERT INTO orders VALUES ('2026-07-01 12:00:00.000001000', 'a')",
        "INSERT INTO orders VALUES ('2026-07-01 12:00:00.000002000', 'b')",
    )
    stream = orders(cursor="seen", timezone="Europe/Berlin")
    house.sync(stream)
    house.source("INSERT INTO orders VALUES ('2026-07-01 12:00:00.000002000', 'tie')")
    house.sync(stream)
    found = [(str(row[0])[:26], row[1]) for row in house.rows(stream)]
    assert found == [
        ("2026-07-01T10:00:00.000001", "a"),
        ("2026-07-01T10:00:00.000002", "b"),
        ("2026-07-01T10:00:00.000002", "tie"),
    ]


def test_a_zone_given_later_needs_a_full_refresh(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT TIMESTAMP '2026-07-01 12:00' AS seen")
    house.sync(orders(cursor="seen"))
    with pytest.raises(SchemaChangeError, match="'seen'"):
        house.sync(orders(cursor="seen", timezone="Europe/Berlin"))
    assert house.rows(orders()) == [("2026-07-01T12:00:00.000000",)]
    house.sync(orders(cursor="seen", timezone="Europe/Berlin"), full_refresh=True)
    assert house.rows(orders()) == [("2026-07-01T10:00:00.000000Z",)]
