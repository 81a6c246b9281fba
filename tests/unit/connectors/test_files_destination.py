"""The files destination around its loads: names, locks, damage, full disks, kills, other readers."""

from __future__ import annotations

import json
import os
import re
import resource
import stat
import subprocess
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.connectors.files._destination import FilesDestination
from atlas_etl.connectors.files._manifest import MANIFEST
from atlas_etl.connectors.files._parts import Sizes
from atlas_etl.connectors.files._store import LocalStore
from atlas_etl.connectors.files.parquet import ParquetFormat
from atlas_etl.errors import ConfigError, DestinationError, LockedError, UsageError
from atlas_etl.model import (
    Checkpoint,
    CreateTable,
    CursorKind,
    CursorValue,
    Disposition,
    DropTable,
    LoadPlan,
    LoadResult,
    Stream,
    TableName,
)
from atlas_etl.pipeline.schema import conform, evolve

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
ORDERS = TableName("orders", "shop")
FORMATS = ["parquet", "jsonl", "csv"]


def opened(protocol: str, path: Path, **options: object) -> FilesDestination:
    adapter = registry.load(protocol)
    assert adapter.destination is not None
    made = adapter.destination(adapter.connection.model_validate({"path": str(path), **options}))
    assert isinstance(made, FilesDestination)
    return made


def rows(*pairs: tuple[int, str | None], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    names = schema.names
    return pa.RecordBatch.from_pylist([dict(zip(names, pair, strict=True)) for pair in pairs], schema=schema)


def by_id(number: int, tail: int | None = None) -> Checkpoint:
    high, low = (CursorValue(CursorKind.INTEGER, str(n)) for n in (number, number if tail is None else tail))
    return Checkpoint("id", high, low)


def plan_of(
    destination: FilesDestination, schema: pa.Schema = SCHEMA, disposition: Disposition = Disposition.APPEND,
    stream: str = "orders", **more: object,
) -> LoadPlan:  # fmt: skip
    table = destination.table_name("shop", Stream(stream))
    state = destination.inspect("shop", stream, table)
    target, changes = evolve(state.schema, schema, destination.storable)
    settings = {"primary_key": ("id",), "cursor": "id", **more}
    return LoadPlan("run", "shop", stream, table, disposition, target, changes=changes, **settings)


def load(
    destination: FilesDestination, *batches: pa.RecordBatch, checkpoint: Checkpoint | None = None,
    **more: object,
) -> LoadResult:  # fmt: skip
    plan = plan_of(destination, batches[0].schema, **more)
    with destination.begin(plan) as session:
        for batch in batches:
            session.write(conform(batch, plan.schema))
        return session.commit(checkpoint)


def shown(destination: FilesDestination, sql: str = "SELECT * FROM shop.orders ORDER BY id") -> list[object]:
    return destination.query(sql).to_pylist()


def manifest_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / MANIFEST).read_text())
    return found


@pytest.fixture(params=FORMATS)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> FilesDestination:
    return opened(request.param, tmp_path / "lake")


def test_the_tail_is_a_file_of_its_own_and_the_body_is_never_written_again(tmp_path: Path) -> None:
    lake, folder = opened("parquet", tmp_path), tmp_path / "shop" / "orders"
    load(lake, rows(*((n, "x") for n in range(100))), checkpoint=by_id(99, 90))
    first = {file["name"]: file for file in manifest_of(folder)["files"]}
    assert sorted((f["tail"], f["rows"], f["low"], f["high"]) for f in first.values()) == [
        (False, 90, "0", "89"),
        (True, 10, "90", "99"),
    ]
    (body,) = (folder / name for name, file in first.items() if not file["tail"])
    written = body.stat()
    result = load(lake, rows(*((n, "y") for n in range(90, 120))), checkpoint=by_id(119), tail=by_id(99, 90))
    assert result.rows == 20
    assert body.stat() == written
    assert shown(lake, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM shop.orders") == [
        {"n": 120, "ids": 120}
    ]
    assert sorted(f["rows"] for f in manifest_of(folder)["files"] if f["tail"]) == [1]


def test_a_load_without_new_rows_leaves_the_files_of_the_body(tmp_path: Path) -> None:
    lake, folder = opened("parquet", tmp_path), tmp_path / "shop" / "orders"
    load(lake, rows((1, "a"), (2, "b")), checkpoint=by_id(2))
    before = set(os.listdir(folder))
    for _ in range(3):
        assert load(lake, rows((2, "b")), checkpoint=by_id(2), tail=by_id(2)).rows == 0
    assert len(set(os.listdir(folder)) - before) == 1
    assert len(os.listdir(folder)) == len(before)


