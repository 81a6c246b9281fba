"""Parquet files that lie about sizes, or whose few bytes are many rows: refused, or read piece by piece."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import atlas_etl
from atlas_etl.connectors.files import _codec
from atlas_etl.connectors.files._parquet_pages import dictionary_size, unpacked_sizes
from atlas_etl.connectors.files._parquet_prefixes import repeated_bytes
from atlas_etl.model import BatchLimits, ReadRequest, RunStatus, Stream
from tests.unit.connectors.test_files_hostile import PEAK, connector, refused, rows

MIB = 1024 * 1024


def number(value: int, width: int = 0) -> bytes:
    """As Thrift's compact protocol writes a signed number, in at least this many bytes."""
    left, found = (value << 1 ^ value >> 63) & (2**64 - 1), bytearray()
    while left > 0x7F or len(found) < width - 1:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])


def told(content: bytes, real: int, claimed: int) -> bytes:
    """The file with another number in place of one that it holds."""
    before = number(real)
    assert before in content
    assert len(number(claimed, len(before))) == len(before)
    return content.replace(before, number(claimed, len(before)))


@cache
def bomb() -> tuple[bytes, int, int]:
    """A file of one page of 160 MiB, the size that its footer says, and that its page says."""
    file = io.BytesIO()
    pq.write_table(
        pa.table({"v": ["0" * MIB] * 160}),
        file,
        compression="zstd",
        use_dictionary=False,
        data_page_size=1024 * MIB,
        write_statistics=False,
    )
    content = file.getvalue()
    with pq.ParquetFile(file) as opened:
        footer = opened.metadata.row_group(0).column(0).total_uncompressed_size
    (page,) = [size for size in range(footer - 64, footer) if number(size) in content[:64]]
    return content, footer, page


