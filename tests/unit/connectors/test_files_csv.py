"""CSV files as they come: dialects, encodings, damage, and the line that is to blame."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from atlas_etl.connectors import registry
from atlas_etl.connectors.files import _csv_rows
from atlas_etl.connectors.files.csv import CsvConnection
from atlas_etl.connectors.preview import preview
from atlas_etl.errors import AtlasError, SourceError
from atlas_etl.model import ReadRequest, Stream

Cells = dict[str, list[object]]


def read(path: Path, **options: object) -> Cells:
    table = table_of(path, **options)
    return {name: table.column(name).to_pylist() for name in table.column_names}


def table_of(path: Path, **options: object) -> pa.Table:
    config = CsvConnection.model_validate({"path": str(path), **options})
    adapter = registry.load("csv")
    assert adapter.connector is not None
    with adapter.connector(config).open(ReadRequest(Stream("s"))) as extract:
        return pa.Table.from_batches(list(extract.batches()), extract.schema)


def fails(path: Path, **options: object) -> AtlasError:
    with pytest.raises(AtlasError) as caught:
        read(path, **options)
    assert caught.value.exit_code == 3
    assert str(path) in caught.value.message
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.csv"


def test_types_are_those_of_all_values(file: Path) -> None:
    file.write_text(
        "id,code,price,big,at,day,ok,note\n"
        "1,007,12.50,9223372036854775808,2026-03-01T12:00:00Z,2026-03-01,true,\n"
        '2,008,3,1,2026-03-01 12:00:00+02:00,2026-03-02,false,""\n'
    )
    table = table_of(file)
    assert [str(kind) for kind in table.schema.types] == [
        "int64", "string", "decimal128(18, 2)", "decimal128(19, 0)", "timestamp[us, tz=UTC]", "date32[day]",
        "bool", "string",
    ]  # fmt: skip
    assert table.column("price").to_pylist() == [Decimal("12.50"), Decimal("3.00")]
    assert table.column("note").to_pylist() == [None, ""]


def test_a_type_is_never_told_by_the_first_block(file: Path) -> None:
    lines = "".join(f"{n},{n}\n" for n in range(400_000))
    file.write_text(f"a,b\n{lines}x,0.5\n")
    assert file.stat().st_size > _csv_rows._BLOCK
    table = table_of(file)
    assert (table.num_rows, table.schema.types) == (400_001, [pa.string(), pa.decimal128(18, 1)])
    assert table.column("a")[0].as_py() == "0"


def test_several_files_are_one_table(tmp_path: Path) -> None:
    (tmp_path / "a-1.csv").write_text("id,x\n1,5\n")
    (tmp_path / "a-2.csv").write_text("y,id\n2026-01-01,2\n")
    (tmp_path / "a-3.csv").write_text("")
    (tmp_path / "a-4.csv").write_text("id,x\n")
    assert str(read(tmp_path / "a-*.csv")) == str(
        {"id": [1, 2], "x": [5, None], "y": [None, __import__("datetime").date(2026, 1, 1)]}
    )


def test_dialects(file: Path) -> None:
    file.write_text("a;b\n1;'x;y'\n2;NULL\n3;'NULL'\n4;\n")
    assert read(file, delimiter=";", quote="'", null_strings=["NULL"]) == {
        "a": [1, 2, 3, 4],
        "b": ["x;y", None, "NULL", ""],
    }
    file.write_text('a,b\n1,"x\n')
    assert read(file, quote=None) == {"a": [1], "b": ['"x']}
    tabs = file.with_name("rows.tsv")
    tabs.write_text("a\tb\n1\tx,y\n")
    assert read(tabs) == {"a": [1], "b": ["x,y"]}


def test_headers(file: Path) -> None:
    file.write_text("1,x\n2,y\n")
    assert read(file, header=False) == {"column_1": [1, 2], "column_2": ["x", "y"]}
    assert read(file, header=["n", "t"]) == {"n": [1, 2], "t": ["x", "y"]}
    file.write_text('\n\n"na\nme",,b\n1,2,3\n')
    assert read(file) == {"na\nme": [1], "column_2": [2], "b": [3]}
    file.write_text("a,b,a\n1,2,3\n")
    assert fails(file).code == "duplicate_column"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_endings(file: Path, ending: str, last: bool) -> None:
    text = ending.join(["a,b", '1,"x' + ending + 'y"', "2,z"]) + (ending if last else "")
    file.write_bytes(text.encode())
    assert read(file) == {"a": [1, 2], "b": [f"x{ending}y", "z"]}


def test_one_column_with_blank_lines(file: Path) -> None:
    file.write_text('\na\n\n1\n""\n')
    assert read(file) == {"a": [None, 1, None]}
    file.write_text("a,b\n\n1,2\n\n")
    assert read(file) == {"a": [1], "b": [2]}


@pytest.mark.parametrize("text", ["a,b\n", "a,b"])
def test_only_a_header(file: Path, text: str) -> None:
    file.write_text(text)
    table = table_of(file)
    assert (table.column_names, table.num_rows) == (["a", "b"], 0)


def test_nothing_at_all(file: Path) -> None:
    file.write_text("")
    assert fails(file).code == "no_columns"
    assert read(file, header=["a"]) == {"a": []}


@pytest.mark.parametrize(
    ("encoding", "option"),
    [
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("latin-1", "latin-1"),
        ("cp1252", "windows-1252"),
    ],
)
def test_encodings(file: Path, encoding: str, option: str) -> None:
    file.write_bytes("id,naïve\n1,é\n".encode(encoding))
    assert read(file, encoding=option) == {"id": [1], "naïve": ["é"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
@pytest.mark.parametrize("before", ["", "\n"], ids=["at once", "a blank line"])
def test_a_mark_before_a_quoted_name(file: Path, encoding: str, before: str) -> None:
    file.write_bytes(f'\ufeff{before}"last, first","id"\n"x, y",1\n'.encode(encoding))
    assert read(file, encoding=encoding) == {"last, first": ["x, y"], "id": [1]}


def test_a_mark_alone_is_no_column(file: Path) -> None:
    file.write_bytes(codecs.BOM_UTF8)
    assert fails(file).code == "no_columns"


@pytest.mark.parametrize(
    "content",
    [b"id,x\0\n1,b\n2,c\n", "id,x\n1,b\n".encode("utf-16-le"), "\ufeffid\n1\n".encode("utf-32-le")],
    ids=["a NUL", "utf-16 without a mark", "utf-32"],
)
def test_names_with_nul_are_of_another_encoding(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    failure = fails(file)
    assert (failure.code, "encoding" in str(failure.hint)) == ("invalid_text", True)


def test_a_long_field_without_a_header(file: Path) -> None:
    file.write_text(f"1,{'x' * 200_000}\n")
    assert read(file, header=False) == {"column_1": [1], "column_2": ["x" * 200_000]}


@pytest.mark.parametrize("content", [b"a,b\n1,\xff\n", b"\xff\xff,b\n1,2\n", b"a,b\n1,\xc3"])
def test_bytes_that_are_no_text(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    failure = fails(file)
    assert failure.code == "invalid_text"
    assert "encoding" in str(failure.hint)


def test_an_unknown_encoding_or_type_is_a_wrong_definition() -> None:
    for options in (
        {"encoding": "klingon"},
        {"types": {"a": "int65"}},
        {"delimiter": ";;"},
        {"delimiter": "é"},
    ):
        with pytest.raises(ValidationError):
            CsvConnection.model_validate({"path": "x", **options})


@pytest.mark.parametrize(
    ("text", "line", "fields"),
    [
        ("a,b\n1,2\n1,2,3\n", 3, 3),
        ("a,b\n1,2\n1\n", 3, 1),
        ('a,b\n"1\n1",2\n\n"x\n\ny",2,3\n', 5, 3),
        ("a\n1\n1,2\n", 3, 2),
    ],
)
def test_a_ragged_row_is_named_by_its_line(file: Path, text: str, line: int, fields: int) -> None:
    file.write_text(text)
    failure = fails(file)
    assert failure.code == "ragged_row"
    assert failure.message.startswith(f"line {line} of {file} has {fields} fields")


@pytest.mark.parametrize(
    "text",
    ['a,b\n1,2\n3,"x\n4,5\n', 'a,b\n1,2\n3,"x', 'a,b\n1,2\n"x,3\n4,5\n', 'a\n1\n"x\n', 'a,b\n1,2\n3,"'],
)
def test_a_quote_that_is_never_closed_is_an_error(file: Path, text: str) -> None:
    file.write_text(text)
    failure = fails(file)
    assert failure.code == "unclosed_quote"
    assert "line 3" in failure.message


def test_a_file_cut_anywhere_gives_what_is_there_or_an_error(file: Path) -> None:
    text = 'a,b\n1,"x\ny"\n22,"z ""q"""\n'
    for size in range(len(text) + 1):
        file.write_text(text[:size])
        try:
            found = read(file, types={"a": "text", "b": "text"})
        except SourceError as failure:
            assert failure.code in ("unclosed_quote", "ragged_row", "no_columns"), text[:size]
            continue
        header, *records = csv.reader(io.StringIO(text[:size]), strict=True)
        cells = [[cell or None for cell in record] for record in records]
        assert list(found) == [name or f"column_{n}" for n, name in enumerate(header, 1)]
        assert [list(row) for row in zip(*found.values(), strict=True)] == cells


