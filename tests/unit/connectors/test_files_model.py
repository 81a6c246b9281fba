"""Loads into files against a model: a list of rows to which every load and rollback is done too."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_etl import values
from atlas_etl.connectors.files._destination import FilesDestination
from atlas_etl.connectors.files._folder import StreamFolder
from atlas_etl.connectors.files._format import Format
from atlas_etl.connectors.files._manifest import Manifest
from atlas_etl.connectors.files._parts import Sizes, is_own_name
from atlas_etl.connectors.files._store import LocalStore
from atlas_etl.connectors.files.csv import CsvConnection
from atlas_etl.connectors.files.csv import _writes as csv_format
from atlas_etl.connectors.files.jsonl import JsonlConnection
from atlas_etl.connectors.files.jsonl import _writes as jsonl_format
from atlas_etl.connectors.files.parquet import ParquetFormat
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    Disposition,
    LoadPlan,
    Stream,
    TableName,
)
from atlas_etl.pipeline.schema import conform, evolve

Row = dict[str, object]  # id, cursor (a number or None), value; perhaps more

KINDS: dict[str, pa.DataType] = {
    "integer": pa.int64(),
    "decimal": pa.decimal256(40, 2),
    "float": pa.float64(),
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("ns"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "uuid": pa.uuid(),
}


def cursor(number: int | None, kind: str) -> object:
    """The same order in every type; the float 9 is not-a-number, which is greater than all."""
    if number is None:
        return None
    moment = datetime(2026, 1, 1) + timedelta(days=number)
    cells: dict[str, object] = {
        "integer": number,
        "decimal": Decimal(f"{10**35 + number // 4}.{number % 4 * 25:02}"),
        "float": float("nan") if number == 9 else number / 8,
        "text": f"k{number}",
        "date": moment.date(),
        "timestamp": moment,
        "timestamptz": moment.replace(tzinfo=UTC),
        "uuid": UUID(int=number).bytes,
    }
    return cells[kind]


def column(cells: list[object], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(cells, kind.storage_type))
    return pa.array(cells, kind)


def value_of(number: int, kind: str) -> CursorValue:
    cell = column([cursor(number, kind)], KINDS[kind])[0]
    return values.cursor_value(cell, stream="s", column="at")


class Lake:
    """A destination with tiny files, beside the model of what it must hold."""

    def __init__(self, folder: Path, form: Format, kind: str) -> None:
        sizes = Sizes(file=600, tail=300, small=100_000, many=5)
        self.destination = FilesDestination(LocalStore(), form, str(folder), sizes)
        self.form = form
        self.kind = kind
        self.rows: list[Row] = []
        self.schema = pa.schema([("id", pa.int32()), ("at", KINDS[kind]), ("value", pa.string())])
        self.checkpoint: Checkpoint | None = None
        self.table = TableName("orders", "shop")
        self.folder = folder / "shop" / "orders"

    def plan(self, disposition: Disposition, with_nulls: bool) -> LoadPlan:
        state = self.destination.inspect("shop", "orders", self.table)
        target, changes = evolve(state.schema, self.schema, self.destination.storable)
        tail = self.checkpoint if disposition is Disposition.APPEND else None
        return LoadPlan(
            "run", "shop", "orders", self.table, disposition, target,
            primary_key=("id",), cursor="at", changes=changes, tail=tail, tail_has_nulls=with_nulls,
        )  # fmt: skip

    def load(
        self, disposition: Disposition, batches: list[list[Row]], lag: int, with_nulls: bool, commits: bool
    ) -> None:
        plan = self.plan(disposition, with_nulls)
        read = [row for batch in batches for row in batch]
        numbers = [row["at"] for row in read if row["at"] is not None]
        checkpoint = self.checkpoint_of(max(numbers), lag) if numbers else None
        with pytest.raises(ZeroDivisionError), self.destination.begin(plan) as session:
            for batch in batches:
                session.write(conform(self.batch(batch), plan.schema))
            if commits:
                session.commit(checkpoint)
            raise ZeroDivisionError
        if not commits:
            return
        if disposition is Disposition.REPLACE:
            self.rows, self.checkpoint = [], None
        elif disposition is Disposition.MERGE:
            keys = {row["id"] for row in read}
            self.rows = [row for row in self.rows if row["id"] not in keys]
            latest: dict[object, Row] = {}
            for row in read:  # a later row wins, unless its cursor is less
                there = latest.get(row["id"])
                if there is None or rank(row) >= rank(there):
                    latest[row["id"]] = row
            read = list(latest.values())
        elif self.checkpoint is not None:
            self.rows = [row for row in self.rows if not self.in_tail(row, self.checkpoint, with_nulls)]
        self.rows += read
        self.checkpoint = checkpoint or self.checkpoint

    def checkpoint_of(self, high: int, lag: int) -> Checkpoint:
        tail_from = high if self.kind == "text" else max(0, high - lag)
        spellings = (f"k{high}", "K") if self.kind == "text" else ()
        return Checkpoint("at", value_of(high, self.kind), value_of(tail_from, self.kind), spellings)

    def in_tail(self, row: Row, checkpoint: Checkpoint, with_nulls: bool) -> bool:
        if row["at"] is None:
            return with_nulls
        if checkpoint.tail_from.kind is CursorKind.TEXT:
            return cursor(row["at"], self.kind) in checkpoint.tail_values
        begins = next(n for n in range(10) if value_of(n, self.kind) == checkpoint.tail_from)
        return row["at"] >= begins

    def batch(self, rows: list[Row]) -> pa.RecordBatch:
        cells = {
            field.name: [
                cursor(row["at"], self.kind) if field.name == "at" else row.get(field.name) for row in rows
            ]
            for field in self.schema
        }
        columns = [column(cells[field.name], field.type) for field in self.schema]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def expected(self, manifest: Manifest) -> Counter[tuple[object, ...]]:
        names = manifest.schema.names
        found: Counter[tuple[object, ...]] = Counter()
        for row in self.rows:
            at = value_of(row["at"], self.kind).text if row["at"] is not None else None
            texts = {**{k: None if v is None else str(v) for k, v in row.items()}, "at": at}
            found[tuple(texts.get(name) for name in names)] += 1
        return found

    def check(self) -> None:
        """The live files hold the model's rows, the tail is where it should be, and nothing lies about."""
        folder = StreamFolder(LocalStore(), self.form, str(self.folder))
        manifest = folder.manifest()
        if manifest is None:
            assert not self.rows
            return
        batches = list(folder.read(manifest.files, manifest.schema))
        assert texts(pa.Table.from_batches(batches, manifest.schema)) == self.expected(manifest)
        assert manifest.checkpoint == self.checkpoint
        there = {path.name for path in self.folder.iterdir() if is_own_name(path.name)}
        assert there == {file.name for file in manifest.files}

    def check_other_readers(self) -> None:
        """SQL by the manifest, and DuckDB on the live files, give the model's rows too."""
        manifest = StreamFolder(LocalStore(), self.form, str(self.folder)).manifest()
        if manifest is None:
            return
        expected = self.expected(manifest)
        assert texts(self.destination.query("SELECT * FROM shop.orders")) == expected
        if self.form.protocol != "parquet" or self.kind == "decimal":  # DuckDB has no 40 digits
            return
        live = [str(self.folder / file.name) for file in manifest.files]
        with duckdb.connect() as opened:
            opened.execute("SET TimeZone = 'UTC'")
            names = ", ".join(f'"{name}"' for name in manifest.schema.names)
            files = f"read_parquet({live}, union_by_name = true)"
            assert texts(opened.sql(f"SELECT {names} FROM {files}").to_arrow_table()) == expected


