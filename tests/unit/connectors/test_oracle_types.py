"""What is selected of each type of Oracle, what it is fetched into, and what becomes of what comes."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import oracledb
import pyarrow as pa
import pytest

from atlas_etl.connectors.sql._oracle.catalog import native_type
from atlas_etl.connectors.sql._oracle.literals import literal, national_literal, number, quoted
from atlas_etl.connectors.sql._oracle.reader import ReaderDialect
from atlas_etl.connectors.sql._oracle.session import described, variable
from atlas_etl.connectors.sql._oracle.types import Described, decoded, is_unbounded, source_column
from atlas_etl.model import CursorKind, CursorValue, Hazard

SECONDS = 'YYYY-MM-DD"T"HH24:MI:SS'
WIRES = [  # native type, Arrow type, what is selected, a cell as the driver gives it, and as it is kept
    ("NUMBER(9,0)", pa.int64(), '"c"', "-999999999", -999999999),
    ("NUMBER(18,0)", pa.int64(), '"c"', "999999999999999999", 999999999999999999),
    ("NUMBER(19,0)", pa.decimal128(19, 0), '"c"', "9" * 19, Decimal("9" * 19)),
    ("NUMBER(5,-3)", pa.int64(), '"c"', "-99999000", -99999000),
    ("NUMBER(20,-3)", pa.decimal128(23, 0), '"c"', "9" * 20 + "000", Decimal("9" * 20 + "000")),
    ("NUMBER(3,5)", pa.decimal128(5, 5), '"c"', "0.00999", Decimal("0.00999")),
    ("NUMBER(38,10)", pa.decimal128(38, 10), '"c"', "0.1", Decimal("0.1000000000")),
    ("NUMBER(10,60)", pa.decimal256(60, 60), '"c"', "0." + "0" * 59 + "7", Decimal("7E-60")),
    ("NUMBER(38,127)", pa.string(), '"c"', "0." + "0" * 126 + "1", "0." + "0" * 126 + "1"),
    ("NUMBER", pa.string(), '"c"', "0.1", "0.1"),
    ("FLOAT(126)", pa.string(), '"c"', "1" + "0" * 125, "1" + "0" * 125),
    ("BINARY_FLOAT", pa.float32(), '"c"', 0.10000000149011612, 0.10000000149011612),
    ("BINARY_DOUBLE", pa.float64(), '"c"', float("-inf"), float("-inf")),
    ("DATE", pa.timestamp("us"), f"TO_CHAR(\"c\", 'S{SECONDS}')", " 2026-03-01T12:00:07", 1772366407000000),
    ("TIMESTAMP(6)", pa.timestamp("us"),
     f"TO_CHAR(\"c\", 'S{SECONDS}.FF6')", " 9999-12-31T23:59:59.999999", None),
    ("TIMESTAMP(9)", pa.timestamp("ns"),
     f"TO_CHAR(\"c\", 'S{SECONDS}.FF9')", " 2026-03-01T12:00:07.123456789", 1772366407123456789),
    ("TIMESTAMP(6) WITH TIME ZONE", pa.timestamp("us", "UTC"),
     f"TO_CHAR(SYS_EXTRACT_UTC(\"c\"), 'S{SECONDS}.FF6')", " 2026-03-01T12:00:07.000000", 1772366407000000),
    ("TIMESTAMP(3) WITH LOCAL TIME ZONE", pa.timestamp("us", "UTC"), f"TO_CHAR(\"c\", 'S{SECONDS}.FF6')",
     " 2026-03-01T12:00:07.000000", 1772366407000000),
    ("INTERVAL DAY TO SECOND", pa.string(), 'TO_CHAR("c")', "+01 02:03:04.000005", "+01 02:03:04.000005"),
    ("CHAR(3)", pa.string(), '"c"', "a  ", "a  "),
    ("NVARCHAR2(9)", pa.string(), '"c"', "Zoë 😀", "Zoë 😀"),
    ("CLOB", pa.string(), '"c"', "x" * 70000, "x" * 70000),
    ("ROWID", pa.string(), '"c"', "AAAR3sAAEAAAACXAAA", "AAAR3sAAEAAAACXAAA"),
    ("XMLTYPE", pa.string(), 'XMLSERIALIZE(CONTENT "c" AS CLOB)', "<a/>", "<a/>"),
    ("JSON", pa.json_(), 'JSON_SERIALIZE("c" RETURNING CLOB)', '{"a":1}', '{"a":1}'),
    ("RAW(16)", pa.binary(), '"c"', b"\0\xff", b"\0\xff"),
    ("BLOB", pa.binary(), '"c"', b"", b""),
    ("BOOLEAN", pa.bool_(), '"c"', True, True),
]  # fmt: skip


@pytest.mark.parametrize(("native", "kind", "select", "given", "kept"), WIRES, ids=[w[0] for w in WIRES])
def test_every_type_arrives_as_it_is(
    native: str, kind: pa.DataType, select: str, given: object, kept: object
) -> None:
    column = source_column(Described("c", native, True))
    assert (column.field.type, column.select) == (kind, select)
    batch, cells = decoded([column], [(given,), (None,)])
    assert not cells
    cell, nothing = batch.column("c")
    assert not nothing.is_valid
    if pa.types.is_timestamp(kind):
        assert kept is None or cell.value == kept
    else:
        assert cell.as_py() == kept
    texts, _ = decoded([column.as_text()], [(given,)]) if isinstance(given, str) else (None, None)
    assert texts is None or texts.column(0)[0].as_py() == str(given).strip(" " if "T" in native[:3] else "")


HAZARDS = [
    ("DATE", "-4712-01-01T00:00:00", Hazard.OUT_OF_RANGE),
    ("DATE", " 1500-02-29T00:00:00", Hazard.OUT_OF_RANGE),  # a day of the Julian calendar alone
    ("TIMESTAMP(9)", " 9999-12-31T23:59:59.999999999", Hazard.OUT_OF_RANGE),
    ("TIMESTAMP(9) WITH TIME ZONE", " 0001-01-01T00:00:00.000000000", Hazard.OUT_OF_RANGE),
    ("NUMBER(38,0)", "1" + "0" * 40, Hazard.PRECISION),
    ("VARCHAR2(9)", b"caf\xe9".decode("utf-8", "surrogateescape"), Hazard.INVALID_TEXT),
    ("NVARCHAR2(9)", "half \ud83d", Hazard.INVALID_TEXT),
]


@pytest.mark.parametrize(
    ("native", "given", "hazard"), HAZARDS, ids=[f"{h[0]}-{n}" for n, h in enumerate(HAZARDS)]
)
def test_what_has_no_exact_form_is_a_hazard(native: str, given: str, hazard: Hazard) -> None:
    column = source_column(Described("c", native, False))
    assert hazard in column.hazards
    assert column.field.nullable
    batch, (found,) = decoded([column], [(None,), (given,)])
    assert batch.column("c").null_count == 2
    assert (found.hazard, found.rows) == (hazard, (1,))


def test_a_number_without_a_precision_is_an_integer_where_it_counts() -> None:
    column = source_column(Described("id", "NUMBER", False), counts=True)
    assert column.field.type == pa.int64()
    batch, cells = decoded([column], [("7",), ("1.5",), (str(2**63),)])
    assert batch.column("id").to_pylist() == [7, None, None]
    assert [(cell.hazard, cell.rows) for cell in cells] == [(Hazard.PRECISION, (1, 2))]


def test_names_and_literals() -> None:
    assert quoted("Order Items") == '"Order Items"'
    assert literal("O'Hara :x -- \\") == "'O''Hara :x -- \\'"
    assert national_literal("é'😀") == "UNISTR('\\00e9\\0027\\d83d\\de00')"
    assert number("-12.50") == "-12.50"
    with pytest.raises(ValueError, match="plain digits"):
        number("1 OR 1=1")


BOUNDS = [
    ("NUMBER(12,2)", CursorKind.DECIMAL, "-12.50", "-12.50"),
    ("DATE", CursorKind.TIMESTAMP, "2026-03-01T12:00:00.9", f"TO_DATE('2026-03-01T12:00:00', '{SECONDS}')"),
    ("TIMESTAMP(6)", CursorKind.TIMESTAMP, "2026-03-01T12:00:00.5",
     f"TO_TIMESTAMP('2026-03-01T12:00:00.500000000', '{SECONDS}.FF9')"),
    ("TIMESTAMP(6) WITH TIME ZONE", CursorKind.TIMESTAMPTZ, "2026-03-01T12:00:00Z",
     f"FROM_TZ(TO_TIMESTAMP('2026-03-01T12:00:00.000000000', '{SECONDS}.FF9'), '+00:00')"),
    ("TIMESTAMP(0) WITH LOCAL TIME ZONE", CursorKind.TIMESTAMPTZ, "2026-03-01T12:00:00.9Z",
     f"CAST(FROM_TZ(TO_TIMESTAMP('2026-03-01T12:00:00.900000000', '{SECONDS}.FF9'), '+00:00')"
     " AS TIMESTAMP(9) WITH LOCAL TIME ZONE)"),
    ("VARCHAR2(9)", CursorKind.TEXT, "O'Hara", "'O''Hara'"),
    ("NVARCHAR2(9)", CursorKind.TEXT, "é", "UNISTR('\\00e9')"),
]  # fmt: skip


@pytest.mark.parametrize(("native", "kind", "text", "sql"), BOUNDS, ids=[b[0] for b in BOUNDS])
def test_bounds_are_literals_of_the_columns_own_type(
    native: str, kind: CursorKind, text: str, sql: str
) -> None:
    column = source_column(Described("c", native, True))
    assert ReaderDialect().bound(column, CursorValue(kind, text)) == (sql, text)


# What the driver tells of a column, and what it is fetched into


def info(kind: Any, precision: int = 0, scale: int = 0, size: int = 0) -> oracledb.FetchInfo:
    """The driver's own object, as a describe fills it."""
    return oracledb.FetchInfo._from_impl(
        SimpleNamespace(
            name="c", dbtype=kind, objtype=None, precision=precision, scale=scale, max_size=size,
            buffer_size=4 * size, nulls_allowed=True, is_json=False,
        )
    )  # fmt: skip


