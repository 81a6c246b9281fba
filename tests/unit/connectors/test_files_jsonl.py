"""JSON lines files as they come: numbers to the digit, documents as written, the line to blame."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlas_etl.connectors import registry
from atlas_etl.connectors.files import _json_rows
from atlas_etl.connectors.files._store import LocalStore
from atlas_etl.connectors.files.jsonl import JsonlConnection, JsonlFormat
from atlas_etl.connectors.row_source import Wanted
from atlas_etl.errors import AtlasError, HazardError
from atlas_etl.model import ReadRequest, Stream


def table_of(path: Path, **options: object) -> pa.Table:
    config = JsonlConnection.model_validate({"path": str(path), **options})
    adapter = registry.load("jsonl")
    assert adapter.connector is not None
    with adapter.connector(config).open(ReadRequest(Stream("s"))) as extract:
        return pa.Table.from_batches(list(extract.batches()), extract.schema)


def column(path: Path, *cells: str, **options: object) -> tuple[pa.DataType, list[object]]:
    """The column that these JSON values are read as; an empty text is a missing member."""
    path.write_text("".join(f'{{"x": {cell}}}\n' if cell else '{"y": 0}\n' for cell in cells), "utf-8")
    table = table_of(path, **options)
    return table.column("x").type, table.column("x").to_pylist()


def fails(path: Path, **options: object) -> AtlasError:
    with pytest.raises(AtlasError) as caught:
        table_of(path, **options)
    assert caught.value.exit_code == 3
    return caught.value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "null", "", "-20"], pa.int64(), [1, None, None, -20]),
        (["9007199254740993"], pa.int64(), [9007199254740993]),
        (["18446744073709551615"], pa.decimal128(20, 0), [Decimal(2**64 - 1)]),
        (["1.10", "3"], pa.decimal128(18, 2), [Decimal("1.10"), Decimal("3.00")]),
        (["0." + "1" * 30], pa.decimal128(31, 30), [Decimal("0." + "1" * 30)]),
        (["1e3", "0.5"], pa.float64(), [1000.0, 0.5]),
        (["0.12345678901234567890", "1e3"], pa.string(), ["0.12345678901234567890", "1e3"]),
        (["9" * 5000], pa.string(), ["9" * 5000]),
        (["true", "false"], pa.bool_(), [True, False]),
        (["true", "1"], pa.string(), ["true", "1"]),
        (["1", '"1.50"', "1.50", '"é"'], pa.string(), ["1", "1.50", "1.50", "é"]),
        (['"007"', '"8"'], pa.string(), ["007", "8"]),
        (['""', "null"], pa.string(), ["", None]),
        (['"a\\"b\\\\\\n\\u00e9"', '"plain"'], pa.string(), ['a"b\\\né', "plain"]),
        (['"2026-03-01"'], pa.date32(), [date(2026, 3, 1)]),
        (['"2026-03-01"', '""'], pa.string(), ["2026-03-01", ""]),
        (['"2026-03-01T12:00:00+02:00"'], pa.timestamp("us", "UTC"), [datetime(2026, 3, 1, 10, tzinfo=UTC)]),
        (['{"a" : [1.10, 2]}', "null"], pa.json_(), ['{"a" : [1.10, 2]}', None]),
        (["[1]", "5", '"x"'], pa.json_(), ["[1]", "5", '"x"']),
        (["null"], pa.string(), [None]),
        (["[]", "{}"], pa.json_(), ["[]", "{}"]),
    ],
)
def test_what_a_member_is(file: Path, cells: list[str], kind: pa.DataType, values: list[object]) -> None:
    assert column(file, *cells) == (kind, values)


def test_columns_that_come_late_and_kinds_that_change_late(file: Path) -> None:
    lines = [json.dumps({"id": n, "code": n}) for n in range(300_000)]
    file.write_text("\n".join([*lines, '{"id": 300000, "code": "x", "late": true}']))
    assert file.stat().st_size > _json_rows._BLOCK
    table = table_of(file)
    assert table.schema.types == [pa.int64(), pa.string(), pa.bool_()]
    assert table.num_rows == 300_001
    assert table.column("code")[:2].to_pylist() == ["0", "1"]
    assert table.column("late").null_count == 300_000


def test_lines(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbf\n{"a": 1}\r\n\n   \n{"a": 2}')
    assert table_of(file).to_pylist() == [{"a": 1}, {"a": 2}]
    file.write_bytes(b"")
    assert fails(file).code == "no_columns"
    file.write_bytes(b"{}\n{}\n")
    assert fails(file).code == "no_columns"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"a": 1}\n{"a": \n', 2),
        (b'{"a": 1}\n{"a": 1', 2),
        (b'{"a": 1}\n\n{"a": 1}{"a": 2}\n', 3),
        (b'{"a": 1}\n{"a":\n2}\n', 2),
        (b'{"a": 1}\n[{"a": 1}]\n', 2),
        (b'{"a": 1}\n5\n', 2),
        (b'{"a": 1}\n{"a": NaN}\n', 2),
        (b'{"a": 1}\n{"a": 01}\n', 2),
        (b'{"a": 1}\n{"a": 1,}\n', 2),
        (b"{'a': 1}\n", 1),
        (b'{"a": "\\ud800"}\n', 1),
        (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}\n", 1),
        (b'[{"a": 1},\n{"a": 2}]\n', 1),
    ],
)
def test_a_line_that_is_not_one_object_is_named(file: Path, content: bytes, line: int) -> None:
    file.write_bytes(content)
    failure = fails(file)
    assert failure.code == "malformed_row"
    assert failure.message.startswith(f"line {line} of {file} is not one JSON object")
    assert len(failure.message) < len(str(file)) + 200
    assert failure.hint


@pytest.mark.parametrize(
    ("text", "half"),
    [
        (rb"\ud83d", "ud83d"),
        (rb"a \uDE00", "uDE00"),
        (rb"\ud83d and more", "ud83d"),
        (rb"\ud83d\n", "ud83d"),
        (rb"\ud83d\u0041", "ud83d"),
        (rb"\ud83d\ude00\ude01", "ude01"),
        (rb"\\ud83d \ude00", "ude00"),
    ],
)
def test_half_of_a_character_is_named(file: Path, text: bytes, half: str) -> None:
    file.write_bytes(rb'{"a": "\ud83d\ude00 \\ud83d"}' + b'\n{"a": "' + text + b'"}\n')
    failure = fails(file)
    assert failure.message == (
        f"line 2 of {file} is not one JSON object: \\{half} is half of a character, without its other half"
    )
    assert "two such escapes" in str(failure.hint)


@pytest.mark.parametrize("cut", [rb"\ud83d", rb"\ud83d\u", rb"\ud83d\ude0", rb"\\ud83d"])
def test_what_is_cut_within_a_character_is_cut_short(file: Path, cut: bytes) -> None:
    file.write_bytes(b'{"a": "' + cut)
    failure = fails(file)
    assert "truncated" in failure.message
    assert "cut short" in str(failure.hint)
    assert failure.retryable


def test_a_line_that_is_malformed_for_good_is_not_read_again(file: Path) -> None:
    file.write_bytes(b'{"a": 1}\n{"a": \n')
    assert not fails(file).retryable
    file.write_bytes(b'{"a": \n{"a": 1}')
    assert not fails(file).retryable
    file.write_bytes(b'[{"a": 1},')
    assert not fails(file).retryable


def test_a_malformed_line_far_into_the_file(file: Path) -> None:
    file.write_text('{"a": "' + "x" * 90 + '"}\n')
    lines = 3 * _json_rows._BLOCK // 100
    file.write_text(('{"a": "' + "x" * 90 + '"}\n') * lines + '{"a" 1}\n')
    assert f"line {lines + 1} " in fails(file).message


@pytest.mark.parametrize(
    "content", [b'{"a": "\xff"}\n', b'{"a": {"b": "\xff"}}\n', '{"a": 1}'.encode("utf-16")]
)
def test_bytes_that_are_no_text(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert fails(file).code in ("invalid_text", "malformed_row")


@pytest.mark.parametrize("more", [b"", b'{"a": 1\n'], ids=["alone", "beside-another-fault"])
def test_a_name_that_is_no_text(file: Path, more: bytes) -> None:
    file.write_bytes(b'{"a": 1}\n{"\xff": 1}\n' + more)
    assert fails(file).code == "invalid_text"


def test_declared_types(file: Path) -> None:
    types = {"x": "decimal(12,2)"}
    assert column(file, "1", '"2.50"', types=types) == (
        pa.decimal128(12, 2),
        [Decimal("1.00"), Decimal("2.50")],
    )
    assert column(file, "1", "[1]", types={"x": "text"}) == (pa.string(), ["1", "[1]"])
    assert column(file, '"00ff"', types={"x": "hex"}) == (pa.binary(), [b"\x00\xff"])
    file.write_text('{"x": 1}\n{"x": "one"}\n')
    failure = fails(file, types={"x": "int64"})
    assert (failure.code, failure.column) == ("value_type", "x")
    assert "object 2" in failure.message


@pytest.mark.parametrize("compress", ["gzip", "zstd"])
def test_compressed_files_are_whole_or_an_error(tmp_path: Path, compress: str) -> None:
    file = tmp_path / ("rows.jsonl.gz" if compress == "gzip" else "rows.jsonl.zst")
    content = b"".join(b'{"n": %d}\n' % n for n in range(2000))
    with pa.CompressedOutputStream(str(file), compress) as sink:
        sink.write(content)
    packed = file.read_bytes()
    assert table_of(file).column("n").to_pylist() == list(range(2000))
    for size in [*range(0, len(packed), 131), len(packed) - 1]:
        file.write_bytes(packed[:size])
        assert fails(file).code == "corrupt_file", size


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", 'é"\\']), DOCUMENTS), min_size=1, max_size=6))
def test_what_pythons_writer_writes_is_read(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    if not any(rows):
        assert fails(file).code == "no_columns"
        return
    table = table_of(file, types=dict.fromkeys({name for row in rows for name in row}, "json"))
    for row, found in zip(rows, table.to_pylist(), strict=True):
        for name in table.column_names:
            expected = None if row.get(name) is None else json.dumps(row[name])
            assert found[name] == expected


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(), DOCUMENTS, st.floats(), st.none() | st.integers(-(2**63), 2**63 - 1))))
def test_what_is_written_is_read_back(file: Path, rows: list[tuple[str, object, float, int | None]]) -> None:
    schema = pa.schema([("t\n", pa.string()), ("d", pa.json_()), ("f", pa.float64()), ("n", pa.int64())])
    texts = [json.dumps(document, indent=1) for _, document, _, _ in rows]
    columns = [
        pa.array([row[0] for row in rows], pa.string()),
        pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string())),
        pa.array([row[2] for row in rows], pa.float64()),
        pa.array([row[3] for row in rows], pa.int64()),
    ]
    form = JsonlFormat({}).as_written()
    with file.open("wb") as sink:
        writer = form.writer(sink, schema)
        writer.write(pa.RecordBatch.from_arrays(columns, schema=schema))
        writer.close()
    stored = LocalStore().stat(str(file))
    assert stored is not None
    found = pa.Table.from_batches(list(form.batches(LocalStore(), stored, Wanted(schema))), schema)
    assert found.column("t\n").to_pylist() == columns[0].to_pylist()
    assert list(map(repr, found.column("f").to_pylist())) == list(map(repr, columns[2].to_pylist()))
    assert found.column("n").to_pylist() == columns[3].to_pylist()
    assert found.column("d").to_pylist() == [text.replace("\n", " ") for text in texts]


def test_a_document_that_is_none_is_refused(file: Path) -> None:
    schema = pa.schema([("d", pa.json_())])
    for text in ("{", "1 2", "", '{"a":1}\n{"b":2}'):
        documents = pa.ExtensionArray.from_storage(pa.json_(), pa.array([text], pa.string()))
        with file.open("wb") as sink, pytest.raises(HazardError, match="'d'"):
            JsonlFormat({}).writer(sink, schema).write(pa.RecordBatch.from_arrays([documents], schema=schema))