def test_rows_that_outgrow_the_memory_of_the_tail_are_still_cut_exactly(tmp_path: Path) -> None:
    sizes = Sizes(file=4000, tail=1000, small=0, many=100)
    lake = FilesDestination(LocalStore(), ParquetFormat(), str(tmp_path), sizes)
    numbers = [(n * 7919) % 1000 for n in range(1000)]
    batches = [rows(*((n, "x" * 10) for n in numbers[i : i + 50])) for i in range(0, 1000, 50)]
    load(lake, *batches, checkpoint=by_id(999, 500))
    files = manifest_of(tmp_path / "shop" / "orders")["files"]
    assert sum(file["rows"] for file in files if file["tail"]) == 500
    assert min(int(file["low"]) for file in files if file["tail"]) == 500
    assert max(int(file["high"]) for file in files if not file["tail"]) == 499


def test_many_small_files_become_one(tmp_path: Path) -> None:
    sizes = Sizes(many=5)
    lake = FilesDestination(LocalStore(), ParquetFormat(), str(tmp_path), sizes)
    for number in range(1, 30):
        tail = by_id(number - 1) if number > 1 else None
        load(lake, rows((number - 1, "old"), (number, "new")), checkpoint=by_id(number), tail=tail)
    assert len(manifest_of(tmp_path / "shop" / "orders")["files"]) <= 7
    assert [row["id"] for row in shown(lake)] == list(range(30))


def test_widened_columns_hold_what_they_held(lake: FilesDestination) -> None:
    narrow = pa.schema([("id", pa.int32()), ("f", pa.float32()), ("n", pa.int32())])
    wide = pa.schema([("id", pa.int64()), ("f", pa.float64()), ("n", pa.string())])
    load(lake, rows((1, 0.1, 7), schema=narrow))
    load(lake, rows((2, 0.1, "007"), schema=wide))
    assert shown(lake) == [
        {"id": 1, "f": pa.scalar(0.1, pa.float32()).as_py(), "n": "7"},
        {"id": 2, "f": 0.1, "n": "007"},
    ]


def test_added_columns_are_null_before_and_dropped_ones_after(lake: FilesDestination) -> None:
    load(lake, rows((1, "a")))
    load(lake, rows((2, True), schema=pa.schema([("id", pa.int64()), ("new", pa.bool_())])))
    assert shown(lake) == [
        {"id": 1, "name": "a", "new": None},
        {"id": 2, "name": None, "new": True},
    ]


def test_a_full_refresh_may_change_types_that_cannot_be_widened(lake: FilesDestination) -> None:
    load(lake, rows((1, "a")))
    schema = pa.schema([("id", pa.int64()), ("name", pa.bool_())])
    plan = LoadPlan(
        "run", "shop", "orders", ORDERS, Disposition.REPLACE, schema, (), None,
        changes=(DropTable(), CreateTable()),
    )  # fmt: skip
    with lake.begin(plan) as session:
        session.write(rows((2, True), schema=schema))
        session.commit(None)
    assert shown(lake) == [{"id": 2, "name": True}]


def test_a_table_changed_since_the_plan_is_refused(lake: FilesDestination) -> None:
    plan = plan_of(lake)
    load(lake, rows((1, "a")))
    with pytest.raises(DestinationError) as caught, lake.begin(plan):
        pass
    assert (caught.value.code, caught.value.retryable) == ("table_changed", True)


def test_orphans_are_swept_and_nothing_else(lake: FilesDestination, tmp_path: Path) -> None:
    load(lake, rows((1, "a")))
    folder = tmp_path / "lake" / "shop" / "orders"
    (live,) = (file["name"] for file in manifest_of(folder)["files"])
    orphans = [f".atlas-{'0' * 32}.parquet", f"atlas-{'1' * 32}.jsonl.gz"]
    users = ["notes.txt", "atlas-data.csv", "atlas-" + "2" * 31 + ".parquet", ".hidden", "_SUCCESS"]
    for name in (*orphans, *users):
        (folder / name).write_text("x")
    load(lake, rows((2, "b")), tail=None)
    names = set(os.listdir(folder))
    assert names.isdisjoint(orphans)
    assert names.issuperset({*users, live})


def test_a_second_writer_is_refused_and_breaks_nothing(lake: FilesDestination) -> None:
    plan = plan_of(lake)
    with lake.begin(plan) as session:
        session.write(rows((1, "a")))
        with pytest.raises(LockedError) as caught, lake.begin(plan):
            pass
        assert caught.value.exit_code == 6
        session.commit(None)
    assert shown(lake) == [{"id": 1, "name": "a"}]


