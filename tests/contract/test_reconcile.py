"""The contract of Destination.reconcile: rows whose key the source no longer has, in every destination."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.connectors.sql import _reconcile
from atlas_etl.contracts import Destination
from atlas_etl.errors import DataError, DestinationError, LostLeaseError
from atlas_etl.model import (
    DELETED_AT,
    Deletes,
    Deletion,
    Disposition,
    LoadPlan,
    ReconcilePlan,
    ReconcileResult,
    Stream,
    TableName,
    TableState,
)
from atlas_etl.pipeline.schema import conform, evolve
from tests.contract.destination_cases import DESTINATIONS, DestinationCase
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe

AT = datetime(2026, 3, 1, 12, 30, 45, 123456, tzinfo=UTC)
LATER = AT + timedelta(days=1)
MARK = pa.field(DELETED_AT, pa.timestamp("us", "UTC"))
HARD, SOFT = Deletes(max_share=1), Deletes(Deletion.SOFT, max_share=1)


class Mirror:
    """One stream's table, loaded and reconciled as the pipeline does it."""

    def __init__(self, case: DestinationCase, destination: Destination) -> None:
        self.case = case
        self.destination = destination
        self.stream = "orders"
        self.run_id = "run-1"

    @property
    def table(self) -> TableName:
        return self.destination.table_name("shop", Stream(self.stream))

    def state(self) -> TableState:
        return self.destination.inspect("shop", self.stream, self.table)

    def load(
        self,
        *batches: pa.RecordBatch,
        key: Sequence[str] = ("id",),
        disposition: Disposition = Disposition.MERGE,
    ) -> None:
        state = self.state()
        schema, changes = evolve(state.schema, batches[0].schema, self.destination.storable)
        plan = LoadPlan(
            self.run_id, "shop", self.stream, self.table, disposition, schema, tuple(key), None,
            changes=changes, keyed=bool(key), version=state.version,
        )  # fmt: skip
        with self.destination.begin(plan) as session:
            for batch in batches:
                session.write(conform(batch, plan.schema))
            session.commit(None)

    def plan(self, keys: pa.Schema, deletes: Deletes = HARD, at: datetime = AT) -> ReconcilePlan:
        state = self.state()
        there, changes = evolve(state.schema, keys, self.destination.storable)
        assert state.schema is not None
        assert not changes
        has_marks = DELETED_AT in state.schema.names
        return ReconcilePlan(
            self.run_id, "shop", self.stream, self.table, there, deletes, at, has_marks, state.version
        )

    def reconcile(
        self, *keys: pa.RecordBatch, deletes: Deletes = HARD, at: datetime = AT, careful: bool = False
    ) -> ReconcileResult:
        plan = replace(self.plan(keys[0].schema, deletes, at), careful=careful)
        with self.destination.reconcile(plan) as session:
            for batch in keys:
                session.write(conform(batch, plan.keys))
            return session.commit()

    def column(self, name: str = "id") -> list[str | None]:
        found = self.destination.query(f"SELECT * FROM {self.case.quoted(self.table)}")
        return sorted(values.to_text(found.column(name).combine_chunks()).to_pylist(), key=str)

    def marks(self) -> dict[str, str | None]:
        found = self.destination.query(f"SELECT * FROM {self.case.quoted(self.table)}")
        ids, marks = (values.to_text(found.column(name).combine_chunks()) for name in ("id", DELETED_AT))
        return dict(zip(ids.to_pylist(), marks.to_pylist(), strict=True))

    def reconciled_at(self) -> datetime | None:
        return self.destination.reconciled_at("shop", self.stream, self.table)


@pytest.fixture(params=DESTINATIONS, ids=lambda case: case.name)
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mirror]:
    case: DestinationCase = request.param
    destination = case.open(request, tmp_path)
    yield Mirror(case, destination)
    destination.close()


def ids(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(numbers, pa.int64())], ["id"])


def orders(*numbers: int) -> pa.RecordBatch:
    names = pa.array([f"n{number}" for number in numbers])
    return ids(*numbers).append_column("name", names)


