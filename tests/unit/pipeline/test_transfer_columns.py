"""Columns, end to end: added, widened, dropped, changed beyond widening, and made again."""

from __future__ import annotations

import pytest

from atlas_etl.errors import SchemaChangeError, SourceError
from atlas_etl.model import (
    Disposition,
    Stream,
)
from tests.unit.pipeline.house import House, orders


def test_metadata_columns_say_which_run_loaded_a_row_and_when(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT 1 AS id")
    stream = orders(cursor="id", metadata_columns=True)
    house.sync(stream)
    house.source("INSERT INTO orders VALUES (2)")
    house.sync(stream)
    assert house.table(stream).column_names == ["id", "_atlas_run_id", "_atlas_loaded_at"]
    at = "2026-07-01T08:00:00.000000Z"
    assert house.rows(stream) == [("1", "run-2", at), ("2", "run-2", at)]  # 1 was the tail
    house.source("INSERT INTO orders VALUES (3)")
    house.sync(stream)
    assert [row[1] for row in house.rows(stream)] == ["run-2", "run-3", "run-3"]


def test_columns_come_widen_and_go(house: House) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, small SMALLINT, price DECIMAL(5,2), gone VARCHAR)",
        "INSERT INTO orders VALUES (1, 7, 1.50, 'g')",
    )
    stream = orders(cursor="id")
    house.sync(stream)
    house.source(
        "ALTER TABLE orders DROP COLUMN gone",
        "ALTER TABLE orders ADD COLUMN extra DATE",
        "ALTER TABLE orders ALTER small TYPE BIGINT",
        "ALTER TABLE orders ALTER price TYPE DECIMAL(20,4)",
        "INSERT INTO orders VALUES (2, 3000000000, 12345678901.0001, '2026-01-01')",
    )
    house.sync(stream)
    found = [dict(zip(house.table(stream).column_names, row, strict=True)) for row in house.rows(stream)]
    assert found == [
        # 1 is the tail of the first load: it came again as the source has it now.
        {"id": "1", "small": "7", "price": "1.5000", "gone": None, "extra": None},
        {"id": "2", "small": "3000000000", "price": "12345678901.0001", "gone": None, "extra": "2026-01-01"},
    ]  # fmt: skip
    house.source(
        "ALTER TABLE orders ALTER small TYPE SMALLINT USING NULL",
        "ALTER TABLE orders ALTER price TYPE DECIMAL(5,2) USING 2.5",
    )
    house.sync(stream)  # never narrowed
    assert house.state(stream).schema is not None
    assert house.rows(stream)[0][1:3] == ("7", "1.5000")
    assert house.rows(stream)[1][1:3] == (None, "2.5000")


