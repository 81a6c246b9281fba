"""Reading PostgreSQL while tables, views and partitions are replaced by others: none of them looks empty."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from atlas_etl.errors import SourceError
from atlas_etl.model import ReadRequest, Stream
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database, read


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


RENAMED = "ALTER TABLE made RENAME TO old"
REPLACED = {
    "made anew": ["DROP TABLE made", "CREATE TABLE made AS SELECT 3 AS id, 4 AS n"],
    "swapped": ["CREATE TABLE next AS SELECT 3 AS id, 4 AS n", RENAMED, "ALTER TABLE next RENAME TO made"],
    "swapped with one that was there": [
        "INSERT INTO spare VALUES (3, 4)", RENAMED, "ALTER TABLE spare RENAME TO made",
    ],
    "its schema swapped": [
        "INSERT INTO blue.made VALUES (3, 4)", "LOCK TABLE made", "ALTER SCHEMA public RENAME TO old",
        "ALTER SCHEMA blue RENAME TO public",
    ],
    "a column swapped": [
        "ALTER TABLE made ADD later real DEFAULT 4", "UPDATE made SET id = 3", "ALTER TABLE made DROP n",
        "ALTER TABLE made RENAME later TO n",
    ],
}  # fmt: skip


@pytest.mark.parametrize("statements", REPLACED.values(), ids=REPLACED)
def test_a_table_replaced_after_the_snapshot_is_no_empty_table(
    database: Database, statements: list[str]
) -> None:
    database.execute(
        "CREATE TABLE made AS SELECT 1 AS id, 2 AS n", "CREATE TABLE spare (LIKE made)",
        "CREATE SCHEMA blue", "CREATE TABLE blue.made (LIKE made)",
    )  # fmt: skip
    expect_a_refusal(database, statements, Stream("made", table="public.made"), {"id": [3], "n": [4]})


def test_a_column_dropped_after_the_snapshot_is_looked_up_again(database: Database) -> None:
    database.execute("CREATE TABLE made AS SELECT 3 AS id, 4 AS n")
    expect_a_refusal(database, ["ALTER TABLE made DROP n"], Stream("made", table="made"), {"id": [3]})


def test_a_view_whose_table_is_replaced_after_the_snapshot_is_not_empty(database: Database) -> None:
    database.execute("CREATE TABLE old AS SELECT 1 AS id", "CREATE VIEW made AS SELECT * FROM old")
    swap = ["CREATE TABLE new AS SELECT 3 AS id", "CREATE OR REPLACE VIEW made AS SELECT * FROM new"]
    for stream in (Stream("made", table="made"), Stream("made", query="SELECT * FROM made")):
        expect_a_refusal(database, swap, stream, {"id": [3]})
        database.execute("CREATE OR REPLACE VIEW made AS SELECT * FROM old", "DROP TABLE new")


@pytest.mark.parametrize("there_before", [True, False])
def test_a_partition_replaced_after_the_snapshot_is_not_empty(database: Database, there_before: bool) -> None:
    create = "CREATE TABLE new (id int)"
    database.execute(
        "CREATE TABLE made (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE old PARTITION OF made FOR VALUES FROM (0) TO (9)",
        "INSERT INTO made VALUES (1)",
        *([create] if there_before else []),
    )
    swap = [
        "ALTER TABLE made DETACH PARTITION old", *([] if there_before else [create]),
        "INSERT INTO new VALUES (3)", "ALTER TABLE made ATTACH PARTITION new FOR VALUES FROM (0) TO (9)",
    ]  # fmt: skip
    expect_a_refusal(database, swap, Stream("made", table="made"), {"id": [3]})


@pytest.mark.parametrize("parent", ["made", "kid"])
def test_a_child_made_anew_after_the_snapshot_is_not_left_out(database: Database, parent: str) -> None:
    """The parent's own rows are there all the while, so that the table does not look empty."""
    database.execute(
        "CREATE TABLE made AS SELECT 1 AS id", "CREATE TABLE kid () INHERITS (made)",
        f"CREATE TABLE late () INHERITS ({parent})", "INSERT INTO late VALUES (2)",
    )  # fmt: skip
    swap = ["DROP TABLE late", f"CREATE TABLE late () INHERITS ({parent})", "INSERT INTO late VALUES (3)"]
    expect_a_refusal(database, swap, Stream("made", table="made"), {"id": [1, 3]})


def test_an_index_made_after_the_snapshot_is_no_reason_to_refuse(database: Database) -> None:
    database.execute("CREATE TABLE made AS SELECT 1 AS id")
    with database.connector().open(ReadRequest(Stream("made", table="made"))) as extract:
        database.execute("CREATE INDEX later ON made (id)")
        assert [row for batch in extract.batches() for row in batch["id"].to_pylist()] == [1]


def expect_a_refusal(
    database: Database, statements: list[str], stream: Stream, expected: dict[str, list[int]]
) -> None:
    """A read that waits for these statements is refused, and the next one has the new rows."""
    connector = database.connector()
    with database.session() as session, ThreadPoolExecutor() as threads:
        session.execute("; ".join(["BEGIN", *statements]).encode())
        reading = threads.submit(read, connector, stream)
        while session.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchall() == [(0,)]:
            assert not reading.done()
        session.execute("COMMIT")
        with pytest.raises(SourceError) as caught:
            reading.result()
    assert (caught.value.code, caught.value.retryable) == ("table_rewritten", True)
    assert read(connector, stream).to_pydict() == expected
