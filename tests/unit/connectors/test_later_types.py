"""A column whose values are of another kind in a later sync, or that has none then: from files, whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from itertools import permutations
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from atlas_etl import values
from atlas_etl.model import Disposition, Stream
from tests.unit.connectors.test_files_sync import ends, sync

CELLS = {
    "whole": "7",
    "decimal": "1.50",
    "long": "123456789012345678901234567890",
    "small": "1e-05",
    "large": "1e300",
    "flag": "true",
    "word": "abc",
    "day": "2024-01-01",
    "naive": "2024-01-01T10:00:00",
    "moment": "2024-01-01T10:00:00Z",
    "uuid": "0b1f5a3e-7c3a-4c7b-9d2e-2f6f5a3e7c3a",
    "empty": "",
}
DOCUMENTS = {"object": '{"a":1}', "list": "[1,2]"}
STRINGS = {"word", "day", "naive", "moment", "uuid", "empty"}
STREAM = Stream("s", primary_key=("id",), disposition=Disposition.MERGE)


def put(folder: Path, protocol: str, cells: Mapping[str, tuple[str, str]], number: int) -> None:
    """One file with one row: of each pair of kinds the cell of the one, and later that of the other."""
    (folder / "in").mkdir(exist_ok=True)
    for old in (folder / "in").iterdir():
        old.unlink()
    row = {name: pair[number] for name, pair in cells.items()}
    if protocol == "csv":
        quoted = ['"' + cell.replace('"', '""') + '"' if cell else "" for cell in row.values()]
        text = ",".join(("id", *row)) + "\n" + ",".join((str(number), *quoted)) + "\n"
    else:
        text = "{" + ",".join((f'"id":{number}', *(f'"{name}":{cell}' for name, cell in row.items()))) + "}\n"
    (folder / "in" / f"a.{protocol}").write_text(text)


def is_same(written: str | None, read: str | None) -> bool:
    if written == read or written is None or read is None:
        return written == read
    try:
        return Decimal(written) == Decimal(read)
    except InvalidOperation:
        return read.replace(".000000", "") == written


def in_json(kind: str) -> str:
    return json.dumps(CELLS[kind]) if kind in STRINGS else {**CELLS, **DOCUMENTS}[kind]


@pytest.mark.parametrize("to", ["parquet", "duckdb", "jsonl"])
@pytest.mark.parametrize("protocol", ["csv", "jsonl"])
def test_each_kind_is_taken_after_each_other_one(tmp_path: Path, protocol: str, to: str) -> None:
    kinds = [*CELLS, *(DOCUMENTS if protocol == "jsonl" else ())]
    pairs = {f"{one}_{other}": (one, other) for one, other in permutations(kinds, 2)}
    told = {
        name: tuple(in_json(kind) if protocol == "jsonl" else CELLS[kind] for kind in pair)
        for name, pair in pairs.items()
    }
    for number in range(2):
        put(tmp_path, protocol, told, number)  # type: ignore[arg-type]
        sync(tmp_path, STREAM, protocol, to)
    _, destination = ends(tmp_path, protocol, to)
    table = destination.query("SELECT * FROM shop.s ORDER BY id")
    for name, pair in pairs.items():
        read = values.to_text(values.storage(table[name].combine_chunks())).to_pylist()
        for kind, cell in zip(pair, read, strict=True):
            written = {**CELLS, **DOCUMENTS}[kind]
            is_null = protocol == "csv" and kind == "empty" and cell is None
            is_quoted = kind in STRINGS and cell == json.dumps(written)  # in a column of documents
            assert is_null or is_quoted or is_same(written, cell), (name, written, cell)


@pytest.mark.parametrize("kind", ["whole", "decimal", "flag", "day", "moment"])
@pytest.mark.parametrize("protocol", ["csv", "jsonl"])
def test_a_column_without_values_keeps_its_type(tmp_path: Path, protocol: str, kind: str) -> None:
    before, none = (CELLS[kind], "") if protocol == "csv" else (in_json(kind), "null")
    for number in range(2):
        put(tmp_path, protocol, {"a": (before, none)}, number)
        outcome = sync(tmp_path, STREAM, protocol)
    assert not outcome.schema_changes
    _, destination = ends(tmp_path, protocol, "parquet")
    table = destination.query("SELECT a FROM shop.s ORDER BY id")
    assert not pa.types.is_string(table.schema.field("a").type)
    assert table["a"].to_pylist()[1] is None


ROWS = {
    "csv": """id,at,doc,n,d,small
0b1f5a3e-7c3a-4c7b-9d2e-2f6f5a3e7c3a,08:00:00,"{""a"":1}",5,1.5,3
""",
    "jsonl": """{"id":"0b1f5a3e-7c3a-4c7b-9d2e-2f6f5a3e7c3a","at":"08:00:00","doc":{"a":1},"n":5,\
"d":1.5,"small":3}
""",
}
DECLARED = {
    "id": "UUID", "at": "TIME", "doc": "JSON", "n": "INTEGER", "d": "DECIMAL(10,2)", "small": "SMALLINT",
}  # fmt: skip


@pytest.mark.parametrize("protocol", ["csv", "jsonl"])
def test_a_table_of_ones_own_keeps_the_types_that_hold_the_values(tmp_path: Path, protocol: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"a.{protocol}").write_text(ROWS[protocol])
    columns = ", ".join(f'"{name}" {kind}' for name, kind in DECLARED.items())
    with duckdb.connect(str(tmp_path / "out")) as client:
        client.execute("CREATE SCHEMA shop")
        client.execute(f"CREATE TABLE shop.s ({columns})")
    sync(tmp_path, Stream("s", disposition=Disposition.APPEND, load_id="1"), protocol, "duckdb")
    _, destination = ends(tmp_path, protocol, "duckdb")
    described = destination.query(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 's'"
    )
    there = dict(zip(*(column.to_pylist() for column in described.columns), strict=True))
    (row,) = destination.query("SELECT * FROM shop.s").to_pylist()
    assert {name: there[name] for name in DECLARED} == DECLARED
    assert [str(row[name]) for name in DECLARED] == [
        "0b1f5a3e-7c3a-4c7b-9d2e-2f6f5a3e7c3a", "08:00:00", '{"a":1}', "5", "1.50", "3",
    ]  # fmt: skip


def test_a_parquet_column_of_no_type_keeps_that_of_its_table(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, column in enumerate((pa.array([5]), pa.nulls(1))):
        pq.write_table(pa.table({"id": [number], "a": column}), tmp_path / "in" / "a.parquet")
        outcome = sync(tmp_path, STREAM, "parquet")
    assert not outcome.schema_changes
    _, destination = ends(tmp_path, "parquet", "parquet")
    assert destination.query("SELECT a FROM shop.s ORDER BY id")["a"].to_pylist() == [5, None]
