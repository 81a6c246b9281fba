"""Rows by LOAD DATA LOCAL: as by INSERT, refused where a server would only warn, and never a file."""

from __future__ import annotations

import pyarrow as pa
import pytest

from atlas_etl.connectors.sql._mysql.connection import Server
from atlas_etl.connectors.sql._mysql.load import LoadConnection
from atlas_etl.connectors.sql._mysql.session import WRITING, Session
from atlas_etl.connectors.sql._mysql.writer import MySQLDestination
from atlas_etl.errors import DataError, DestinationError
from atlas_etl.model import TableName
from tests.servers import ServerAddress
from tests.servers.mysql import fresh_database, private_server
from tests.unit.connectors.mysql_database import Database, load


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


@pytest.fixture
def destination(database: Database) -> MySQLDestination:
    return database.destination(local_infile=True)


def into(database: Database) -> TableName:
    return TableName("theirs", database.address.database)


def column(*cells: object, kind: pa.DataType | None = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(cells, kind)], names=["v"])


def test_rows_go_by_load_data(database: Database, destination: MySQLDestination) -> None:
    before = int(str(database.rows("SHOW GLOBAL STATUS LIKE 'Com_load'")[0][1]))
    rows = load(destination, [column(*range(20_000)), column(*range(5))], into=into(database)).rows
    assert rows == 20_005
    assert int(str(database.rows("SHOW GLOBAL STATUS LIKE 'Com_load'")[0][1])) >= before + 2
    assert database.rows("SELECT COUNT(*), MAX(v) FROM theirs") == [(20_005, 19_999)]


def test_what_an_ignored_row_would_be_is_an_error(database: Database, destination: MySQLDestination) -> None:
    """LOCAL skips a row whose key is there; not one row of such a load may stay."""
    database.execute("CREATE TABLE theirs (v INT PRIMARY KEY)", "INSERT INTO theirs VALUES (7)")
    with pytest.raises(DataError, match="unique key 'PRIMARY'") as caught:
        load(destination, [column(5, 6, 7, 8)], into=into(database))
    assert caught.value.code == "duplicate_key"
    assert database.rows("SELECT v FROM theirs") == [(7,)]


@pytest.mark.parametrize(
    "declared",
    [
        "BIGINT, CONSTRAINT small CHECK (v < 3)",
        "BIGINT, CONSTRAINT there FOREIGN KEY (v) REFERENCES others (id)",
    ],
)
def test_a_rule_of_the_table_is_kept(
    database: Database, destination: MySQLDestination, declared: str
) -> None:
    database.execute(
        "CREATE TABLE others (id BIGINT PRIMARY KEY)",
        "INSERT INTO others VALUES (1)",
        f"CREATE TABLE theirs (v {declared})",
    )
    with pytest.raises(DataError) as caught:
        load(destination, [column(1, 4)], into=into(database))
    assert caught.value.code == "constraint"
    assert database.rows("SELECT COUNT(*) FROM theirs") == [(0,)]


def test_a_row_is_larger_than_a_packet(database: Database, destination: MySQLDestination) -> None:
    texts = ["x" * 3_000_000, "\t" * 2_000_000, "y"]
    load(destination, [column(*texts)], into=into(database))
    found = database.rows("SELECT v FROM theirs ORDER BY CHAR_LENGTH(v)")
    assert [row[0] for row in found] == sorted(texts, key=len)


def test_a_server_that_does_not_allow_it_is_named() -> None:
    with private_server("--local-infile=0") as (_, address), fresh_database(address) as own:
        database = Database(own)
        with pytest.raises(DestinationError) as caught:
            load(database.destination(local_infile=True), [column(1)], into=into(database))
        assert caught.value.code == "local_infile"
        assert "local_infile = ON" in str(caught.value.hint)
        load(database.destination(), [column(1)], into=into(database))


def test_a_server_that_asks_for_a_file_does_not_get_it(database: Database) -> None:
    server = Server(database.config(local_infile=True), DestinationError)
    database.execute("CREATE TABLE theirs (v TEXT)")
    session = Session(server, sql_mode=WRITING)
    with pytest.raises(DestinationError) as caught:
        session.run(f"LOAD DATA LOCAL INFILE '{__file__}' INTO TABLE {database.address.database}.theirs")
    assert caught.value.code == "hostile_server"
    session.close()
    assert database.rows("SELECT COUNT(*) FROM theirs") == [(0,)]


def test_rows_that_are_refused_leave_the_connection_in_step(database: Database) -> None:
    database.execute("CREATE TABLE theirs (v INT PRIMARY KEY)")
    connection = LoadConnection(Server(database.config(local_infile=True), DestinationError))
    connection.begin()
    connection.execute("SAVEPOINT here")
    with pytest.raises(DataError):
        connection.ingest("theirs", column(1, 1))
    connection.execute("ROLLBACK TO SAVEPOINT here")
    connection.ingest("theirs", column(2, 3))
    connection.commit()
    connection.close()
    assert database.rows("SELECT v FROM theirs ORDER BY v") == [(2,), (3,)]