def test_a_folder_has_one_stream(lake: FilesDestination) -> None:
    load(lake, rows((1, "a")))
    other = LoadPlan("run", "other", "orders", ORDERS, Disposition.APPEND, SCHEMA, (), None)
    state = lake.inspect("other", "orders", ORDERS)
    assert (state.loaded_by_atlas, state.empty, state.checkpoint) == (False, False, None)
    with pytest.raises(DestinationError, match="'shop'") as caught, lake.begin(other):
        pass
    assert caught.value.code == "table_not_ours"


def test_files_of_others_are_not_mixed_with_ours(lake: FilesDestination, tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "shop" / "orders"
    folder.mkdir(parents=True)
    for name in ("theirs.parquet", "theirs.jsonl.gz", "theirs.csv", "README"):
        (folder / name).write_text("x")
    with pytest.raises(DestinationError, match="theirs") as caught:
        load(lake, rows((1, "a")))
    assert caught.value.code == "table_not_ours"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"atlas_manifest": 2}', None])
def test_a_damaged_manifest_is_an_error_and_never_a_silent_reload(
    lake: FilesDestination, tmp_path: Path, content: str | None
) -> None:
    load(lake, rows((1, "a")), checkpoint=by_id(1))
    file = tmp_path / "lake" / "shop" / "orders" / MANIFEST
    good = file.read_text()
    file.write_text(good[: len(good) // 2] if content is None else content)
    for act in (
        lambda: lake.inspect("shop", "orders", ORDERS),
        lambda: shown(lake),
        lambda: lake.checkpoints("shop"),
    ):
        with pytest.raises(DestinationError) as caught:
            act()
        assert caught.value.code == "corrupt_manifest"
    file.write_text(good)
    assert shown(lake) == [{"id": 1, "name": "a"}]


def test_a_schema_that_cannot_be_read_is_a_damaged_manifest(lake: FilesDestination, tmp_path: Path) -> None:
    load(lake, rows((1, "a")))
    file = tmp_path / "lake" / "shop" / "orders" / MANIFEST
    for schema in ("!!", "AAAA", ""):
        file.write_text(json.dumps({**json.loads(file.read_text()), "arrow_schema": schema}))
        with pytest.raises(DestinationError) as caught:
            lake.inspect("shop", "orders", ORDERS)
        assert caught.value.code == "corrupt_manifest"


def test_a_missing_or_shortened_file_is_an_error(lake: FilesDestination, tmp_path: Path) -> None:
    load(lake, rows((1, "a")))
    folder = tmp_path / "lake" / "shop" / "orders"
    (live,) = (folder / file["name"] for file in manifest_of(folder)["files"])
    content = live.read_bytes()
    live.write_bytes(content[:-1])
    for act in (lambda: lake.inspect("shop", "orders", ORDERS), lambda: shown(lake)):
        with pytest.raises(DestinationError) as caught:
            act()
        assert caught.value.code == "missing_file"
    live.unlink()
    with pytest.raises(DestinationError, match="missing"):
        load(lake, rows((2, "b")))
    live.write_bytes(content)
    assert shown(lake) == [{"id": 1, "name": "a"}]


def test_a_folder_of_another_format_is_refused(tmp_path: Path) -> None:
    load(opened("parquet", tmp_path), rows((1, "a")))
    with pytest.raises(DestinationError) as caught:
        opened("csv", tmp_path).inspect("shop", "orders", ORDERS)
    assert caught.value.code == "other_format"
    assert opened("csv", tmp_path).checkpoints("shop") == []


@pytest.mark.parametrize(
    "name", ["../up", "a/b", ".hidden", "_atlas", "..", "x" * 300, "ü" * 200, "a\0b", "100%"]
)
def test_a_name_stays_one_folder_below_the_path(lake: FilesDestination, tmp_path: Path, name: str) -> None:
    table = lake.table_name("shop", Stream(name))
    load(lake, rows((1, "a")), stream=name)
    assert lake.inspect("shop", name, table).loaded_by_atlas
    folders = [path for path in (tmp_path / "lake").glob("*/*/") if (path / MANIFEST).exists()]
    assert [folder.parent for folder in folders] == [tmp_path / "lake" / "shop"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake"]


def test_two_long_names_stay_apart(lake: FilesDestination) -> None:
    first, second = (lake.table_name("shop", Stream("x" * 300 + end)) for end in "ab")
    assert first != second


@pytest.mark.parametrize("mask", [0, 0o077])
@pytest.mark.parametrize("group_readable", [False, True])
def test_files_are_for_the_owner_or_the_group_whatever_the_umask(
    tmp_path: Path, mask: int, group_readable: bool
) -> None:
    lake = FilesDestination(
        LocalStore(group_readable=group_readable), ParquetFormat(), str(tmp_path / "lake")
    )
    before = os.umask(mask)
    try:
        load(lake, rows((1, "a")))
    finally:
        os.umask(before)
    folder = tmp_path / "lake" / "shop" / "orders"
    file_mode, folder_mode = (0o640, 0o750) if group_readable else (0o600, 0o700)
    data = [path for path in folder.iterdir() if path.name != ".atlas-lock"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in data} == {file_mode}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)} == {folder_mode}
    assert stat.S_IMODE((folder / ".atlas-lock").stat().st_mode) == 0o600


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("")
    for protocol in FORMATS:
        lake = opened(protocol, tmp_path / "lake")
        with pytest.raises(DestinationError) as caught:
            lake.test()
        assert (caught.value.code, caught.value.exit_code) == ("not_a_folder", 4)
        with pytest.raises(DestinationError), lake.begin(plan_of(lake)):
            pass


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    lake = opened("parquet", Path("/proc/atlas"))
    with pytest.raises(DestinationError) as caught:
        lake.test()
    assert caught.value.code in ("not_writable", "write_failed")


def test_options_that_only_reading_has_are_refused() -> None:
    with pytest.raises(ConfigError, match="delimiter"):
        opened("csv", Path("/unused"), delimiter=";")
    with pytest.raises(ConfigError, match="types"):
        opened("jsonl", Path("/unused"), types={"id": "int64"})


@pytest.mark.parametrize("protocol", ["jsonl", "csv"])
@pytest.mark.parametrize(("compression", "suffix"), [("none", ""), ("gzip", ".gz"), ("zstd", ".zst")])
def test_compression(tmp_path: Path, protocol: str, compression: str, suffix: str) -> None:
    lake = opened(protocol, tmp_path, compression=compression)
    load(lake, rows((1, "a"), (2, None)), checkpoint=by_id(2))
    names = [file["name"] for file in manifest_of(tmp_path / "shop" / "orders")["files"]]
    assert all(name.endswith(f".{protocol}{suffix}") for name in names)
    load(opened(protocol, tmp_path), rows((2, "b")), checkpoint=by_id(2), tail=by_id(2))
    assert shown(lake) == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


def test_the_ledger_keeps_the_latest_loads(lake: FilesDestination, tmp_path: Path) -> None:
    for _ in range(3):
        load(lake, rows((1, "a"), (2, "b")), checkpoint=by_id(2), disposition=Disposition.MERGE)
    loads = manifest_of(tmp_path / "lake" / "shop" / "orders")["loads"]
    assert [(entry["disposition"], entry["rows"], entry["run_id"]) for entry in loads] == [
        ("merge", 2, "run"),
        ("merge", 0, "run"),
        ("merge", 0, "run"),
    ]
    (committed,) = lake.checkpoints("shop")
    assert (committed.checkpoint, committed.run_id) == (by_id(2), "run")
    assert lake.checkpoints("other") == []
    lake.set_checkpoint("shop", "orders", ORDERS, by_id(1))
    (committed,) = lake.checkpoints("shop")
    assert (committed.checkpoint, committed.run_id) == (by_id(1), "")


def test_a_checkpoint_needs_a_table(lake: FilesDestination) -> None:
    lake.set_checkpoint("shop", "orders", ORDERS, None)
    with pytest.raises(DestinationError) as caught:
        lake.set_checkpoint("shop", "orders", ORDERS, by_id(1))
    assert caught.value.code == "table_not_found"


@pytest.mark.parametrize(
    "sql",
    ["SELEC 1", "SELECT 1; SELECT 2", "", "CREATE TABLE x (n INT)", "SELECT * FROM shop.nothing",
     "COPY (SELECT 1) TO '/tmp/atlas-query-wrote-this.csv'", "SELECT nope FROM shop.orders"],
)  # fmt: skip
def test_a_query_reads_and_says_what_is_wrong(lake: FilesDestination, sql: str) -> None:
    load(lake, rows((1, "a")))
    with pytest.raises(UsageError) as caught:
        lake.query(sql)
    assert caught.value.code == "query"
    assert not Path("/tmp/atlas-query-wrote-this.csv").exists()


def test_a_query_joins_streams_by_their_names_in_any_case(lake: FilesDestination) -> None:
    load(lake, rows((1, "a"), (2, "b")))
    load(lake, rows((2, "second")), stream='odd "name".x')
    sql = 'SELECT b.name FROM Shop.ORDERS a JOIN "shop"."odd ""name"".x" b USING (id)'
    assert lake.query(sql).to_pylist() == [{"name": "second"}]


def test_numbers_with_more_digits_than_duckdb_has_are_shown_as_text(tmp_path: Path) -> None:
    lake = opened("parquet", tmp_path)
    schema = pa.schema([("id", pa.int64()), ("n", pa.decimal256(60, 5))])
    digits = "9" * 55 + ".12345"
    column = values.from_text(pa.array([digits]), schema.field("n").type)
    load(lake, pa.RecordBatch.from_arrays([pa.array([1]), column], schema=schema))
    assert shown(lake) == [{"id": 1, "n": digits}]


@pytest.mark.parametrize("protocol", FORMATS)
def test_the_statement_in_the_documentation_reads_the_live_files(
    tmp_path: Path, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = pa.schema([("id", pa.int64()), ("name", pa.string()), ("at", pa.timestamp("us"))])
    moment = datetime(2026, 3, 1, 12, 30)
    lake = opened(protocol, tmp_path / "lake")
    batch = rows((1, "a", moment), (2, "", None), (3, None, moment), schema=schema)
    load(lake, batch, checkpoint=by_id(3))
    load(lake, rows((3, "é\n", moment), schema=schema), checkpoint=by_id(3), tail=by_id(3))
    (tmp_path / "lake" / "shop" / "orders" / f"atlas-{'0' * 32}.{protocol}").write_text("orphan")
    text = import_module(f"atlas_etl.connectors.files.{protocol}").__doc__ or ""
    sql = re.search(r"SET VARIABLE .*?\);\n    SELECT .*?;", text, re.DOTALL)
    assert sql is not None
    monkeypatch.chdir(tmp_path)
    with duckdb.connect() as plain:
        found = plain.execute(sql[0]).fetchall()
    assert sorted(found) == [(1, "a", moment), (2, "", None), (3, "é\n", moment)]


def test_a_full_disk_changes_nothing_and_the_next_load_goes_on(
    lake: FilesDestination, tmp_path: Path
) -> None:
    load(lake, rows((1, "a")), checkpoint=by_id(1))
    before = sorted(os.listdir(tmp_path / "lake" / "shop" / "orders"))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    text = os.urandom(200_000).hex()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(DestinationError) as caught:
            load(lake, rows((2, text)), checkpoint=by_id(2), tail=by_id(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (caught.value.code, caught.value.exit_code) == ("disk_full", 4)
    assert sorted(os.listdir(tmp_path / "lake" / "shop" / "orders")) == before
    assert shown(lake) == [{"id": 1, "name": "a"}]
    load(lake, rows((1, "a"), (2, text)), checkpoint=by_id(2), tail=by_id(1))
    assert shown(lake)[1] == {"id": 2, "name": text}


def test_a_failed_load_says_nothing_on_standard_error(tmp_path: Path) -> None:
    program = """
import os, resource, sys
from pathlib import Path
from tests.unit.connectors import test_files_destination as t

resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for protocol, compression in [("parquet", {}), ("csv", {}), ("csv", "gzip"), ("jsonl", "zstd")]:
    options = {"compression": compression} if compression else {}
    lake = t.opened(protocol, Path(sys.argv[1]) / f"{protocol}-{len(options)}", **options)
    try:
        with lake.begin(t.plan_of(lake, cursor=None)) as session:
            session.write(t.rows((1, "a")))
            raise KeyError
    except KeyError:
        print("undone")
    try:
        t.load(lake, *[t.rows((n, os.urandom(9000).hex())) for n in range(40)])
    except t.DestinationError as failure:
        print(failure.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr) == (["undone", "disk_full"] * 4, "")


@pytest.mark.parametrize(
    ("protocol", "disposition"),
    [("parquet", "append"), ("parquet", "merge"), ("parquet", "replace"), ("jsonl", "append")],
)
def test_a_killed_process_leaves_the_load_before_or_after_its_commit(
    tmp_path: Path, protocol: str, disposition: str
) -> None:
    program = Path(__file__).with_name("files_crash.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), protocol, disposition],
        capture_output=True, text=True, check=False, timeout=100, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.split()
    assert set(outcomes) == {"before", "after"}
    assert outcomes == sorted(outcomes, reverse=True)  # once committed, it stays
    assert outcomes.count("before") >= 8
