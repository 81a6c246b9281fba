"""The binary COPY codec against a real PostgreSQL: its text form is the word on what a value is."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_etl.connectors.sql._pgcopy.decode import Decoded, Payloads, RowDecoder
from atlas_etl.connectors.sql._pgcopy.encode import RowEncoder
from atlas_etl.connectors.sql._pgcopy.types import (
    EPOCH_DAYS,
    EPOCH_MICROSECONDS,
    HEADER,
    PG_FIRST_DAY,
    PG_FIRST_MICROSECOND,
    PG_LAST_DAY,
    TRAILER,
    PgType,
    Wire,
    array_type,
    builtin_type,
    text_type,
)
from atlas_etl.model import Hazard, HazardCells
from atlas_etl.values import UNLIMITED_DECIMAL
from tests.servers import ServerAddress
from tests.servers import postgres as recipe

Client = psycopg.Connection


@pytest.fixture(scope="module")
def client(postgres_server: ServerAddress) -> Iterator[Client]:
    with recipe.fresh_database(postgres_server) as address, recipe.connect(address) as client:
        client.execute("SET TimeZone = 'UTC'")
        client.execute("SET client_encoding = 'UTF8'")
        client.execute("CREATE TYPE mood AS ENUM ('sad', 'so so', 'glücklich')")
        yield client


def column_types(client: Client, table: str) -> dict[str, PgType]:
    rows = client.execute(
        "SELECT attname, atttypid, atttypmod, typtype, typelem"
        " FROM pg_attribute JOIN pg_type t ON t.oid = atttypid"
        " WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
        [table],
    )
    found = {}
    for name, oid, typmod, kind, element in rows:
        type_ = text_type(oid) if kind == "e" else builtin_type(oid, typmod)
        found[name] = type_ or array_type(text_type(element), oid)
    return found


def schema_of(types: dict[str, PgType]) -> pa.Schema:
    return pa.schema([(name, type_.arrow_type()) for name, type_ in types.items()])


def copy_out(client: Client, select: str, types: dict[str, PgType]) -> Decoded:
    decoder = RowDecoder(schema_of(types), tuple(types.values()))
    with client.cursor().copy(f"COPY ({select}) TO STDOUT (FORMAT binary)") as copy:
        decoded = decoder.feed(Payloads.joined(list(iter(copy.read, b""))))
    decoder.finish()
    decoded.batch.validate(full=True)
    return decoded


def copy_in(client: Client, table: str, batch: pa.RecordBatch, types: Sequence[PgType]) -> None:
    with client.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(HEADER)
        copy.write(RowEncoder(batch.schema, types).encode(batch))
        copy.write(TRAILER)


def texts(client: Client, table: str, column: str = "v") -> list[str | None]:
    """What the type's output function says; a cast to text would strip the blanks of a char(n)."""
    rows = client.execute(
        f"SELECT CASE WHEN {column} IS NOT NULL THEN format('%s', {column}) END FROM {table} ORDER BY n"
    )
    return [text for (text,) in rows]


def interval_value(text: str) -> tuple[int, int, int]:
    """Months, days and nanoseconds of an interval in style postgres."""
    found = re.fullmatch(
        r"(?:([+-]?\d+) years? ?)?(?:([+-]?\d+) mons? ?)?(?:([+-]?\d+) days? ?)?"
        r"(?:([+-]?)(\d+):(\d+):([\d.]+))?",
        text,
    )
    assert found is not None, text
    years, months, days, sign, hours, minutes, seconds = found.groups(default="0")
    total = (int(hours) * 60 + int(minutes)) * 60 * 10**9 + int(Decimal(seconds) * 10**9)
    return 12 * int(years) + int(months), int(days), -total if sign == "-" else total


