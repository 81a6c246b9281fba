"""Files and folders whose owner wants harm: each is refused with its reason, and nothing hangs or swells."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import atlas_etl
from atlas_etl.connectors import registry
from atlas_etl.connectors.files import _codec
from atlas_etl.connectors.files._glob import matching
from atlas_etl.contracts import Connector
from atlas_etl.errors import AtlasError, ConfigError, SourceError
from atlas_etl.model import ReadRequest, Stream

MIB = 1024 * 1024


def connector(protocol: str, path: Path, **more: object) -> Connector:
    adapter = registry.load(protocol)
    assert adapter.connector is not None
    return adapter.connector(adapter.connection.model_validate({"path": str(path), **more}))


def rows(source: Connector, stream: Stream | None = None) -> list[dict[str, object]]:
    with source.open(ReadRequest(stream or Stream("s", path="."))) as extract:
        return pa.Table.from_batches(list(extract.batches()), extract.schema).to_pylist()


def refused(protocol: str, path: Path, stream: Stream | None = None, **more: object) -> AtlasError:
    with pytest.raises(SourceError) as caught:
        rows(connector(protocol, path, **more), stream)
    return caught.value


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """A folder that others write into, and beside it a file that they may not read."""
    (tmp_path / "private.csv").write_text("a\n666\n")
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.csv").write_text("a\n1\n")
    return folder


LINKS: dict[str, Callable[[Path], None]] = {
    "a file": lambda inbox: os.symlink(inbox.parent / "private.csv", inbox / "b.csv"),
    "a file, relatively": lambda inbox: os.symlink("../private.csv", inbox / "b.csv"),
    "a folder": lambda inbox: os.symlink(inbox.parent, inbox / "sub"),
    "a link to a link": lambda inbox: (
        os.symlink("c.txt", inbox / "b.csv"), os.symlink("../private.csv", inbox / "c.txt")
    )[0],
}  # fmt: skip


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("way", ["folder", "glob"])
def test_a_link_out_of_a_folder_is_refused(inbox: Path, kind: str, way: str) -> None:
    LINKS[kind](inbox)
    stream = Stream("s", path="." if way == "folder" else "**/*.csv")
    failure = refused("csv", inbox, stream)
    assert failure.code == "link_leaves_folder"
    assert "follow_links: true" in str(failure.hint)
    assert {"a": 666} in rows(connector("csv", inbox, follow_links=True), stream)


def test_a_link_out_of_a_folder_is_no_stream_either(inbox: Path) -> None:
    LINKS["a file"](inbox)
    with pytest.raises(SourceError) as caught:
        connector("csv", inbox).discover()
    assert caught.value.code == "link_leaves_folder"


def test_links_within_a_folder_are_read_once(inbox: Path) -> None:
    (inbox / "old").mkdir()
    (inbox / "old/b.csv").write_text("a\n2\n")
    os.symlink("old", inbox / "latest")
    assert rows(connector("csv", inbox), Stream("s", path="**/*.csv")) == [{"a": 1}, {"a": 2}]
    # What somebody names by itself is read wherever it is.
    os.symlink(inbox.parent / "private.csv", inbox / "named.csv")
    assert rows(connector("csv", inbox), Stream("s", path="named.csv")) == [{"a": 666}]


@pytest.mark.parametrize("way", ["a folder", "a glob", "a glob of folders", "any folders"])
def test_a_file_and_links_to_it_are_one_file(inbox: Path, way: str) -> None:
    (inbox / "old").mkdir()
    (inbox / "old/b.csv").write_text("a\n2\n")
    os.symlink("b.csv", inbox / "old/a-newest.csv")
    os.symlink("old", inbox / "latest")
    pattern = {
        "a folder": "old",
        "a glob": "old/*.csv",
        "a glob of folders": "*/*.csv",
        "any folders": "**/[ab]*",
    }
    found = rows(connector("csv", inbox), Stream("s", path=pattern[way]))
    assert found == [{"a": 1}] * (way == "any folders") + [{"a": 2}]
    assert rows(connector("csv", inbox), Stream("s", path="old/*newest.csv")) == [{"a": 2}]


def test_links_in_a_circle_have_an_end(inbox: Path) -> None:
    for name in "bcdefgh":
        (inbox / name).mkdir()
        for other in "bcdefgh":
            os.symlink("../" + other, inbox / name / f"to-{other}")
        os.symlink(".", inbox / name / "self")
    (inbox / "h/x.csv").write_text("a\n3\n")
    assert rows(connector("csv", inbox), Stream("s", path="**/*.csv")) == [{"a": 1}, {"a": 3}]
    assert rows(connector("csv", inbox)) == [{"a": 1}, {"a": 3}]


def test_patterns_match_as_pythons_do(tmp_path: Path) -> None:
    import glob

    for name in (
        "a.csv",
        "b.txt",
        "x/a.csv",
        "x/y/a.csv",
        "x/.h/a.csv",
        ".h.csv",
        "x/y/b[1].csv",
        "x/yy/a.csv",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in (
        "*", "*.csv", "**/*.csv", "**/*", "x/*/a.csv", "x/**/a.csv", "**/y*/**/*.csv", "x/y/b[[]1].csv",
        ".*", "**", "x/?/*", "[ab].*", "nothing/*", "x/../*.csv", "x/.h/*",
    ):  # fmt: skip
        found = {path for path in matching(f"{tmp_path}/{pattern}") if os.path.isfile(path)}
        expected = {p for p in glob.iglob(f"{tmp_path}/{pattern}", recursive=True) if os.path.isfile(p)}
        assert found == expected, pattern


@pytest.mark.parametrize("protocol", ["csv", "jsonl", "parquet"])
def test_a_pipe_or_a_device_is_no_file(tmp_path: Path, protocol: str) -> None:
    os.mkfifo(tmp_path / f"pipe.{protocol}")
    for path in (tmp_path / f"pipe.{protocol}", Path("/dev/zero")):
        assert refused(protocol, path, Stream("s", path=str(path))).code == "file_not_found"


@pytest.mark.parametrize("name", ["../private.csv", "/etc/passwd", "x/y.csv", "..", ""])
def test_a_manifest_names_no_file_of_another_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("a\n1\n")
    lake = tmp_path / "lake"
    with atlas_etl.create_connector({"protocol": "csv", "path": str(tmp_path / "in")}) as source:
        source.test()
    atlas = tmp_path / "project"
    (atlas / "connectors.d").mkdir(parents=True)
    (atlas / "connectors.d/x.json").write_text(
        json.dumps({"protocol": "csv", "connection": {"path": str(tmp_path / "in")}})
    )
    (atlas / "atlas.yaml").write_text(
        json.dumps({"destinations": {"w": {"protocol": "csv", "path": str(lake)}}, "destination": "w"})
    )
    list(atlas_etl.Atlas.open(atlas, {}).sync(["x"]))
    manifest = lake / "x/a/_atlas_manifest.json"
    content = json.loads(manifest.read_text())
    assert rows(connector("csv", lake / "x/a")) == [{"a": 1}]
    content["files"][0]["name"] = name
    manifest.write_text(json.dumps(content))
    assert refused("csv", lake / "x/a").code == "corrupt_manifest"


def bomb(path: Path, unpacked: int, block: bytes) -> None:
    # A body of members is a body: so the bomb itself is made in no time.
    member = gzip.compress(block * (MIB // len(block)), 9)
    path.write_bytes(member * (unpacked // MIB))


@pytest.mark.parametrize(("protocol", "block"), [("csv", b"0\n"), ("jsonl", b'{"a":0}\n')])
def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, block: bytes
) -> None:
    monkeypatch.setattr(_codec, "_UNSUSPICIOUS", 4 * MIB)
    path = tmp_path / f"bomb.{protocol}.gz"
    bomb(path, 5 * MIB, block)
    assert path.stat().st_size * 200 < 5 * MIB
    failure = refused(protocol, path, Stream("s", path=path.name))
    assert failure.code == "too_compressed"
    assert "largest_ratio" in str(failure.hint)


def test_a_file_may_be_allowed_to_unpack_to_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codec, "_UNSUSPICIOUS", 4 * MIB)
    path = tmp_path / "dull.csv.gz"
    bomb(path, 5 * MIB, b"0" * 512 + b"1" * 511 + b"\n")
    assert refused("csv", path, Stream("s", path=path.name)).code == "too_compressed"
    with connector("csv", path, largest_ratio=2000).open(ReadRequest(Stream("s", path=path.name))) as extract:
        assert sum(batch.num_rows for batch in extract.batches()) == 5 * 1024 - 1
    for protocol in ("csv", "jsonl", "parquet"):
        adapter = registry.load(protocol)
        assert adapter.destination is not None
        for option in ({"largest_ratio": 5}, {"follow_links": True}):
            with pytest.raises(ConfigError, match="only for"):
                adapter.destination(adapter.connection.model_validate({"path": str(tmp_path), **option}))


def test_a_parquet_file_is_judged_by_the_sizes_that_it_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything of it is unpacked: its pages are garbage here, which nobody sees."""
    monkeypatch.setattr(_codec, "_UNSUSPICIOUS", 4 * MIB)
    path = tmp_path / "bomb.parquet"
    rows = pa.table({"v": ["0" * MIB] * 6})
    pq.write_table(rows, path, compression="zstd", use_dictionary=False, row_group_size=2)
    written = path.read_bytes()
    stream = Stream("s", path=path.name)
    assert (
        pq.ParquetFile(path).metadata.row_group(0).total_byte_size < 4 * MIB < 6 * MIB
    )  # no group is too much
    path.write_bytes(written[:4] + bytes(64) + written[68:])
    failure = refused("parquet", path, stream)
    assert (failure.code, failure.message) == (
        "too_compressed", f"{path} unpacks to more than 200 times its size"
    )  # fmt: skip
    assert "largest_ratio" in str(failure.hint)
    path.write_bytes(written)
    with connector("parquet", path, largest_ratio=100_000).open(ReadRequest(stream)) as extract:
        assert sum(batch.num_rows for batch in extract.batches()) == 6


