"""SQLite columns that hold what they do not declare: named, or NULL and counted, or text; never changed."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_etl.connectors.sql._duckdb.database import DuckDBConnection
from atlas_etl.connectors.sql._duckdb.writer import DuckDBDestination
from atlas_etl.connectors.sql._sqlite import forms as sqlite_forms
from atlas_etl.connectors.sql._sqlite import rows as sqlite_rows
from atlas_etl.errors import ConfigError, HazardError
from atlas_etl.model import Disposition, Hazard, HazardPolicy, ReadRequest, Stream
from atlas_etl.pipeline.opened import Job
from atlas_etl.pipeline.transfer import transfer
from tests.unit.connectors.sqlite_files import column, connector, make, read

NULL = dict.fromkeys(Hazard, HazardPolicy.NULL)
TEXT = dict.fromkeys(Hazard, HazardPolicy.TEXT)

# declared type, a value that fits, one that does not, its hazard, its text
ODD: list[tuple[str, object, object, Hazard, str]] = [
    ("INTEGER", 1, "x", Hazard.TYPE_MISMATCH, "x"),
    ("INTEGER", 1, 1.5, Hazard.TYPE_MISMATCH, "1.5"),
    ("INTEGER", 1, b"\x01\xff", Hazard.TYPE_MISMATCH, "01ff"),
    ("INTEGER", 1, "9223372036854775808", Hazard.TYPE_MISMATCH, "9.223372036854776e+18"),
    ("REAL", 1.5, "x", Hazard.TYPE_MISMATCH, "x"),
    ("NUMERIC", 1.5, 2**53 + 1, Hazard.PRECISION, str(2**53 + 1)),
    ("BOOLEAN", 1, 2, Hazard.TYPE_MISMATCH, "2"),
    ("BOOLEAN", 1, "true", Hazard.TYPE_MISMATCH, "true"),
    ("TEXT", "a", b"abc", Hazard.TYPE_MISMATCH, "616263"),
    ("BLOB", b"a", "text", Hazard.TYPE_MISMATCH, "text"),
    ("BLOB", b"a", 5, Hazard.TYPE_MISMATCH, "5"),
    ("DECIMAL(6,2)", 1.25, 1.255, Hazard.PRECISION, "1.255"),
    ("DECIMAL(6,2)", 1.25, 12345.5, Hazard.PRECISION, "12345.5"),
    ("DECIMAL(6,2)", 1.25, "1,25", Hazard.TYPE_MISMATCH, "1,25"),
    ("DECIMAL(6,2)", 1.25, "nan", Hazard.DECIMAL_SPECIAL, "nan"),
    ("DECIMAL(6,2)", 1.25, float("inf"), Hazard.DECIMAL_SPECIAL, "inf"),
    ("DECIMAL(20,2)", 1.25, 0.125, Hazard.PRECISION, "0.125"),
    ("DECIMAL(20,2)", 1.25, 6.50291183639309e138, Hazard.PRECISION, "6.50291183639309e+138"),
    ("DECIMAL_TEXT(38,0)", "1", "6" * 39, Hazard.PRECISION, "6" * 39),
    ("DECIMAL_TEXT(38,10)", "1", "3" * 29, Hazard.PRECISION, "3" * 29),
    ("DECIMAL(20,2)", 1e15, 1.3275754835941537e-307, Hazard.PRECISION, "1.3275754835941537e-307"),
    ("DATE", "2024-01-01", "2024-13-01", Hazard.TYPE_MISMATCH, "2024-13-01"),
    ("DATE", "2024-01-01", "2024-01-01 10:00:00", Hazard.TYPE_MISMATCH, "2024-01-01 10:00:00"),
    ("DATE", "2024-01-01", "2024-00-00", Hazard.ZERO_DATE, "2024-00-00"),
    ("DATE", "2024-01-01", "0000-01-01", Hazard.OUT_OF_RANGE, "0000-01-01"),
    ("DATE", "2024-01-01", 20240101, Hazard.TYPE_MISMATCH, "20240101"),
    ("TIMESTAMP", "2024-01-01 00:00:00", 1700000000, Hazard.TYPE_MISMATCH, "1700000000"),
    ("TIMESTAMP", "2024-01-01 00:00:00", 2460310.5, Hazard.TYPE_MISMATCH, "2460310.5"),
    ("TIMESTAMP", "2024-01-01 00:00:00", "", Hazard.TYPE_MISMATCH, ""),
    ("TIMESTAMP", "2024-01-01 00:00:00", "2024-01-01 00:00Z", Hazard.TYPE_MISMATCH, "2024-01-01 00:00Z"),
    ("TIMESTAMPTZ", "2024-01-01 00:00:00Z", "2024-01-01 00:00", Hazard.TYPE_MISMATCH, "2024-01-01 00:00"),
    ("TIMESTAMP", "2024-01-01 00:00:00", "0000-00-00 00:00:00", Hazard.ZERO_DATE, "0000-00-00 00:00:00"),
    ("TIMESTAMP WITHOUT TIME ZONE", "2024-01-01 00:00:00", "2024-01-01 00:00:00.1234567",
     Hazard.PRECISION, "2024-01-01 00:00:00.1234567"),
    ("TIMESTAMP(9)", "2024-01-01 00:00:00", "3024-01-01 00:00", Hazard.OUT_OF_RANGE, "3024-01-01 00:00"),
    ("TIME", "10:00:00", "25:00:00", Hazard.TIME_RANGE, "25:00:00"),
    ("TIME", "10:00:00", 10, Hazard.TYPE_MISMATCH, "10"),
    ("UUID", "12345678-9abc-def0-1234-56789abcdef0", "not a uuid", Hazard.TYPE_MISMATCH, "not a uuid"),
    ("UUID", "12345678-9abc-def0-1234-56789abcdef0", b"x" * 16, Hazard.TYPE_MISMATCH, "78" * 16),
    ("JSON", "{}", b"{}", Hazard.TYPE_MISMATCH, "7b7d"),
]  # fmt: skip
IDS = [f"{declared}-{odd!r}"[:40] for declared, _, odd, _, _ in ODD]


@pytest.mark.parametrize("far", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(("declared", "good", "odd", "hazard", "text"), ODD, ids=IDS)
def test_an_odd_value_by_each_policy(
    tmp_path: Path, declared: str, good: object, odd: object, hazard: Hazard, text: str, far: bool
) -> None:
    path = tmp_path / "a.db"
    before = 3000 if far else 1
    rows = [[n, good] for n in range(before)]
    make(
        path,
        f"CREATE TABLE t (id INTEGER PRIMARY KEY, c {declared})",
        rows=[*rows, [9000, odd], [9001, good]],
    )
    with pytest.raises(HazardError) as caught:
        column(path)
    assert caught.value.column == "c"
    assert "id=9000" in caught.value.message
    assert f"({text})" in caught.value.message

    with connector(path).open(
        ReadRequest(Stream("s", table="t", hazards={hazard: HazardPolicy.NULL}))
    ) as extract:
        table = pa.Table.from_batches(extract.batches())
        assert extract.nulled() == {f"c: {hazard}": 1}
    assert table.column("id").to_pylist() == [*range(before), 9000, 9001]
    cells = table.column("c").to_pylist()
    assert cells[-2] is None
    assert None not in [*cells[:-2], cells[-1]]

    found, _ = read(path, Stream("s", table="t", hazards={hazard: HazardPolicy.TEXT}))
    assert found.schema.types == [pa.int64(), pa.string()]
    assert found.column("c")[-2].as_py() == text


def test_text_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INT, c TEXT)", rows=[[1, "ok"]])
    make(path, "INSERT INTO t VALUES (2, CAST(x'61ff62' AS TEXT))")
    with pytest.raises(HazardError, match="not valid UTF-8"):
        column(path)
    assert column(path, hazards=NULL).to_pylist() == ["ok", None]
    assert column(path, hazards=TEXT).to_pylist() == ["ok", "a\\xffb"]


def test_only_columns_that_need_it_become_text(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(
        path,
        "CREATE TABLE t (a INT, b INT, c DATE, d TEXT)",
        rows=[[1, 2, "2024-01-01", "x"], [1, "y", None, "x"]],
    )
    table, _ = read(path, Stream("s", table="t", hazards=TEXT))
    assert table.schema.types == [pa.int64(), pa.string(), pa.date32(), pa.string()]
    assert table.column("b").to_pylist() == ["2", "y"]


def test_seconds_since_1970_get_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c DATETIME)", rows=[[1700000000]])
    with pytest.raises(HazardError) as caught:
        column(path)
    assert "unixepoch" in str(caught.value.hint)
    hinted = column(path, query="SELECT CAST(datetime(c, 'unixepoch') AS TEXT) AS c FROM t")
    assert hinted.to_pylist() == ["2023-11-14 22:13:20"]


@pytest.mark.parametrize("policy", [HazardPolicy.ERROR, HazardPolicy.NULL])
def test_text_among_the_integers_of_a_cursor_is_an_error_that_names_it(
    tmp_path: Path, policy: HazardPolicy
) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)", rows=[[1], ["two"]])
    stream = Stream("s", table="t", cursor="c", hazards=dict.fromkeys(Hazard, policy))
    with pytest.raises(HazardError, match="two") as caught:
        read(path, stream)
    assert "NULL" in str(caught.value.hint) or policy is HazardPolicy.ERROR


@pytest.mark.parametrize("declared", ["INT", "", "DECIMAL_TEXT(20,2)"])
def test_what_sqlite_does_not_order_is_no_cursor(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "a.db"
    make(path, f"CREATE TABLE t (c {declared})", rows=[[1], ["two" if "DEC" not in declared else "2.00"]])
    with pytest.raises(ConfigError) as caught:
        read(path, Stream("s", table="t", cursor="c", hazards=TEXT))
    assert caught.value.code == "cursor_type"


DECLARED = ["INTEGER", "REAL", "TEXT", "BLOB", "NUMERIC", "DECIMAL(6,2)", "DECIMAL(20,3)", "BOOLEAN", "DATE",
            "TIMESTAMP WITHOUT TIME ZONE", "JSON"]  # fmt: skip
VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.decimals(-9999, 9999, places=2).map(float),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.binary(max_size=3),
    st.dates().map(str),
    st.datetimes().map(str),
    st.datetimes().map(lambda d: d.isoformat()),
    st.decimals(-9999, 9999, places=2).map(str),
)


def expected(declared: str, kind: str, value: object) -> object:
    """The cell that a stored value must become, or `...` where it has no exact one."""
    if value is None:
        return None
    if declared == "INTEGER":
        return value if kind == "integer" else ...
    if declared in ("REAL", "NUMERIC"):
        exact = kind == "real" or (kind == "integer" and abs(int(str(value))) <= 2**53)
        return float(str(value)) if exact else math.nan if value == "NaN" else ...
    if declared == "TEXT":
        return value if kind == "text" else ...
    if declared == "BLOB":
        return value if kind == "blob" else ...
    if declared.startswith("DECIMAL"):
        return expected_decimal(declared, kind, value)
    if declared == "BOOLEAN":
        return bool(value) if kind == "integer" and value in (0, 1) else ...
    if declared == "JSON":
        return ... if kind == "blob" else json_text(kind, value)
    if kind != "text":
        return ...
    try:
        moment = datetime.fromisoformat(str(value))
        if declared == "DATE":
            return moment.date() if moment == datetime.combine(moment.date(), datetime.min.time()) else ...
    except ValueError:
        return ...
    return moment


def json_text(kind: str, value: object) -> str:
    return repr(value) if kind == "real" else str(value)


def expected_decimal(declared: str, kind: str, value: object) -> object:
    precision, scale = map(int, declared[8:-1].split(","))
    if kind == "blob":
        return ...
    try:
        number = Decimal(repr(value) if kind == "real" else str(value))
        exact = number.quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation:
        return ...
    return exact if exact == number and abs(exact) < Decimal(10) ** (precision - scale) else ...


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(DECLARED), st.lists(VALUES, max_size=12), st.integers(1, 4))
def test_every_value_is_exact_or_named(declared: str, stored: list[object], at_once: int) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite_rows, "_WIRE_ROWS", at_once)  # so that streams begin anew in the middle
        path = Path(folder) / "a.db"
        make(path, f"CREATE TABLE t (c {declared}, n INT)", rows=[[v, n] for n, v in enumerate(stored)])
        with closing(sqlite3.connect(path)) as connection:
            truth = connection.execute("SELECT typeof(c), c FROM t ORDER BY n").fetchall()
        cells = [expected(declared, kind, value) for kind, value in truth]
        table, _ = read(path, Stream("s", table="t", hazards=NULL))
        assert table.column("n").to_pylist() == list(range(len(stored)))
        found = table.column("c").to_pylist()
        for cell, want, (kind, _) in zip(found, cells, truth, strict=True):
            if declared == "JSON" and kind == "real":
                assert float(cell) == float(str(want))
            elif want is ...:
                assert cell is None
            else:
                assert (cell, type(cell)) == (want, type(want)) or (cell != cell and want != want)
        if ... in cells:
            with pytest.raises(HazardError):
                read(path, Stream("s", table="t"))


@pytest.mark.parametrize("disposition", [Disposition.MERGE, Disposition.REPLACE])
@pytest.mark.parametrize(
    ("declared", "fits", "odd"),
    [("DATE", "2024-01-01", "x"), ("TIMESTAMP", "2024-01-01 00:00:00", 5), ("REAL", 1.5, "x")],
)
def test_a_column_that_was_loaded_as_text_stays_text_when_its_values_are_corrected(
    tmp_path: Path, declared: str, fits: object, odd: object, disposition: Disposition
) -> None:
    path = tmp_path / "source.db"
    make(path, f"CREATE TABLE t (id INTEGER PRIMARY KEY, c {declared})", rows=[(1, fits), (2, odd)])
    stream = Stream("t", table="t", primary_key=("id",), disposition=disposition, hazards=TEXT)
    with closing(DuckDBDestination(DuckDBConnection())) as destination:

        def sync() -> list[object]:
            job = Job("run", "shop", stream, datetime.now(UTC))
            list(transfer(connector(path), destination, job))
            return destination.query("SELECT c FROM shop.t ORDER BY id").column("c").to_pylist()

        assert sync() == [str(fits), str(odd)]
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE t SET c = ? WHERE id = 2", (fits,))
        assert sync() == [str(fits), str(fits)]


CLASSES = {
    "null": "NULL", "integer": "7", "real": "1.5", "text": "'7'", "empty text": "''",
    "blob": "x'37'", "empty blob": "x''",
}  # fmt: skip
TRIPS = {
    "_BLOB": {"blob"},
    "_BLOB_OR_NUMBER": {"blob", "integer", "real"},
    "_BLOB_OR_REAL": {"blob", "real"},
    "_NO_BLOB": {"integer", "real", "text"},
}


@pytest.mark.parametrize(
    "declared", ["", "TEXT", "TEXT COLLATE NOCASE", "INTEGER", "REAL", "NUMERIC", "BLOB"]
)
@pytest.mark.parametrize("trip", TRIPS)
def test_a_trip_tells_a_values_class_whatever_its_column_declares(trip: str, declared: str) -> None:
    condition = getattr(sqlite_forms, trip).format(c='"c"')
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE t (c {declared})")
        for literal in CLASSES.values():
            connection.execute(f"INSERT INTO t VALUES ({literal})")
        found = connection.execute(f"SELECT typeof(c), coalesce({condition}, 0) FROM t").fetchall()
    assert found == [(kind, int(kind in TRIPS[trip])) for kind, _ in found]
    assert len(found) == len(CLASSES)
