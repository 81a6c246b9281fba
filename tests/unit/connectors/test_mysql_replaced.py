"""Reading MySQL and MariaDB while a table is changed by others: no value is taken for one of another type."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.servers import ServerAddress
from tests.unit.connectors.mysql_database import Database, read


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("bigint", "datetime DEFAULT '2026-01-01'"),
        ("bigint", "varchar(9) DEFAULT 'x'"),
        ("time", "datetime DEFAULT '2026-01-01'"),
        ("blob", "int DEFAULT 7"),
    ],
)
def test_a_column_made_anew_while_a_read_waits_for_its_table(
    database: Database, before: str, after: str
) -> None:
    database.execute(
        f"CREATE TABLE made (id INT PRIMARY KEY, v {before})", "INSERT INTO made (id) VALUES (1)"
    )
    failure = refusal(database, f"ALTER TABLE made DROP v, ADD v {after}")
    assert (failure.code, failure.column, failure.retryable) == ("table_rewritten", "v", True)
    assert read(database.connector(), Stream("made", table="made")).num_rows == 1


@pytest.mark.parametrize("change", ["DROP v", "RENAME TO old"])
def test_what_is_dropped_while_a_read_waits_for_it_is_looked_up_again(
    database: Database, change: str
) -> None:
    database.execute("CREATE TABLE made (id INT PRIMARY KEY, v INT)", "INSERT INTO made VALUES (1, 2)")
    failure = refusal(database, f"ALTER TABLE made {change}")
    assert (failure.code, failure.stream, failure.retryable) == ("table_rewritten", "made", True)


def refusal(database: Database, change: str) -> SourceError:
    """Why a read of `made` fails that waits for this statement."""
    waiting = (
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST "
        "WHERE STATE LIKE 'Waiting for table%' AND DB = DATABASE()"
    )
    with database.client() as client, ThreadPoolExecutor() as threads:
        cursor = client.cursor()
        cursor.execute("LOCK TABLES made WRITE")
        reading = threads.submit(read, database.connector(), Stream("made", table="made"))
        while database.rows(waiting) == [(0,)]:
            assert not reading.done()
        cursor.execute(change)
        cursor.execute("UNLOCK TABLES")
        with pytest.raises(SourceError) as caught:
            reading.result()
    return caught.value