LINE = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
from tests.unit.connectors.test_files_hostile import refused
from atlas_etl.model import Stream
path = Path(sys.argv[1])
print(refused("jsonl", path, Stream("s", path=path.name)).code)
"""
PEAK = """
peak = Path("/proc/self/status")  # getrusage's begins with that of the process which started this one
told = peak.read_text().partition("VmHWM:")[2].split()[0] if peak.exists() else "0"
print(int(told) >> 10)
"""  # MiB


def test_a_line_without_an_end_fills_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "line.jsonl"
    with path.open("wb") as file:
        file.truncate(8 * 1024 * MIB)  # sparse: of zeros
    done = subprocess.run(
        [sys.executable, "-c", LINE + PEAK, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    code, mebibytes = done.stdout.split()
    assert code == "malformed_row"
    assert int(mebibytes) < 800


@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_json_without_a_bottom(tmp_path: Path, depth: int, opening: str, closing: str) -> None:
    path = tmp_path / "deep.jsonl"
    path.write_text(f'{{"a": {opening * depth}1{closing * depth}}}\n')
    if depth == 100:
        assert len(rows(connector("jsonl", path), Stream("s", path=path.name))) == 1
        return
    failure = refused("jsonl", path, Stream("s", path=path.name))
    assert failure.code == "malformed_row"
    assert "nested too deeply" in failure.message


def test_gigantic_numbers_arrive_as_they_are_written(tmp_path: Path) -> None:
    digits = "9" * 100_000
    path = tmp_path / "numbers.jsonl"
    path.write_text(f'{{"a": {digits}, "b": 1e999999999, "c": 1.{"0" * 5000}1}}\n')
    (found,) = rows(connector("jsonl", path), Stream("s", path=path.name))
    assert found == {"a": digits, "b": "1e999999999", "c": f"1.{'0' * 5000}1"}
    path = tmp_path / "numbers.csv"
    path.write_text(f"a,b,c\n{digits},1e999999999,-{digits}.5\n")
    (found,) = rows(connector("csv", path), Stream("s", path=path.name))
    assert found == {"a": digits, "b": "1e999999999", "c": f"-{digits}.5"}


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("nan.jsonl", b'{"a": NaN}\n', "malformed_row"),
        ("infinity.jsonl", b'{"a": -Infinity}\n', "malformed_row"),
        ("utf8.jsonl", b'{"a": "\xff\xfe"}\n', "invalid_text"),
        ("surrogate.jsonl", b'{"a": "\\ud800"}\n', "malformed_row"),
        ("utf8.csv", b"a\n\xff\xfe\n", "invalid_text"),
        ("overlong.csv", b"a\n\xc0\xaf\n", "invalid_text"),
        ("quote.csv", b'a\n"never closed\n', "unclosed_quote"),
        ("bomb.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "corrupt_file"),
        ("cut.csv.gz", gzip.compress(b"a\n1\n" * 1000, mtime=0)[:-20], "corrupt_file"),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    protocol = name.removesuffix(".gz").rpartition(".")[2]
    assert refused(protocol, tmp_path / name, Stream("s", path=name)).code == code


FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\n=x",
    "＝1",
    "'=1",
    "''=1",
    "'",
    "",
    "plain",
    "1-1",
    None,
]


def test_formulas_are_escaped_and_arrive_as_they_were(tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "connectors.d").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / "s.db")) as made:
        made.execute('CREATE TABLE t ("=k" TEXT PRIMARY KEY, n INTEGER, v TEXT)')
        made.executemany("INSERT INTO t VALUES (?, ?, ?)", [(f"{f}", -1, f) for f in FORMULAS])
        made.commit()
    source = {"protocol": "sqlite", "connection": {"database_path": str(tmp_path / "s.db")}, "streams": ["t"]}
    (project / "connectors.d/x.json").write_text(json.dumps(source))
    place = {"protocol": "csv", "path": str(tmp_path / "lake"), "csv_formulas": "escape"}
    (project / "atlas.yaml").write_text(json.dumps({"destinations": {"w": place}}))
    for _ in range(2):  # the second one merges what it reads from its own files
        list(atlas_etl.Atlas.open(project, {}).sync(["x"]))
        answer = atlas_etl.Atlas.open(project, {}).query("SELECT * FROM x.t").to_pylist()
        assert {row["=k"]: row["v"] for row in answer} == {f"{f}": f for f in FORMULAS}
        (file,) = (tmp_path / "lake/x/t").glob("atlas-*.csv")
        with file.open(newline="", encoding="utf-8") as opened:
            header, *cells = csv.reader(opened)
        assert header == ["'=k", "n", "v"]
        found = {cell for row in cells for cell in (row[0], row[2])}
        assert not any(cell[:1] in tuple("=+-@\t\r\n＝") for cell in found if cell)
        assert {"'=1+1", "''=1", "'''=1", "'", "plain", "1-1"} <= found
        assert {row[1] for row in cells} == {"-1"}
    assert {row["v"] for row in rows(connector("csv", tmp_path / "lake/x/t", csv_formulas="escape"))} == set(
        FORMULAS
    )
    assert "csv_formulas: escape" in refused("csv", tmp_path / "lake/x/t").message
    place["csv_formulas"] = "keep"
    (project / "atlas.yaml").write_text(json.dumps({"destinations": {"w": place}}))
    last = list(atlas_etl.Atlas.open(project, {}).sync(["x"]))[-1]
    assert last.run.streams[0].error.code == "other_format"