LIES: dict[str, tuple[int | None, int | None, str]] = {  # footer's, page's; None: as it is
    "nothing": (None, None, "too_compressed"),
    "the footer, less": (1000, None, "too_compressed"),
    "the footer, nothing at all": (0, None, "too_compressed"),
    "the footer, below nothing": (-1000, None, "too_compressed"),
    "the footer, more": (2**33, None, "too_compressed"),
    "both, the page more": (1000, 2**31 - 1, "too_compressed"),
    "both, less": (1000, 1000, "corrupt_file"),
    "both, the page a bit less": (1000, 4 * MIB - 1, "corrupt_file"),
    "both, the page below nothing": (1000, -5, "corrupt_file"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_sizes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    monkeypatch.setattr(_codec, "_UNSUSPICIOUS", 8 * MIB)
    content, footer, page = bomb()
    of_footer, of_page, code = LIES[lie]
    content = content if of_footer is None else told(content, footer, of_footer)
    content = content if of_page is None else told(content, page, of_page)
    path = tmp_path / "bomb.parquet"
    path.write_bytes(content)
    failure = refused("parquet", path, Stream("s", path=path.name))
    assert failure.code == code
    if lie == "nothing":
        assert (
            len(rows(connector("parquet", path, largest_ratio=100_000), Stream("s", path=path.name))) == 160
        )


def test_a_load_of_a_file_that_lies_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codec, "_UNSUSPICIOUS", 8 * MIB)
    project = tmp_path / "project"
    (project / "connectors.d").mkdir(parents=True)
    (project / "in").mkdir()
    pq.write_table(pa.table({"v": ["first"]}), project / "in/a.parquet")
    stream = {"path": "*.parquet", "name": "v"}
    definition = {"protocol": "parquet", "connection": {"path": "in"}, "streams": [stream]}
    (project / "connectors.d/x.json").write_text(json.dumps(definition))
    list(atlas_etl.Atlas.open(project, {}).sync(["x"]))
    content, footer, _ = bomb()
    (project / "in/b.parquet").write_bytes(told(content, footer, 1000))
    last = list(atlas_etl.Atlas.open(project, {}).sync(["x"]))[-1]
    (failed,) = last.run.streams
    assert (failed.status, failed.error.code) == (RunStatus.FAILED, "too_compressed")
    assert atlas_etl.Atlas.open(project, {}).query("SELECT v FROM x.v").to_pylist() == [{"v": "first"}]


READER = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from atlas_etl.model import ReadRequest, Stream
from tests.unit.connectors.test_files_hostile import connector
path = Path(sys.argv[1])
with connector("parquet", path).open(ReadRequest(Stream("s", path=path.name))) as extract:
    print(sum(batch.num_rows for batch in extract.batches()))
"""
LONG = 100_000
COLUMNS = {
    "texts": pa.array(["x" * LONG]),
    "bytes": pa.array([b"x" * LONG]),
    "fixed": pa.array([b"x" * LONG], pa.binary(LONG)),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("with_schema", [False, True], ids=["plain", "arrow's schema"])
def test_a_value_that_a_file_holds_once_fills_no_memory(tmp_path: Path, kind: str, with_schema: bool) -> None:
    path = tmp_path / "dictionary.parquet"
    coded = pa.DictionaryArray.from_arrays(pa.array([0, None] * 10_000, pa.int32()), COLUMNS[kind])
    pq.write_table(pa.table({"v": coded}), path, compression="zstd", store_schema=with_schema)
    assert path.stat().st_size < 10_000
    assert read_within_700_mib(path) == 20_000  # of rows of 1 GB


def test_nor_does_one_that_is_json(tmp_path: Path) -> None:
    path = tmp_path / "json.parquet"
    some = pa.array([json.dumps("x" * LONG), None] * 50, pa.json_())
    pq.write_table(pa.table({"v": pa.chunked_array([some] * 200)}), path, compression="zstd")
    assert pq.read_metadata(path).num_row_groups == 1
    assert path.stat().st_size < 100_000
    assert read_within_700_mib(path) == 20_000


def read_within_700_mib(path: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", READER + PEAK, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    count, mebibytes = done.stdout.split()
    assert int(mebibytes) < 700
    return int(count)


def test_the_longest_value_is_known_from_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "json.parquet"
    pq.write_table(pa.table({"v": pa.array([json.dumps(n % 97) for n in range(50_000)], pa.json_())}), path)
    read: list[int] = []

    class Counted(pq.ParquetFile):  # type: ignore[misc]
        def iter_batches(self, *args: object, **kwargs: object) -> Iterator[pa.RecordBatch]:
            for batch in super().iter_batches(*args, **kwargs):
                read.append(batch.num_rows)
                yield batch

    monkeypatch.setattr(pq, "ParquetFile", Counted)
    limits = BatchLimits(bytes=50_000)
    with connector("parquet", path).open(ReadRequest(Stream("s", path=path.name), limits=limits)) as extract:
        assert sum(batch.num_rows for batch in extract.batches()) == 50_000
    assert read.count(1) == 1


def test_many_columns_of_one_value_make_small_batches(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    texts = {f"t{n}": pa.array(["x" * 200] * 50_000) for n in range(20)}
    numbers = {f"n{n}": pa.array([7] * 50_000) for n in range(20)}
    pq.write_table(pa.table({**texts, **numbers}), path)
    limits = BatchLimits(bytes=MIB)
    with connector("parquet", path).open(ReadRequest(Stream("s", path=path.name), limits=limits)) as extract:
        sizes = [batch.nbytes for batch in extract.batches()]
    assert max(sizes) <= 5 * MIB


NESTED: dict[str, tuple[pa.DataType, Callable[[str], object]]] = {
    "lists": (pa.list_(pa.string()), lambda text: [text, None, text]),
    "large lists": (pa.large_list(pa.string()), lambda text: [text]),
    "lists of two": (pa.list_(pa.string(), 2), lambda text: [text, "x"]),
    "views": (pa.list_view(pa.string()), lambda text: [text]),
    "structs": (pa.struct([("n", pa.int64()), ("a", pa.string())]), lambda text: {"n": 1, "a": text}),
    "maps": (pa.map_(pa.string(), pa.string()), lambda text: [("k", text)]),
    "deep": (
        pa.list_(pa.struct([("a", pa.list_(pa.string()))])),
        lambda text: [{"a": [text, "x"]}, None, {"a": None}],
    ),
}


@pytest.mark.parametrize("kind", NESTED)
def test_texts_that_repeat_within_values_make_small_batches(tmp_path: Path, kind: str) -> None:
    arrow, made = NESTED[kind]
    few = [made("x" * 5000 + str(n)) if n % 5 else None for n in range(10)]
    path, cells = tmp_path / "nested.parquet", [few[n % 10] for n in range(3000)]
    pq.write_table(pa.table({"v": pa.array(cells, arrow), "n": range(3000)}), path, compression="zstd")
    limits = BatchLimits(bytes=MIB)
    with connector("parquet", path).open(ReadRequest(Stream("s", path=path.name), limits=limits)) as extract:
        batches = list(extract.batches())
    assert max(batch.nbytes for batch in batches) <= 3 * MIB
    found = pa.Table.from_batches(batches)
    assert found["n"].to_pylist() == [*range(3000)]
    for before, after in zip(cells, found["v"].to_pylist(), strict=True):
        if not isinstance(after, str):
            assert after == before
        else:
            assert json.loads(after) == (dict(before) if kind == "maps" else before)


def test_a_row_that_repeats_a_text_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_codec, "_UNSUSPICIOUS", 8 * MIB)
    path = tmp_path / "row.parquet"
    coded = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * LONG]))
    rows_of = pa.ListArray.from_arrays(pa.array([0, 1, 20_000]), coded)
    pq.write_table(pa.table({"v": rows_of}), path, compression="zstd")
    failure = refused("parquet", path, Stream("s", path=path.name))
    assert failure.code == "too_compressed"
    assert "largest_ratio" in str(failure.hint)


def test_a_list_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of one value: some bytes of a page are as many values as one likes."""
    monkeypatch.setattr(_codec, "_UNSUSPICIOUS", 8 * MIB)
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"v": [[7] * 5_000_000]}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    assert refused("parquet", path, Stream("s", path=path.name)).code == "too_compressed"


