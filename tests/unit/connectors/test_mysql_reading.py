"""What is read from MySQL and MariaDB: every type, every hazard, one snapshot, and what may be seen of it."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal

import pyarrow as pa
import pytest

from atlas_etl import values
from atlas_etl.errors import ConfigError, HazardError
from atlas_etl.model import CursorKind, CursorValue, Hazard, HazardPolicy, Stream
from tests.servers import ServerAddress
from tests.unit.connectors.mysql_database import Database, read, read_all


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


UUID = "123e4567-e89b-12d3-a456-426614174000"
GOLDEN: dict[str, tuple[str, pa.DataType, dict[str, object]]] = {
    "tinyint": ("TINYINT", pa.int8(), {"-128": -128, "127": 127}),
    "boolean": ("BOOLEAN", pa.int8(), {"TRUE": 1, "2": 2}),  # a number of 8 bits
    "smallint": ("SMALLINT", pa.int16(), {"-32768": -(2**15)}),
    "mediumint": ("MEDIUMINT", pa.int32(), {"-8388608": -(2**23)}),
    "int": ("INT(5) ZEROFILL", pa.uint32(), {"7": 7}),
    "bigint": ("BIGINT", pa.int64(), {"-9223372036854775808": -(2**63)}),
    "ubigint": ("BIGINT UNSIGNED", pa.uint64(), {"18446744073709551615": 2**64 - 1}),
    "float": ("FLOAT", pa.float32(), {"1.5": 1.5}),
    "double": ("DOUBLE", pa.float64(), {"'1e300'": 1e300, "'-5e-324'": -5e-324, "0.1": 0.1}),
    "decimal": ("DECIMAL(12,2)", pa.decimal128(12, 2), {"-9999999999.99": Decimal("-9999999999.99")}),
    "decimal65": (
        "DECIMAL(65,30)",
        pa.decimal256(65, 30),
        {f"{'9' * 35}.{'9' * 30}": Decimal(f"{'9' * 35}.{'9' * 30}")},
    ),
    "bit": ("BIT(9)", pa.string(), {"b'101'": "000000101"}),
    "year": ("YEAR", pa.int16(), {"2155": 2155, "0": 0}),
    "date": ("DATE", pa.date32(), {"'1000-01-01'": date(1000, 1, 1), "'9999-12-31'": date(9999, 12, 31)}),
    "time": ("TIME(6)", pa.time64("us"), {"'23:59:59.999999'": time(23, 59, 59, 999999)}),
    "datetime": (
        "DATETIME(6)",
        pa.timestamp("us"),
        {"'2024-02-29 12:30:45.123456'": datetime(2024, 2, 29, 12, 30, 45, 123456)},
    ),
    "timestamp": ("TIMESTAMP(6) NULL", pa.timestamp("us", "UTC"), {"'2038-01-19 03:14:07.999999'": None}),
    "char": ("CHAR(5) CHARACTER SET utf8mb4", pa.string(), {"'😀é'": "😀é"}),
    "latin1": ("VARCHAR(5) CHARACTER SET latin1", pa.string(), {"'é'": "é"}),
    "text": ("LONGTEXT CHARACTER SET utf8mb4", pa.string(), {"'a\\'b'": "a'b", "''": ""}),
    "binary": ("BINARY(3)", pa.binary(), {"x'ff00'": b"\xff\0\0"}),
    "blob": ("LONGBLOB", pa.binary(), {"x'00ff'": b"\0\xff", "''": b""}),
    "enum": ("ENUM('a','b')", pa.string(), {"'b'": "b"}),
    "set": ("SET('x','y')", pa.string(), {"'y,x'": "x,y"}),
    "json": ("JSON", pa.json_(), {"'{\"a\": 2.50}'": '{"a": 2.50}'}),
    "uuid": ("UUID", pa.string(), {f"'{UUID}'": UUID}),
    "inet6": ("INET6", pa.string(), {"'2001:db8::1'": "2001:db8::1"}),
    "point": ("POINT", pa.binary(), {"PointFromText('POINT(1 2)')": None}),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_every_type_arrives_exactly(database: Database, name: str) -> None:
    declared, kind, cells = GOLDEN[name]
    database.execute(
        f"CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, v {declared})",
        *(f"INSERT INTO t (v) VALUES ({literal})" for literal in (*cells, "NULL")),
    )
    by_table = read(database.connector(), Stream("t", table="t"))["v"]
    by_query = read(database.connector(), Stream("t", query="SELECT v FROM t"))["v"]
    assert by_table.type == kind
    assert by_query.type == (pa.string() if kind == pa.json_() else kind)  # only the catalog tells it
    for column in (by_table, by_query):
        *found, last = column.to_pylist()
        assert last is None
        wanted = list(cells.values())
        assert [f if w is not None else None for f, w in zip(found, wanted, strict=True)] == wanted
    described = database.connector().describe(Stream("t", table="t")).columns[1]
    assert described.type.startswith(declared.partition("(")[0].partition(" ")[0].lower()[:3]) or (
        name in ("boolean", "json")
    )


def test_fields_know_their_type_in_mysqls_words(database: Database) -> None:
    database.execute("CREATE TABLE t (n BIGINT UNSIGNED, e ENUM('a''b', 'c'), p POINT)")
    schema = read(database.connector(), Stream("t", table="t")).schema
    assert [values.source_type(field) for field in schema] == [
        "bigint(20) unsigned", "enum('a''b','c')", "point",
    ]  # fmt: skip
    query = Stream("t", query="SELECT n, e, CAST(1 AS DECIMAL(9,2)) AS d FROM t")
    schema = read(database.connector(), query).schema
    assert [values.source_type(field) for field in schema] == [
        "bigint unsigned", "enum", "decimal(9,2)",
    ]  # fmt: skip


HAZARDS = {
    Hazard.ZERO_DATE: ("DATETIME", "'2024-00-15 10:00:00'", "2024-00-15 10:00:00", "'2024-05-15 10:00:00'"),
    Hazard.TIME_RANGE: ("TIME(1)", "'-838:59:59'", "-838:59:59.0", "'10:00:00.5'"),
    Hazard.INVALID_TEXT: ("TEXT CHARACTER SET utf8mb3", "CAST(x'61EDA0BD' AS CHAR)", "61eda0bd", "'a'"),
}


def hazardous(database: Database, hazard: Hazard) -> str:
    """A table with a value that has no exact form, and the text that it is carried as."""
    declared, odd, text, plain = HAZARDS[hazard]
    database.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {declared})")
    with database.client() as client, client.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        if hazard is Hazard.INVALID_TEXT:
            cursor.execute("SET NAMES binary")
            odd = "x'61EDA0BD'"
        cursor.execute(f"INSERT INTO t VALUES (1, {plain}), (2, {odd}), (3, NULL)")
    return text


@pytest.mark.parametrize("hazard", HAZARDS)
def test_hazards_are_refused_with_column_and_key(database: Database, hazard: Hazard) -> None:
    hazardous(database, hazard)
    with pytest.raises(HazardError) as caught:
        read(database.connector(), Stream("t", table="t"))
    assert caught.value.column == "v"
    assert "id=2" in caught.value.message
    assert str(hazard) in str(caught.value.hint)


@pytest.mark.parametrize("hazard", HAZARDS)
def test_hazards_become_null_and_are_counted_where_that_is_wanted(database: Database, hazard: Hazard) -> None:
    hazardous(database, hazard)
    stream = Stream("t", table="t", hazards={hazard: HazardPolicy.NULL})
    table, _, nulled = read_all(database.connector(), stream)
    assert [cell is None for cell in table["v"].to_pylist()] == [False, True, True]
    assert nulled == {f"v: {hazard}": 1}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_hazards_are_carried_as_text_where_that_is_wanted(database: Database, hazard: Hazard) -> None:
    text = hazardous(database, hazard)
    stream = Stream("t", table="t", hazards={hazard: HazardPolicy.TEXT})
    table, _, nulled = read_all(database.connector(), stream)
    assert table["v"].to_pylist()[1:] == [text, None]
    assert nulled == {}


def test_a_cursor_of_zero_dates_goes_on_as_text(database: Database) -> None:
    hazardous(database, Hazard.ZERO_DATE)
    stream = Stream("t", table="t", cursor="v", exclude=(), hazards={Hazard.ZERO_DATE: HazardPolicy.TEXT})
    database.execute("DELETE FROM t WHERE v IS NULL")
    _, checkpoint, _ = read_all(database.connector(), stream)
    assert checkpoint is not None
    assert checkpoint.high == CursorValue(CursorKind.TEXT, "2024-05-15 10:00:00")
    since = CursorValue(CursorKind.TEXT, "2024-00-15 10:00:00")
    assert read(database.connector(), stream, since).num_rows == 2
    assert read(database.connector(), stream, checkpoint.high).num_rows == 1


CURSORS = {
    "BIGINT UNSIGNED": ("9223372036854775808", "18446744073709551615"),
    "DECIMAL(65,30)": (f"{'8' * 35}.{'9' * 30}", f"{'9' * 35}.{'9' * 30}"),
    "FLOAT": ("0.1", "0.2"),
    "DATE": ("'2024-02-28'", "'2024-02-29'"),
    "DATETIME(6)": ("'2024-02-29 12:30:45.123455'", "'2024-02-29 12:30:45.123456'"),
    "TIMESTAMP(6) NULL": ("'2024-02-29 12:30:45.123455'", "'2024-02-29 12:30:45.123456'"),
    "YEAR": ("2023", "2024"),
    "BIT(8)": ("b'1001'", "b'10000000'"),
    "VARCHAR(9) CHARACTER SET latin1": ("'é'", "'z'"),
    "ENUM('b','a')": ("'a'", "'b'"),
    "UUID": (f"'{UUID}'", f"'{UUID.replace('1740', '1741')}'"),
    "INET6": ("'::1'", "'2001:db8::'"),
}


@pytest.mark.parametrize("declared", CURSORS)
def test_every_type_that_grows_can_be_a_cursor(database: Database, declared: str) -> None:
    low, high = CURSORS[declared]
    database.execute(
        f"CREATE TABLE t (id INT, v {declared})",
        f"INSERT INTO t VALUES (1, {low}), (2, {high}), (3, {high})",
    )
    connector, stream = database.connector(), Stream("t", table="t", cursor="v")
    table, checkpoint, _ = read_all(connector, stream)
    assert table.num_rows == 3
    assert checkpoint is not None
    assert checkpoint.high == values.cursor_value(table["v"][2], stream="t", column="v")
    again, after, _ = read_all(connector, stream, checkpoint.high)
    assert sorted(again["id"].to_pylist()) == [2, 3]
    assert after is not None
    assert (after.high, after.tail_from) == (checkpoint.high, checkpoint.tail_from)


def test_texts_are_compared_as_their_column_compares_them(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id INT, v VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'B'), (3, 'b'), (4, 'ß')",
    )
    stream = Stream("t", table="t", cursor="v")
    since = CursorValue(CursorKind.TEXT, "b")
    table, checkpoint, _ = read_all(database.connector(), stream, since)
    assert sorted(table["id"].to_pylist()) == [2, 3, 4]
    assert checkpoint is not None
    assert checkpoint.high.text == "ß"
    assert checkpoint.tail_values == ("ß",)


def test_a_json_cursor_is_refused(database: Database) -> None:
    database.execute("CREATE TABLE t (v JSON)")
    with pytest.raises(ConfigError) as caught:
        read(database.connector(), Stream("t", table="t", cursor="v"))
    assert caught.value.code == "cursor_type"