READ: dict[Wire, Callable[[str], object]] = {
    Wire.BOOL: {"t": True, "f": False}.__getitem__,
    Wire.FLOAT4: lambda text: float(np.float32(text)),
    Wire.FLOAT8: float,
    Wire.NUMERIC: Decimal,
    Wire.BYTEA: lambda text: bytes.fromhex(text.removeprefix("\\x")),
    Wire.DATE: date.fromisoformat,
    Wire.TIME: time.fromisoformat,
    Wire.TIMESTAMP: datetime.fromisoformat,
    Wire.TIMESTAMPTZ: datetime.fromisoformat,
    Wire.INTERVAL: interval_value,
    Wire.UUID: uuid.UUID,
    **dict.fromkeys((Wire.INT2, Wire.INT4, Wire.INT8, Wire.OID), int),
    **dict.fromkeys((Wire.TEXT, Wire.CHAR, Wire.JSON, Wire.JSONB), str),
}


def read(type_: PgType, text: str | None) -> object:
    """The value that PostgreSQL's text means, found without the codec."""
    if text is None:
        return None
    if type_.arrow_type() == UNLIMITED_DECIMAL:
        return text
    return READ[type_.wire](text)


def same(left: object, right: object) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, Decimal) and isinstance(right, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, tuple) and isinstance(right, tuple):
        return tuple(left) == tuple(right)
    if isinstance(left, datetime):
        return left == right
    return repr(left) == repr(right)  # tells 0.0 from -0.0, and NaN is NaN


INFINITY, RANGE, SPECIAL = Hazard.INFINITY, Hazard.OUT_OF_RANGE, Hazard.DECIMAL_SPECIAL
DATES = ["0001-01-01", "1969-12-31", "1970-01-01", "1999-12-31", "2000-01-01", "2000-02-29", "9999-12-31"]
DATE_HAZARDS = {
    "infinity": INFINITY,
    "-infinity": INFINITY,
    "0001-12-31 BC": RANGE,
    "4713-01-01 BC": RANGE,
    "10000-01-01": RANGE,
}
MOMENTS = [f"{day} {clock}" for day in DATES for clock in ("00:00:00", "12:34:56.789", "23:59:59.999999")]
MOMENT_HAZARDS = {
    **DATE_HAZARDS,
    "0001-12-31 23:59:59.999999 BC": RANGE,
    "294276-12-31 23:59:59.999999": RANGE,
    "10000-01-01 00:00:00.1": RANGE,
}
NUMBERS = ["0", "1", "-1", "0.01", "-0.01", "9999", "10000", "-10000.5", "1234567890.12", "99990000", "0.10"]
UNCONSTRAINED = [
    *NUMBERS,
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "1.500000",
        "0.000",
        "1e-30",
        "-0.00012300",
        "1e40",
        "100000000",
        "5e-16383",
    ),
    *(
        "1.23456789e131000",
        "9" * 60 + "." + "1" * 48,
        "-" + "8" * 48 + "." + "7" * 49,
        "1e47",
        "1e48",
        "1e-47",
    ),
]
TEXTS = ["", "a", "ä€𝄞", "x" * 13, "tab\there", " blanks ", "NULL", '"\\{}', "line\nbreak", "𝄞" * 300]
JSONS = ['{"a":[1,2.50,"ü"]}', "[]", "null", '"x"', '{"b": 1,  "b": 2}', "12345678901234567890.0"]

