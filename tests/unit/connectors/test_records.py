"""Connectors of records: Python's own values arrive exactly or not at all, and types do not narrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import msgspec
import pyarrow as pa
import pytest

from atlas_etl import values
from atlas_etl.connectors.base import ConnectionConfig
from atlas_etl.connectors.records import RecordsConnector
from atlas_etl.errors import SourceError
from atlas_etl.model import CursorKind, CursorValue, KnownColumns, ReadRequest, Stream

Record = Mapping[str, object]


class Shelf(RecordsConnector[ConnectionConfig]):
    """Records in a list; counts how many were asked for."""

    def __init__(self, records: Iterable[Record]) -> None:
        super().__init__(ConnectionConfig(), protocol="shelf")
        self._records = records
        self.asked = 0
        self.since: list[CursorValue | None] = []

    def names(self) -> Sequence[str]:
        return ["things"]

    def records(self, name: str, since: CursorValue | None) -> Iterable[Record]:
        self.since.append(since)
        for record in self._records:
            self.asked += 1
            yield record


def table(shelf: Shelf, **more: object) -> pa.Table:
    stream = Stream("things", table="things", cursor=more.pop("cursor", None))
    with shelf.open(ReadRequest(stream, **more)) as extract:
        return pa.Table.from_batches(extract.batches(), extract.schema)


def test_pythons_own_values_arrive_exactly() -> None:
    record = {
        "flag": True, "count": 2**63 - 1, "large": 2**64, "amount": Decimal("12345678901234567.10"),
        "ratio": 0.1, "tiny": 5e-324, "name": 'Łukasz "😀"\n', "day": date(2026, 1, 2),
        "at": datetime(2026, 1, 2, 3, 4, 5, 6), "instant": datetime(2026, 1, 2, tzinfo=UTC),
        "clock": time(9, 30), "id": UUID("12345678-1234-4234-8234-123456789abc"), "list": [1, None],
        "json": msgspec.Raw(b'{"a": 1.10}'), "nothing": None,
    }  # fmt: skip
    (row,) = table(Shelf([record])).to_pylist()
    expected = {**record, "clock": "09:30:00", "id": str(record["id"]), "list": "[1, null]"}
    expected |= {"json": '{"a": 1.10}', "large": Decimal(2**64)}
    del expected["nothing"]  # nothing tells its type
    assert row == expected


def test_a_column_of_floats_is_one_of_doubles_whatever_they_are() -> None:
    found = table(Shelf([{"n": n} for n in (1.0, -0.0, 1e300, 1 / 3, 123456789.123456789)]))
    assert found.schema.field("n").type == pa.float64()
    assert found["n"].to_pylist() == [1.0, -0.0, 1e300, 1 / 3, 123456789.123456789]


@pytest.mark.parametrize(
    "value",
    [b"bytes", float("inf"), float("nan"), Decimal("NaN"), "\ud800", [Decimal(1)], {"a": float("inf")}, {1}],
)
def test_a_value_without_an_exact_form_is_refused_by_its_column(value: object) -> None:
    with pytest.raises(SourceError, match="'odd'") as caught:
        table(Shelf([{"id": 1, "odd": value}]))
    assert caught.value.code == "value_type"


def test_types_are_found_over_all_records_and_widen() -> None:
    records = [{"n": number, "late": None} for number in range(25_000)] + [{"n": "x", "late": 1}]
    found = table(Shelf(records))
    assert (found.schema.field("n").type, found.schema.field("late").type) == (pa.string(), pa.int64())
    assert found["n"].to_pylist() == [*map(str, range(25_000)), "x"]


def test_a_column_that_has_no_values_now_keeps_the_type_that_it_had() -> None:
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us")), ("n", pa.decimal128(18, 4))])
    known = KnownColumns(schema, frozenset(schema.names))
    found = table(Shelf([{"id": 1, "at": None, "n": Decimal("1.5")}]), known=known)
    assert found.schema.field("at").type == pa.timestamp("us")
    assert found.schema.field("n").type == pa.decimal128(18, 4)
    empty = table(Shelf([]), known=known, cursor="at")
    assert (empty.num_rows, empty.schema.names) == (0, ["id", "at", "n"])
    assert table(Shelf([])).num_columns == 0


def test_only_as_many_records_are_asked_for_as_are_shown() -> None:
    shelf = Shelf({"id": number} for number in range(10_000))
    assert table(shelf, limit=3).num_rows == 3
    assert shelf.asked == 3


def test_the_reader_is_told_from_where_on_records_are_wanted() -> None:
    since = CursorValue(CursorKind.INTEGER, "2")
    shelf = Shelf([{"id": 1}, {"id": 2}, {"id": 3}])
    assert table(shelf, since=since, cursor="id")["id"].to_pylist() == [2, 3]
    assert shelf.since == [since]


def test_a_failure_of_the_reader_is_its_own() -> None:
    def failing() -> Iterable[Record]:
        yield {"id": 1}
        raise ValueError("a bug in somebody's reader")

    with pytest.raises(ValueError, match="somebody"):
        table(Shelf(failing()))


def test_a_stream_that_is_not_there_and_what_is_told_of_one() -> None:
    shelf = Shelf([{"id": 1, "name": None}, {"id": 2, "name": "b"}])
    (found,) = shelf.discover()
    assert (found.estimated_rows, found.cursor_candidates) == (2, ("id",))
    assert [(column.name, column.nullable) for column in found.columns] == [("id", False), ("name", True)]
    with pytest.raises(SourceError) as caught:
        shelf.describe(Stream("x", table="thngs"))
    assert (caught.value.code, "'things'" in str(caught.value.hint)) == ("table_not_found", True)
    with shelf.open(ReadRequest(Stream("things", table="things", cursor="id"))) as extract:
        assert "lag" in extract.outline().caveats[0]
        assert values.source_type(extract.schema.field("id")) == "int64"
