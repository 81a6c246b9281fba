"""Which cursor is proposed for a table, and why the others are worse."""

from __future__ import annotations

from atlas_etl.api.cursor_advice import Proposal, Sample, judged_columns, propose
from atlas_etl.model import ColumnInfo, StreamInfo

BIG = 5_000_000


def table(
    *columns: str,
    candidates: tuple[str, ...] = (),
    indexed: set[str] | None = None,
    key: tuple[str, ...] = (),
    rows: int | None = BIG,
) -> StreamInfo:
    """Columns as `name type` or `name type null`."""
    found = [column.split() for column in columns]
    infos = tuple(ColumnInfo(name, kind, bool(null)) for name, kind, *null in found)
    return StreamInfo("t", infos, key, candidates, rows, None if indexed is None else frozenset(indexed))


def order(proposal: Proposal) -> list[str]:
    return [each.column for each in proposal.columns]


def test_a_time_that_changes_move_is_best_and_says_why() -> None:
    stream = table(
        "id bigint", "created_at timestamptz", "updated_at timestamptz", "note text",
        candidates=("updated_at", "id", "created_at"),
        indexed={"id", "created_at", "updated_at"}, key=("id",),
    )  # fmt: skip
    found = propose(stream, {"updated_at": Sample(1000, 0, 990)})
    assert found.cursor == "updated_at"
    assert order(found) == ["updated_at", "created_at", "id"]
    assert found.reason == (
        "its name says that changes move it; indexed; never NULL; "
        "few rows share a value (990 values in 1,000 rows)"
    )
    assert found.columns[1].weaknesses == ("changes to old rows are not seen",)
    assert judged_columns(stream) == ("id", "created_at", "updated_at")


def test_seeing_changes_counts_more_than_an_index_whose_absence_is_told() -> None:
    stream = table("id bigint", "modified_on timestamp", candidates=("id",), indexed={"id"}, key=("id",))
    found = propose(stream, {})
    assert found.cursor == "modified_on"
    assert found.columns[0].weaknesses == ("no index, so each sync searches the whole table",)


def test_a_column_with_nulls_is_not_proposed() -> None:
    stream = table(
        "id bigint", "updated_at timestamptz null", candidates=("updated_at", "id"),
        indexed={"id", "updated_at"}, key=("id",),
    )  # fmt: skip
    assert propose(stream, {"updated_at": Sample(1000, 0, 1000)}).cursor == "updated_at"
    found = propose(stream, {"updated_at": Sample(1000, 3, 900)})
    assert (found.cursor, order(found)) == ("id", ["id", "updated_at"])
    assert "NULL in 3 of 1,000 rows" in found.columns[1].weaknesses[0]


def test_a_small_table_is_read_whole_rather_than_by_what_misses_changes() -> None:
    columns = ("id bigint", "created_at timestamptz")
    small = propose(table(*columns, candidates=("created_at", "id"), indexed=set(), rows=900), {})
    assert (small.cursor, "about 900 rows" in small.reason) == (None, True)
    assert propose(table(*columns, candidates=("created_at", "id"), indexed=set()), {}).cursor == "created_at"


def test_numbers_and_times_that_nobody_says_grow_are_not_proposed() -> None:
    stream = table(
        "due timestamptz", "customer_id bigint", candidates=("due", "customer_id"),
        indexed={"due", "customer_id"},
    )  # fmt: skip
    found = propose(stream, {})
    assert found.cursor is None
    assert all("nothing says that it grows" in each.weaknesses[-1] for each in found.columns)


def test_many_ties_and_whole_days_are_told() -> None:
    stream = table(
        "changed date", "updatedAt datetime(6)", candidates=("changed", "updatedAt"),
        indexed={"changed", "updatedAt"},
    )  # fmt: skip
    found = propose(stream, {"changed": Sample(100, 0, 2), "updatedAt": Sample(100, 0, 4)})
    assert order(found) == ["updatedAt", "changed"]
    assert found.columns[0].weaknesses == ("many rows share a value (4 values in 100 rows)",)
    assert found.columns[1].weaknesses == ("a date, so the last day is read again each time",)


def test_systems_without_indexes_are_not_told_of_them() -> None:
    stream = table("updated_at timestamp[us]", "x int64", candidates=("updated_at", "x"), indexed=None)
    found = propose(stream, {})
    assert found.reason == "its name says that changes move it; never NULL"
    assert not any("index" in word for each in found.columns for word in each.weaknesses)