# Type -> literals, or literals with the hazard that they are.
SCALARS: dict[str, list[str] | dict[str, Hazard | None]] = {
    "boolean": ["t", "f"],
    "smallint": ["0", "-32768", "32767"],
    "integer": ["0", "-2147483648", "2147483647"],
    "bigint": ["0", "-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295", "2147483648"],
    "real": ["0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "0.1"],
    "double precision": ["0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308"],
    "numeric": UNCONSTRAINED,
    "numeric(80,4)": ["0", "1.5", "-" + "9" * 76 + ".9999", "NaN"],
    "numeric(12,2)": {**dict.fromkeys([*NUMBERS, "9999999999.99", "-9999999999.99"]), "NaN": SPECIAL},
    "numeric(18,2)": [*NUMBERS, "9999999999999999.99", "-9999999999999999.99", "1000000000000000"],
    "numeric(18,0)": ["0", "999999999999999999", "-999999999999999999", "10000"],
    "numeric(38,9)": {**dict.fromkeys([*NUMBERS, "9" * 29 + "." + "9" * 9, "-" + "9" * 29, "1e-9"]),
                      "nan": SPECIAL},
    "numeric(38,0)": ["0", "9" * 38, "-" + "9" * 38, "1" + "0" * 37],
    "numeric(38,38)": ["0", "0." + "9" * 38, "-0." + "0" * 37 + "1"],
    "numeric(76,10)": [*NUMBERS, "9" * 66 + "." + "9" * 10, "-1" + "0" * 65],
    "numeric(3,5)": ["0", "0.00999", "-0.00001"],
    "numeric(3,-2)": ["0", "99900", "-100"],
    "text": TEXTS,
    "varchar(400)": TEXTS,
    "char(8)": ["", "ab", "a  b", "€"],
    "name": ["", "pg_class"],
    '"char"': ["", "a", "~", "\x01"],
    "xml": ["<a>ü</a>", "x<b/>y", '<?xml version="1.0" encoding="latin1"?><r/>'],
    "mood": ["sad", "so so", "glücklich"],
    "bytea": ["\\x", "\\x00", "\\x00ff7f80", "\\x" + "00ff" * 500],
    "date": {**dict.fromkeys(DATES), **DATE_HAZARDS, "5874897-12-31": RANGE},
    "time": {**dict.fromkeys(["00:00:00", "23:59:59.999999", "12:00:00.5"]), "24:00:00": Hazard.TIME_RANGE},
    "time(3)": ["00:00:00", "23:59:59.999"],
    "timestamp": {**dict.fromkeys(MOMENTS), **MOMENT_HAZARDS},
    "timestamp(0)": ["2024-02-29 23:59:59", "1900-01-01 00:00:01"],
    "timestamptz": {**dict.fromkeys(MOMENTS), **MOMENT_HAZARDS},
    "interval": {
        **dict.fromkeys(["0", "1 mon", "-1 mon 3 days -04:05:06.789", "2 years -3 days +00:00:00.000001"]),
        **dict.fromkeys(["-178000000 years 2147483647 days"]),
        **dict.fromkeys(["2562047:47:16.854775", "-2562047:47:16.854775"]),
        "2562047:47:16.854776": Hazard.INTERVAL,
        "-2562047:47:16.854776": Hazard.INTERVAL,
        "-1 mons +3 days -2562047788:00:54.775807": Hazard.INTERVAL,
    },
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-fffffffffffe"],
    "json": JSONS,
    "jsonb": [json.dumps(json.loads(text)) for text in JSONS[:4]],
}  # fmt: skip


@pytest.mark.parametrize("name", SCALARS)
def test_every_scalar_arrives_as_postgresql_shows_it_and_goes_back(client: Client, name: str) -> None:
    cases = SCALARS[name] if isinstance(SCALARS[name], dict) else dict.fromkeys(SCALARS[name])
    literals = [None, *cases, None]
    client.execute(f"DROP TABLE IF EXISTS t, u; CREATE TABLE t (n int, v {name})")
    client.cursor().executemany(f"INSERT INTO t VALUES (%s, %s::text::{name})", list(enumerate(literals)))
    types = column_types(client, "t")
    decoded = copy_out(client, "SELECT * FROM t ORDER BY n", types)
    shown = texts(client, "t")

    hazards = {row: hazard for row, hazard in enumerate([None, *cases.values(), None]) if hazard is not None}
    reported = {row: found.hazard for found in decoded.hazards for row in found.rows}
    assert reported == hazards
    for found in decoded.hazards:
        assert found.texts == tuple(shown[row] for row in found.rows)
    for row, (value, text) in enumerate(zip(decoded.batch["v"].to_pylist(), shown, strict=True)):
        expected = None if row in hazards else read(types["v"], text)
        assert same(value, expected), (text, value)

    client.execute("CREATE TABLE u (LIKE t)")
    copy_in(client, "u", decoded.batch, tuple(types.values()))
    assert texts(client, "u") == [None if row in hazards else text for row, text in enumerate(shown)]


ARRAYS = [name for name in SCALARS if name not in ("char(8)", "xml", "numeric(80,4)")]


@pytest.mark.parametrize("name", ARRAYS)
def test_every_array_arrives_element_by_element_and_goes_back(client: Client, name: str) -> None:
    cases = SCALARS[name] if isinstance(SCALARS[name], dict) else dict.fromkeys(SCALARS[name])
    plain = [literal for literal, hazard in cases.items() if hazard is None]
    bad = [(literal, hazard) for literal, hazard in cases.items() if hazard is not None]
    shape = Hazard.ARRAY_SHAPE
    arrays: list[tuple[object, Hazard | None]] = [
        (None, None), ([], None), ([None], None), (plain, None), ([plain[0], None, plain[-1]], None),
        *(([plain[0], literal, None], hazard) for literal, hazard in bad),
        ([[plain[0], None], [plain[-1], plain[0]]], shape), (plain[::-1], None), ([plain[-1]], None),
    ]  # fmt: skip
    client.execute(f"DROP TABLE IF EXISTS t, u; CREATE TABLE t (n int, v {name}[])")
    rows = [(n, value) for n, (value, _) in enumerate(arrays)]
    client.cursor().executemany(f"INSERT INTO t VALUES (%s, %s::text[]::{name}[])", rows)
    moved = f"SELECT %s, ('[0:0]=' || v::text)::{name}[] FROM t WHERE n = %s"  # bounds 0 to 0
    client.execute(f"INSERT INTO t {moved}", [len(arrays), len(arrays) - 1])
    hazards = {row: hazard for row, (_, hazard) in enumerate([*arrays, (None, shape)]) if hazard is not None}
    types = column_types(client, "t")
    decoded = copy_out(client, "SELECT * FROM t ORDER BY n", types)
    shown = texts(client, "t")
    reported = {row: found.hazard for found in decoded.hazards for row in found.rows}
    assert reported == hazards
    for found in decoded.hazards:
        assert found.texts == tuple(shown[row] for row in found.rows)
    element = types["v"].element
    assert element is not None
    for row, value in enumerate(decoded.batch["v"].to_pylist()):
        elements = client.execute(
            "SELECT CASE WHEN e IS NOT NULL THEN format('%%s', e) END"
            " FROM t, unnest(v) WITH ORDINALITY AS x (e, o) WHERE n = %s ORDER BY o",
            [row],
        )
        expected = None if row in {0, *hazards} else [read(element, text) for (text,) in elements]
        assert same(value, expected), (shown[row], value)
    client.execute("CREATE TABLE u (LIKE t)")
    copy_in(client, "u", decoded.batch, tuple(types.values()))
    assert texts(client, "u") == [None if row in hazards else text for row, text in enumerate(shown)]


def test_tables_without_rows_or_columns(client: Client) -> None:
    client.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int, v text[])")
    types = column_types(client, "t")
    empty = copy_out(client, "SELECT * FROM t", types)
    assert empty.batch.schema == schema_of(types)
    assert empty.batch.num_rows == 0
    client.execute(
        "DROP TABLE t; CREATE TABLE t (); INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES"
    )
    nothing = copy_out(client, "SELECT FROM t", {})
    assert (nothing.batch.num_rows, nothing.batch.num_columns) == (2, 0)
    copy_in(client, "t", nothing.batch, ())
    assert client.execute("SELECT count(*) FROM t").fetchone() == (4,)