def marked(*numbers: int) -> pa.RecordBatch:
    return orders(*numbers).append_column(MARK, pa.nulls(len(numbers), MARK.type))


def test_rows_whose_key_is_gone_are_deleted(mirror: Mirror) -> None:
    mirror.load(orders(*range(10)))
    mirror.load(orders(*range(10, 20)))
    assert mirror.reconciled_at() is None
    assert mirror.reconcile(ids(0, 1, 2, 3, 15), ids(4, 5, 6, 7, 7, 99), ids()) == ReconcileResult(11, 9)
    assert mirror.column() == ["0", "1", "15", "2", "3", "4", "5", "6", "7"]
    assert mirror.reconciled_at() == AT
    assert mirror.reconcile(ids(0, 1, 15), at=LATER) == ReconcileResult(6, 3)
    assert mirror.reconciled_at() == LATER
    mirror.load(orders(2, 3))
    assert mirror.reconciled_at() == LATER
    assert sorted(mirror.column("name"), key=str) == ["n0", "n1", "n15", "n2", "n3"]


def test_nothing_is_deleted_where_nothing_is_gone(mirror: Mirror) -> None:
    mirror.load(orders(1, 2))
    assert mirror.reconcile(ids(2, 1, 3)) == ReconcileResult(0, 2)
    assert mirror.column() == ["1", "2"]
    assert mirror.reconciled_at() == AT


def test_an_empty_table_has_nothing_to_delete(mirror: Mirror) -> None:
    mirror.load(orders())
    assert mirror.reconcile(ids(), deletes=Deletes()) == ReconcileResult(0, 0)
    assert mirror.reconcile(ids(1), deletes=Deletes()) == ReconcileResult(0, 0)


