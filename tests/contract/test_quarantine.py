"""The contract of a destination's quarantine: kept in the load's own commit, and tried by careful plans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from atlas_etl.connectors.sql._writer import SqlDestination
from atlas_etl.contracts import Destination
from atlas_etl.errors import RefusedRowError
from atlas_etl.model import (
    CreateTable,
    Disposition,
    LoadPlan,
    QuarantineChange,
    QuarantinedRow,
    Stream,
    TableName,
)
from tests.contract.destination_cases import DESTINATIONS, DestinationCase

SCHEMA = pa.schema([("id", pa.int64()), ("note", pa.string()), ("amount", pa.int64())])
SQL = [case for case in DESTINATIONS if case.protocol not in ("parquet", "jsonl", "csv")]


@pytest.fixture(params=DESTINATIONS, ids=lambda case: case.name)
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Destination]:
    with closing(request.param.open(request, tmp_path)) as opened:
        yield opened


def place(destination: Destination, stream: str = "orders") -> TableName:
    return destination.table_name("shop", Stream(stream))


def plan(destination: Destination, stream: str = "orders", **more: object) -> LoadPlan:
    there = destination.inspect("shop", stream, place(destination, stream))
    settings: dict[str, object] = {
        "disposition": Disposition.APPEND, "primary_key": (), "cursor": None, "version": there.version,
        "changes": () if there.schema is not None else (CreateTable(),), **more,
    }  # fmt: skip
    return LoadPlan("run-1", "shop", stream, place(destination, stream), schema=SCHEMA, **settings)


def quarantined(number: int, stream: str = "orders", **more: object) -> QuarantinedRow:
    settings: dict[str, object] = {
        "quarantine_id": f"{stream}-{number}", "stream": stream, "key": {"id": str(number)},
        "row": {"id": str(number), "note": "a\0'\"\\\n%s %% é 漢 😀", "amount": None}, "code": "constraint",
        "reason": "it's 100% wrong", "column": None, "run_id": "run-1", "load_id": "load-1",
        "quarantined_at": datetime(2026, 1, 1, 0, 0, number, 5, tzinfo=UTC), **more,
    }  # fmt: skip
    return QuarantinedRow(**settings)


def change(destination: Destination, what: QuarantineChange, stream: str = "orders") -> None:
    with destination.begin(plan(destination, stream)) as session:
        session.commit(None, what)


def kept(destination: Destination, stream: str = "orders") -> tuple[QuarantinedRow, ...]:
    return destination.inspect("shop", stream, place(destination, stream)).quarantine


def test_rows_come_whole_change_and_leave(destination: Destination) -> None:
    first, second = quarantined(1), quarantined(2, column="note", key={})
    change(destination, QuarantineChange(come=(first, second)))
    assert kept(destination) == (first, second)
    change(destination, QuarantineChange())
    assert kept(destination) == (first, second)
    newer = quarantined(1, reason="another", run_id="run-2")
    change(destination, QuarantineChange(frozenset({first.quarantine_id}), (newer,)))
    assert kept(destination) == (newer, second)
    change(destination, QuarantineChange(frozenset({first.quarantine_id, second.quarantine_id})))
    assert kept(destination) == ()


def test_many_rows_come_and_leave(destination: Destination) -> None:
    rows = [quarantined(n % 60, quarantine_id=f"{n:05}", reason=str(n)) for n in range(1500)]
    change(destination, QuarantineChange(come=tuple(rows)))
    assert sorted(row.reason for row in kept(destination)) == sorted(row.reason for row in rows)
    change(destination, QuarantineChange(frozenset(row.quarantine_id for row in rows[1:])))
    assert kept(destination) == (rows[0],)


def test_a_load_that_is_not_committed_changes_nothing(destination: Destination) -> None:
    change(destination, QuarantineChange(come=(quarantined(1),)))
    with destination.begin(plan(destination)):
        pass
    late = plan(destination, version=0)  # made before the load above
    with pytest.raises(Exception, match="another load"), destination.begin(late) as session:
        session.commit(None, QuarantineChange(frozenset({"orders-1"}), (quarantined(2),)))
    assert kept(destination) == (quarantined(1),)


def test_streams_have_quarantines_of_their_own(destination: Destination) -> None:
    change(destination, QuarantineChange(come=(quarantined(1),)))
    change(destination, QuarantineChange(come=(quarantined(1, "refunds"),)), "refunds")
    assert [row.stream for row in kept(destination)] == ["orders"]
    assert [row.stream for row in kept(destination, "refunds")] == ["refunds"]


def test_a_careful_plan_writes_what_nothing_is_wrong_with(destination: Destination) -> None:
    batch = pa.RecordBatch.from_pylist([{"id": n, "note": str(n)} for n in range(10)], schema=SCHEMA)
    for disposition, key in ((Disposition.APPEND, ()), (Disposition.MERGE, ("id",))):
        careful = plan(destination, disposition=disposition, primary_key=key, careful=True)
        with destination.begin(careful) as session:
            assert session.write(batch) == {}
            session.commit(None)
    found = destination.query(f"SELECT * FROM {_quoted(destination)}")
    assert found.num_rows == 10


def _quoted(destination: Destination) -> str:
    table = place(destination)
    return f"{table.schema}.{table.name}" if table.schema else table.name


@pytest.fixture(params=SQL, ids=lambda case: case.name)
def ruled(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlDestination]:
    """A table that somebody made: a note that is not NULL, an amount that is not negative."""
    case: DestinationCase = request.param
    with closing(case.open(request, tmp_path)) as opened:
        assert isinstance(opened, SqlDestination)
        with opened.connect() as connection:
            if case.protocol not in ("sqlite", "oracle"):
                connection.execute(f"CREATE {'DATABASE' if case.protocol == 'mysql' else 'SCHEMA'} shop")
            text = {"mssql": "NVARCHAR", "oracle": "VARCHAR2"}.get(case.protocol, "VARCHAR")
            whole = "NUMBER(19,0)" if case.protocol == "oracle" else "BIGINT"
            columns = f"id {whole}, note {text}(20) NOT NULL, amount {whole}, CHECK (amount >= 0)"
            connection.execute(f"CREATE TABLE {_quoted(opened)} ({columns})")
        yield opened


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE, Disposition.REPLACE])
def test_a_careful_plan_tells_refused_rows_from_the_others(
    ruled: SqlDestination, disposition: Disposition
) -> None:
    wrong = {3: ("note", None), 500: ("amount", -1), 501: ("amount", -2), 999: ("note", None)}
    rows = [{"id": n, "note": str(n), "amount": n} for n in range(1000)]
    for place_, (name, cell) in wrong.items():
        rows[place_][name] = cell
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    key = ("id",) if disposition is Disposition.MERGE else ()
    with ruled.begin(plan(ruled, disposition=disposition, primary_key=key, careful=True)) as session:
        refused = session.write(batch)
        assert sorted(refused) == sorted(wrong)
        assert {why.exit_code for why in refused.values()} == {7}
        assert session.write(batch.slice(600, 1)) == {}
        session.commit(None)
    stored = ruled.query(f"SELECT id FROM {_quoted(ruled)}").column("id").to_pylist()
    twice = [] if disposition is Disposition.MERGE else [600]
    assert sorted(stored) == sorted([*(n for n in range(1000) if n not in wrong), *twice])


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.MERGE])
def test_a_plan_that_is_not_careful_refuses_the_load(ruled: SqlDestination, disposition: Disposition) -> None:
    batch = pa.RecordBatch.from_pylist([{"id": 1, "note": "a", "amount": -1}], schema=SCHEMA)
    key = ("id",) if disposition is Disposition.MERGE else ()
    with (
        pytest.raises(RefusedRowError) as caught,
        ruled.begin(plan(ruled, disposition=disposition, primary_key=key)) as session,
    ):
        session.write(batch)
        session.commit(None)
    assert caught.value.exit_code == 7
    assert ruled.query(f"SELECT id FROM {_quoted(ruled)}").num_rows == 0