DESCRIBED = [
    (info(oracledb.DB_TYPE_NUMBER, 12, 2), "NUMBER(12,2)", str),
    (info(oracledb.DB_TYPE_NUMBER, 38, 0), "NUMBER(38,0)", str),
    (info(oracledb.DB_TYPE_NUMBER, 0, -127), "NUMBER", str),
    (info(oracledb.DB_TYPE_NUMBER, 0, 0), "NUMBER", str),
    (info(oracledb.DB_TYPE_NUMBER, 126, -127), "FLOAT(126)", str),
    (info(oracledb.DB_TYPE_VARCHAR, size=20), "VARCHAR2(20)", oracledb.DB_TYPE_VARCHAR),
    (info(oracledb.DB_TYPE_NCHAR, size=3), "NCHAR(3)", oracledb.DB_TYPE_NCHAR),
    (info(oracledb.DB_TYPE_LONG), "LONG", oracledb.DB_TYPE_LONG),
    (info(oracledb.DB_TYPE_CLOB), "CLOB", oracledb.DB_TYPE_LONG),
    (info(oracledb.DB_TYPE_NCLOB), "NCLOB", oracledb.DB_TYPE_LONG_NVARCHAR),
    (info(oracledb.DB_TYPE_BLOB), "BLOB", oracledb.DB_TYPE_LONG_RAW),
    (info(oracledb.DB_TYPE_DATE), "DATE", None),
    (info(oracledb.DB_TYPE_TIMESTAMP, 0, 9), "TIMESTAMP(9)", None),
    (info(oracledb.DB_TYPE_TIMESTAMP), "TIMESTAMP(0)", None),
    (info(oracledb.DB_TYPE_TIMESTAMP_TZ, 0, 6), "TIMESTAMP(6) WITH TIME ZONE", None),
    (info(oracledb.DB_TYPE_TIMESTAMP_LTZ, 0, 3), "TIMESTAMP(3) WITH LOCAL TIME ZONE", None),
    (info(oracledb.DB_TYPE_INTERVAL_YM, 2), "INTERVAL YEAR TO MONTH", None),
    (info(oracledb.DB_TYPE_BINARY_DOUBLE), "BINARY_DOUBLE", None),
    (info(oracledb.DB_TYPE_LONG_RAW), "LONG RAW", None),
    (info(oracledb.DB_TYPE_ROWID), "ROWID", None),
    (info(oracledb.DB_TYPE_JSON), "JSON", None),
    (info(oracledb.DB_TYPE_XMLTYPE), "XMLTYPE", None),
    (info(oracledb.DB_TYPE_VECTOR), "VECTOR", None),
    (info(oracledb.DB_TYPE_BOOLEAN), "BOOLEAN", None),
    (info(oracledb.DB_TYPE_BFILE), "BFILE", None),
    (info(oracledb.DB_TYPE_OBJECT), "OBJECT", None),
]


