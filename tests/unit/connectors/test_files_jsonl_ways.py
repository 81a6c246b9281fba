"""JSON lines that Arrow parses are the rows that their members' own texts are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from atlas_etl.connectors.files import _json_rows, _json_survey, jsonl
from atlas_etl.connectors.files._json_rows import Block
from atlas_etl.connectors.files._store import LocalStore
from atlas_etl.connectors.files.jsonl import JsonlFormat
from atlas_etl.connectors.row_source import Wanted

TEXTS = st.sampled_from(
    [
        "null", "true", "false", "0", "7", "-12", "9223372036854775808", "9007199254740993", "1.5", "1.50",
        "-0.0", "1e3", "5e-324", "1E-400", "12345678901234567890.123456789", '""', '"a"', '"12"', '"1.5"',
        '"true"', '"2026-01-01"', '"2026-02-30"', '"2026-01-01T10:00:00Z"', '"2500-01-01T10:00:00Z"',
        '"2026-01-01T10:00:00.123456789+02:00"', '"2026-01-01 10:00"', '"0000-01-01"',
        '"\\u00e9\\n\\ud83d\\ude00"', '"\\u0000"', "[]", '{"a": "}"}', '[1, "2"]', '" "', '"a\\"b"',
    ]
)  # fmt: skip
ROW = st.dictionaries(st.sampled_from(["a", "b", 'c"', "é"]), TEXTS, max_size=4).map(
    lambda row: "{" + ", ".join(f"{json.dumps(name)}: {cell}" for name, cell in row.items()) + "}"
)
KIND = st.lists(TEXTS, min_size=1, max_size=2)  # of which a column's cells are, so that blocks are alike
ALIKE = st.tuples(KIND, KIND).flatmap(
    lambda kinds: st.lists(
        st.tuples(st.sampled_from(kinds[0]), st.sampled_from(kinds[1])).map(
            lambda cells: f'{{"a": {cells[0]}, "b": {cells[1]}}}'
        ),
        min_size=2,
        max_size=12,
    )
)
LINE_BY_LINE = 1


@contextmanager
def _blocks(size: int, *, parsed: bool) -> Iterator[list[int]]:
    """Blocks of about so many bytes. Gives the first lines of those whose members were looked at."""
    looked: list[int] = []
    rows = Block.rows

    def watched(block: Block) -> list[_json_rows.Row]:
        looked.append(block.line)
        return rows(block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_json_rows, "_BLOCK", size)
        patch.setattr(Block, "rows", watched)
        if not parsed:
            patch.setattr(_json_survey, "has_parser", lambda names: False)
            patch.setattr(jsonl, "has_parser", lambda names: False)
        yield looked


def _read(path: Path) -> tuple[pa.Table, dict[str, int]]:
    form, store = JsonlFormat({}), LocalStore()
    file = store.stat(str(path))
    survey = form.survey(store, [file], None)
    rows = list(form.batches(store, file, Wanted(survey.schema)))
    return pa.Table.from_batches(rows, survey.schema), dict(survey.nulls)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.one_of(st.lists(ROW, min_size=1, max_size=8), ALIKE), size=st.sampled_from([1, 40, 4096]))
@example(lines=['{"a": 12345.5}', '{"a": 1234567890123456.5}', '{"a": 0.1234567890}'], size=1)
@example(lines=['{"a": 1.5}', '{"a": 0.12345678901234567}', '{"a": 1e3}'], size=1)
@example(lines=['{"a": 1}', '{"a": 1234567890123456789}', '{"a": 1e3}'], size=1)
@example(lines=['{"a": "2026-01-01T00:00:00Z"}', '{"a": "2500-01-01T00:00:00Z"}'], size=1)
def test_both_ways_give_the_same(tmp_path: Path, lines: list[str], size: int) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    with _blocks(size, parsed=False):
        expected = _read(path)
    with _blocks(size, parsed=True):
        assert _read(path) == expected


def test_rows_of_one_shape_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = '{"id": %d, "p": 1.5, "at": "2026-01-01T00:00:00Z", "ok": true, "doc": {"a": 1}, "x": 1e-7}\n'
    path.write_text("".join(row % n for n in range(5)), "utf-8")
    with _blocks(LINE_BY_LINE, parsed=True) as looked:
        table, _ = _read(path)
    assert table.num_rows == 5
    assert looked == [1]  # by the survey, before it knew a type


def test_a_column_of_several_kinds_is_read_by_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": 1}\n{"x": "a"}\n{"x": 2}\n', "utf-8")
    with _blocks(LINE_BY_LINE, parsed=True) as looked:
        table, _ = _read(path)
    assert table.column("x").to_pylist() == ["1", "a", "2"]
    assert looked == [1, 2, 1, 2, 3]


def test_of_two_members_with_one_name_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1, "d": {}}\n{"a": 1, "a": 2, "d": {}, "d": []}\n{"a": 3, "d": {}, "d": [1]}\n')
    with _blocks(LINE_BY_LINE, parsed=True):
        table, _ = _read(path)
    assert table.column("a").to_pylist() == [1, 2, 3]
    assert pa.table(table).column("d").to_pylist() == ["{}", "[]", "[1]"]


def test_minus_zero_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": -0}\n')
    with _blocks(LINE_BY_LINE, parsed=True):
        table, _ = _read(path)
    assert table.column("a").to_pylist() == [1, 0]