UUIDS = [uuid.UUID(int=n << 64 | 0xABCDEF) for n in (1, 2, 3)]
KEYS: dict[str, pa.Array] = {
    "int64": pa.array([-(2**63), 0, 2**63 - 1], pa.int64()),
    "uint64": pa.array([0, 2**63, 2**64 - 1], pa.uint64()),
    "double": pa.array([0.1, 1e300, -5e-324], pa.float64()),
    "decimal": pa.array([Decimal("-1.50"), Decimal("1.50"), Decimal("9999999999.99")], pa.decimal128(12, 2)),
    "decimal60": pa.array([Decimal("9" * 55 + ".12345"), Decimal("9" * 55 + ".12346")], pa.decimal256(60, 5)),
    "text": pa.array(["a", "A", "ä", "a ", "", "日本", "😀", "😁", "e\u0301", "é", "x" * 900, "x" * 901]),
    "bytes": pa.array([b"", b"\x00", b"a", b"A", b"\xff" * 300, b"\xff" * 301], pa.binary()),
    "date": pa.array([date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31)], pa.date32()),
    "timestamp": pa.array([AT.replace(tzinfo=None), LATER.replace(tzinfo=None)], pa.timestamp("us")),
    "instant": pa.array([AT, AT + timedelta(microseconds=1), LATER], pa.timestamp("us", "UTC")),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([u.bytes for u in UUIDS], pa.binary(16))),
    "boolean": pa.array([True, False]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_each_type_are_told_apart(mirror: Mirror, kind: str) -> None:
    known = KEYS[kind]
    is_kept = [str(cell) not in ("", "b''") for cell in known]
    keys = known if mirror.case.keeps_empty else known.filter(pa.array(is_kept))
    rows = pa.RecordBatch.from_arrays([keys, pa.array(range(len(keys)))], ["key", "n"])
    for gone in range(len(keys)):
        mirror.load(rows, key=["key"])
        left = pa.array([n != gone for n in range(len(keys))])
        result = mirror.reconcile(rows.select(["key"]).filter(left))
        assert result == ReconcileResult(1, len(keys) - 1), keys[gone]
        assert mirror.column("n") == sorted(str(n) for n in range(len(keys)) if n != gone)


def test_keys_of_several_columns(mirror: Mirror) -> None:
    tenants, numbers = pa.array(["a", "a", "b", "b", "B"]), pa.array([1, 2, 1, 2, 1], pa.int32())
    rows = pa.RecordBatch.from_arrays([tenants, numbers, pa.array(range(5))], ["tenant", "id", "n"])
    mirror.load(rows, key=["tenant", "id"])
    keys = rows.select(["id", "tenant"]).take(pa.array([0, 3]))
    assert mirror.reconcile(keys) == ReconcileResult(3, 2)
    assert mirror.column("n") == ["0", "3"]


def test_keys_are_compared_in_the_type_that_the_table_was_widened_to(mirror: Mirror) -> None:
    if mirror.case.protocol == "oracle":
        pytest.skip("a number there becomes no text in a table that has rows")
    mirror.load(orders(1, 2))
    text = pa.RecordBatch.from_arrays([pa.array(["2", "3", "x"])], ["id"])
    mirror.load(text)
    assert mirror.reconcile(text) == ReconcileResult(1, 3)
    assert mirror.reconcile(ids(3)) == ReconcileResult(2, 1)


def test_rows_are_marked_where_deletes_are_soft(mirror: Mirror) -> None:
    mirror.load(marked(1, 2))
    mirror.load(marked(3, 4))
    assert mirror.reconcile(ids(1, 3, 4), deletes=SOFT) == ReconcileResult(1, 3)
    first = {"1": None, "2": "2026-03-01T12:30:45.123456Z", "3": None, "4": None}
    assert mirror.marks() == first
    assert mirror.reconcile(ids(1, 3), deletes=SOFT, at=LATER) == ReconcileResult(1, 2)
    assert mirror.marks() == first | {"4": "2026-03-02T12:30:45.123456Z"}


def test_a_key_that_came_back_is_no_longer_marked(mirror: Mirror) -> None:
    mirror.load(marked(1, 2, 3))
    mirror.reconcile(ids(3), deletes=SOFT)
    assert mirror.reconcile(ids(1, 3), deletes=SOFT, at=LATER) == ReconcileResult(0, 2)
    assert mirror.marks() == {"1": None, "2": "2026-03-01T12:30:45.123456Z", "3": None}
    mirror.load(marked(2))
    assert mirror.marks() == {"1": None, "2": None, "3": None}
    assert mirror.column("name") == ["n1", "n2", "n3"]


def test_marked_rows_do_not_count_as_live(mirror: Mirror) -> None:
    mirror.load(marked(*range(20)))
    mirror.reconcile(ids(*range(10)), deletes=SOFT)
    tenth = Deletes(Deletion.SOFT, max_share=0.1)
    assert mirror.reconcile(ids(*range(9)), deletes=tenth) == ReconcileResult(1, 9)
    with pytest.raises(DataError, match="of the 9 rows"):
        mirror.reconcile(ids(*range(8)), deletes=tenth)


def test_marked_rows_go_when_deletes_become_hard(mirror: Mirror) -> None:
    mirror.load(marked(1, 2, 3, 4))
    mirror.reconcile(ids(1, 2), deletes=SOFT)
    assert mirror.reconcile(ids(1, 3)) == ReconcileResult(1, 2)
    assert mirror.marks() == {"1": None, "3": None}


def test_no_more_than_the_share_goes(mirror: Mirror) -> None:
    mirror.load(orders(*range(10)))
    tenth = Deletes()
    assert mirror.reconcile(ids(*range(9)), deletes=tenth) == ReconcileResult(1, 9)
    before = mirror.state()
    with pytest.raises(DataError, match="1 of the 9 rows") as caught:
        mirror.reconcile(ids(*range(8)), deletes=tenth, at=LATER)
    assert (caught.value.code, caught.value.exit_code) == ("too_many_deletes", 7)
    assert "max_share: 0.12" in str(caught.value.hint)
    assert mirror.column() == [str(n) for n in range(9)]
    assert (mirror.state(), mirror.reconciled_at()) == (before, AT)
    assert mirror.reconcile(ids(*range(8)), deletes=Deletes(max_share=0.12)).deleted == 1


@pytest.mark.parametrize("how", Deletion)
def test_an_empty_source_loses_nothing_unless_all_may_go(mirror: Mirror, how: Deletion) -> None:
    mirror.load(marked(1, 2))
    with pytest.raises(DataError, match=r"no rows at all.*has 2") as caught:
        mirror.reconcile(ids(), deletes=Deletes(how, max_share=0.999))
    assert caught.value.code == "too_many_deletes"
    assert mirror.column() == ["1", "2"]
    assert mirror.reconcile(ids(), deletes=Deletes(how, max_share=1)) == ReconcileResult(2, 0)
    assert len(mirror.column()) == (0 if how is Deletion.HARD else 2)
    mirror.load(marked(5))
    assert "5" in mirror.column()


def test_leaving_without_commit_changes_nothing(mirror: Mirror) -> None:
    mirror.load(marked(1, 2))
    before = mirror.state()
    for deletes in (HARD, SOFT):
        with (
            pytest.raises(KeyError),
            mirror.destination.reconcile(mirror.plan(ids().schema, deletes)) as session,
        ):
            session.write(ids(1))
            raise KeyError
        assert (mirror.state(), mirror.reconciled_at()) == (before, None)
        assert mirror.marks() == {"1": None, "2": None}
    assert mirror.reconcile(ids(1)).deleted == 1


def test_a_key_without_value_is_refused(mirror: Mirror) -> None:
    mirror.load(orders(1, 2))
    with pytest.raises(DataError, match=r"\(id\)") as caught:
        mirror.reconcile(pa.RecordBatch.from_arrays([pa.array([1, None], pa.int64())], ["id"]))
    assert caught.value.code == "null_key"
    assert mirror.column() == ["1", "2"]


def test_a_careful_comparison_leaves_out_keys_without_a_value(mirror: Mirror) -> None:
    mirror.load(orders(1, 2))
    keys = pa.RecordBatch.from_arrays([pa.array([1, None, None], pa.int64())], ["id"])
    assert mirror.reconcile(keys, careful=True) == ReconcileResult(1, 1, left_out=2)
    assert mirror.column() == ["1"]
    with pytest.raises(DataError, match="of the 1 rows"):  # the source is not without rows
        mirror.reconcile(keys.slice(1), deletes=Deletes(), careful=True)


def test_keys_without_a_value_may_be_those_of_rows_without_one(mirror: Mirror) -> None:
    """They came as an append, to which a key is a column like any other."""
    nulls = pa.RecordBatch.from_arrays(
        [pa.array([1, None], pa.int64()), pa.array(["a", "b"])], ["id", "name"]
    )
    mirror.load(nulls, key=(), disposition=Disposition.APPEND)
    with pytest.raises(DataError, match="both the source and its table") as caught:
        mirror.reconcile(nulls.select(["id"]), careful=True)
    assert caught.value.code == "null_key"
    assert mirror.column() == ["1", None]


def test_a_careful_comparison_leaves_out_keys_that_the_table_cannot_have(mirror: Mirror) -> None:
    keys = pa.RecordBatch.from_arrays([pa.array(["a", "b\0", "c"])], ["id"])
    mirror.load(keys.slice(0, 1), keys.slice(2))
    try:
        mirror.reconcile(keys)
    except DataError as refused:
        assert (mirror.case.protocol, refused.code) == ("postgresql", "value_does_not_fit")
        left_out = 1
    else:
        left_out = 0
    assert mirror.reconcile(keys.slice(0, 2), careful=True) == ReconcileResult(1, 1, left_out=left_out)
    assert mirror.column() == ["a"]


def test_rows_that_came_after_the_plan_are_not_deleted(mirror: Mirror) -> None:
    """The keys were read before another load committed: none of its rows is in them."""
    mirror.load(orders(1, 2))
    plan = mirror.plan(ids().schema)
    mirror.load(orders(3, 4))
    with pytest.raises(DestinationError) as caught, mirror.destination.reconcile(plan) as session:
        session.write(ids(1))
        session.commit()
    assert (caught.value.code, caught.value.retryable) == ("overtaken", True)
    assert mirror.column() == ["1", "2", "3", "4"]


def test_a_comparison_is_overtaken_by_another_run(mirror: Mirror) -> None:
    if mirror.case.protocol in {"parquet", "jsonl", "csv"}:
        pytest.skip("a folder is locked from the beginning to the end of a comparison")
    mirror.load(orders(1, 2))
    plan = mirror.plan(ids().schema)
    mirror.run_id = "run-2"
    mirror.load(orders(3))
    with pytest.raises(LostLeaseError), mirror.destination.reconcile(plan) as session:
        session.write(ids(1))
        session.commit()
    assert mirror.column() == ["1", "2", "3"]


def test_a_load_after_the_plan_was_made_notices_a_comparison(mirror: Mirror) -> None:
    mirror.load(orders(1, 2))
    state = mirror.state()
    mirror.reconcile(ids(1))
    assert mirror.state().version == state.version + 1


def test_a_table_with_rows_of_another_stream_is_refused(mirror: Mirror) -> None:
    if mirror.case.protocol in {"parquet", "jsonl", "csv"}:
        pytest.skip("a folder has one stream")
    mirror.load(orders(1, 2))
    schema = mirror.destination.storable(orders().schema)
    plan = LoadPlan("run-1", "shop", "others", mirror.table, Disposition.MERGE, schema, ("id",), None)
    with mirror.destination.begin(plan) as session:
        session.write(conform(orders(3), schema))
        session.commit(None)
    with pytest.raises(DestinationError, match="'others'") as caught:
        mirror.reconcile(ids(1))
    assert caught.value.code == "table_not_ours"
    assert mirror.column() == ["1", "2", "3"]
    seen = mirror.destination.inspect("shop", "orders", mirror.table).loaded_at
    plan = replace(plan, stream="orders", disposition=Disposition.REPLACE, load_id="load-2", after=seen)
    with mirror.destination.begin(plan) as session:
        session.write(conform(orders(1, 2), schema))
        session.commit(None)
    assert mirror.reconcile(ids(1)) == ReconcileResult(1, 1)


def test_rows_of_a_stream_that_loads_meanwhile_are_not_deleted(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It commits after the look for other streams, and before the rows without a key are deleted."""
    if mirror.case.protocol not in {"postgresql", "mysql"}:
        pytest.skip("the others have one writer at a time, or one snapshot for the whole comparison")
    mirror.load(orders(1, 2))
    counted = _reconcile.refuse_too_many

    def load_another(plan: ReconcilePlan, **counts: int) -> None:
        counted(plan, **counts)
        schema = mirror.destination.storable(orders().schema)
        other = LoadPlan("run-2", "shop", "others", mirror.table, Disposition.MERGE, schema, ("id",), None)
        with mirror.destination.begin(other) as session:
            session.write(conform(orders(3), schema))
            session.commit(None)

    monkeypatch.setattr(_reconcile, "refuse_too_many", load_another)
    with pytest.raises(DestinationError, match="'others'"):
        mirror.reconcile(ids(1))
    assert mirror.column() == ["1", "2", "3"]


def test_rows_that_others_point_at_are_not_deleted_with_them(
    mirror: Mirror, request: pytest.FixtureRequest
) -> None:
    protocol = mirror.case.protocol
    if protocol not in {"postgresql", "mysql"}:
        pytest.skip("its foreign keys delete nothing")
    mirror.load(marked(1, 2))
    if protocol == "mysql":
        connected = closing(mysql_recipe.connect(request.getfixturevalue("mysql")))
    else:
        connected = closing(postgres_recipe.connect(request.getfixturevalue("postgres")))
    with connected as client, client.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE shop.items (order_id bigint, "
            "FOREIGN KEY (order_id) REFERENCES shop.orders (id) ON DELETE CASCADE)"
        )
        cursor.execute("INSERT INTO shop.items VALUES (2)")
    with pytest.raises(DestinationError, match="foreign key") as caught:
        mirror.reconcile(ids(1))
    assert (caught.value.code, "how: soft" in str(caught.value.hint)) == ("referenced", True)
    assert mirror.column() == ["1", "2"]
    assert mirror.reconcile(ids(1), deletes=SOFT) == ReconcileResult(1, 1)