def test_a_cell_of_twenty_megabytes_and_long_arrays(client: Client) -> None:
    client.execute("DROP TABLE IF EXISTS t, u; CREATE TABLE t (n int, v text, a int[], b text[])")
    client.execute(
        "INSERT INTO t SELECT n, CASE n WHEN 3 THEN repeat('ä', 10000000) ELSE 'x' END,"
        " ARRAY(SELECT nullif(i % 7, 3) FROM generate_series(1, n * 20) i),"
        " ARRAY(SELECT 'e' || i FROM generate_series(1, n % 300) i) FROM generate_series(0, 400, 3) n"
    )
    types = column_types(client, "t")
    decoded = copy_out(client, "SELECT * FROM t ORDER BY n", types)
    assert decoded.batch["v"][1].as_py() == "ä" * 10_000_000
    client.execute("CREATE TABLE u (LIKE t)")
    copy_in(client, "u", decoded.batch, tuple(types.values()))
    assert client.execute("SELECT count(*) FROM (TABLE t EXCEPT ALL TABLE u) x").fetchone() == (0,)
    assert client.execute("SELECT count(*) FROM u").fetchone() == (134,)


TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
MICROSECONDS = st.integers(-((2**63 - 1) // 1000), (2**63 - 1) // 1000)
INT32 = st.integers(-(2**31), 2**31 - 1)


def decimals(precision: int, scale: int) -> st.SearchStrategy[str]:
    unscaled = st.integers(-(10**precision) + 1, 10**precision - 1) | st.integers(
        -(10**6) * (precision > 6), 999
    )
    return unscaled.map(lambda value: format(Decimal(f"{value}E{-scale}"), "f"))


# Literals as PostgreSQL itself would write them.
LITERALS: dict[str, st.SearchStrategy[str]] = {
    "boolean": st.sampled_from(["t", "f"]),
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": INT32.map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "real": st.floats(width=32).map(repr),
    "double precision": st.floats().map(repr),
    "numeric(12,2)": decimals(12, 2),
    "numeric(19,4)": decimals(19, 4),
    "numeric(38,9)": decimals(38, 9),
    "numeric(76,37)": decimals(76, 37),
    "numeric": decimals(60, 30) | decimals(9, 0) | decimals(9, 9) | decimals(150, 75),
    "text": TEXT,
    "bytea": st.binary(max_size=20).map(lambda value: "\\x" + value.hex()),
    "date": st.dates().map(str),
    "time": st.times().map(str),
    "timestamp": st.datetimes().map(str),
    "timestamptz": st.datetimes().map(lambda value: f"{value}+00"),
    "interval": st.builds("{} months {} days {} microseconds".format, INT32, INT32, MICROSECONDS),
    "uuid": st.uuids().map(str),
    "json": st.recursive(st.none() | st.integers() | TEXT, st.lists).map(json.dumps),
    "jsonb": st.integers().map(str),
}
TABLES = st.lists(st.sampled_from(sorted(LITERALS)), min_size=1, max_size=6).flatmap(
    lambda names: st.tuples(
        st.just(names),
        st.lists(st.tuples(*(st.none() | LITERALS[name] for name in names)), min_size=1, max_size=12),
    )
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(TABLES)
def test_random_tables_arrive_and_go_back(
    client: Client, table: tuple[list[str], list[tuple[str | None, ...]]]
) -> None:
    names, rows = table
    columns = ", ".join(f"c{i} {name}" for i, name in enumerate(names))
    client.execute(f"DROP TABLE IF EXISTS t, u; CREATE TABLE t (n int, {columns}); CREATE TABLE u (LIKE t)")
    values = ", ".join(f"%s::text::{name}" for name in names)
    client.cursor().executemany(
        f"INSERT INTO t VALUES (%s, {values})", [(n, *row) for n, row in enumerate(rows)]
    )
    types = column_types(client, "t")
    decoded = copy_out(client, "SELECT * FROM t ORDER BY n", types)
    assert decoded.hazards == ()
    for i in range(len(names)):
        type_ = types[f"c{i}"]
        for value, text in zip(decoded.batch[f"c{i}"].to_pylist(), texts(client, "t", f"c{i}"), strict=True):
            assert same(value, read(type_, text)), (names[i], text, value)
    copy_in(client, "u", decoded.batch, tuple(types.values()))
    for name in types:
        assert texts(client, "u", name) == texts(client, "t", name), name


@pytest.mark.parametrize(("kind", "dtype"), [("real", np.float32), ("double precision", np.float64)])
def test_floats_in_nested_arrays_are_reported_as_postgresql_shows_them(
    client: Client, kind: str, dtype: type[np.floating]
) -> None:
    wheel = np.random.default_rng(5)
    values = wheel.normal(size=(200, 3)) * 10.0 ** wheel.integers(-20, 20, size=(200, 3))
    values[0], values[1], values[2] = (1e5, 999999, 1e6), (1e14, 1e15, 1e16), (1e-4, 1e-5, -0.0)
    limits = np.finfo(dtype)
    values[3], values[4] = (limits.max, limits.min, limits.smallest_subnormal), (2.0**80, -np.inf, np.nan)
    values[5] = (54072432, 42002749542412704, -np.inf)  # as short as Python writes them, they would be ties
    client.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (n int, v {kind}[])")
    literals = values.astype(dtype).astype(str).tolist()
    client.execute(f"INSERT INTO t VALUES (0, %s::text[]::{kind}[])", [literals])
    (found,) = copy_out(client, "SELECT * FROM t", column_types(client, "t")).hazards
    assert list(found.texts) == texts(client, "t")


def test_an_array_with_two_hazards_is_reported_once(client: Client) -> None:
    client.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int, v date[])")
    client.execute("INSERT INTO t VALUES (0, '{10000-01-01,infinity}'), (1, '{2000-01-01}')")
    decoded = copy_out(client, "SELECT * FROM t ORDER BY n", column_types(client, "t"))
    assert decoded.hazards == (HazardCells("v", Hazard.INFINITY, (0,), ("{10000-01-01,infinity}",)),)
    assert decoded.batch["v"].to_pylist() == [None, [date(2000, 1, 1)]]


def test_the_ends_of_postgresql_s_calendar_can_be_written(client: Client) -> None:
    client.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int, d date, v timestamp)")
    first, last = PG_FIRST_DAY + EPOCH_DAYS, PG_LAST_DAY + EPOCH_DAYS
    dates = pa.array(np.array([first, last], np.int32)).view(pa.date32())
    stamps = pa.array([PG_FIRST_MICROSECOND + EPOCH_MICROSECONDS, 2**63 - 1], pa.timestamp("us"))
    batch = pa.RecordBatch.from_arrays([pa.array([0, 1], pa.int32()), dates, stamps], ["n", "d", "v"])
    copy_in(client, "t", batch, tuple(column_types(client, "t").values()))
    assert texts(client, "t", "d") == ["4714-11-24 BC", "5874897-12-31"]
    assert texts(client, "t") == ["4714-11-24 00:00:00 BC", "294247-01-10 04:00:54.775807"]


def test_hazards_name_their_column(client: Client) -> None:
    types = {"n": builtin_type(23), "v": builtin_type(1082)}
    decoded = copy_out(
        client, "SELECT i, CASE WHEN i % 2 = 0 THEN date 'infinity' END FROM generate_series(1, 4) i",
        {name: type_ for name, type_ in types.items() if type_ is not None},
    )  # fmt: skip
    assert decoded.hazards == (HazardCells("v", Hazard.INFINITY, (1, 3), ("infinity", "infinity")),)