def test_very_long_fields(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "x" * 5_000_000
    file.write_text(f'a,b\n1,y\n2,"{long}\n{long}"\n3,z\n')
    assert [len(str(cell)) for cell in read(file)["b"]] == [1, 10_000_001, 1]
    monkeypatch.setattr(_csv_rows, "_LARGEST_BLOCK", _csv_rows._BLOCK)
    assert fails(file).code == "malformed_row"


@pytest.mark.parametrize("before", range(5))
def test_a_quoted_line_break_between_two_blocks(
    file: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """CR is the last of some blocks, and LF the first of the next."""
    monkeypatch.setattr(_csv_rows, "_BLOCK", 64)
    file.write_bytes(b"x" * (1 + before) + b"\n" + b'"\r\n"\n' * 100)
    assert read(file) == {"x" * (1 + before): ["\r\n"] * 100}


def test_declared_types(file: Path) -> None:
    file.write_text(
        "id,at,f,j,h,u\n1,12:30:00,nan,[1],00ff,12345678-1234-5678-1234-567812345678\n2,,1.5,,,\n"
    )
    types = {"id": "text", "at": "time", "f": "double", "j": "json", "h": "hex", "u": "uuid", "no": "date"}
    table = table_of(file, types=types)
    assert [str(kind) for kind in table.schema.types] == [
        "string", "time64[us]", "double", "extension<arrow.json>", "binary", "extension<arrow.uuid>",
    ]  # fmt: skip
    assert table.column("h").to_pylist() == [b"\x00\xff", None]


def test_a_value_that_is_not_of_its_declared_type_is_named(file: Path) -> None:
    rows = "".join(f"{n},2026-01-01\n" for n in range(1000))
    file.write_text(f"id,day\n{rows}7,{'secret ' * 50}\n")
    failure = fails(file, types={"day": "date"})
    assert (failure.code, failure.column) == ("value_type", "day")
    assert failure.message.startswith("row 1001 of ")
    assert len(failure.message) < 300


@pytest.mark.parametrize("compress", ["gzip", "zstd"])
def test_compressed_files_are_whole_or_an_error(tmp_path: Path, compress: str) -> None:
    content = b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(2000))
    file = tmp_path / ("rows.csv.gz" if compress == "gzip" else "rows.CSV.ZST")
    with pa.CompressedOutputStream(str(file), compress) as sink:
        sink.write(content)
    packed = file.read_bytes()
    assert read(file)["a"] == list(range(2000))
    file.write_bytes(packed + packed)
    assert fails(file, header=["a", "b"], types={"a": "int64"}).code == "value_type"  # the second header
    for size in [*range(1, len(packed), 97), len(packed) - 1, 0]:
        file.write_bytes(packed[:size])
        assert fails(file).code == "corrupt_file", size
    file.write_bytes(content)
    assert fails(file).code == "corrupt_file"
    if compress == "gzip":
        spoilt = bytearray(gzip.compress(content))
        spoilt[len(spoilt) // 2] ^= 1
        file.write_bytes(spoilt)
        assert fails(file).code == "corrupt_file"


def test_a_preview_does_not_read_to_the_end(file: Path) -> None:
    file.write_text("a,b\n" + "1,2\n" * 5_000_000 + "ragged\n")
    adapter = registry.load("csv")
    assert adapter.connector is not None
    connector = adapter.connector(CsvConnection(path=file))
    columns, rows = preview(connector, Stream("s"), 3)
    assert (columns, rows) == (["a", "b"], [[1, 2]] * 3)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_what_pythons_writer_writes_is_read(file: Path, rows: list[list[str]], ending: str) -> None:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b"], *rows])
    file.write_bytes(sink.getvalue().encode())
    found = read(file, types={"a": "text", "b": "text"})
    assert [list(row) for row in zip(found["a"], found["b"], strict=True)] == rows
