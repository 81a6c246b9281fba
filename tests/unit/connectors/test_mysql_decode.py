"""Every type of MySQL, read by columns and by PyMySQL's text rows: the same values, or a named hazard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pymysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymysql.constants import FIELD_TYPE

from atlas_etl.connectors.sql._mysql.types import Column, arrow_type
from atlas_etl.connectors.sql._mysql.wire import stream_query
from atlas_etl.model import BatchLimits, Hazard
from tests.servers import ServerAddress
from tests.servers import mysql as mysql_recipe

Client = "Connection[Cursor]"
DEFAULT = BatchLimits()


@pytest.fixture
def client(mysql: ServerAddress) -> Iterator[Client]:
    """A session that lets every value in which MySQL can hold."""
    with mysql_recipe.connect(mysql) as connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00', sql_mode = 'ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'")
        yield connection


@dataclass
class Read:
    """A whole result, its batches put together."""

    table: pa.Table
    columns: tuple[Column, ...]
    batches: list[pa.RecordBatch]
    hazards: dict[tuple[str, int], tuple[Hazard, str]] = field(default_factory=dict)
    """Column and row of the whole result -> what it is and its text."""


def read(client: Client, sql: str, limits: BatchLimits = DEFAULT) -> Read:
    with stream_query(client, sql, (), limits) as result:
        found = Read(pa.table({}), result.columns, [])
        rows = 0
        for batch, cells in result:
            batch.validate(full=True)
            for cell in cells:
                for row, text in zip(cell.rows, cell.texts, strict=True):
                    assert not batch.column(cell.column)[row].is_valid
                    found.hazards[cell.column, rows + row] = (cell.hazard, text)
            found.batches.append(batch)
            rows += batch.num_rows
        found.table = pa.Table.from_batches(found.batches, result.schema)
    return found


def text_rows(client: Client, sql: str) -> list[tuple[str | bytes | None, ...]]:
    """The same rows by the text protocol, as the server writes them."""
    decoders, client.decoders = client.decoders, {}
    try:
        with client.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())
    finally:
        client.decoders = decoders


def parsed(cell: str | bytes | None, column: Column, kind: pa.DataType) -> Any:
    """A cell of the text protocol as Python holds it. Raises ValueError where Python cannot."""
    if cell is None or (isinstance(cell, bytes) and column.type_code != FIELD_TYPE.BIT):
        return cell
    if isinstance(cell, bytes):
        return format(int.from_bytes(cell), f"0{column.length}b")
    if pa.types.is_integer(kind):
        return int(cell)
    if pa.types.is_floating(kind):
        return float(cell)
    if pa.types.is_decimal(kind):
        return Decimal(cell)
    if pa.types.is_date(kind):
        return date.fromisoformat(cell)
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(cell).replace(tzinfo=UTC if kind.tz else None)
    if pa.types.is_time(kind):
        return time.fromisoformat(cell)
    return cell


def assert_same(client: Client, names: list[str], floats: set[str], limits: BatchLimits = DEFAULT) -> Read:
    """Both ways of reading table `t` give the same; FLOAT is widened, since its text has six digits only."""
    exact = [f"`{name}` + 0e0" if name in floats else f"`{name}`" for name in names]
    found = read(client, f"SELECT {', '.join(f'`{name}`' for name in names)} FROM t ORDER BY id", limits)
    expected = text_rows(client, f"SELECT {', '.join(exact)} FROM t ORDER BY id")
    assert found.table.num_rows == len(expected)
    for index, name in enumerate(names):
        kind, column = found.table.schema.field(index).type, found.columns[index]
        cells = found.table.column(index).to_pylist()
        for row, (cell, line) in enumerate(zip(cells, expected, strict=True)):
            hazard = found.hazards.pop((name, row), None)
            try:
                assert cell == parsed(line[index], column, kind), (name, row)
                assert hazard is None, (name, row)
            except ValueError:
                assert hazard is not None, (name, row)
                assert hazard[1] == line[index], (name, row)
    assert not found.hazards
    return found


BOUNDARIES: dict[str, tuple[pa.DataType, list[str]]] = {
    "TINYINT": (pa.int8(), ["-128", "127", "0"]),
    "TINYINT(1)": (pa.int8(), ["2", "-1"]),
    "TINYINT UNSIGNED": (pa.uint8(), ["255", "0"]),
    "SMALLINT": (pa.int16(), ["-32768", "32767"]),
    "SMALLINT UNSIGNED": (pa.uint16(), ["65535"]),
    "MEDIUMINT": (pa.int32(), ["-8388608", "8388607"]),
    "MEDIUMINT UNSIGNED": (pa.uint32(), ["16777215"]),
    "INT": (pa.int32(), ["-2147483648", "2147483647"]),
    "INT UNSIGNED": (pa.uint32(), ["4294967295"]),
    "INT(9) ZEROFILL": (pa.uint32(), ["42"]),
    "BIGINT": (pa.int64(), ["-9223372036854775808", "9223372036854775807"]),
    "BIGINT UNSIGNED": (pa.uint64(), ["18446744073709551615"]),
    "FLOAT": (pa.float32(), ["-3.402823466E+38", "1.175494351E-38", "1.1", "16777217"]),
    "DOUBLE": (pa.float64(), ["1.7976931348623157E+308", "2.2250738585072014E-308", "0.1"]),
    "DECIMAL(1,0)": (pa.decimal128(1, 0), ["-9", "9"]),
    "DECIMAL(5,5)": (pa.decimal128(5, 5), ["-0.99999", "0.00001"]),
    "DECIMAL(12,2) UNSIGNED": (pa.decimal128(12, 2), ["9999999999.99", "0"]),
    "DECIMAL(10,3) ZEROFILL": (pa.decimal128(10, 3), ["12.5"]),
    "DECIMAL(38,10)": (pa.decimal128(38, 10), [f"-{'9' * 28}.{'9' * 10}", "0.0000000001"]),
    "DECIMAL(39,0)": (pa.decimal256(39, 0), [f"-{'9' * 39}"]),
    "DECIMAL(65,30)": (pa.decimal256(65, 30), [f"-{'9' * 35}.{'9' * 30}", f"0.{'0' * 29}1"]),
    "DECIMAL(65,0)": (pa.decimal256(65, 0), ["9" * 65]),
    "YEAR": (pa.int16(), ["1901", "2155", "0"]),
    "DATE": (pa.date32(), ["'0001-01-01'", "'9999-12-31'", "'2000-02-29'", "'1900-03-01'", "'1969-12-31'"]),
    "DATETIME": (
        pa.timestamp("us"),
        ["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'1969-12-31 23:59:59'"],
    ),
    "DATETIME(3)": (pa.timestamp("us"), ["'2024-02-29 12:34:56.789'", "'2024-02-29 00:00:00.001'"]),
    "DATETIME(6)": (pa.timestamp("us"), ["'9999-12-31 23:59:59.999999'", "'0001-01-01 00:00:00.000001'"]),
    "TIMESTAMP(6)": (pa.timestamp("us", "UTC"), ["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'"]),
    "TIME": (pa.time64("us"), ["'00:00:00'", "'23:59:59'"]),
    "TIME(6)": (pa.time64("us"), ["'23:59:59.999999'", "'00:00:00.000001'"]),
    "BIT(1)": (pa.string(), ["b'0'", "b'1'"]),
    "BIT(10)": (pa.string(), ["b'1000000001'", "b'0'"]),
    "BIT(64)": (pa.string(), ["b'1'", "~0"]),
    "CHAR(5)": (pa.string(), ["''", "'a b'", "'😀üß漢'"]),
    "CHAR(3) CHARACTER SET latin1": (pa.string(), ["'éü'"]),
    "VARCHAR(300)": (pa.string(), ["''", "REPEAT('ü', 125)", "REPEAT('x', 251)", "REPEAT('😀', 300)"]),
    "LONGTEXT": (pa.string(), [f"REPEAT('y', {size})" for size in (250, 251, 252, 65535, 65536, 70000)]),
    "BINARY(4)": (pa.binary(), ["X'00FF'", "'abcd'"]),
    "VARBINARY(300)": (pa.binary(), ["''", "X'00FF80'", "REPEAT(X'EDA080', 100)"]),
    "LONGBLOB": (pa.binary(), [f"REPEAT(X'FB', {size})" for size in (0, 250, 251, 65535, 65536)]),
    "ENUM('a', 'ü', '')": (pa.string(), ["'ü'", "'a'", "''"]),
    "SET('x', 'y')": (pa.string(), ["'x,y'", "''"]),
    "JSON": (pa.string(), ["""'{"a": 1.0, "b": [null]}'"""]),
    "GEOMETRY": (pa.binary(), ["ST_GeomFromText('POINT(1 2)', 4326)"]),
    "INET6": (pa.string(), ["'::1'", "'2001:db8::ff00:42:8329'"]),
    "UUID": (pa.string(), ["'123e4567-e89b-12d3-a456-426655440000'"]),
}


def test_every_type_arrives_exactly_with_its_boundaries_and_null(client: Client) -> None:
    names = list(BOUNDARIES)
    with client.cursor() as cursor:
        columns = ", ".join(f"`{name}` {name} NULL" for name in names)
        cursor.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, {columns}) CHARACTER SET utf8mb4")
        cursor.execute("INSERT INTO t () VALUES ()")
        for row in range(max(len(values) for _, values in BOUNDARIES.values())):
            cells = ((values[row] if row < len(values) else "NULL") for _, values in BOUNDARIES.values())
            cursor.execute(f"INSERT INTO t VALUES (NULL, {', '.join(cells)})")
    found = assert_same(client, names, {"FLOAT"})
    assert found.table.schema.types == [kind for kind, _ in BOUNDARIES.values()]
    whole = found.table.column("BIGINT UNSIGNED").chunk(0)
    assert np.frombuffer(whole.buffers()[1], np.uint64).tolist()[0] == 0  # nothing else shows under a NULL
    assert [found.table.column(name).null_count for name in names] == [
        found.table.num_rows - len(values) for _, values in BOUNDARIES.values()
    ]


@pytest.mark.parametrize(
    ("kind", "hazard", "texts"),
    [
        ("DATE", Hazard.ZERO_DATE, ["0000-00-00", "2024-00-15", "2024-02-00", "2023-02-29", "0000-05-01"]),
        ("DATETIME", Hazard.ZERO_DATE, ["0000-00-00 00:00:00", "2024-02-31 10:11:12", "0000-00-00 00:00:01"]),
        ("DATETIME(2)", Hazard.ZERO_DATE, ["0000-00-00 00:00:00.00", "2024-00-15 01:02:03.40"]),
        ("TIMESTAMP(6)", Hazard.ZERO_DATE, ["0000-00-00 00:00:00.000000"]),
        ("TIME", Hazard.TIME_RANGE, ["-838:59:59", "838:59:59", "24:00:00", "-00:00:01"]),
        ("TIME(4)", Hazard.TIME_RANGE, ["-00:00:00.0001", "99:00:00.0500", "838:59:59.9999"]),
    ],
)
def test_what_has_no_exact_form_is_null_and_told_as_the_server_writes_it(
    client: Client, kind: str, hazard: Hazard, texts: list[str]
) -> None:
    with client.cursor() as cursor:
        cursor.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, c {kind} NULL)")
        cells = ["2001-02-03", *texts, None, *texts]
        cursor.executemany("INSERT INTO t (c) VALUES (%s)", [(text,) for text in cells])
    for limits in (BatchLimits(), BatchLimits(rows=3)):
        found = read(client, "SELECT c FROM t ORDER BY id", limits)
        count = len(texts)
        first = [("c", 1 + row) for row in range(count)]
        second = [("c", 2 + count + row) for row in range(count)]
        assert found.hazards == dict(zip(first + second, [(hazard, text) for text in texts] * 2, strict=True))
        assert found.table.column("c").null_count == 2 * count + 1
        assert found.table.column("c")[0].is_valid


def test_a_hazard_in_a_column_that_is_never_null_makes_it_null(client: Client) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n INT NOT NULL, d DATE NOT NULL DEFAULT '0000-00-00')")
        cursor.execute("INSERT INTO t (n) VALUES (1)")
    found = read(client, "SELECT n, d FROM t")
    assert [field.nullable for field in found.table.schema] == [False, True]
    assert found.table.to_pylist() == [{"n": 1, "d": None}]


def test_hazards_are_counted_from_the_beginning_of_a_batch_of_many_pieces(client: Client) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, c DATE, v TEXT)")
        cursor.execute(
            "INSERT INTO t SELECT seq, IF(seq % 900, '2024-01-15', '2024-00-15'), REPEAT('x', 400) "
            "FROM seq_0_to_19999"
        )
    found = read(client, "SELECT c, v FROM t ORDER BY id")
    assert len(found.batches) == 1
    assert list(found.hazards) == [("c", row) for row in range(0, 20_000, 900)]


def test_text_that_is_not_utf8_is_null_and_told(client: Client) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT, c VARCHAR(20) CHARACTER SET utf8mb4)")
        cursor.execute("INSERT INTO t VALUES (1, 'ü'), (2, _utf8mb4 X'41EDA08042'), (3, NULL), (4, '😀')")
    found = read(client, "SELECT c FROM t ORDER BY id")
    assert found.table.column("c").to_pylist() == ["ü", None, None, "😀"]
    assert found.hazards == {("c", 1): (Hazard.INVALID_TEXT, "A\\xed\\xa0\\x80B")}


def test_a_number_wider_than_its_column_says_is_refused_and_not_shown(client: Client) -> None:
    with client.cursor() as cursor:
        cursor.execute(f"SET @wide = CAST('{'7' * 50}' AS DECIMAL(65,0))")
    with pytest.raises(pymysql.err.DataError, match="does not fit") as caught:
        read(client, "SELECT @wide")
    assert "77" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_native_json_is_the_json_extension_type() -> None:
    assert arrow_type(Column("j", FIELD_TYPE.JSON, 63, 0, 0, 0)) == pa.json_()


def test_expressions_and_the_null_type(client: Client) -> None:
    sql = (
        "SELECT NULL, 1/3, SUM(1.5), 'x', X'FF', DATE'2024-01-01' + INTERVAL 1 HOUR, MAKETIME(1,2,3.5), 1 > 0"
    )
    found = read(client, sql)
    assert found.table.schema.types[0] == pa.null()
    assert list(found.table.to_pylist()[0].values()) == [
        *(None, Decimal("0.3333"), Decimal("1.5"), "x", b"\xff"),
        *(datetime(2024, 1, 1, 1), time(1, 2, 3, 500_000), 1),
    ]


def test_nulls_of_many_columns_take_each_their_own_bit(client: Client) -> None:
    wide = 70
    rows = [[None if (row >> (column % 7)) & 1 else column for column in range(wide)] for row in range(128)]
    selects = (f"SELECT {', '.join('NULL' if c is None else str(c) for c in row)}" for row in rows)
    found = read(client, " UNION ALL ".join(selects))
    named = found.table.rename_columns([str(column) for column in range(wide)])
    assert [list(row.values()) for row in named.to_pylist()] == rows


def _moments() -> st.SearchStrategy[str]:
    """Days that exist and days that do not, to the microsecond."""
    day = st.tuples(st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31))
    clock = st.tuples(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), _MICROS)
    return st.tuples(day, clock).map(
        lambda at: "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}".format(*at[0], *at[1])
    )


def _times() -> st.SearchStrategy[str]:
    parts = st.tuples(
        st.sampled_from(["", "-"]), st.integers(0, 838), st.integers(0, 59), st.integers(0, 59), _MICROS
    )
    return parts.map(lambda part: "{}{:02}:{:02}:{:02}.{:06}".format(*part))


def _decimals(digits: int, scale: int) -> tuple[str, st.SearchStrategy[Any]]:
    numbers = st.integers(1 - 10**digits, 10**digits - 1)
    return f"DECIMAL({digits},{scale})", numbers.map(lambda n: format(Decimal(n).scaleb(-scale, _WIDE), "f"))


def _integers(name: str, bits: int) -> list[tuple[str, st.SearchStrategy[Any]]]:
    signed = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return [(name, signed), (f"{name} UNSIGNED", st.integers(0, 2**bits - 1))]


_WIDE = Context(prec=100)
_MICROS = st.sampled_from([0, 1, 499_999, 500_000, 999_999])
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
_JSON = st.recursive(st.none() | st.integers() | _TEXT, lambda inner: st.lists(inner, max_size=3)).map(
    json.dumps
)
_SIMPLE: list[tuple[str, st.SearchStrategy[Any]]] = [
    *_integers("TINYINT", 8),
    *_integers("SMALLINT", 16),
    *_integers("MEDIUMINT", 24),
    *_integers("INT", 32),
    *_integers("BIGINT", 64),
    ("FLOAT", st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)),
    ("DOUBLE", st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)),
    ("DATE", _moments().map(lambda text: text[:10])),
    ("YEAR", st.integers(1901, 2155)),
    ("VARCHAR(300)", _TEXT | st.integers(0, 300).map(lambda size: "ü" * size)),
    ("MEDIUMTEXT", _TEXT | st.integers(0, 70_000).map(lambda size: "z" * size)),
    ("LONGBLOB", st.binary(max_size=300)),
    ("JSON", _JSON),
]
_COLUMN = st.one_of(
    st.sampled_from(_SIMPLE),
    st.integers(1, 65).flatmap(
        lambda digits: st.integers(0, min(digits, 38)).map(lambda s: _decimals(digits, s))
    ),
    st.integers(1, 64).map(lambda width: (f"BIT({width})", st.integers(0, 2**width - 1))),
    st.integers(0, 6).map(lambda scale: (f"DATETIME({scale})", _moments())),
    st.integers(0, 6).map(lambda scale: (f"TIME({scale})", _times())),
)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_table_reads_the_same_both_ways(client: Client, data: st.DataObject) -> None:
    columns = data.draw(st.lists(_COLUMN, min_size=1, max_size=12), label="columns")
    row = st.tuples(*(st.none() | values for _, values in columns))
    rows = data.draw(st.lists(row, max_size=30), label="rows")
    names = [f"c{index}" for index in range(len(columns))]
    limits = data.draw(
        st.sampled_from([BatchLimits(), BatchLimits(rows=7), BatchLimits(bytes=1)]), label="limits"
    )
    with client.cursor() as cursor:
        defined = ", ".join(f"{name} {kind} NULL" for name, (kind, _) in zip(names, columns, strict=True))
        cursor.execute(f"CREATE OR REPLACE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, {defined})")
        if rows:
            values = f"INSERT INTO t VALUES (NULL, {', '.join(['%s'] * len(names))})"
            cursor.executemany(values, rows)
    floats = {name for name, (kind, _) in zip(names, columns, strict=True) if kind == "FLOAT"}
    found = assert_same(client, names, floats, limits)
    assert all(batch.num_rows <= limits.rows for batch in found.batches)
