"""Where reads of SQLite begin and how far they reach: bounds in the file's own forms, by indexes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from atlas_etl.connectors.sql._source import Select
from atlas_etl.connectors.sql._sqlite import rows as sqlite_rows
from atlas_etl.connectors.sql._sqlite.bounds import Since
from atlas_etl.connectors.sql._sqlite.forms import fast_statement, form
from atlas_etl.errors import ConfigError, HazardError
from atlas_etl.model import BatchLimits, CursorKind, CursorValue, ReadRequest, Stream
from tests.unit.connectors.sqlite_files import connector, make, read


def since(kind: CursorKind, text: str) -> CursorValue:
    return CursorValue(kind, text)


def ids(path: Path, bound: CursorValue | None, **stream: object) -> list[int]:
    table, _ = read(path, Stream("s", table="t", cursor="c", **stream), since=bound)
    return sorted(table.column("id").to_pylist())


@pytest.mark.parametrize(
    ("declared", "stored", "bound", "found", "high"),
    [
        ("INTEGER", [1, 2, 2, 10], since(CursorKind.INTEGER, "2"), [1, 2, 3], "10"),
        ("REAL", [0.1, 0.2, 1e300], since(CursorKind.FLOAT, "0.2"), [1, 2], "1e+300"),
        ("DECIMAL(12,2)", [9, 10.25, "10.50"], since(CursorKind.DECIMAL, "10.25"), [1, 2], "10.50"),
        ("DECIMAL(20,2)", [9, 10.25, 1e14], since(CursorKind.DECIMAL, "10.25"), [1, 2], "100000000000000.00"),
        ("TEXT", ["a", "b", "B"], since(CursorKind.TEXT, "b"), [1], "b"),
        ("TEXT COLLATE NOCASE", ["a", "b", "B"], since(CursorKind.TEXT, "b"), [1, 2], "b"),
        ("DATE", ["2024-01-01", "2024-01-02", "2024-01-02 00:00:00"], since(CursorKind.DATE, "2024-01-02"),
         [1, 2], "2024-01-02"),
        ("UUID", ["0a000000-0000-0000-0000-000000000000", "0B000000-0000-0000-0000-000000000000"],
         since(CursorKind.UUID, "0b000000-0000-0000-0000-000000000000"), [1],
         "0b000000-0000-0000-0000-000000000000"),
        ("", [1, 2, 3], since(CursorKind.INTEGER, "2"), [1, 2], "3"),
    ],
)  # fmt: skip
def test_bounds_and_high(
    tmp_path: Path, declared: str, stored: list[object], bound: CursorValue, found: list[int], high: str
) -> None:
    path = tmp_path / "a.db"
    make(path, f"CREATE TABLE t (id INT, c {declared})", rows=list(enumerate(stored)))
    assert ids(path, bound) == found
    _, checkpoint = read(path, Stream("s", table="t", cursor="c"))
    assert checkpoint is not None
    assert checkpoint.high == CursorValue(bound.kind, high)
    _, again = read(path, Stream("s", table="t", cursor="c"), since=checkpoint.tail_from)
    assert again == checkpoint


@pytest.mark.parametrize("declared", ["TIMESTAMP", "TEXT"])
def test_a_timestamp_is_bounded_in_the_files_form(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "a.db"
    stamps = [
        "2024-01-01 09:59:59.999999",
        "2024-01-01 10:00:00",
        "2024-01-01 10:00:00.5",
        "2024-01-02 00:00:00",
    ]
    make(path, f"CREATE TABLE t (id INT, c {declared})", rows=list(enumerate(stamps)))
    _, first = read(path, Stream("s", table="t", cursor="c"))
    assert first is not None
    assert first.high.text.replace("T", " ").removesuffix(".000000") == stamps[-1]
    assert ids(path, first.tail_from) == [3]
    make(
        path, rows=[[4, "2024-01-01 23:59:59"], [5, "2024-01-02 00:00:00"], [6, "2024-01-02 00:00:00.000001"]]
    )
    assert ids(path, first.tail_from) == [3, 5, 6]


MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)) | st.builds(
    lambda seconds, micros: datetime(2024, 1, 1) + timedelta(seconds=seconds, microseconds=micros),
    st.sampled_from([0, 1, 59, 60, 3599, 3600, 86399, 86400]),
    st.sampled_from([0, 1, 500_000, 999_999]),
)
ZONES = st.sampled_from(["Z", "+00:00", "+02:00", "-11:30", "+14:00", "+0200", "-02"])


def spelled(moment: datetime, separator: str, short: bool, zone: str) -> str:
    """A moment as some program writes it; `short` leaves out what is zero."""
    if zone not in ("", "Z"):
        minutes = {"+00:00": 0, "+02:00": 120, "-11:30": -690, "+14:00": 840, "+0200": 120, "-02": -120}[zone]
        moment = (
            (moment.replace(tzinfo=UTC)).astimezone(timezone(timedelta(minutes=minutes))).replace(tzinfo=None)
        )
    text = moment.isoformat(sep=separator, timespec="microseconds")
    if short:
        text = text.rstrip("0").rstrip(".") if moment.microsecond else text[:19]
        if text.endswith(":00"):
            text = text.removesuffix(":00")
    return text + zone


@settings(max_examples=200, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_exactly_the_rows_from_the_bound_on(data: st.DataObject, zoned: bool, indexed: bool) -> None:
    """The destination deletes its tail by instants, so the source must find the same rows by its texts."""
    moments = data.draw(st.lists(MOMENTS, min_size=1, max_size=8))
    texts = [
        spelled(
            m, data.draw(st.sampled_from(" T")), data.draw(st.booleans()), data.draw(ZONES) if zoned else ""
        )
        for m in moments
    ]
    bound = data.draw(st.sampled_from(moments) | MOMENTS)
    kind = CursorKind.TIMESTAMPTZ if zoned else CursorKind.TIMESTAMP
    text = bound.isoformat(timespec="microseconds") + ("Z" if zoned else "")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        index = ["CREATE INDEX by_c ON t (c)"] if indexed else []
        make(path, "CREATE TABLE t (id INT, c TIMESTAMP)", *index, rows=list(enumerate(texts)))
        assert ids(path, since(kind, text)) == [n for n, moment in enumerate(moments) if moment >= bound]
        table, checkpoint = read(path, Stream("s", table="t", cursor="c"), since=since(kind, text))
        assert (checkpoint is None) == (table.num_rows == 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), max_size=8), st.integers(-4, 4))
def test_integers_by_a_model(stored: list[int], bound: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        make(path, "CREATE TABLE t (id INT, c INT)", rows=list(enumerate(stored)))
        expected = [n for n, cell in enumerate(stored) if cell >= bound]
        assert ids(path, since(CursorKind.INTEGER, str(bound))) == expected


@pytest.mark.parametrize("odd", [1700000000, "", "0000-00-00 00:00:00", "garbage", b"blob"])
def test_what_is_no_timestamp_is_met_though_it_sorts_before_the_bound(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INT, c TIMESTAMP)", "CREATE INDEX by_c ON t (c)",
         rows=[[1, "2024-01-01 00:00:00"], [2, odd]])  # fmt: skip
    with pytest.raises(HazardError):
        ids(path, since(CursorKind.TIMESTAMP, "2024-01-01T00:00:00.000000"))


def test_nan_bounds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INT, c REAL)", rows=[[1, 1.5]])
    with pytest.raises(ConfigError) as caught:
        ids(path, since(CursorKind.FLOAT, "nan"))
    assert caught.value.code == "cursor_type"


@pytest.mark.parametrize(
    ("declared", "bound"),
    [
        ("INTEGER", since(CursorKind.INTEGER, "5")),
        ("TEXT", since(CursorKind.TEXT, "b")),
        ("TIMESTAMP", since(CursorKind.TIMESTAMP, "2024-01-01T00:00:00.000000")),
        ("TIMESTAMPTZ", since(CursorKind.TIMESTAMPTZ, "2024-01-01T00:00:00.000000Z")),
        ("DATE", since(CursorKind.DATE, "2024-01-01")),
        ("UUID", since(CursorKind.UUID, "0b000000-0000-0000-0000-000000000000")),
    ],
)
def test_an_index_on_the_cursor_serves_the_bound(tmp_path: Path, declared: str, bound: CursorValue) -> None:
    path = tmp_path / "a.db"
    make(path, f"CREATE TABLE t (id INT, c {declared})", "CREATE INDEX by_c ON t (c)")
    reading = connector(path)
    with reading.snapshot() as snapshot:
        relation = snapshot.relation(Stream("s", table="t"))
        cursor = relation.columns[1]
        placeholder, parameter = reading.dialect.bound(cursor, bound)
        sql = f'SELECT "id" AS "id", "c" AS "c" FROM {relation.sql} WHERE "c" >= {placeholder}'
        forms = [form(column, affinity_holds=True) for column in relation.columns]
        statement = fast_statement(sql, forms, 0)
    given_text = parameter.text if isinstance(parameter, Since) else parameter
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", (given_text,)).fetchall()
    steps = [str(step[3]).replace("main.", "") for step in plan]
    assert any(step.startswith("SEARCH t USING INDEX by_c (c>?") for step in steps), steps
    assert not any(step.startswith("SCAN t") for step in steps), steps


def test_a_view_and_a_query_have_cursors(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE b (id INT, at TIMESTAMP)", "CREATE VIEW t AS SELECT id, at AS c FROM b",
         rows=[[1, "2024-01-01 00:00:00"], [2, "2024-01-02 00:00:00"]], into="b")  # fmt: skip
    bound = since(CursorKind.TIMESTAMP, "2024-01-02T00:00:00.000000")
    assert ids(path, bound) == [2]
    query = Stream("s", query="SELECT id, c FROM t ORDER BY c DESC LIMIT 5", cursor="c")
    assert read(path, query, since=bound)[0].column("id").to_pylist() == [2]


def test_restarting_in_the_middle_of_a_bounded_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_rows, "_WIRE_ROWS", 2)
    path = tmp_path / "a.db"
    rows = [[n, f"2024-01-01 10:{n % 60:02}:00", float("inf") if n == 50 else n / 4] for n in range(100)]
    make(path, "CREATE TABLE t (id INT, c TIMESTAMP, j JSON)", "CREATE INDEX by_c ON t (c)", rows=rows)
    bound = since(CursorKind.TIMESTAMP, "2024-01-01T10:30:00.000000")
    assert ids(path, bound) == [n for n in range(100) if n % 60 >= 30]


def test_the_tail_of_a_text_cursor_has_every_spelling(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INT, c TEXT COLLATE NOCASE)", rows=[[1, "a"], [2, "b"], [3, "B"]])
    _, checkpoint = read(path, Stream("s", table="t", cursor="c"))
    assert checkpoint is not None
    assert set(checkpoint.tail_values) == {"b", "B"}


def test_lag_goes_back_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INT, c TIMESTAMP)", rows=[[1, "2024-01-01 10:00:00"]])
    stream = Stream("s", table="t", cursor="c", lag=timedelta(minutes=5))
    _, checkpoint = read(path, stream)
    assert checkpoint is not None
    assert checkpoint.tail_from.text == "2024-01-01T09:55:00.000000"


def test_a_snapshot_reads_a_count_of_any_select(tmp_path: Path) -> None:
    """Statements of one snapshot see one moment, whatever they select."""
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE t (id INT, c INT)", rows=[[1, 5]])
    with connector(path).open(ReadRequest(Stream("s", table="t", cursor="c"))) as extract:
        assert extract.schema.field("c").type == pa.int64()
    with connector(path).snapshot() as snapshot:
        columns = snapshot.relation(Stream("s", table="t")).columns
        select = Select("SELECT count(*) AS c FROM t", (), (replace(columns[1]),))
        ((batch, found),) = snapshot.fetch(select, BatchLimits())
    assert (batch.to_pylist(), list(found)) == ([{"c": 1}], [])