@pytest.mark.parametrize(
    ("column", "native", "into"), DESCRIBED, ids=[f"{d[1]}-{n}" for n, d in enumerate(DESCRIBED)]
)
def test_a_column_is_what_the_driver_says_and_fetched_exactly(
    column: oracledb.FetchInfo, native: str, into: object
) -> None:
    assert described(column).native == native
    asked: list[tuple[object, dict[str, object]]] = []

    def var(kind: object, **more: object) -> object:
        asked.append((kind, more))
        return more

    cursor: Any = SimpleNamespace(arraysize=5, var=var)
    if into is None:
        assert variable(cursor, column) is None
        return
    assert variable(cursor, column) is not None
    ((kind, more),) = asked
    assert (kind, more["arraysize"]) == (into, 5)
    expected = {"NCHAR(3)": "surrogatepass", "NCLOB": "surrogatepass", "BLOB": "strict"}
    assert into is str or more["encoding_errors"] == expected.get(native, "surrogateescape")


def test_the_dictionary_and_a_describe_write_types_alike() -> None:
    assert native_type("NUMBER", 22, 0, 12, 2) == "NUMBER(12,2)"
    assert native_type("NUMBER", 22, 0, None, 0) == "NUMBER(38,0)"  # INTEGER
    assert native_type("NUMBER", 22, 0, None, None) == "NUMBER"
    assert native_type("FLOAT", 22, 0, 126, None) == "FLOAT(126)"
    assert native_type("VARCHAR2", 80, 20, None, None) == "VARCHAR2(20)"
    assert native_type("RAW", 16, 0, None, None) == "RAW(16)"
    assert native_type("TIMESTAMP(6)", 11, 0, None, 6) == "TIMESTAMP(6)"
    assert [kind for kind in ("CLOB", "NVARCHAR2(9)", "LONG RAW") if is_unbounded(kind)] == [
        "CLOB",
        "LONG RAW",
    ]