def rank(row: Row) -> int:
    return -1 if row["at"] is None else int(str(row["at"]))


def texts(table: pa.Table) -> Counter[tuple[object, ...]]:
    table = table.combine_chunks()
    columns = []
    for chunked in table.columns:
        array = chunked.combine_chunks() if chunked.num_chunks else pa.array([], chunked.type)
        if pa.types.is_floating(array.type):
            columns.append([None if cell is None else repr(cell) for cell in array.to_pylist()])
        else:
            columns.append(values.to_text(array).to_pylist())
    return Counter(zip(*columns, strict=True))


def rows(width: int = 12) -> st.SearchStrategy[list[Row]]:
    cursors = st.one_of(st.none(), st.integers(0, 9))
    row = st.fixed_dictionaries(
        {"id": st.integers(0, 6), "at": cursors, "value": st.sampled_from(["", "a", 'b"\n', "é😀", None])}
    )
    return st.lists(row, max_size=width)


LOAD = st.tuples(
    st.sampled_from([Disposition.APPEND, Disposition.APPEND, Disposition.MERGE, Disposition.REPLACE]),
    st.lists(rows(), max_size=4),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from([True, True, True, False]),
)
CHANGE = st.sampled_from(["widen", "add", "cut"])


def form_of(protocol: str, path: Path) -> Format:
    if protocol == "csv":
        return csv_format(CsvConnection(path=path, compression="gzip"))
    return jsonl_format(JsonlConnection(path=path)) if protocol == "jsonl" else ParquetFormat()


CASES = [("parquet", kind) for kind in KINDS] + [
    (protocol, kind) for protocol in ("jsonl", "csv") for kind in ("integer", "text", "timestamptz", "float")
]


@pytest.mark.parametrize(("protocol", "kind"), CASES)
def test_every_load_does_to_the_files_what_it_does_to_the_model(
    protocol: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(LOAD, LOAD, LOAD, CHANGE), max_size=8))
    def run(steps: list[object]) -> None:
        lake = Lake(tmp_path_factory.mktemp("lake"), form_of(protocol, Path("/unused")), kind)
        for step in steps:
            if step == "widen":
                lake.schema = lake.schema.set(0, pa.field("id", pa.int64()))
            elif step == "add":
                if "more" not in lake.schema.names:
                    lake.schema = lake.schema.append(pa.field("more", pa.float32()))
            elif step == "cut":  # somebody sets the checkpoint back
                if lake.checkpoint is not None and kind != "text":
                    lake.checkpoint = lake.checkpoint_of(4, 2)
                    lake.destination.set_checkpoint("shop", "orders", lake.table, lake.checkpoint)
            else:
                lake.load(*step)
            lake.check()
        lake.check_other_readers()

    run()


def test_a_table_name_is_a_folder_below_the_path(tmp_path: Path) -> None:
    destination = FilesDestination(LocalStore(), ParquetFormat(), str(tmp_path))
    assert destination.table_name("shop", Stream("orders")) == TableName("orders", "shop")
    assert destination.table_name("shop", Stream("o", into=TableName("x", "y"))) == TableName("x", "y")