def test_a_sync_says_which_rows_lack_the_values_of_a_new_column(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT * FROM (VALUES (1), (2)) AS rows(id)")
    stream = orders(cursor="id")
    assert house.sync(stream).warnings == ()
    house.source("ALTER TABLE orders ADD COLUMN shop INTEGER DEFAULT 7", "INSERT INTO orders VALUES (3, 8)")
    (warning,) = house.sync(stream).warnings
    assert warning.startswith("'shop': rows from before the tail are not read again, and have NULL there")
    assert house.rows(stream) == [("1", None), ("2", "7"), ("3", "8")]
    assert house.sync(orders(cursor="id", metadata_columns=True)).warnings == ()
    assert house.sync(stream, full_refresh=True).warnings == ()


def test_a_sync_says_which_texts_are_numbers_of_equally_many_decimals(house: House) -> None:
    house.source(
        "CREATE TABLE orders (id INTEGER, v DECIMAL(9, 2))", "INSERT INTO orders VALUES (1, 2.5), (2, 3)"
    )
    stream = orders(cursor="id")
    house.sync(stream)
    house.source("DROP TABLE orders", "CREATE TABLE orders AS SELECT 2 AS id, '3.5' AS v")
    (warning,) = house.sync(stream).warnings
    assert warning.startswith("'v': rows from before the tail are not read again, and have their numbers as")
    assert house.rows(stream) == [("1", "2.50"), ("2", "3.5")]
    assert house.sync(stream).warnings == ()


def test_a_type_that_cannot_be_widened_names_both_and_a_full_refresh_makes_the_table_again(
    house: House,
) -> None:
    house.source("CREATE TABLE orders (id INTEGER, v BOOLEAN)", "INSERT INTO orders VALUES (1, true)")
    stream = orders(cursor="id")
    house.sync(stream)
    house.source(
        "ALTER TABLE orders ALTER v TYPE TIMESTAMP USING '2026-01-01 10:00'",
        "INSERT INTO orders VALUES (2, '2026-01-02 10:00')",
    )
    with pytest.raises(SchemaChangeError, match=r"'v'.*boolean.*timestamp") as caught:
        house.sync(stream)
    assert (caught.value.column, caught.value.exit_code) == ("v", 7)
    assert "--full-refresh" in str(caught.value.hint)
    assert house.rows(stream) == [("1", "true")]
    house.sync(stream, full_refresh=True)
    assert house.rows(stream) == [("1", "2026-01-01T10:00:00.000000"), ("2", "2026-01-02T10:00:00.000000")]


@pytest.mark.parametrize("kind", ["BIGINT", "BLOB"])  # widened, and made again
def test_a_full_refresh_by_key_keeps_the_latest_row(kind: str, any_house: House) -> None:
    house = any_house
    house.source("CREATE TABLE log (id INTEGER, n INTEGER, v INTEGER)", "INSERT INTO log VALUES (1, 1, 10)")
    stream = Stream("log", table="log", cursor="n", primary_key=("id",), disposition=Disposition.MERGE)
    house.sync(stream)
    house.source(
        f"ALTER TABLE log ALTER v TYPE {kind} USING '65'::{kind}",
        f"INSERT INTO log SELECT id, 2, '66'::{kind} FROM log",
        f"INSERT INTO log SELECT 2, 3, '67'::{kind}",
    )
    house.sync(stream, full_refresh=True)
    values = ("66", "67") if kind == "BIGINT" else ("3636", "3637")
    assert house.rows(stream) == [("1", "2", values[0]), ("2", "3", values[1])]
    found = house.state(stream).checkpoint
    assert found is not None
    assert found.high.text == "3"
    assert house.sync(stream).rows_loaded == 0


def test_a_full_refresh_brings_deletes_and_keeps_going(house: House) -> None:
    house.source("CREATE TABLE orders (id INTEGER PRIMARY KEY)", "INSERT INTO orders VALUES (1), (2), (3)")
    stream = orders(cursor="id")
    assert house.sync(stream).disposition is Disposition.MERGE
    house.source("DELETE FROM orders WHERE id = 1", "INSERT INTO orders VALUES (4)")
    house.sync(stream)
    assert [row[0] for row in house.rows(stream)] == ["1", "2", "3", "4"]
    house.sync(stream, full_refresh=True)
    assert [row[0] for row in house.rows(stream)] == ["2", "3", "4"]
    outcome = house.sync(stream)
    assert (outcome.rows_read, outcome.rows_loaded) == (1, 0)


def test_chosen_columns_and_queries(house: House) -> None:
    house.source("CREATE TABLE orders AS SELECT i AS id, i * 2 AS twice, 's' AS secret FROM range(4) AS r(i)")
    house.sync(orders(cursor="id", exclude=("secret",)))
    assert house.table(orders()).column_names == ["id", "twice"]
    query = Stream("odd", query="SELECT id, twice FROM orders WHERE id % 2 = 1;", cursor="id")
    house.sync(query)
    assert house.rows(query) == [("1", "2"), ("3", "6")]
    with pytest.raises(SourceError, match="'idd'") as caught:
        house.sync(Stream("other", table="orders", cursor="idd"))
    assert (caught.value.code, "'id'" in str(caught.value.hint)) == ("column_not_found", True)
