"""PostgreSQL's values in Arrow: every type by a golden table, and each hazard under each policy."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pyarrow as pa
import pytest

from atlas_etl import values
from atlas_etl.errors import HazardError
from atlas_etl.model import Hazard, HazardPolicy, Stream
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database, read, read_all, texts

UTC_TIMES = pa.timestamp("us", "UTC")

# type: Arrow's, and literals with the text that they arrive as (values.to_text); NULL is added to each.
GOLDEN: dict[str, tuple[pa.DataType, list[tuple[str, str]]]] = {
    "smallint": (pa.int16(), [("-32768", "-32768")]),
    "integer": (pa.int32(), [("2147483647", "2147483647")]),
    "bigint": (pa.int64(), [("-9223372036854775808", "-9223372036854775808")]),
    "oid": (pa.uint32(), [("4294967295", "4294967295")]),
    "real": (pa.float32(), [("1.5", "1.5"), ("NaN", "nan"), ("-Infinity", "-inf")]),
    "double precision": (pa.float64(), [("0.1", "0.1"), ("1e300", "1e+300"), ("-0", "-0")]),
    "boolean": (pa.bool_(), [("t", "true"), ("f", "false")]),
    "numeric(12,2)": (pa.decimal128(12, 2), [("-9999999999.99", "-9999999999.99"), ("0", "0.00")]),
    "numeric(60,5)": (pa.decimal256(60, 5), [("9" * 55 + ".12345", "9" * 55 + ".12345")]),
    "numeric(4,-2)": (pa.decimal128(6, 0), [("123456", "123500")]),
    "numeric(90,2)": (values.UNLIMITED_DECIMAL, [("9" * 88 + ".10", "9" * 88 + ".10"), ("NaN", "NaN")]),
    "numeric": (
        values.UNLIMITED_DECIMAL,
        [("1.50", "1.50"), ("1e30", "1" + "0" * 30), ("Infinity", "Infinity")],
    ),
    "text": (pa.string(), [("日本語 😀", "日本語 😀"), ("", "")]),
    "varchar(3)": (pa.string(), [("abc", "abc")]),
    "char(4)": (pa.string(), [("ab", "ab  ")]),
    '"char"': (pa.string(), [("x", "x")]),
    "name": (pa.string(), [("n", "n")]),
    "bytea": (pa.binary(), [("\\x00ff5c", "00ff5c")]),
    "date": (pa.date32(), [("0001-01-01", "0001-01-01"), ("9999-12-31", "9999-12-31")]),
    "time": (pa.time64("us"), [("23:59:59.999999", "23:59:59.999999")]),
    "timetz": (pa.string(), [("12:00:00+02", "12:00:00+02"), ("24:00:00-15:59", "24:00:00-15:59")]),
    "timestamp": (pa.timestamp("us"), [("2024-02-29 12:30:45.123456", "2024-02-29T12:30:45.123456")]),
    "timestamptz": (UTC_TIMES, [("2024-03-31 01:30:00+02", "2024-03-30T23:30:00.000000Z")]),
    "timestamptz(0)": (UTC_TIMES, [("2024-01-01 00:00:00.7+00", "2024-01-01T00:00:01.000000Z")]),
    "interval": (pa.month_day_nano_interval(), [("1 mon 3 days 4:05:06.789", "P1M3DT14706.789S")]),
    "uuid": (pa.uuid(), [("12345678-9ABC-def0-1234-56789abcdef0", "12345678-9abc-def0-1234-56789abcdef0")]),
    "json": (pa.json_(), [('{"b":1, "a": 2.50}', '{"b":1, "a": 2.50}')]),
    "jsonb": (pa.json_(), [('{"b":1, "a": 2.50}', '{"a": 2.50, "b": 1}')]),
    "xml": (pa.string(), [("<a>é</a>", "<a>é</a>")]),
    "inet": (pa.string(), [("10.0.0.1/8", "10.0.0.1/8"), ("::1", "::1")]),
    "cidr": (pa.string(), [("10.0.0.0/8", "10.0.0.0/8")]),
    "macaddr": (pa.string(), [("08:00:2b:01:02:03", "08:00:2b:01:02:03")]),
    "bit(3)": (pa.string(), [("101", "101")]),
    "bit varying": (pa.string(), [("0011", "0011")]),
    "money": (pa.string(), [("1234.5", "$1,234.50")]),
    "int4range": (pa.string(), [("[1,5)", "[1,5)")]),
    "point": (pa.string(), [("(1,2.5)", "(1,2.5)")]),
    "tsvector": (pa.string(), [("a b", "'a' 'b'")]),
    "pg_lsn": (pa.string(), [("16/B374D848", "16/B374D848")]),
    "int2vector": (pa.string(), [("1 2", "1 2")]),
    "mood": (pa.string(), [("happy", "happy")]),
    "email": (pa.string(), [("a@b", "a@b")]),
    "amount": (pa.decimal128(10, 3), [("1.5", "1.500")]),
    "price": (pa.decimal128(10, 3), [("2.5", "2.500")]),
    "pair": (pa.string(), [('(1,"a b")', '(1,"a b")')]),
    "integer[]": (pa.list_(pa.int32()), [("{1,NULL,3}", "[1,null,3]"), ("{}", "[]")]),
    "text[]": (pa.list_(pa.string()), [('{"a,b","NULL",NULL,""}', '["a,b","NULL",null,""]')]),
    "numeric(5,2)[]": (pa.list_(pa.decimal128(5, 2)), [("{1.5}", '["1.50"]')]),
    "numeric[]": (pa.list_(pa.string()), [("{1.5,NaN}", '["1.5","NaN"]')]),
    "timestamptz[]": (pa.list_(UTC_TIMES), [("{2024-01-01+00}", '["2024-01-01T00:00:00.000000Z"]')]),
    "jsonb[]": (pa.list_(pa.json_()), [('{"{\\"a\\": 1}"}', '["{\\"a\\": 1}"]')]),
    "mood[]": (pa.list_(pa.string()), [("{happy,sad}", '["happy","sad"]')]),
    "inet[]": (pa.list_(pa.string()), [("{::1}", '["::1"]')]),
    "amount[]": (pa.list_(pa.decimal128(10, 3)), [("{1.5}", '["1.500"]')]),
}
SOURCE_TYPES = {
    "varchar(3)": "character varying(3)", "char(4)": "character(4)", "timetz": "time with time zone",
    "time": "time without time zone", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "timestamptz(0)": "timestamp(0) with time zone",
    "email": "text", "amount": "numeric(10,3)", "price": "numeric(10,3)", "timestamptz[]":
    "timestamp with time zone[]",
}  # fmt: skip
MAKE_TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'happy')",
    "CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%')",
    "CREATE DOMAIN amount AS numeric(10,3)",
    "CREATE DOMAIN price AS amount CHECK (VALUE >= 0)",
    "CREATE TYPE pair AS (a int, b text)",
)


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    found.execute(*MAKE_TYPES)
    yield found
    found.close()


def has_xml(database: Database) -> bool:
    """Whether the server was built with libxml."""
    try:
        database.execute("SELECT '<a/>'::xml")
    except psycopg.errors.FeatureNotSupported:
        return False
    return True


def test_every_type_arrives_as_it_was(database: Database) -> None:
    types = {native: golden for native, golden in GOLDEN.items() if native != "xml" or has_xml(database)}
    columns = ", ".join(f'"c{place}" {native}' for place, native in enumerate(types))
    database.execute(f"CREATE TABLE golden (id int, {columns})")
    with database.session() as session:
        for place, (native, (_, cells)) in enumerate(types.items()):
            for literal, _ in [*cells, (None, None)]:
                statement = f'INSERT INTO golden (id, "c{place}") VALUES ({place}, %s::text::{native})'
                session.execute(statement.encode(), [literal])
    connector = database.connector()
    for stream in (Stream("t", table="golden"), Stream("q", query="SELECT * FROM golden ORDER BY ctid")):
        table = read(connector, stream)
        ids = table["id"].to_pylist()
        for place, (native, (kind, cells)) in enumerate(types.items()):
            field = table.schema.field(f"c{place}")
            found = [text for text, id_ in zip(texts(table, field.name), ids, strict=True) if id_ == place]
            assert (native, field.type, found) == (native, kind, [*(text for _, text in cells), None])
            if stream.table:
                assert values.source_type(field) == SOURCE_TYPES.get(native, native)


MIDNIGHT = "2024-01-01 00:00:00"
FAR, PAST = "294276-12-31 23:59:59", "4713-01-01 00:00:00+00 BC"
# hazard: a type, a literal that is one, its text, and an ordinary value
HAZARDS = [
    (Hazard.INFINITY, "timestamptz", "infinity", "infinity", MIDNIGHT + "+00"),
    (Hazard.INFINITY, "timestamp", "-infinity", "-infinity", MIDNIGHT),
    (Hazard.INFINITY, "date", "infinity", "infinity", "2024-01-01"),
    (Hazard.OUT_OF_RANGE, "timestamp", FAR, FAR, MIDNIGHT),
    (Hazard.OUT_OF_RANGE, "timestamptz", PAST, PAST, MIDNIGHT + "+00"),
    (Hazard.OUT_OF_RANGE, "date", "10000-01-01", "10000-01-01", "2024-01-01"),
    (Hazard.TIME_RANGE, "time", "24:00", "24:00:00", "12:00:00"),
    (Hazard.DECIMAL_SPECIAL, "numeric(5,2)", "NaN", "NaN", "1.50"),
    (Hazard.INTERVAL, "interval", "2562048 hours", "2562048:00:00", "01:00:00"),
    (Hazard.ARRAY_SHAPE, "integer[]", "{{1,2},{3,4}}", "{{1,2},{3,4}}", "{1}"),
    (Hazard.ARRAY_SHAPE, "text[]", "[0:1]={a,b}", "[0:1]={a,b}", "{a}"),
    (Hazard.INFINITY, "date[]", "{infinity}", "{infinity}", "{2024-01-01}"),
]  # fmt: skip


@pytest.mark.parametrize(("hazard", "native", "literal", "text", "ordinary"), HAZARDS)
def test_a_hazard_under_each_policy(
    database: Database, hazard: Hazard, native: str, literal: str, text: str, ordinary: str
) -> None:
    database.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, v {native})",
        f"INSERT INTO t VALUES (1, '{ordinary}'), (2, '{literal}'), (3, NULL)",
    )
    connector = database.connector()
    stream = Stream("t", table="t")
    with pytest.raises(HazardError) as caught:
        read(connector, stream)
    assert (caught.value.column, caught.value.stream, caught.value.exit_code) == ("v", "t", 7)
    assert "id=2" in caught.value.message
    assert text in caught.value.message
    assert str(hazard) in str(caught.value.hint)

    nulling = Stream("t", table="t", hazards={hazard: HazardPolicy.NULL})
    table, _, nulled = read_all(connector, nulling)
    cells = texts(table, "v")
    assert cells[0] is not None
    assert cells[1:] == [None, None]
    assert nulled == {f"v: {hazard}": 1}

    spelled = read(connector, Stream("t", table="t", hazards={hazard: HazardPolicy.TEXT}))
    assert spelled.schema.field("v").type == pa.string()
    assert spelled["v"].to_pylist() == [ordinary, text, None]
    assert values.source_type(spelled.schema.field("v")) == SOURCE_TYPES.get(native, native)


def test_every_character_of_a_name_and_a_query_is_kept(database: Database) -> None:
    database.execute(
        """CREATE TABLE "100%" ("a%s" int, "%%" text)""", """INSERT INTO "100%" VALUES (1, '%d')"""
    )
    table = read(database.connector(), Stream("t", table="100%"))
    assert table.to_pylist() == [{"a%s": 1, "%%": "%d"}]
    query = Stream("q", query="""SELECT "%%" FROM "100%" WHERE "%%" LIKE '\\%%' -- 100% ;""", cursor="%%")
    table, checkpoint, _ = read_all(database.connector(), query)
    assert table.to_pylist() == [{"%%": "%d"}]
    assert checkpoint is not None
    assert read(database.connector(), query, since=checkpoint.high).num_rows == 1
