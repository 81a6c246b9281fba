"""Reading SQLite: types, catalog, snapshots, bounded memory and bad input, on real files."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError
from sqlalchemy import Engine, text

from atlas_etl import values
from atlas_etl.connectors import waits
from atlas_etl.connectors.preview import preview
from atlas_etl.connectors.sql._sqlite import driver
from atlas_etl.connectors.sql._sqlite.connection import SqliteConnection
from atlas_etl.connectors.sql.sqlite import ADAPTER
from atlas_etl.errors import AtlasError, ConfigError, HazardError, SourceError
from atlas_etl.model import BatchLimits, CursorKind, CursorValue, Hazard, HazardPolicy, ReadRequest, Stream
from tests.unit.connectors.sqlite_files import column, connector, make, other_process, read

UUID_TEXT = "12345678-9abc-def0-1234-56789abcdef0"

# declared type, values as Python's sqlite3 stores them, the Arrow type, the cells
GOLDEN: list[tuple[str, list[object], pa.DataType, list[object]]] = [
    ("INTEGER", [-(2**63), 0, 2**63 - 1], pa.int64(), [-(2**63), 0, 2**63 - 1]),
    ("UNSIGNED BIG INT", [1], pa.int64(), [1]),
    ("TINYINT(1)", [2], pa.int64(), [2]),
    ("REAL", [1, 0.1, 1e300, float("inf"), -5e-324], pa.float64(), [1.0, 0.1, 1e300, float("inf"), -5e-324]),
    ("DOUBLE PRECISION", [2.5], pa.float64(), [2.5]),
    ("NUMERIC", [1, 2.5, -(2**53)], pa.float64(), [1.0, 2.5, -float(2**53)]),
    ("BOOLEAN", [1, 0], pa.bool_(), [True, False]),
    ("TEXT", ["", "a\x00b", "日本語 😀", 5], pa.string(), ["", "a\x00b", "日本語 😀", "5"]),
    ("VARCHAR(3)", ["longer"], pa.string(), ["longer"]),
    ("BLOB", [b"", b"\x00\xff"], pa.binary(), [b"", b"\x00\xff"]),
    ("DECIMAL(12,2)", ["12.50", 3, "-0.01", 9999999999.99], pa.decimal128(12, 2),
     [Decimal("12.50"), Decimal("3.00"), Decimal("-0.01"), Decimal("9999999999.99")]),
    ("numeric( 15 , 0 )", [10**15 - 1], pa.decimal128(15, 0), [Decimal(10**15 - 1)]),
    ("DECIMAL(20,4)", ["12345678901.25", 7], pa.decimal128(20, 4),
     [Decimal("12345678901.2500"), Decimal("7.0000")]),
    ("DECIMAL_TEXT(38,10)", ["1234567890123456789012345678.0123456789"], pa.decimal128(38, 10),
     [Decimal("1234567890123456789012345678.0123456789")]),
    ("DATE", ["2024-02-29", "0001-01-01", "9999-12-31"], pa.date32(),
     [date(2024, 2, 29), date(1, 1, 1), date(9999, 12, 31)]),
    ("DATE", ["2024-02-29 00:00:00", "2024-03-01"], pa.date32(), [date(2024, 2, 29), date(2024, 3, 1)]),
    ("TIMESTAMP", ["2024-02-29 10:11:12.123456", "2024-02-29T10:11"], pa.timestamp("us"),
     [datetime(2024, 2, 29, 10, 11, 12, 123456), datetime(2024, 2, 29, 10, 11)]),
    ("DATETIME", ["2024-02-29 10:00:00Z", "2024-02-29 10:00:00.5+02:00"], pa.timestamp("us", "UTC"),
     [datetime(2024, 2, 29, 10, tzinfo=UTC), datetime(2024, 2, 29, 8, 0, 0, 500000, tzinfo=UTC)]),
    ("TIMESTAMPTZ", ["9999-12-31 23:59:59.999999Z"], pa.timestamp("us", "UTC"),
     [datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]),
    ("TIME", ["23:59:59.999999", "10:11"], pa.time64("us"), [time(23, 59, 59, 999999), time(10, 11)]),
    ("UUID", [UUID_TEXT, UUID_TEXT.upper(), UUID_TEXT.title()], pa.uuid(), [UUID_TEXT] * 3),
    ("UUID", [None, None], pa.uuid(), [None, None]),
    ("JSON", ['{"a": [1, 2.50]}', 12, "null"], pa.json_(), ['{"a": [1, 2.50]}', "12", "null"]),
]  # fmt: skip


def cells(array: pa.ChunkedArray) -> list[object]:
    if array.type == pa.uuid():
        return [str(cell) if cell is not None else None for cell in array.to_pylist()]
    return list(array.to_pylist())


@pytest.mark.parametrize(("declared", "stored", "kind", "expected"), GOLDEN, ids=lambda v: str(v)[:30])
def test_declared_types_arrive_exactly(
    tmp_path: Path, declared: str, stored: list[object], kind: pa.DataType, expected: list[object]
) -> None:
    path = tmp_path / "a.db"
    make(path, f"CREATE TABLE t (c {declared})", rows=[[None], *([cell] for cell in stored)])
    found = column(path)
    assert found.type == kind
    assert cells(found) == [None, *expected]
    through_a_view = column(path, query="SELECT c FROM t")
    assert (through_a_view.type, cells(through_a_view)) == (kind, [None, *expected])


def test_fields_know_their_type_in_sqlites_words(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c Decimal(12, 2), d)")
    schema = read(path, Stream("s", table="t"))[0].schema
    assert [values.source_type(field) for field in schema] == ["Decimal(12, 2)", "any"]


@pytest.mark.parametrize("since", [None, 2])
def test_columns_that_sqlite_names_otherwise_in_a_subquery(tmp_path: Path, since: int | None) -> None:
    path = tmp_path / "a.db"
    ddl = 'CREATE TABLE t (id INT, "true" TEXT, "False" BOOLEAN, c0 REAL)'
    make(path, ddl, rows=[[1, "x", 0, 0.5], [2, None, 1, None], [3, "y", "odd", 1.5]])
    stream = Stream("s", table="t", cursor="id", hazards={Hazard.TYPE_MISMATCH: HazardPolicy.NULL})
    bound = None if since is None else CursorValue(CursorKind.INTEGER, str(since))
    table, _ = read(path, stream, since=bound)
    rows = [
        {"id": 1, "true": "x", "False": False, "c0": 0.5},
        {"id": 2, "true": None, "False": True, "c0": None},
        {"id": 3, "true": "y", "False": None, "c0": 1.5},
    ]
    assert table.to_pylist() == rows[(since or 1) - 1 :]


@pytest.mark.parametrize("name", ["true", "False"])
@pytest.mark.parametrize(("declared", "kind"), [("TEXT", CursorKind.TEXT), ("BIGINT", CursorKind.INTEGER)])
def test_a_cursor_that_sqlite_names_otherwise_in_a_subquery(
    tmp_path: Path, declared: str, kind: CursorKind, name: str
) -> None:
    make(tmp_path / "a.db", f'CREATE TABLE t (id INT, "{name}" {declared})', rows=[[1, "3"], [2, "4"]])
    _, checkpoint = read(tmp_path / "a.db", Stream("s", table="t", cursor=name))
    assert checkpoint is not None
    assert checkpoint.high == CursorValue(kind, "4")


def test_types_do_not_hang_on_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    nulls = [[None] * 4] * 3000
    make(path, "CREATE TABLE t (i INT, r REAL, s TEXT, b BLOB)", rows=[*nulls, [1, 2.5, "x", b"y"]])
    table, _ = read(path, Stream("s", table="t"))
    assert table.schema.types == [pa.int64(), pa.float64(), pa.string(), pa.binary()]
    assert table.slice(3000).to_pylist() == [{"i": 1, "r": 2.5, "s": "x", "b": b"y"}]
    assert table.num_rows == 3001


@pytest.mark.parametrize(
    ("stored", "kind", "expected"),
    [
        ([1, 2**62], pa.int64(), [1, 2**62]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        (["a", "b"], pa.string(), ["a", "b"]),
        ([b"a"], pa.binary(), [b"a"]),
        ([], pa.string(), []),
        ([2**53 + 1, 0.1], pa.string(), [str(2**53 + 1), "0.1"]),
        ([1, "x", 1 / 3, b"\xff"], pa.string(), ["1", "x", "0.3333333333333333", "ff"]),
    ],
)
def test_a_column_without_a_type_is_what_it_holds(
    tmp_path: Path, stored: list[object], kind: pa.DataType, expected: list[object]
) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c)", rows=[[None], *([cell] for cell in stored)])
    found = column(path)
    assert (found.type, found.to_pylist()) == (kind, [None, *expected])


def test_nanoseconds_are_kept_where_a_column_has_them(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    stamps = ["2024-01-01 10:00:00+00:00", "2024-01-01 10:00:00.123456789+00:00"]
    make(path, "CREATE TABLE t (c DATETIME)", rows=[[stamp] for stamp in stamps])
    found = column(path)
    assert found.type == pa.timestamp("ns", "UTC")
    assert values.to_text(found.combine_chunks()).to_pylist()[1] == "2024-01-01T10:00:00.123456789Z"


def test_queries_have_the_types_of_their_columns_and_expressions(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, price DECIMAL(8,2), at TIMESTAMP)",
         rows=[[1, 2.5, "2024-01-01 00:00:00"], [2, None, None]])  # fmt: skip
    query = """
        WITH old AS (SELECT * FROM t) -- all of them
        SELECT id, price, at, count(*) AS n, avg(price) AS mean, CAST(id AS REAL) AS r, 'x' || id AS label
        FROM old GROUP BY id;
    """
    table, _ = read(path, Stream("s", query=query))
    assert dict(zip(table.schema.names, table.schema.types, strict=True)) == {
        "id": pa.int64(), "price": pa.decimal128(8, 2), "at": pa.timestamp("us"), "n": pa.int64(),
        "mean": pa.float64(), "r": pa.float64(), "label": pa.string(),
    }  # fmt: skip
    assert table.column("label").to_pylist() == ["x1", "x2"]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INTEGER)")
    with pytest.raises(ConfigError) as caught:
        read(path, Stream("s", query="SELECT a.id, b.id FROM t a, t b"))
    assert caught.value.code == "duplicate_column"


@pytest.mark.parametrize("query", ["DELETE FROM t", "SELECT nope FROM t", "SELEC 1", "SELECT ?", ""])
def test_what_is_no_query_is_refused_and_changes_nothing(tmp_path: Path, query: str) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INTEGER)", rows=[[1]])
    with pytest.raises(SourceError) as caught:
        read(path, Stream("s", query=query))
    assert caught.value.code == "sql"
    assert column(path, "id").to_pylist() == [1]


@pytest.mark.parametrize("name", ["orders", "main.orders", "MAIN.Orders", "ORDERS"])
def test_names_of_tables(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE orders (c INT)", rows=[[7]], into="orders")
    assert read(path, Stream("s", table=name))[0].to_pylist() == [{"c": 7}]


def test_a_name_with_a_dot_is_its_own_table_first(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE orders (c INT)", 'CREATE TABLE "main.orders" (d INT)')
    assert read(path, Stream("s", table="main.orders"))[0].schema.names == ["d"]


def test_wide_keyed_generated_and_virtual_tables(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    names = ", ".join(f'"c""{n}" INT' for n in range(200))
    make(
        path,
        f"CREATE TABLE wide ({names})",
        f"INSERT INTO wide VALUES ({', '.join(map(str, range(200)))})",
        "CREATE TABLE keyed (b TEXT, a INT, g INT AS (a * 2), PRIMARY KEY (a, b)) WITHOUT ROWID",
        "INSERT INTO keyed VALUES ('x', 4)",
        "CREATE TABLE odd (rowid TEXT, oid TEXT)",
        "INSERT INTO odd VALUES ('r', 'o')",
    )
    assert read(path, Stream("s", table="wide"))[0].to_pylist()[0]['c"199'] == 199
    assert read(path, Stream("s", table="keyed"))[0].to_pylist() == [{"b": "x", "a": 4, "g": 8}]
    described = connector(path).describe(Stream("s", table="keyed"))
    assert described.primary_key == ("a", "b")
    assert [c.nullable for c in described.columns] == [False, False, True]
    odd = connector(path).describe(Stream("s", table="odd"))
    assert (odd.estimated_rows, [c.name for c in odd.columns]) == (1, ["rowid", "oid"])


def test_discover(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(
        path,
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INT, at TIMESTAMP, note TEXT, made_at TEXT)",
        "CREATE INDEX by_customer ON orders (customer)",
        "CREATE INDEX by_at ON orders (at, note)",
        "CREATE INDEX by_made ON orders (made_at)",
        "CREATE INDEX by_note ON orders (note)",
        "CREATE VIEW newest AS SELECT at, id + 1 AS next FROM orders",
        "CREATE VIEW broken AS SELECT * FROM nowhere",
        "CREATE TABLE _atlas_loads (x)",
        "INSERT INTO orders (id, customer) VALUES (10, 1), (20, 2)",
    )
    newest, orders = connector(path).discover()
    assert (newest.name, [(c.name, c.type) for c in newest.columns]) == (
        "newest",
        [("at", "TIMESTAMP"), ("next", "any")],
    )
    assert orders.primary_key == ("id",)
    assert [c.nullable for c in orders.columns] == [False, True, True, True, True]
    assert orders.cursor_candidates == ("at", "made_at", "id", "customer")
    assert orders.indexed == {"id", "customer", "at", "made_at", "note"}
    assert orders.estimated_rows == 2


def test_rows_are_estimated_by_how_close_the_first_ones_are(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE n (id INTEGER PRIMARY KEY)", "CREATE TABLE none (id INTEGER PRIMARY KEY)")

    def estimated() -> list[int | None]:
        return [each.estimated_rows for each in connector(path).discover()]

    assert estimated() == [0, 0]
    counted = "WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i < {}) "
    fill = counted + "INSERT INTO n SELECT {} FROM c"
    make(path, fill.format(92, "5000000 - i * 1000"))
    assert estimated() == [93, 0]
    make(path, "DELETE FROM n", fill.format(4999, "9000000000000000000 - i * 1000000000000"))
    assert estimated() == [5000, 0]
    make(path, "DELETE FROM n WHERE id % 10000000000000 = 0", "ANALYZE")
    assert estimated() == [4500, 0]


def test_preview(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (i INT, d DECIMAL(5,2))", rows=[[1, 1.5], [2, None], [3, 2.25]])
    assert preview(connector(path), Stream("s", table="t"), 2) == (
        ["i", "d"],
        [[1, "1.50"], [2, None]],
    )


def test_a_writer_in_wal_mode_is_not_seen_by_a_read_that_began_before(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(
        path, "PRAGMA journal_mode = WAL", "CREATE TABLE t (c TEXT)", rows=[[f"{n:04}"] for n in range(5000)]
    )
    request = ReadRequest(Stream("s", table="t", cursor="c"), limits=BatchLimits(rows=1000))
    with other_process(path) as other, connector(path).open(request) as extract:
        batches = extract.batches()
        seen = next(batches).num_rows
        assert other.execute("INSERT INTO t VALUES ('9999')") == "done"
        assert other.execute("DELETE FROM t WHERE c < '4000'") == "done"
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)") == "done"
        assert seen + sum(batch.num_rows for batch in batches) == 5000
        checkpoint = extract.checkpoint()
    assert checkpoint is not None
    assert checkpoint.high.text == "4999"
    assert read(path, Stream("s", table="t"))[0].num_rows == 1001


def test_a_writer_with_a_rollback_journal_waits_for_the_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)", rows=[[1]])
    with other_process(path) as other:
        with connector(path).open(ReadRequest(Stream("s", table="t"))) as extract:
            assert other.execute("INSERT INTO t VALUES (2)") == "database is locked"
            assert sum(batch.num_rows for batch in extract.batches()) == 1
        assert other.execute("INSERT INTO t VALUES (2)") == "done"


def test_leaving_early_ends_the_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)", rows=[[n] for n in range(3000)])
    request = ReadRequest(Stream("s", table="t"), limits=BatchLimits(rows=10))
    with other_process(path) as other:
        with connector(path).open(request) as extract:
            next(extract.batches())
        assert other.execute("DELETE FROM t") == "done"


def test_a_file_that_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)")
    with other_process(path) as other:
        assert other.execute("BEGIN EXCLUSIVE") == "done"
        with pytest.raises(SourceError) as caught:
            connector(path, timeout=0).test()
    assert (caught.value.code, caught.value.retryable) == ("database_locked", True)


def test_a_lock_that_is_long_waited_for_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_UNTOLD_SECONDS", 0.05)
    caplog.set_level(logging.INFO, logger=waits.NAME)
    path = tmp_path / "a b.db"
    make(path, "CREATE TABLE t (c INT)")
    with other_process(path) as other:
        assert other.execute("BEGIN EXCLUSIVE") == "done"
        with pytest.raises(SourceError) as caught:
            connector(path, timeout=0.1).test()
        assert other.execute("COMMIT") == "done"
    assert caught.value.code == "database_locked"
    assert caplog.messages == [f"the SQLite file {path}: waiting for a lock that is held by another process"]
    connector(path, timeout=0.1).test()


def test_batches_are_bounded_in_bytes_where_rows_grow_long(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    sizes = [*([10] * 2000), *([100_000] * 60), *([10] * 100)]
    make(path, "CREATE TABLE t (id INT, c BLOB)", rows=[[n, b"x" * s] for n, s in enumerate(sizes)])
    limits = BatchLimits(bytes=1_000_000)
    for stream in (Stream("s", table="t"), Stream("s", query="SELECT * FROM t")):
        with connector(path).open(ReadRequest(stream, limits=limits)) as extract:
            batches = list(extract.batches())
        assert [n for b in batches for n in b.column("id").to_pylist()] == list(range(len(sizes)))
        assert [len(c) for b in batches for c in b.column("c").to_pylist()] == sizes
        assert max(b.nbytes for b in batches) <= limits.bytes


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "no.db"
    with pytest.raises(SourceError) as caught:
        connector(path).test()
    assert (caught.value.code, path.exists()) == ("database_not_found", False)


def test_what_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"name,amount\n" * 500)
    for wrong in (path, tmp_path):
        with pytest.raises(SourceError) as caught:
            connector(wrong).test()
        assert caught.value.code == "not_a_database"


def test_a_corrupt_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c TEXT)", rows=[["x" * 100] for _ in range(2000)])
    content = bytearray(path.read_bytes())
    content[8192:40000] = b"\xaa" * (40000 - 8192)
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        read(path, Stream("s", table="t"))
    assert caught.value.code == "database_corrupt"


@contextmanager
def somebody_else(folder: Path) -> Iterator[None]:
    """Not root, who may read everything, but able to reach this folder."""
    if os.geteuid() == 0:
        for parent in (folder, *folder.parents[:3]):
            parent.chmod(parent.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.geteuid() == 65534:
            os.seteuid(0)


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)")
    path.chmod(0)
    with somebody_else(tmp_path), pytest.raises(SourceError) as caught:
        connector(path).test()
    assert caught.value.code == "not_readable"


def test_errors_name_no_rows_and_no_statements(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)")
    with pytest.raises(AtlasError) as caught:
        read(path, Stream("s", query="SELECT nope FROM t WHERE 'hunter2' <> ''"))
    assert "nope" in caught.value.message
    assert "hunter2" not in json.dumps([caught.value.message, caught.value.hint])


def test_connection_settings(tmp_path: Path) -> None:
    assert SqliteConnection(database_path=":memory:").path is None
    relative = SqliteConnection.model_validate({"database_path": "a.db"}, context={"project": tmp_path})
    assert relative.path == tmp_path / "a.db"
    with pytest.raises(ValidationError, match="jornal_mode"):
        SqliteConnection.model_validate({"database_path": "a.db", "options": {"jornal_mode": "wal"}})
    assert connector(":memory:").discover() == []


@pytest.mark.parametrize("name", ["per%cent.db", "quest?ion.db", "ha#sh.db", "spa ce ü.db"])
def test_odd_file_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    make(path, "CREATE TABLE t (c INT)", rows=[[1]])
    assert column(path).to_pylist() == [1]


def test_the_native_client_is_an_engine(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)", rows=[[5]])
    engine = ADAPTER.client(SqliteConnection(database_path=path))
    assert isinstance(engine, Engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT c FROM t")).scalar() == 5
    ADAPTER.dispose(engine)


def test_the_first_hazard_names_column_and_key(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, c INT)", rows=[[1, 5], [2, "five"]])
    with pytest.raises(HazardError, match=r"'c' holds .*\(five\) in the row with id=2") as caught:
        read(path, Stream("s", table="t"))
    assert (caught.value.column, caught.value.exit_code) == ("c", 7)


def test_a_hazard_in_the_only_column_that_could_name_its_row(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (c INT)", rows=[[5], ["five"]])
    with pytest.raises(HazardError, match=r"'c' holds .*\(five\)$"):
        read(path, Stream("s", table="t", cursor="c"))