def prefixed(cells: list[str | None], **more: object) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(
        pa.table({"v": cells}), file, use_dictionary=False, column_encoding={"v": "DELTA_BYTE_ARRAY"}, **more
    )
    return file


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy", "gzip", "brotli", "lz4"])
def test_what_values_repeat_of_the_one_before_counts(version: str, compression: str) -> None:
    cells = [f"{'0' * (n % 700)}{n}" if n % 7 else None for n in range(20_000)]
    for more in ({}, {"data_page_size": 4096}):
        file = prefixed(cells, compression=compression, data_page_version=version, **more)
        with pq.ParquetFile(file) as opened:
            chunk = opened.metadata.row_group(0).column(0)
            pages, *repeated = unpacked_sizes(file, chunk, opened.schema.column(0))
        whole = sum(len(cell) for cell in cells if cell)
        if compression == "lz4":  # which pyarrow does not unpack by itself: the most that it may be
            assert sum(repeated) > whole
        else:
            assert pages - chunk.total_uncompressed_size <= 20_000 * 8
            assert 0.9 * whole < sum(repeated) < whole


def test_a_file_whose_values_repeat_each_other_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text = tmp_path / "prefixes.parquet", "x" * 10_000
    path.write_bytes(prefixed([text] * 40_000, compression="zstd").getvalue())
    assert path.stat().st_size < 10_000
    failure = refused("parquet", path, Stream("s", path=path.name))
    assert (failure.code, "largest_ratio" in str(failure.hint)) == ("too_compressed", True)
    path.write_bytes(prefixed([f"{text}{n}" for n in range(1000)], compression="zstd").getvalue())
    found = rows(connector("parquet", path), Stream("s", path=path.name))
    assert [row["v"] for row in found] == [f"{text}{n}" for n in range(1000)]


def shared(one: str, other: str) -> int:
    """How many characters two texts begin with."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(map(len, (one, other)))
    )


@pytest.mark.parametrize("seed", range(5))
def test_lengths_are_read_as_arrow_writes_them(seed: int) -> None:
    dice = random.Random(seed)
    cells = [
        "abc" * dice.choice([0, 1, 5, 400]) + str(dice.random()) for _ in range(dice.choice([1, 2, 33, 1000]))
    ]
    file = prefixed(cells, compression="none")
    with pq.ParquetFile(file) as opened:
        chunk = opened.metadata.row_group(0).column(0)
        _, repeated = unpacked_sizes(file, chunk, opened.schema.column(0))
    pairs = zip(["", *cells], cells, strict=False)
    assert repeated == sum(shared(*pair) for pair in pairs)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80" * 20, b"\x80\x01\x04\x05", b"\x80\x01\x00\x05\x00", b"\x80\x01\x04\xff\xff\x03\x00",
     b"\x80\x01\x04\x05\x00\x00\x41\x41\x41\x41", b"\x80\x01\x04\x02\x00\x00\x08\x00\x00\x00",
     b"\x80\x01\x04\x01\xc8\x01", b"\x80\x01\x04\x01\x01"],
)  # fmt: skip
def test_what_is_no_list_of_lengths(content: bytes) -> None:
    with pytest.raises(pa.ArrowInvalid):
        repeated_bytes(content, 1000)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
def test_pages_are_measured_as_their_writer_counts_them(version: str, compression: str) -> None:
    cells = [f"value {n % 5000}" if n % 7 else None for n in range(60_000)]
    table = pa.table({"v": cells, "l": [[cell] for cell in cells], "n": range(60_000)})
    file = io.BytesIO()
    pq.write_table(
        table, file, compression=compression, data_page_version=version, data_page_size=4096,
        row_group_size=25_000, write_page_checksum=True,
    )  # fmt: skip
    with pq.ParquetFile(file) as opened:
        for group in range(opened.num_row_groups):
            for column in range(3):
                chunk = opened.metadata.row_group(group).column(column)
                found = next(unpacked_sizes(file, chunk, opened.schema.column(column)))
                if column == 1:  # of lists, of which a row may have all values
                    found -= 4 * chunk.num_values
                assert 0.9 * chunk.total_uncompressed_size < found < chunk.total_uncompressed_size
                assert 0 < dictionary_size(file, chunk) < found


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 300, b"\x15" * 300, b"\x1c" * 3000, b"\x19\xf9" * 200, b"\x18\xff\xff\xff\x7f"]
)
def test_what_is_no_header_of_a_page(content: bytes) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"v": ["x"]}), file)
    with pq.ParquetFile(file) as opened:
        chunk = opened.metadata.row_group(0).column(0)
        with pytest.raises(pa.ArrowInvalid):
            next(unpacked_sizes(io.BytesIO(b"PAR1" + content), chunk, opened.schema.column(0)))
