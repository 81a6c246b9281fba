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
    connector, stream = database.connector(), Stream("made", table="made")
    waiting = (
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST "
        "WHERE STATE LIKE 'Waiting for table%' AND DB = DATABASE()"
    )
    with database.client() as client, ThreadPoolExecutor() as threads:
        cursor = client.cursor()
        cursor.execute("LOCK TABLES made WRITE")
        reading = threads.submit(read, connector, stream)
        while database.rows(waiting) == [(0,)]:
            assert not reading.done()
        cursor.execute(f"ALTER TABLE made DROP v, ADD v {after}")
        cursor.execute("UNLOCK TABLES")
        with pytest.raises(SourceError) as caught:
            reading.result()
    assert (caught.value.code, caught.value.column, caught.value.retryable) == ("table_rewritten", "v", True)
    assert read(connector, stream).num_rows == 1
