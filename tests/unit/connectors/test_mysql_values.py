"""What MySQL and MariaDB give back of what was loaded: the same types and the same values, or an error."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.sql._mysql.dialect import MySQLWriterDialect
from atlas_etl.connectors.sql._mysql.writer import MySQLDestination
from atlas_etl.errors import DataError, DestinationError, RefusedRowError
from atlas_etl.model import Disposition, TableName
from tests.servers import ServerAddress
from tests.unit.connectors.mysql_database import Database, load

FEW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TABLE = TableName("t", "atlas_values")


@pytest.fixture
def database(mysql: ServerAddress) -> Iterator[Database]:
    found = Database(mysql)
    yield found
    found.execute("DROP DATABASE IF EXISTS atlas_values")


@pytest.fixture(params=[False, True], ids=["insert", "load data"])
def destination(request: pytest.FixtureRequest, database: Database) -> MySQLDestination:
    return database.destination(local_infile=request.param)


SIMPLE = (
    pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
    pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.string_view(),
    pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(7), pa.date32(), pa.date64(),
    pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.duration("us"), pa.null(),
    pa.month_day_nano_interval(), pa.uuid(), pa.json_(), pa.dictionary(pa.int8(), pa.string()),
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Asia/Tokyo")),
)  # fmt: skip
DECIMALS = st.integers(1, 76).flatmap(
    lambda digits: st.integers(-3, digits).map(
        lambda scale: (pa.decimal128 if digits <= 38 else pa.decimal256)(digits, scale)
    )
)
LEAVES = st.one_of(st.sampled_from(SIMPLE), DECIMALS)
TYPES = st.recursive(
    LEAVES, lambda inner: st.one_of(inner.map(pa.list_), inner.map(lambda kind: pa.struct([("x", kind)]))),
    max_leaves=3,
)  # fmt: skip


@FEW
@given(kinds=st.lists(TYPES, min_size=1, max_size=60))
def test_a_table_reads_as_the_types_that_it_was_made_for(
    database: Database, kinds: list[pa.DataType]
) -> None:
    dialect, destination = MySQLWriterDialect(), database.destination()
    table = TableName("t", database.address.database)
    wanted = destination.storable(pa.schema([(f"c{n}", kind) for n, kind in enumerate(kinds)]))
    with destination.connect() as connection:
        connection.execute(f"DROP TABLE IF EXISTS {dialect.table(table)}")
        connection.execute(dialect.create_table(table, wanted, ()))
        assert destination.table_schema(connection, table) == wanted
    assert destination.storable(wanted) == wanted


MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))
CELLS = {
    pa.string(): st.text() | st.text(alphabet="\\'\"`%\0\n\t\r\x1a;-xN😀"),
    pa.binary(): st.binary(),
    pa.float64(): st.floats(allow_nan=False, allow_infinity=False),
    pa.float32(): st.floats(allow_nan=False, allow_infinity=False, width=32),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.decimal128(38, 20): st.decimals(-(10**18) + 1, 10**18 - 1, places=20, allow_nan=False),
    pa.decimal256(65, 30): st.integers(-(10**65) + 1, 10**65 - 1).map(lambda n: Decimal(f"{n}e-30")),
    pa.timestamp("us"): MOMENTS,
    pa.date32(): st.dates(date(1, 1, 1)),
    pa.time64("us"): st.times(),
    pa.bool_(): st.booleans(),
}  # fmt: skip


@pytest.mark.parametrize("kind", CELLS, ids=str)
def test_values_come_back_as_they_were(destination: MySQLDestination, kind: pa.DataType) -> None:
    @FEW
    @given(cells=st.lists(CELLS[kind] | st.none(), max_size=50))
    def check(cells: list[object]) -> None:
        column = pa.array(cells, kind)
        order = pa.array(range(len(cells)), pa.int32())
        batch = pa.RecordBatch.from_arrays([order, column], names=["n", "v"])
        load(destination, [batch], Disposition.REPLACE, into=TABLE)
        found = destination.query("SELECT v FROM atlas_values.t ORDER BY n")["v"]
        assert found.type == kind
        if pa.types.is_floating(kind):
            assert found.to_pylist() == column.to_pylist()  # minus zero comes back as zero
        else:
            assert found.combine_chunks() == column if len(cells) else len(found) == 0

    check()


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_no_column_holds_is_refused(
    destination: MySQLDestination, kind: pa.DataType, odd: float
) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1.0, None, odd], kind)], names=["ratio"])
    with pytest.raises(RefusedRowError, match="'ratio'") as caught:
        load(destination, [batch], into=TABLE)
    assert (caught.value.column, caught.value.exit_code) == ("ratio", 7)
    assert destination.inspect("shop", "orders", TABLE).empty


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([-719_163], pa.date32()),
        pa.array([2_932_897], pa.date32()),
        pa.array([-62_135_596_800_000_001], pa.timestamp("us")),
        pa.array([253_402_300_800_000_000], pa.timestamp("us", "UTC")),
    ],
)
def test_dates_that_mysql_does_not_know_are_refused(destination: MySQLDestination, cells: pa.Array) -> None:
    with pytest.raises(DataError, match="'at'") as caught:
        load(destination, [pa.RecordBatch.from_arrays([cells], names=["at"])], into=TABLE)
    assert caught.value.code == "value_does_not_fit"


TIGHT = {
    "VARCHAR(3)": ("abc   ", "too long, if only by blanks"),
    "TINYTEXT": ("x" * 256, ""),
    "ENUM('a')": ("quark", ""),
    "VARCHAR(9) CHARACTER SET latin1": ("Łódź", ""),
    "VARCHAR(9) NOT NULL": (None, ""),
}


@pytest.mark.parametrize("declared", TIGHT)
def test_a_table_of_somebody_else_takes_values_whole_or_not_at_all(
    database: Database, destination: MySQLDestination, declared: str
) -> None:
    name = database.address.database
    database.execute(f"CREATE TABLE theirs (v {declared})")
    cell = TIGHT[declared][0]
    batch = pa.RecordBatch.from_arrays([pa.array([cell], pa.string())], names=["v"])
    with pytest.raises(DataError, match="'v'") as caught:
        load(destination, [batch], into=TableName("theirs", name))
    assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "v")
    assert str(cell)[:99] not in caught.value.message
    assert caught.value.__cause__ is None
    assert database.rows("SELECT COUNT(*) FROM theirs") == [(0,)]


def test_narrow_columns_of_somebody_else_are_widened(
    database: Database, destination: MySQLDestination
) -> None:
    database.execute(
        "CREATE TABLE theirs (d DECIMAL(5,2), at DATETIME, n TINYINT UNSIGNED, f FLOAT, "
        "counts INT AUTO_INCREMENT KEY)",
        "INSERT INTO theirs VALUES (1.5, '2026-01-01 10:00:00', 255, 0.1, 1)",
    )
    schema = pa.schema(
        [("d", pa.decimal128(9, 4)), ("at", pa.timestamp("us")), ("n", pa.int16()), ("f", pa.float64()),
         ("counts", pa.int32())]
    )  # fmt: skip
    row = {"d": Decimal("2.3456"), "at": datetime(2026, 1, 1, 10, 0, 0, 5), "n": -1, "f": 0.1, "counts": 0}
    into = TableName("theirs", database.address.database)
    load(destination, [pa.RecordBatch.from_pylist([row], schema=schema)], into=into)
    found = destination.query("SELECT * FROM theirs ORDER BY n")
    assert found.schema == schema
    before = {"d": Decimal("1.5"), "at": datetime(2026, 1, 1, 10), "n": 255, "f": 0.10000000149011612}
    assert found.to_pylist() == [row, {**before, "counts": 1}]


WIDER = pa.RecordBatch.from_pylist([{"d": Decimal("2.3456")}], schema=pa.schema([("d", pa.decimal128(9, 4))]))


def test_a_widened_column_of_somebody_else_still_takes_no_null(
    database: Database, destination: MySQLDestination
) -> None:
    database.execute("CREATE TABLE theirs (d DECIMAL(5,2) NOT NULL)")
    load(destination, [WIDER], into=TableName("theirs", database.address.database))
    declared = "SELECT COLUMN_TYPE, IS_NULLABLE FROM information_schema.COLUMNS WHERE TABLE_NAME = 'theirs'"
    assert database.rows(declared) == [("decimal(9,4)", "NO")]


@pytest.mark.parametrize(
    "declared",
    ["DECIMAL(5,2) DEFAULT 1.5", "DECIMAL(5,2) NOT NULL DEFAULT (1 + 1)", "INT AUTO_INCREMENT KEY"],
)
def test_a_column_that_would_lose_a_value_of_its_own_is_not_widened(
    database: Database, destination: MySQLDestination, declared: str
) -> None:
    database.execute(f"CREATE TABLE theirs (d {declared})")
    (before,) = database.rows("SHOW CREATE TABLE theirs")
    with pytest.raises(DestinationError, match="DEFAULT") as caught:
        load(destination, [WIDER], into=TableName("theirs", database.address.database))
    assert (caught.value.code, caught.value.column) == ("cannot_widen", "d")
    assert database.rows("SHOW CREATE TABLE theirs") == [before]


def test_a_query_shows_what_has_no_exact_form_as_text(database: Database) -> None:
    database.execute(
        "CREATE TABLE old (id INT, at DATETIME, t TIME)",
        "SET sql_mode = ''",
        "INSERT INTO old VALUES (1, 0, '25:00:00'), (2, '2026-01-01', '10:00:00'), (3, NULL, NULL)",
    )
    found = database.destination().query("SELECT at, t, id FROM old ORDER BY id")
    assert found["at"].to_pylist() == ["0000-00-00 00:00:00", "2026-01-01T00:00:00.000000", None]
    assert found["t"].to_pylist() == ["25:00:00", "10:00:00.000000", None]
    assert found["id"].type == pa.int32()


def test_types_are_told_through_views_and_joins(database: Database) -> None:
    schema = pa.schema([("yes", pa.bool_()), ("at", pa.timestamp("us", "UTC")), ("u", pa.uuid())])
    row = {"yes": True, "at": datetime(2026, 1, 1), "u": b"\x12" * 16}
    batch = pa.RecordBatch.from_pylist([row], schema=schema)
    destination = database.destination()
    load(destination, [batch], into=TABLE)
    found = destination.query("SELECT a.*, b.yes AS also FROM atlas_values.t AS a JOIN atlas_values.t AS b")
    assert found.schema.types == [*schema.types, pa.bool_()]
    assert values.to_text(found["u"].combine_chunks()).to_pylist() == ["12121212-1212-1212-1212-121212121212"]
