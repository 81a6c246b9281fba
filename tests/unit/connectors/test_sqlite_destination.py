"""Writing SQLite: what is stored reads back equal, loads are whole, and the file is safe."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors import waits
from atlas_etl.connectors.sql._sqlite import driver
from atlas_etl.connectors.sql._sqlite.destination import SqliteDestination
from atlas_etl.connectors.sql._sqlite.types import declaration, kept_type, stored_type
from atlas_etl.connectors.sql.sqlite import ADAPTER
from atlas_etl.errors import AtlasError, DataError, DestinationError, RefusedRowError, UsageError
from atlas_etl.model import (
    Checkpoint,
    CreateTable,
    CursorKind,
    CursorValue,
    Disposition,
    LoadPlan,
    Stream,
    TableName,
)
from atlas_etl.pipeline.schema import conform, evolve
from tests.unit.connectors.sqlite_files import make, other_process, read
from tests.waiting import until

TABLE = TableName("shop__t")


def destination(path: Path | str, **options: object) -> SqliteDestination:
    config = ADAPTER.connection.model_validate({"database_path": str(path), "options": options})
    return SqliteDestination(config)


def plan(schema: pa.Schema, disposition: Disposition = Disposition.APPEND, **more: object) -> LoadPlan:
    made = LoadPlan("run", "shop", "t", TABLE, disposition, schema, (), None, (CreateTable(),))
    return replace(made, **more)


def load(
    into: SqliteDestination, rows: pa.RecordBatch, checkpoint: Checkpoint | None = None, **more: object
) -> int:
    """One load as the pipeline does it; how many rows it added or changed."""
    state = into.inspect("shop", "t", TABLE)
    schema, changes = evolve(state.schema, rows.schema, into.storable)
    made = plan(schema, changes=changes, **more)
    with into.begin(made) as session:
        session.write(conform(rows, schema))
        return session.commit(checkpoint).rows


def rows(name: str, kind: pa.DataType, cells: list[object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({name: pa.array(cells, kind)})


def there(path: Path, table: str = "shop__t") -> list[dict[str, object]]:
    return read(path, Stream("s", table=table))[0].to_pylist()


KINDS = st.one_of(
    st.sampled_from([
        pa.int8(), pa.uint32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.bool_(), pa.string(),
        pa.large_string(), pa.binary(), pa.binary(3), pa.large_binary(), pa.date32(), pa.date64(),
        pa.time32("s"),
        pa.time64("us"), pa.time64("ns"), pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us"),
        pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.uuid(),
        pa.json_(),
        pa.list_(pa.int32()), pa.month_day_nano_interval(), pa.null(), pa.dictionary(pa.int8(), pa.string()),
        pa.struct([("a", pa.int8())]), pa.decimal128(5, -2), pa.decimal128(3, 5), pa.float16(),
    ]),
    st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: pa.decimal128(p, s))),
    st.integers(1, 76).flatmap(lambda p: st.integers(0, p).map(lambda s: pa.decimal256(p, s))),
)  # fmt: skip


@given(KINDS)
def test_a_declaration_reads_as_the_type_that_it_stores(kind: pa.DataType) -> None:
    stored = stored_type(kind)
    assert stored_type(stored) == stored
    assert kept_type(declaration(stored)) == stored


def test_tables_are_declared_as_they_are_stored(tmp_path: Path) -> None:
    into = destination(tmp_path / "a.db")
    kinds = [
        pa.uint64(),
        pa.decimal128(12, 2),
        pa.timestamp("ns", "UTC"),
        pa.json_(),
        pa.float32(),
        pa.uuid(),
    ]
    schema = into.storable(pa.schema([(f"c{n}", kind) for n, kind in enumerate(kinds)]))
    with into.begin(plan(schema)) as session:
        session.commit(None)
    assert into.inspect("shop", "t", TABLE).schema == schema


def cells_of(kind: pa.DataType) -> st.SearchStrategy[object]:
    if pa.types.is_decimal(kind):
        limit = 10**kind.precision - 1
        return st.integers(-limit, limit).map(lambda n: Decimal(f"{n}E{-kind.scale}"))
    if pa.types.is_timestamp(kind):
        zone = st.just(UTC) if kind.tz else st.none()
        return st.datetimes(timezones=zone)
    return {
        pa.int64(): st.integers(-(2**63), 2**63 - 1),
        pa.uint64(): st.integers(0, 2**64 - 1),
        pa.float64(): st.floats().map(lambda x: x or 0.0),  # SQLite's REAL has no negative zero
        pa.bool_(): st.booleans(),
        pa.string(): st.text(st.characters(exclude_categories=["Cs"])),
        pa.binary(): st.binary(),
        pa.date32(): st.dates(),
        pa.time64("us"): st.times(),
    }[kind]


WRITTEN = st.sampled_from([
    pa.int64(), pa.uint64(), pa.float64(), pa.bool_(), pa.string(), pa.binary(), pa.date32(), pa.time64("us"),
    pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.decimal128(15, 2), pa.decimal128(38, 20),
    pa.decimal256(76, 0),
])  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.data(), st.lists(WRITTEN, min_size=1, max_size=4), st.sampled_from(Disposition))
def test_what_is_written_reads_back_equal(
    data: st.DataObject, kinds: list[pa.DataType], disposition: Disposition
) -> None:
    count = data.draw(st.integers(1, 5))
    columns = [data.draw(st.lists(st.none() | cells_of(k), min_size=count, max_size=count)) for k in kinds]
    ids = pa.array(range(count), pa.int64())
    arrays = [pa.array(cells, kind) for cells, kind in zip(columns, kinds, strict=True)]
    names = ["id", *(f"c{n}" for n in range(len(kinds)))]
    batch = pa.RecordBatch.from_arrays([ids, *arrays], names=names)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        into = destination(path)
        load(into, batch, disposition=disposition, primary_key=("id",))
        schema = into.storable(batch.schema)
        for found in (
            read(path, Stream("s", table="shop__t", primary_key=("id",)))[0],
            into.query("SELECT * FROM shop__t ORDER BY id"),
        ):
            assert found.schema.types == schema.types
            for array, field in zip(arrays, list(schema)[1:], strict=True):
                want = values.to_text(values.convert(array, field.type)).to_pylist()
                assert values.to_text(found.column(field.name).combine_chunks()).to_pylist() == want


def test_values_are_what_sqlite_users_expect(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([datetime(2024, 2, 29, 10, 0, 0, 500000, tzinfo=UTC)], pa.timestamp("us", "UTC")),
            pa.array([Decimal("-12.50")], pa.decimal128(12, 2)),
            pa.array([math.nan], pa.float64()),
            pa.array([True]),
            pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\x12" * 16], pa.binary(16))),
            pa.array([date(9, 1, 2)]),
        ],
        names=["at", "price", "ratio", "ok", "key", "day"],
    )
    load(destination(path), batch)
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT * FROM shop__t").fetchone()
        (declared,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'shop__t'").fetchone()
    uuid = "-".join("12" * n for n in (4, 2, 2, 2, 6))
    assert row == ("2024-02-29 10:00:00.500000Z", "-12.50", "NaN", 1, uuid, "0009-01-02")
    assert declared == (
        'CREATE TABLE "shop__t" ("at" TIMESTAMPTZ, "price" DECIMAL_TEXT(12,2), "ratio" DOUBLE, "ok" BOOLEAN, '
        '"key" UUID, "day" DATE)'
    )
    assert math.isnan(float(str(there(path)[0]["ratio"])))


@pytest.mark.parametrize(
    "column", [pa.array([4_000_000], pa.date32()), pa.array([-(10**17)], pa.timestamp("us"))]
)
def test_a_date_that_four_digits_do_not_hold_is_refused(tmp_path: Path, column: pa.Array) -> None:
    with pytest.raises(DataError) as caught:
        load(destination(tmp_path / "a.db"), pa.RecordBatch.from_arrays([column], names=["c"]))
    assert caught.value.code == "out_of_range"


def test_uuids_of_a_slice_with_nulls(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    raw = pa.array([bytes([n]) * 16 if n % 3 else None for n in range(20)], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), raw).slice(5, 9)
    load(destination(path), pa.RecordBatch.from_arrays([column], names=["c"]))
    found, _ = read(path, Stream("s", table="shop__t"))
    assert found.column("c").combine_chunks().storage.to_pylist() == raw.to_pylist()[5:14]


def decimals(*texts: str, kind: pa.DataType | None = None) -> pa.RecordBatch:
    cells = [Decimal(text) for text in texts]
    return pa.RecordBatch.from_pydict({
        "id": pa.array(range(len(cells)), pa.int64()), "c": pa.array(cells, kind or pa.decimal128(40 - 2, 2)),
    })  # fmt: skip


ORDER = [
    "-99999999999999999999.99",
    "-10.00",
    "-9.50",
    "-0.01",
    "0.00",
    "0.01",
    "9.00",
    "10.00",
    "123456789012345678901.00",
]


@pytest.mark.parametrize("bound", range(len(ORDER)))
def test_the_tail_of_a_decimal_cursor_is_numeric(tmp_path: Path, bound: int) -> None:
    path = tmp_path / "a.db"
    into = destination(path)
    load(into, decimals(*ORDER), cursor="c")
    at = CursorValue(CursorKind.DECIMAL, ORDER[bound])
    load(into, decimals("77.00"), cursor="c", tail=Checkpoint("c", at, at))
    assert [str(row["c"]) for row in there(path)] == [*ORDER[:bound], "77.00"]


def test_the_latest_by_a_decimal_cursor_wins(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    batch = decimals("9.00", "10.00", "-3.00").set_column(0, "id", pa.array([1, 1, 1], pa.int64()))
    load(destination(path), batch, disposition=Disposition.MERGE, primary_key=("id",), cursor="c")
    assert there(path) == [{"id": 1, "c": Decimal("10.00")}]


WIDENED: list[tuple[pa.DataType, object, pa.DataType, object, list[str | None]]] = [
    (pa.int64(), 5, pa.decimal128(30, 3), Decimal("1.500"), ["5.000", "1.500"]),
    (pa.decimal128(5, 2), Decimal("-1.50"), pa.decimal128(12, 4), Decimal("2.1234"), ["-1.5000", "2.1234"]),
    (pa.decimal128(5, 0), Decimal("-15"), pa.decimal128(12, 0), Decimal("2"), ["-15", "2"]),
    (pa.timestamp("us", "UTC"), datetime(2024, 1, 1, tzinfo=UTC), pa.timestamp("ns", "UTC"), 1,
     ["2024-01-01T00:00:00.000000000Z", "1970-01-01T00:00:00.000000001Z"]),
    (pa.timestamp("us"), None, pa.timestamp("ns"), 1, [None, "1970-01-01T00:00:00.000000001"]),
    (pa.int64(), 2**62, pa.string(), "x", [str(2**62), "x"]),
    (pa.decimal128(5, 2), Decimal("1.50"), pa.string(), "x", ["1.50", "x"]),
    (pa.uint64(), 2**64 - 1, pa.decimal128(25, 2), Decimal("0.25"), [f"{2**64 - 1}.00", "0.25"]),
]  # fmt: skip


KEYED = [(*case, key) for case in WIDENED for key in ((), ("c",)) if not (key and case[1] is None)]


@pytest.mark.parametrize(
    ("narrow", "first", "wide", "second", "expected", "key"), KEYED, ids=lambda v: str(v)[:25]
)
def test_widening_keeps_rows_keys_indexes_and_views(
    tmp_path: Path, narrow: pa.DataType, first: object, wide: pa.DataType, second: object,
    expected: list[str | None], key: tuple[str, ...],
) -> None:  # fmt: skip
    path = tmp_path / "a.db"
    into = destination(path)
    how = {"primary_key": key, "disposition": Disposition.MERGE if key else Disposition.APPEND}
    load(into, rows("c", narrow, [first]), **how)
    make(path, "CREATE INDEX by_c ON shop__t (c)", "CREATE VIEW seen AS SELECT c FROM shop__t")
    load(into, rows("c", wide, [second]), **how)
    found, _ = read(path, Stream("s", table="shop__t"))
    assert values.to_text(found.column("c").combine_chunks()).to_pylist() == expected
    assert read(path, Stream("s", table="seen"))[0].num_rows == 2
    with closing(sqlite3.connect(path)) as connection:
        names = {row[1] for row in connection.execute("PRAGMA index_list(shop__t)")}
        keys = [row[1] for row in connection.execute("PRAGMA table_info(shop__t)") if row[5]]
    assert "by_c" in names
    assert tuple(keys) == key


def made_by(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        ((sql,),) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'shop__t'")
    return str(sql)


LOST = {
    "n INTEGER, c INTEGER NOT NULL": "NOT NULL",
    "n INTEGER, c INTEGER UNIQUE": "UNIQUE",
    "n INTEGER, c INTEGER\n not\tnull -- always": "NOT NULL",
    "n INTEGER, c INTEGER, CHECK (c > 0)": "CHECK",
    "n INTEGER DEFAULT 'x', c INTEGER": "DEFAULT",
    "n INTEGER REFERENCES other (n), c INTEGER": "REFERENCES",
    "n INTEGER AS (c + 1), c INTEGER": "AS",
}


@pytest.mark.parametrize("columns", LOST)
def test_a_table_that_would_lose_what_it_declares_is_not_made_anew(tmp_path: Path, columns: str) -> None:
    path = tmp_path / "a.db"
    made = f"CREATE TABLE shop__t ({columns}\n)"
    make(path, made)
    with pytest.raises(DestinationError) as caught:
        load(destination(path), rows("c", pa.string(), ["x"]))
    assert caught.value.code == "cannot_widen"
    assert caught.value.message.endswith(f"would be lost: {LOST[columns]}")
    assert made_by(path) == made


def test_names_texts_and_comments_declare_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, 'CREATE TABLE shop__t ("not null" INT, [check] INT, `unique` INT, c INT /* default */)')
    load(destination(path), rows("c", pa.string(), ["x"]))
    assert there(path)[0]["c"] == "x"


@pytest.mark.parametrize(
    "column", ["c INTEGER NOT NULL ON CONFLICT REPLACE DEFAULT 5", "c INTEGER unique on conflict\nreplace"]
)
def test_a_table_that_replaces_rows_is_refused(tmp_path: Path, column: str) -> None:
    path = tmp_path / "a.db"
    make(path, f"CREATE TABLE shop__t ({column})")
    with pytest.raises(DestinationError) as caught:
        load(destination(path), rows("c", pa.int64(), [1, None]))
    assert caught.value.code == "replaces_rows"
    assert there(path) == []


def test_a_column_named_rowid_is_merged(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    batch = pa.RecordBatch.from_pydict({"id": [1, 1, 2], "rowid": ["old", "new", "new"]})
    load(destination(path), batch, disposition=Disposition.MERGE, primary_key=("id",))
    assert there(path) == [{"id": 1, "rowid": "new"}, {"id": 2, "rowid": "new"}]


def test_two_rows_of_one_key_are_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    into = destination(path)
    load(into, rows("id", pa.int64(), [1]), disposition=Disposition.REPLACE, primary_key=("id",), keyed=True)
    with pytest.raises(DataError) as caught:
        load(into, rows("id", pa.int64(), [2, 1]), primary_key=("id",))
    assert caught.value.code == "constraint"
    assert there(path) == [{"id": 1}]


def test_a_key_without_value_stays_null(tmp_path: Path) -> None:
    """SQLite would number the rows of an INTEGER PRIMARY KEY."""
    path = tmp_path / "a.db"
    none = rows("id", pa.int64(), [None])
    load(destination(path), none, disposition=Disposition.REPLACE, primary_key=("id",))
    assert there(path) == [{"id": None}]


def test_merging_by_key_does_not_look_through_the_table(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    into = destination(path)
    for key in (("id",), ("id", "k")):
        made = plan(pa.schema([("id", pa.int64()), ("k", pa.string())]), Disposition.MERGE, primary_key=key)
        with into.begin(replace(made, table=TableName("_".join(key)))) as session:
            session.commit(None)
        stage = '"stage"'
        delete, _ = into.dialect.merge(replace(made, table=TableName("_".join(key))), stage)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute('CREATE TEMP TABLE "stage" (id, k)')
            steps = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {delete}")]
        assert any(step.startswith(f"SEARCH {'_'.join(key)} USING") for step in steps), steps


def test_the_file_is_its_owners_and_its_journal_is_a_wal(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    old = os.umask(0)
    try:
        load(destination(path), rows("c", pa.int64(), [1]))
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(("asked", "mode"), [(None, "delete"), ("wal", "wal")])
def test_the_journal_of_a_file_that_is_there_is_the_users(
    tmp_path: Path, asked: str | None, mode: str
) -> None:
    path = tmp_path / "a.db"
    make(path, "CREATE TABLE mine (c INT)")
    load(destination(path, journal_mode=asked), rows("c", pa.int64(), [1]))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == (mode,)


def test_looking_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    into = destination(path)
    assert into.inspect("shop", "t", TABLE).schema is None
    assert list(into.checkpoints("shop")) == []
    with pytest.raises(UsageError, match="no such table"):
        into.query("SELECT * FROM shop__t")
    assert not path.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DestinationError) as caught:
        destination(tmp_path / "no" / "a.db").test()
    assert caught.value.code == "folder_not_found"
    with pytest.raises(DestinationError) as caught:
        destination(tmp_path).test()
    assert caught.value.code == "not_a_database"


@pytest.fixture
def not_root(tmp_path: Path) -> Iterator[None]:
    """Somebody who may look into the folder, and write nothing there."""
    for parent in (tmp_path, *tmp_path.parents[:3]):
        if os.geteuid() == 0:
            parent.chmod(parent.stat().st_mode | 0o055)
    tmp_path.chmod(0o555)
    was = os.geteuid()
    if was == 0:
        os.seteuid(65534)
    yield
    os.seteuid(was)
    tmp_path.chmod(0o755)


@pytest.mark.usefixtures("not_root")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(DestinationError) as caught:
        destination(tmp_path / "a.db").test()
    assert caught.value.code == "not_writable"


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database, but long enough" * 100)
    with pytest.raises(DestinationError) as caught:
        destination(path).test()
    assert caught.value.code == "not_a_database"


def test_a_file_that_somebody_writes_to(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    into = destination(path, timeout=0)
    load(into, rows("c", pa.int64(), [1]))
    with other_process(path) as other:
        assert other.execute("BEGIN IMMEDIATE") == "done"
        with pytest.raises(DestinationError) as caught:
            load(into, rows("c", pa.int64(), [2]))
        assert (caught.value.code, caught.value.retryable) == ("database_locked", True)
        assert into.inspect("shop", "t", TABLE).loaded_by_atlas  # looking does not wait
        assert other.execute("ROLLBACK") == "done"
    assert load(into, rows("c", pa.int64(), [2])) == 1


def test_a_load_that_waits_for_long_tells_so_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_UNTOLD_SECONDS", 0.05)
    caplog.set_level(logging.INFO, logger=waits.NAME)
    path = tmp_path / "a.db"
    into = destination(path)
    load(into, rows("c", pa.int64(), [1]))
    with other_process(path) as other, ThreadPoolExecutor() as pool:
        assert other.execute("BEGIN IMMEDIATE") == "done"
        loaded = pool.submit(load, into, rows("c", pa.int64(), [2]))
        until(lambda: caplog.messages, "the wait is told")
        assert other.execute("ROLLBACK") == "done"
        assert loaded.result() == 1
    assert caplog.messages == [f"the SQLite file {path}: waiting for a lock that is held by another process"]


def test_a_load_keeps_other_writers_out_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    into = destination(path)
    batch = rows("c", pa.int64(), [1])
    load(into, batch)
    with other_process(path) as other:
        with into.begin(plan(batch.schema, changes=())) as session:
            assert other.execute("DELETE FROM shop__t") == "database is locked"
            session.commit(None)
        assert other.execute("DELETE FROM shop__t") == "done"


def test_a_load_may_read_the_file_that_it_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path, "PRAGMA journal_mode = WAL", "CREATE TABLE t (c INT)", rows=[[n] for n in range(100)])
    source, _ = read(path, Stream("s", table="t"))
    assert load(destination(path), source.combine_chunks().to_batches()[0]) == 100
    assert len(there(path)) == 100


def test_in_memory() -> None:
    into = destination(":memory:")
    assert into.test().message
    load(into, rows("c", pa.int64(), [1]))
    with pytest.raises(KeyError), into.begin(plan(pa.schema([("c", pa.int64())]), changes=())) as session:
        session.write(rows("c", pa.int64(), [2]))
        raise KeyError
    load(into, rows("c", pa.int64(), [3]))
    assert into.query("SELECT c FROM shop__t").column("c").to_pylist() == [1, 3]
    into.close()


def test_queries_read_only_and_show_mixed_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    into = destination(path)
    make(path, "CREATE TABLE t (c INT)", rows=[[1], ["x"]])
    assert into.query("SELECT c FROM t").column("c").to_pylist() == ["1", "x"]
    assert into.query("SELECT count(*) AS n FROM t").to_pylist() == [{"n": 2}]
    for wrong in ("DELETE FROM t", "SELECT nope FROM t", "SELECT 1; DELETE FROM t", "DROP TABLE t"):
        with pytest.raises((UsageError, DestinationError)):
            into.query(wrong)
    assert into.query("SELECT count(*) AS n FROM t").to_pylist() == [{"n": 2}]


_KILLED = """
import os, sys
from pathlib import Path
import pyarrow as pa
from tests.unit.connectors.test_sqlite_destination import destination, load, plan
from atlas_etl.model import Disposition
into = destination(Path(sys.argv[1]))
batch = pa.RecordBatch.from_pydict({"id": pa.array(range(50_000)), "c": pa.array(["new" * 50] * 50_000)})
more = {"changes": (), "primary_key": ("id",)}
with into.begin(plan(batch.schema, Disposition(sys.argv[2]), **more)) as session:
    session.write(batch)
    os._exit(9)
