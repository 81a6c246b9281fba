"""Parquet files as they come: types as Atlas holds them, files that differ, old timestamps, damage."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.connectors.base import BaseConnector, ConnectionConfig
from atlas_etl.connectors.files.parquet import ParquetFormat
from atlas_etl.errors import AtlasError, HazardError, NullCursorError, SourceError
from atlas_etl.model import (
    BatchLimits,
    CursorKind,
    CursorValue,
    Hazard,
    HazardPolicy,
    NullCursor,
    ReadRequest,
    Stream,
)


def connector(path: Path) -> BaseConnector[ConnectionConfig]:
    adapter = registry.load("parquet")
    assert adapter.connector is not None
    made = adapter.connector(adapter.connection.model_validate({"path": str(path)}))
    assert isinstance(made, BaseConnector)
    return made


def table_of(path: Path, stream: Stream | None = None, since: CursorValue | None = None) -> pa.Table:
    with connector(path).open(ReadRequest(stream or Stream("s"), since)) as extract:
        return pa.Table.from_batches(list(extract.batches()), extract.schema)


def written(path: Path, *columns: pa.Array, **options: object) -> Path:
    pq.write_table(pa.table(list(columns), names=[f"c{n}" for n in range(len(columns))]), path, **options)
    return path


def test_types_are_held_as_everywhere(tmp_path: Path) -> None:
    entries = pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32()))
    cases: list[tuple[pa.Array, pa.DataType, list[object]]] = [
        (pa.array(["a", None]).dictionary_encode(), pa.string(), ["a", None]),
        (pa.array(["a", None], pa.large_string()), pa.string(), ["a", None]),
        (pa.array([b"ab", None], pa.binary(2)), pa.binary(), [b"ab", None]),
        (pa.array([1, None], pa.timestamp("ms", "Europe/Berlin")), pa.timestamp("us", "UTC"), [1000, None]),
        (pa.array([1, None], pa.timestamp("ns")), pa.timestamp("ns"), [1, None]),
        (pa.array([1, None], pa.time32("ms")), pa.time64("us"), [1000, None]),
        (pa.array([1, None], pa.time64("ns")), pa.string(), ["00:00:00.000000001", None]),
        (pa.array([{"a": 1, "b": "x"}, None]), pa.json_(), ['{"a":1,"b":"x"}', None]),
        (entries, pa.json_(), ['{"k":1}', None]),
        (pa.array([[{"a": 1}], None]), pa.json_(), ['[{"a":1}]', None]),
        (pa.array([[1, None], None], pa.large_list(pa.int32())), pa.list_(pa.int32()), [[1, None], None]),
        (pa.array([Decimal("1.50"), None], pa.decimal256(60, 5)), pa.decimal256(60, 5), None),
        (pa.array([1500, None], pa.duration("ms")), pa.month_day_nano_interval(), None),
        (pa.nulls(2), pa.string(), [None, None]),
        (pa.array([1.5, None], pa.float16()), pa.float32(), [1.5, None]),
        (pa.array([2**64 - 1, None], pa.uint64()), pa.uint64(), [2**64 - 1, None]),
    ]  # fmt: skip
    table = table_of(written(tmp_path / "t.parquet", *(array for array, _, _ in cases)))
    for index, (_, kind, cells) in enumerate(cases):
        column = table.column(index).combine_chunks()
        assert column.type == kind
        if cells is not None:
            temporal = pa.types.is_timestamp(kind) or pa.types.is_time(kind)
            assert (column.cast(pa.int64()) if temporal else column).to_pylist() == cells
    assert values.source_type(table.schema.field("c6")) == "time64[ns]"
    assert values.to_text(table.column("c12").combine_chunks()).to_pylist() == ["PT1.5S", None]


def test_duckdbs_types(tmp_path: Path) -> None:
    file = tmp_path / "d.parquet"
    with duckdb.connect() as db:
        db.execute(
            f"COPY (SELECT gen_random_uuid() AS u, JSON '{{\"a\": 1.10}}' AS j, true AS b, 1::HUGEINT AS h, "
            f"INTERVAL 1 DAY AS i, [1, 2] AS l, 'x'::BLOB AS r) TO '{file}' (FORMAT parquet)"
        )
    table = table_of(file)
    assert [values.type_name(kind) for kind in table.schema.types][:3] == ["uuid", "json", "boolean"]
    assert table.column("j").to_pylist() == ['{"a": 1.10}']


def test_files_whose_types_can_be_widened_are_one_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1], pa.int32()), "n": pa.nulls(1)}), tmp_path / "x-1.parquet")
    pq.write_table(pa.table({"b": ["y"], "a": pa.array([2**40])}), tmp_path / "x-2.parquet")
    pq.write_table(pa.table({"n": [Decimal("1.5")], "a": pa.array([3], pa.int8())}), tmp_path / "x-3.parquet")
    table = table_of(tmp_path / "x-*.parquet")
    assert table.schema.types == [pa.int64(), pa.decimal128(2, 1), pa.string()]
    assert table.to_pydict() == {
        "a": [1, 2**40, 3],
        "n": [None, None, Decimal("1.5")],
        "b": [None, "y", None],
    }


def test_files_that_differ_name_the_file_and_the_column(tmp_path: Path) -> None:
    written(tmp_path / "x-1.parquet", pa.array([1]))
    written(tmp_path / "x-2.parquet", pa.array(["one"]))
    with pytest.raises(SourceError, match=r"'c0' is text in .*x-2\.parquet, and int64 before") as caught:
        table_of(tmp_path / "x-*.parquet")
    assert (caught.value.code, caught.value.column) == ("type_conflict", "c0")


def test_old_timestamps_keep_their_range_or_their_nanoseconds(tmp_path: Path) -> None:
    far = pa.array([datetime(9999, 1, 1), datetime(1, 1, 1), None, datetime(2026, 1, 1)], pa.timestamp("us"))
    file = written(tmp_path / "far.parquet", far, use_deprecated_int96_timestamps=True)
    assert table_of(file).column(0).combine_chunks() == far
    fine = pa.array([1, 1001, -1, None, 2**62], pa.timestamp("ns"))
    file = written(tmp_path / "fine.parquet", fine, use_deprecated_int96_timestamps=True)
    assert table_of(file).column(0).combine_chunks() == fine
    together = table_of(tmp_path / "fine.parquet", Stream("s", columns=("c0",)))
    assert together.schema.types == [pa.timestamp("ns")]
    mixed = [pa.array([1], pa.timestamp("ns")), pa.array([datetime(9999, 1, 1)], pa.timestamp("us"))]
    file = written(tmp_path / "mixed.parquet", *mixed, use_deprecated_int96_timestamps=True)
    with pytest.raises(HazardError, match="INT96"):
        table_of(file)


@pytest.mark.parametrize(("unit", "per_day"), [("s", 86_400), ("ms", 86_400_000), ("us", 86_400_000_000)])
def test_times_past_a_day_follow_the_policy(tmp_path: Path, unit: str, per_day: int) -> None:
    kind = pa.time64(unit) if unit == "us" else pa.time32(unit)
    whole = pa.array([0, per_day - 1, per_day, None], pa.int64() if unit == "us" else pa.int32())
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"t": whole.view(kind)}), file)
    with pytest.raises(HazardError, match="24:00:00"):
        table_of(file)
    nulls = table_of(file, Stream("s", hazards={Hazard.TIME_RANGE: HazardPolicy.NULL}))
    assert nulls.column("t").null_count == 2
    texts = (
        table_of(file, Stream("s", hazards={Hazard.TIME_RANGE: HazardPolicy.TEXT})).column("t").to_pylist()
    )
    assert texts[2:] == ["24:00:00", None]
    assert texts[1].startswith("23:59:59")


@pytest.mark.parametrize("unit", ["s", "ms", "us"])
def test_a_duration_that_nanoseconds_do_not_hold_is_named(tmp_path: Path, unit: str) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"took": pa.array([1, None, 2**62], pa.duration(unit))}), file)
    with pytest.raises(HazardError, match="'took'"):
        table_of(file)


def test_infinite_and_far_times_follow_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "d.parquet"
    with duckdb.connect() as db:
        db.execute(
            "COPY (SELECT * FROM (VALUES (1, TIMESTAMP 'infinity', DATE '2026-01-01'), "
            "(2, TIMESTAMP '2026-01-01', DATE '20000-01-01')) AS t(id, \"at\", day)) "
            f"TO '{file}' (FORMAT parquet)"
        )
    with pytest.raises(HazardError, match="infinite") as caught:
        table_of(file)
    assert caught.value.column == "at"
    nulls = {Hazard.INFINITY: HazardPolicy.NULL, Hazard.OUT_OF_RANGE: HazardPolicy.NULL}
    with connector(file).open(ReadRequest(Stream("s", hazards=nulls))) as extract:
        (batch,) = extract.batches()
        assert batch.column("at").to_pylist() == [None, datetime(2026, 1, 1)]
        assert batch.column("day").to_pylist() == [date(2026, 1, 1), None]
        assert dict(extract.nulled()) == {"at: infinity": 1, "day: out_of_range": 1}
    texts = {Hazard.INFINITY: HazardPolicy.TEXT, Hazard.OUT_OF_RANGE: HazardPolicy.TEXT}
    table = table_of(file, Stream("s", hazards=texts))
    assert table.column("at").to_pylist() == ["infinity", "2026-01-01T00:00:00.000000"]
    assert table.column("day").to_pylist() == ["2026-01-01", "20000-01-01"]


@pytest.mark.parametrize(
    ("column", "since", "kind"),
    [
        (pa.array(range(1000)), "990", CursorKind.INTEGER),
        (pa.array(range(1000), pa.date32()), "1972-09-17", CursorKind.DATE),
        (pa.array(range(1000), pa.timestamp("ns")), "1970-01-01T00:00:00.000000990", CursorKind.TIMESTAMP),
        (pa.array([f"{n:04}" for n in range(1000)]), "0990", CursorKind.TEXT),
        (pa.array(np.arange(1000.0)), "990.0", CursorKind.FLOAT),
        (pa.array(range(1000)).cast(pa.decimal128(19, 0)), "990", CursorKind.DECIMAL),
    ],
)
def test_reading_goes_on_from_a_cursor(
    tmp_path: Path, column: pa.Array, since: str, kind: CursorKind
) -> None:
    file = written(tmp_path / "t.parquet", column, row_group_size=100)
    stream = Stream("s", cursor="c0")
    table = table_of(file, stream, CursorValue(kind, since))
    assert table.column(0).combine_chunks() == column[990:]
    with connector(file).open(ReadRequest(stream, CursorValue(kind, since))) as extract:
        rows = list(extract.batches())
        checkpoint = extract.checkpoint()
        assert checkpoint is not None
        assert checkpoint.high == values.cursor_value(column[999], stream="s", column="c0")
        assert extract.estimated_rows is None
    assert sum(batch.num_rows for batch in rows) == 10


def test_row_groups_before_the_cursor_are_not_read(tmp_path: Path) -> None:
    file = written(tmp_path / "t.parquet", pa.array(range(1000)), row_group_size=100)
    content = bytearray(file.read_bytes())
    content[10:40] = b"\xff" * 30  # the first row group's page
    file.write_bytes(content)
    since = CursorValue(CursorKind.INTEGER, "500")
    assert table_of(file, Stream("s", cursor="c0"), since).num_rows == 500
    with pytest.raises(AtlasError):
        table_of(file)


def test_null_cursors_are_counted_without_statistics_too(tmp_path: Path) -> None:
    cells = pa.array([1, None, 3])
    for statistics in (True, False):
        file = written(tmp_path / "t.parquet", cells, write_statistics=statistics)
        with pytest.raises(NullCursorError, match=r"1 row\(s\)"):
            table_of(file, Stream("s", cursor="c0"))
    kept = table_of(file, Stream("s", cursor="c0", null_cursor=NullCursor.EXCLUDE))
    assert kept.column(0).to_pylist() == [1, 3]
    (info,) = connector(file).discover()
    assert info.cursor_candidates == ()


def test_not_a_number_is_the_greatest_cursor(tmp_path: Path) -> None:
    file = written(tmp_path / "t.parquet", pa.array([1.0, float("nan"), 2.0]))
    with connector(file).open(ReadRequest(Stream("s", cursor="c0"))) as extract:
        list(extract.batches())
        checkpoint = extract.checkpoint()
    assert checkpoint is not None
    assert checkpoint.high.text == "nan"
    assert str(table_of(file, Stream("s", cursor="c0"), checkpoint.high).column(0).to_pylist()) == "[nan]"


def test_batches_are_bounded_in_bytes(tmp_path: Path) -> None:
    file = written(tmp_path / "t.parquet", pa.array([str(n) * 300 for n in range(2000)]))
    limits = BatchLimits(bytes=50_000)
    with connector(file).open(ReadRequest(Stream("s"), limits=limits)) as extract:
        sizes = [batch.nbytes for batch in extract.batches()]
        assert extract.estimated_rows == 2000
    assert max(sizes) <= 50_000


def test_discovery_knows_rows_and_cursors(tmp_path: Path) -> None:
    file = written(tmp_path / "t.parquet", pa.array([1, 2]), pa.array([1, None]), pa.array(["a", "b"]))
    (info,) = connector(file).discover()
    assert (info.name, info.estimated_rows, info.cursor_candidates) == ("t", 2, ("c0",))
    assert [(column.type, column.nullable) for column in info.columns] == [
        ("int64", False),
        ("int64", True),
        ("string", False),
    ]


@pytest.mark.parametrize("name", ["a.b", "é ü", 'we"ird', ""])
def test_odd_column_names(tmp_path: Path, name: str) -> None:
    table = pa.table({name: [1, 2], "a": [{"b": None}, {"b": None}]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = table_of(tmp_path / "t.parquet", Stream("s", cursor=name or None))
    assert found.column(0).to_pylist() == [1, 2]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "t.parquet")
    with pytest.raises(SourceError, match="two columns named 'a'"):
        table_of(tmp_path / "t.parquet")


def test_a_time_past_the_day_within_a_list_follows_the_policy(tmp_path: Path) -> None:
    times = pa.array([0, 86_400_000_000, None], pa.time64("us"))
    whole = pa.ListArray.from_arrays(pa.array([0, 3, 3, 4], pa.int32()), pa.concat_arrays([times, times[:1]]))
    file = written(tmp_path / "t.parquet", whole)
    with pytest.raises(HazardError, match=r"24:00:00"):
        table_of(file)
    nulls, texts = (
        table_of(file, Stream("s", hazards={Hazard.TIME_RANGE: policy})).column(0).to_pylist()
        for policy in (HazardPolicy.NULL, HazardPolicy.TEXT)
    )
    assert nulls == [None, [], [time(0)]]
    assert texts == ['["00:00:00.000000","24:00:00",null]', "[]", '["00:00:00.000000"]']


@pytest.mark.parametrize(
    "odd",
    [pa.array([86_400_000_000], pa.time64("us")), pa.array([2**63 - 1], pa.timestamp("us", "UTC"))],
    ids=["time", "instant"],
)
@pytest.mark.parametrize("within", ["struct", "map", "list of structs"])
def test_no_struct_has_a_time_that_is_none(tmp_path: Path, odd: pa.Array, within: str) -> None:
    cells: pa.Array = pa.StructArray.from_arrays([odd], ["a"])
    if within == "map":
        cells = pa.MapArray.from_arrays([0, 1], pa.array(["k"]), odd)
    elif within == "list of structs":
        cells = pa.ListArray.from_arrays([0, 1], cells)
    with pytest.raises(HazardError) as caught:
        table_of(written(tmp_path / "t.parquet", cells))
    assert (caught.value.code, caught.value.column) == ("value_does_not_fit", "c0")


@pytest.mark.parametrize("within", ["struct", "list", "map"])
def test_two_fields_of_one_name_are_refused_and_may_be_left_out(tmp_path: Path, within: str) -> None:
    fields = [pa.field("a", pa.int64()), pa.field("a", pa.string())]
    cells: pa.Array = pa.StructArray.from_arrays([pa.array([1]), pa.array(["x"])], fields=fields)
    if within == "list":
        cells = pa.ListArray.from_arrays([0, 1], cells)
    elif within == "map":
        cells = pa.MapArray.from_arrays([0, 1], pa.array(["k"]), cells)
    written(tmp_path / "t.parquet", pa.array([7]), cells)
    with pytest.raises(SourceError, match="two fields named 'a'") as caught:
        table_of(tmp_path / "t.parquet")
    assert (caught.value.code, caught.value.column) == ("duplicate_column", "c1")
    left = table_of(tmp_path / "t.parquet", Stream("s", exclude=("c1",)))
    assert left.to_pylist() == [{"c0": 7}]


def test_texts_that_are_no_text_are_an_error(tmp_path: Path) -> None:
    offsets, latin = pa.array([0, 2, 4], pa.int32()).buffers()[1], pa.py_buffer("éüab".encode("latin-1"))
    texts = pa.StringArray.from_buffers(2, offsets, latin)
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts)
    documents = pa.ExtensionArray.from_storage(pa.json_(), texts)
    structs = pa.StructArray.from_arrays([texts], ["name"])
    for column in (texts, texts.dictionary_encode(), lists, documents, structs):
        with pytest.raises(SourceError) as caught:
            table_of(written(tmp_path / "latin.parquet", column))
        assert caught.value.code == "invalid_text"


def test_a_column_that_ends_early_is_an_error(tmp_path: Path) -> None:
    """Arrow writes such pages of lists, where each page is one value and each row group one row."""
    lists = pa.array([[1], [2]], pa.list_(pa.int64()))
    file = written(tmp_path / "t.parquet", pa.array([1, 2]), lists, row_group_size=1, data_page_size=1)
    with pytest.raises(SourceError, match="0 of the 1 rows that it declares") as caught:
        table_of(file)
    assert caught.value.code == "corrupt_file"
    whole = table_of(file, Stream("s", exclude=("c1",)))
    assert whole.num_rows == 2


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    text = pa.array(["x" * 100 + str(n) for n in range(5000)])
    pq.write_table(pa.table({"a": text}), file, write_page_checksum=True, compression="none")
    content = file.read_bytes()
    for broken in (b"", content[:-1], content[: len(content) // 2], b"a,b\n1,2\n", content[4:]):
        file.write_bytes(broken)
        with pytest.raises(SourceError) as caught:
            table_of(file)
        assert caught.value.code == "corrupt_file"
    spoilt = bytearray(content)
    spoilt[len(content) // 2] ^= 1
    file.write_bytes(spoilt)
    with pytest.raises(SourceError):
        table_of(file)


def test_columns_without_rows_and_rows_without_chosen_columns(tmp_path: Path) -> None:
    written(tmp_path / "x-1.parquet", pa.array([], pa.int64()))
    pq.write_table(pa.table({"other": [1, 2, 3]}), tmp_path / "x-2.parquet")
    table = table_of(tmp_path / "x-*.parquet", Stream("s", columns=("c0",)))
    assert table.column(0).to_pylist() == [None, None, None]
    assert pc.is_null(table.column(0)).to_pylist() == [True] * 3


def test_dictionaries_are_of_texts_that_come_again_and_again(tmp_path: Path) -> None:
    rows = 70_000
    numbers = np.arange(rows)
    columns = {
        "few": np.char.mod("state %d", numbers % 90),
        "many": np.char.mod("customer %d", numbers),
        "few_at_first": np.char.mod("order %d", np.where(numbers < 5_000, numbers % 90, numbers)),
    }
    table = pa.table(
        {name: pa.array(texts.tolist()) for name, texts in columns.items()} | {"number": numbers}
    )
    with (tmp_path / "written.parquet").open("wb") as file:
        writer = ParquetFormat().writer(file, table.schema)
        for batch in table.to_batches(10_000):
            writer.write(batch)
        writer.close()
    found = pq.ParquetFile(tmp_path / "written.parquet")
    assert found.read().equals(table)
    group = found.metadata.row_group(0)
    has_one = {name: group.column(at).has_dictionary_page for at, name in enumerate(table.schema.names)}
    assert has_one == {"few": True, "many": False, "few_at_first": False, "number": False}
