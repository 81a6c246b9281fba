"""Which files a stream reads, and that they are the same files until its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.fs import SubTreeFileSystem

from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector, ConnectionConfig
from atlas_etl.connectors.files._select import stream_name
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import CreateTable, Disposition, LoadPlan, ReadRequest, Stream, TableName


def connector(path: Path | str, protocol: str = "csv") -> BaseConnector[ConnectionConfig]:
    adapter = registry.load(protocol)
    assert adapter.connector is not None
    made = adapter.connector(adapter.connection.model_validate({"path": str(path)}))
    assert isinstance(made, BaseConnector)
    return made


def ids(path: Path | str, stream: Stream | None = None) -> list[int]:
    with connector(path).open(ReadRequest(stream or Stream("s"))) as extract:
        return sorted(cell for batch in extract.batches() for cell in batch.column("id").to_pylist())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "da[t]a"
    for number, name in enumerate(
        ["orders.csv", "people.csv.gz", "events/2025/a.csv", "events/2026/b.tsv", "events/_tmp/c.csv",
         "events/.hidden.csv", "notes.txt", "_skipped.csv", ".dot.csv", "empty/readme.md", "old-1.txt"]
    ):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with pa.CompressedOutputStream(str(path), "gzip") if name.endswith("gz") else path.open("wb") as sink:
            sink.write(b"id\n%d\n" % number)
    return root


def test_a_path_is_a_file_a_glob_or_a_folder(data: Path) -> None:
    root = str(data).replace("[", "[[]")
    assert ids(data / "orders.csv") == [0]
    assert ids(f"{root}/*.csv") == [0, 7]
    assert ids(f"{root}/**/[a-z]*.csv") == [0, 2, 4]
    assert ids(f"{root}/*.txt") == [6, 10]
    assert ids(data / "events") == [2, 3]
    assert ids(data) == [0, 1, 2, 3]


def test_a_stream_has_a_path_of_its_own_or_a_name_in_the_folder(data: Path) -> None:
    assert ids(data, Stream("s", path="people.csv.gz")) == [1]
    assert ids(data, Stream("s", path="events/*/*.csv")) == [2, 4]
    assert ids(data, Stream("s", path=str(data / "orders.csv"))) == [0]
    assert ids(data / "orders.csv", Stream("s", path="people.csv.gz")) == [1]
    assert ids(data, Stream("s", table="events")) == [2, 3]
    assert ids(data, Stream("s", table="people")) == [1]
    with pytest.raises(SourceError) as caught:
        ids(data, Stream("s", table="event"))
    assert (caught.value.code, caught.value.hint) == ("table_not_found", "did you mean 'events'?")
    with pytest.raises(ConfigError) as wrong:
        ids(data, Stream("s", query="SELECT 1"))
    assert wrong.value.code == "no_query"


def test_discovery_gives_each_file_and_each_folder_a_stream(data: Path) -> None:
    assert [info.name for info in connector(data).discover()] == ["events", "orders", "people"]
    assert [info.name for info in connector(data / "orders.csv").discover()] == ["orders"]
    adapter = registry.load("csv")
    streams = adapter.default_streams(adapter.connection.model_validate({"path": str(data)}))
    assert [stream.name for stream in streams] == ["events", "orders", "people"]
    assert ids(data, streams[0]) == [2, 3]


def test_files_of_one_stem_are_streams_of_their_own(data: Path) -> None:
    (data / "orders.csv.gz").write_bytes(b"")
    (data / "orders.tsv").write_text("id\n1\n")
    adapter = registry.load("csv")
    streams = adapter.default_streams(adapter.connection.model_validate({"path": str(data)}))
    names = [stream.name for stream in streams]
    assert len(set(names)) == len(names) == 5


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("data/orders.csv", "orders"),
        ("data/orders.csv.gz", "orders"),
        ("data/orders-*.jsonl.zst", "orders"),
        ("data/orders/*.parquet", "orders"),
        ("data/orders/**/[0-9]*.parquet", "orders"),
        ("data/v1.2.csv", "v1.2"),
        ("/data/orders", "orders"),
        ("*", "files"),
    ],
)
def test_the_name_of_a_stream(path: str, name: str) -> None:
    assert stream_name(path) == name


@pytest.mark.parametrize("name", ["order.csv", "nothing/*.csv", "nowhere", "empty"])
def test_a_path_without_files(data: Path, name: str) -> None:
    for act in (lambda: ids(data / name), lambda: connector(data / name).test()):
        with pytest.raises(SourceError) as caught:
            act()
        assert (caught.value.code, caught.value.exit_code) == ("file_not_found", 3)
    if name == "order.csv":
        assert caught.value.hint == "did you mean 'orders.csv'?"


def test_a_connection_can_be_tested(data: Path) -> None:
    assert connector(data).test().message.startswith("4 csv file(s), ")


def test_the_native_client_is_the_folder_as_an_arrow_file_system(data: Path) -> None:
    adapter = registry.load("csv")
    client = adapter.client(adapter.connection.model_validate({"path": str(data / "orders.csv")}))
    assert isinstance(client, SubTreeFileSystem)
    assert client.open_input_stream("orders.csv").read() == b"id\n0\n"
    adapter.dispose(client)


def test_scripts_fetch_a_path(data: Path) -> None:
    with connector(data) as opened:
        assert [item.data for item in opened.connect().fetch_data("events/2025/*.csv")] == [{"id": 2}]


def rewrite_unseen(file: Path) -> None:
    """Other rows in as many bytes, and the time of the last change put back, as `rsync --times` does."""
    before = file.stat()
    file.write_text("id\n3\n4\n")
    while file.stat().st_ctime_ns == before.st_ctime_ns:  # the kernel's clock has ticks
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: list[Callable[[Path], object]] = [
    lambda file: file.write_text("id\n1\n2\n3\n"),
    lambda file: os.utime(file, ns=(0, 0)),
    rewrite_unseen,
    lambda file: file.unlink(),
    lambda file: (file.with_name("new").write_text(file.read_text()), file.with_name("new").replace(file)),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("index", [0, 1])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, change: Callable[[Path], object], index: int
) -> None:
    files = [tmp_path / "a-1.csv", tmp_path / "a-2.csv"]
    for file in files:
        file.write_text("id\n1\n2\n")
    with connector(tmp_path / "a-*.csv").open(ReadRequest(Stream("s"))) as extract:
        batches = extract.batches()
        next(batches)
        change(files[index])
        with pytest.raises(SourceError) as caught:
            list(batches)
    assert (caught.value.code, caught.value.retryable) == ("changed_while_reading", True)


def test_files_that_come_later_wait_for_the_next_read(tmp_path: Path) -> None:
    (tmp_path / "a-1.csv").write_text("id\n1\n")
    with connector(tmp_path / "a-*.csv").open(ReadRequest(Stream("s"))) as extract:
        (tmp_path / "a-2.csv").write_text("id\n2\n")
        assert sum(batch.num_rows for batch in extract.batches()) == 1
    assert ids(tmp_path / "a-*.csv") == [1, 2]


@pytest.mark.parametrize("protocol", ["parquet", "csv", "jsonl"])
def test_a_folder_that_atlas_wrote_is_read_by_its_manifest(tmp_path: Path, protocol: str) -> None:
    adapter = registry.load(protocol)
    assert adapter.destination is not None
    lake = adapter.destination(adapter.connection.model_validate({"path": str(tmp_path)}))
    schema = pa.schema([("id", pa.int16()), ("doc", pa.json_()), ("raw", pa.binary())])
    plan = LoadPlan(
        "r", "shop", "orders", TableName("orders", "shop"), Disposition.APPEND, schema, (), None,
        changes=(CreateTable(),),
    )  # fmt: skip
    documents = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["null", '{"a": 1.10}', None]))
    cells = [pa.array([1, 2, 3], pa.int16()), documents, pa.array([b"", b"\x00", None])]
    with lake.begin(plan) as session:
        session.write(pa.RecordBatch.from_arrays(cells, schema=schema))
        session.commit(None)
    folder = tmp_path / "shop" / "orders"
    (folder / f"atlas-{'0' * 32}.{protocol}").write_text("an orphan")
    for stream in (Stream("s"), Stream("s", path="orders")):
        with connector(folder if stream.path is None else folder.parent, protocol).open(
            ReadRequest(stream)
        ) as extract:
            table = pa.Table.from_batches(list(extract.batches()), extract.schema)
        assert table.schema.types == schema.types
        assert [column.combine_chunks() for column in table.columns] == cells
    other = "csv" if protocol != "csv" else "jsonl"
    with pytest.raises(SourceError) as wrong:
        connector(folder, other).describe(Stream("s"))
    assert wrong.value.code == "other_format"
    (info,) = connector(tmp_path, protocol).discover()
    assert (info.name, info.estimated_rows) == ("shop", 3)
    assert connector(f"{folder}/*.{protocol}", protocol).describe(Stream("s")).estimated_rows == 3
    (folder / "_atlas_manifest.json").write_text("{")
    with pytest.raises(SourceError) as damaged:
        connector(folder, protocol).describe(Stream("s"))
    assert damaged.value.code == "corrupt_manifest"
