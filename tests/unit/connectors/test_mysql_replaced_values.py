"""Values in the place of which the columns of somebody's own table would keep others: they are refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from atlas_etl.errors import DestinationError, RefusedRowError
from atlas_etl.model import Disposition, TableName
from tests.servers import ServerAddress
from tests.servers.mysql import private_server
from tests.unit.connectors.mysql_database import Database, load

INSTANT = pa.timestamp("us", "UTC")
DAY = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS: dict[str, tuple[str, pa.DataType, list[object], list[object]]] = {  # what is kept, what is not
    "timestamp": ("TIMESTAMP(6) NOT NULL DEFAULT '2020-01-01'", INSTANT, [DAY], [None]),
    "number": ("BIGINT AUTO_INCREMENT, KEY (v)", pa.int64(), [5, 0, 7], [None]),
    "enum": (
        r"ENUM('0', '1', '2', 'it''s', 'a\\b')", pa.string(), ["0", "it's", "a\\b", None], ["3", "IT'S", "1 "]
    ),
    "set": ("SET('a', 'b', 'c')", pa.string(), ["a,c", "", "b", None], ["c,a", "3", "a,a", "A"]),
    "char": ("CHAR(4)", pa.string(), ["a", " b", "", None], ["a "]),
    "binary": ("BINARY(4)", pa.binary(), [b"abcd", None], [b"abc", b""]),
    "year": ("YEAR", pa.int16(), [0, 1901, 2155, None], [1, 70, 99]),
    "double": ("DOUBLE(10, 2)", pa.float64(), [1.23, -0.5, 2.0, None], [1.239, 0.001, -0.1]),
    "float": ("FLOAT(10, 2)", pa.float32(), [1.25, -0.5, 2.0, None], [1.239]),
}  # fmt: skip


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


def rows(kind: pa.DataType, *cells: object) -> pa.RecordBatch:
    ids = pa.array(range(len(cells)), pa.int64())
    return pa.RecordBatch.from_arrays([ids, pa.array(cells, kind)], ["id", "v"])


def into(database: Database) -> TableName:
    return TableName("t", database.address.database)


@pytest.mark.parametrize("local_infile", [False, True], ids=["insert", "load data"])
@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
@pytest.mark.parametrize("name", COLUMNS)
def test_what_is_kept_is_what_came(
    database: Database, name: str, disposition: Disposition, local_infile: bool
) -> None:
    declared, kind, kept, refused = COLUMNS[name]
    key = ("id",) if disposition is Disposition.MERGE else ()
    database.execute(f"CREATE TABLE t (id BIGINT {'PRIMARY KEY' if key else ''}, v {declared})")
    destination = database.destination(local_infile=local_infile)
    known = {"into": into(database), "primary_key": key}
    assert load(destination, [rows(kind, *kept)], disposition, **known).rows == len(kept)
    assert destination.query("SELECT v FROM t ORDER BY id")["v"].to_pylist() == kept
    for cell in refused:
        with pytest.raises(RefusedRowError) as caught:
            load(destination, [rows(kind, *kept, cell)], disposition, **known)
        assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "v")
    assert database.rows("SELECT COUNT(*) FROM t") == [(len(kept),)]


@pytest.mark.parametrize("local_infile", [False, True], ids=["insert", "load data"])
@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_a_column_that_the_table_computes(database: Database, kind: str, local_infile: bool) -> None:
    database.execute(f"CREATE TABLE t (id BIGINT, v BIGINT AS (id + 1) {kind})")
    with pytest.raises(DestinationError) as caught:
        load(database.destination(local_infile=local_infile), [rows(pa.int64(), 5)], into=into(database))
    assert (caught.value.code, caught.value.column) == ("computed_column", "v")
    assert "`exclude`" in str(caught.value.hint)
    assert database.rows("SELECT COUNT(*) FROM t") == [(0,)]


@pytest.mark.parametrize("charset", ["latin1", "utf8mb3"])
def test_letters_that_a_table_does_not_have(database: Database, charset: str) -> None:
    database.execute(f"CREATE TABLE t (id BIGINT, v VARCHAR(9)) CHARACTER SET {charset}")
    with pytest.raises(RefusedRowError, match="its character set") as caught:
        load(database.destination(), [rows(pa.string(), "é", "😀")], into=into(database))
    assert "\\x" not in str(caught.value)
    assert database.rows("SELECT COUNT(*) FROM t") == [(0,)]


def test_tables_are_made_as_settings_of_a_server_allow() -> None:
    with private_server("--innodb-default-row-format=redundant", "--innodb-strict-mode=OFF") as (_, address):
        database = Database(address)
        database.execute("CREATE DATABASE shop", "SET GLOBAL innodb_force_primary_key = ON")
        shop = TableName("t", "shop")
        batch = rows(pa.string(), "a")
        assert (
            load(database.destination(), [batch], Disposition.MERGE, into=shop, primary_key=("id",)).rows == 1
        )
        with pytest.raises(DestinationError) as caught:
            load(database.destination(), [batch], into=TableName("keyless", "shop"))
        assert caught.value.code == "no_primary_key"
        database.execute("SET GLOBAL enforce_storage_engine = 'MyISAM'")
        with pytest.raises(DestinationError) as caught:
            load(database.destination(), [batch], into=TableName("other", "shop"))
        assert caught.value.code == "no_innodb"