"""


@pytest.mark.parametrize("disposition", list(Disposition))
@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_a_kill_before_the_commit_leaves_what_was_there(
    tmp_path: Path, disposition: Disposition, journal_mode: str
) -> None:
    path = tmp_path / "a.db"
    into = destination(path, journal_mode=journal_mode)
    at = CursorValue(CursorKind.INTEGER, "1")
    first = pa.RecordBatch.from_pydict({"id": pa.array([1]), "c": pa.array(["old"])})
    load(into, first, Checkpoint("id", at, at), cursor="id")
    before = into.inspect("shop", "t", TABLE)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path), disposition.value], check=False)
    assert killed.returncode == 9
    assert into.inspect("shop", "t", TABLE) == before
    assert there(path) == [{"id": 1, "c": "old"}]


_FULL = """
import resource, sys
from pathlib import Path
import pyarrow as pa
from atlas_etl.errors import DestinationError
from tests.unit.connectors.test_sqlite_destination import destination, load
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
batch = pa.RecordBatch.from_pydict({"id": pa.array(range(50_000)), "c": pa.array(["new" * 50] * 50_000)})
try:
    load(destination(Path(sys.argv[1])), batch)
except DestinationError as failure:
    print(failure.code, failure.retryable)
"""


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    load(destination(path), pa.RecordBatch.from_pydict({"id": pa.array([1]), "c": pa.array(["old"])}))
    full = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)], check=True, capture_output=True, text=True
    )
    assert full.stdout in ("disk_full True\n", "io_error True\n")
    assert there(path) == [{"id": 1, "c": "old"}]


def test_errors_of_sqlite_are_all_ours(tmp_path: Path) -> None:
    into = destination(tmp_path / "a.db")
    with into.connect() as connection, pytest.raises(AtlasError) as caught:
        connection.execute("INSERT INTO nowhere VALUES ('hunter2')")
    assert caught.value.code == "sql"
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
@pytest.mark.parametrize("declared", ["STRING", "XML", "STRICT"])
def test_texts_of_which_somebodys_column_makes_numbers(
    tmp_path: Path, disposition: Disposition, declared: str
) -> None:
    """A declaration that SQLite does not know is NUMERIC; ANY of a STRICT table keeps what comes."""
    path = tmp_path / "own.db"
    own = "v ANY) STRICT" if declared == "STRICT" else f"v {declared})"
    make(path, f"CREATE TABLE shop__t (id INTEGER PRIMARY KEY, {own}")
    key = {"primary_key": ("id",)} if disposition is Disposition.MERGE else {}
    kept = ["a", "", "7", "-12", "1.5", "-0.25", "9007199254740993", "0x10", "1e", None]
    changed = ["007", "+7", "1.10", "1e3", ".5", "5.", " 7", "7 ", "-0", "0.1000000000000000055", "9" * 30]

    def loaded(first: int, texts: list[str | None]) -> None:
        ids = pa.array(range(first, first + len(texts)), pa.int64())
        batch = pa.RecordBatch.from_arrays([ids, pa.array(texts, pa.string())], ["id", "v"])
        load(destination(path), batch, disposition=disposition, **key)

    def texts() -> list[object]:
        with closing(sqlite3.connect(path)) as file:
            return [text for (text,) in file.execute("SELECT CAST(v AS TEXT) FROM shop__t ORDER BY id")]

    loaded(0, kept)
    assert texts() == kept
    for number, text in enumerate(changed):
        if declared == "STRICT":
            loaded(100 + number, [text])
            continue
        with pytest.raises(RefusedRowError) as caught:
            loaded(100, [text])
        assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "v")
    assert texts() == kept + (changed if declared == "STRICT" else [])


def test_a_name_that_sqlite_keeps_for_itself_is_told_with_a_way_out(tmp_path: Path) -> None:
    into = destination(tmp_path / "w.db")
    table = into.table_name("sqlite", Stream("orders"))
    begun = into.begin(plan(pa.schema([("n", pa.int64())]), table=table))
    with pytest.raises(DestinationError) as caught, begun:
        pass
    assert caught.value.code == "reserved_name"
    assert "`into`" in str(caught.value.hint)


@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
def test_a_column_that_the_table_computes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.db"
    make(path, f"CREATE TABLE shop__t (a INTEGER, C INTEGER AS (a + 1) {kind})")
    with pytest.raises(DestinationError) as caught:
        load(destination(path), rows("c", pa.int64(), [1]))
    assert (caught.value.code, caught.value.column) == ("computed_column", "C")
    assert "`exclude`" in str(caught.value.hint)
    load(destination(path), rows("a", pa.int64(), [1]))
    assert there(path)[0] == {"a": 1, "C": 2}


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
@pytest.mark.parametrize("by", ["constraint", "trigger"])
def test_a_rule_that_ends_the_load_where_it_refuses_a_row(
    tmp_path: Path, disposition: Disposition, by: str
) -> None:
    path, rule = tmp_path / "a.db", "NOT NULL ON CONFLICT ROLLBACK" if by == "constraint" else ""
    make(path, f"CREATE TABLE shop__t (a INTEGER PRIMARY KEY, v TEXT {rule})")
    raises = "BEGIN SELECT RAISE(ROLLBACK, 'no') WHERE new.v IS NULL; END"
    make(path, *([f"CREATE TRIGGER refuses BEFORE INSERT ON shop__t {raises}"] if by == "trigger" else []))
    batch = pa.RecordBatch.from_pydict({"a": [1, 2], "v": ["x", None]})
    with pytest.raises(DestinationError) as caught:
        load(destination(path), batch, disposition=disposition, primary_key=("a",), careful=True)
    assert (caught.value.code, "ABORT" in str(caught.value.hint)) == ("rule_ends_load", True)
    assert there(path) == []


def test_rows_that_a_views_triggers_take_are_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(
        path,
        "CREATE TABLE base (a INTEGER)",
        "CREATE VIEW shop__t AS SELECT * FROM base",
        "CREATE TRIGGER adds INSTEAD OF INSERT ON shop__t BEGIN INSERT INTO base VALUES (new.a); END",
    )
    into, batch = destination(path), rows("a", pa.int64(), [1, 2])
    with into.begin(plan(batch.schema, changes=())) as session:
        session.write(batch)
        done = session.commit(None)
    assert (done.rows, done.left_out) == (2, 0)
    assert len(there(path, "base")) == 2
    with pytest.raises(DestinationError, match="no trigger") as caught:
        load(into, batch, disposition=Disposition.REPLACE)
    assert "`into`" in str(caught.value.hint)
