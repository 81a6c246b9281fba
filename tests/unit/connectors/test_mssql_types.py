"""What is selected of each type of SQL Server, and what becomes of what the driver gives for it."""

from __future__ import annotations

import uuid
from decimal import Decimal

import pyarrow as pa
import pytest

from atlas_etl.connectors.sql._mssql.literals import literal, quoted
from atlas_etl.connectors.sql._mssql.types import Described, decoded, is_unbounded, source_column

ID = "6F9619FF-8B86-D011-B42D-00C04FC964FF"
WIRES = [  # native type, Arrow type, what is selected, a cell as the driver gives it, and as it is kept
    ("bit", pa.bool_(), "[c]", True, True),
    ("tinyint", pa.uint8(), "[c]", 255, 255),
    ("bigint", pa.int64(), "[c]", -(2**63), -(2**63)),
    ("real", pa.float32(), "[c]", 0.10000000149011612, 0.10000000149011612),
    ("float", pa.float64(), "[c]", 5e-324, 5e-324),
    (
        "decimal(38,10)",
        pa.decimal128(38, 10),
        "CONVERT(varchar(41), [c])",
        "-1234567890123456789012345678.0123456789",
        Decimal("-1234567890123456789012345678.0123456789"),
    ),
    (
        "money",
        pa.decimal128(19, 4),
        "CONVERT(varchar(41), CAST([c] AS decimal(19,4)))",
        "-922337203685477.5808",
        Decimal("-922337203685477.5808"),
    ),
    ("date", pa.date32(), "CONVERT(varchar(10), [c], 23)", "9999-12-31", "9999-12-31"),
    ("time(7)", pa.time64("ns"), "CONVERT(varchar(16), [c], 121)", "23:59:59.1234567", 86399123456700),
    ("time(0)", pa.time64("us"), "CONVERT(varchar(16), [c], 121)", "23:59:59", 86399000000),
    (
        "datetime",
        pa.timestamp("us"),
        "CONVERT(varchar(33), [c], 126)",
        "1753-01-01T00:00:00.003",
        "1753-01-01T00:00:00.003",
    ),
    ("smalldatetime", pa.timestamp("us"), "CONVERT(varchar(33), [c], 126)", "2026-01-01T10:00:00", None),
    ("datetime2(1)", pa.timestamp("us"), "CONVERT(varchar(33), [c], 126)", "9999-12-31T23:59:59.9", None),
    (
        "datetime2(7)",
        pa.timestamp("ns"),
        "CONVERT(varchar(33), [c], 126)",
        "2026-01-01T10:00:00.1234567",
        1767261600123456700,
    ),
    (
        "datetimeoffset(3)",
        pa.timestamp("us", "UTC"),
        "CONVERT(varchar(33), CAST(SWITCHOFFSET([c], '+00:00') AS datetime2(3)), 126)",
        "2026-01-01T10:00:00.123",
        1767261600123000,
    ),
    ("uniqueidentifier", pa.uuid(), "CONVERT(char(36), [c])", ID, uuid.UUID(ID)),
    ("varbinary(max)", pa.binary(), "[c]", b"\0\xff", b"\0\xff"),
    ("geometry", pa.binary(), "CAST([c] AS varbinary(max))", b"\0", b"\0"),
    ("timestamp", pa.int64(), "CAST([c] AS bigint)", 2001, 2001),
    (
        "varchar(10)",
        pa.string(),
        "CAST(CAST([c] AS nvarchar(max)) AS varbinary(max))",
        "Zoë 😀".encode("utf-16-le"),
        "Zoë 😀",
    ),
    ("xml", pa.string(), "CAST(CAST([c] AS nvarchar(max)) AS varbinary(max))", b"", ""),
]  # fmt: skip


@pytest.mark.parametrize(("native", "kind", "select", "given", "kept"), WIRES, ids=[w[0] for w in WIRES])
def test_every_type_arrives_as_it_is(
    native: str, kind: pa.DataType, select: str, given: object, kept: object
) -> None:
    column = source_column(Described("c", native, True))
    assert (column.field.type, column.select) == (kind, select)
    batch, cells = decoded([column], [(given,), (None,)])
    assert cells == []
    cell, nothing = batch.column(0)
    assert nothing.as_py() is None
    if isinstance(kept, int) and not isinstance(kept, bool):
        assert cell.value == kept if hasattr(cell, "value") else cell.as_py() == kept
    elif isinstance(kept, str) and not pa.types.is_string(kind):
        assert cell.as_py().isoformat().startswith(kept)
    elif kept is not None:
        assert cell.as_py() == kept
    else:
        assert cell.as_py().isoformat().startswith(str(given))


def test_a_number_that_its_type_cannot_hold_is_no_other_number() -> None:
    column = source_column(Described("c", "decimal(4,2)", True))
    with pytest.raises(pa.ArrowInvalid):
        decoded([column], [("123.45",)])


def test_what_is_longer_than_a_page_is_known() -> None:
    kinds = ("varchar(max)", "varchar(10)", "xml", "int", "image")
    assert [kind for kind in kinds if is_unbounded(kind)] == ["varchar(max)", "xml", "image"]


def test_names_and_texts_as_they_are_written() -> None:
    assert quoted("a]b") == "[a]]b]"
    assert literal("it's") == "N'it''s'"
    assert literal("one\\\r\ntwo") == "(N'one\\' + N'\r\ntwo')"
