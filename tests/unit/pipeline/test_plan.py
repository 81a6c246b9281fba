"""The plan of a load: which disposition holds, where reading goes on, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from msgspec.structs import replace

from atlas_etl import values
from atlas_etl.errors import ConfigError, DestinationError, SchemaChangeError
from atlas_etl.model import (
    Checkpoint,
    CreateTable,
    CursorKind,
    CursorValue,
    Disposition,
    DropTable,
    LoadPlan,
    Protection,
    Rule,
    Stream,
    TableName,
    TableState,
    WidenColumn,
    merge_mark,
    merge_mark_of,
)
from atlas_etl.pipeline.plan import disposition_of, next_window, plan_load, resume_from

SCHEMA = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us"))])
NINE = CursorValue(CursorKind.TIMESTAMP, "2026-01-01T09:00:00.000000")
CHECKPOINT = Checkpoint("at", NINE, NINE)
LOADED = TableState(SCHEMA, CHECKPOINT, loaded_by_atlas=True, empty=False)
NOTHING = TableState()
FOREIGN = TableState(SCHEMA, loaded_by_atlas=False, empty=False)


def plan(
    stream: Stream, state: TableState = NOTHING, *, full_refresh: bool = False, **more: object
) -> LoadPlan:
    settings: dict[str, object] = {
        "read": SCHEMA,
        "storable": lambda schema, _: schema,
        "primary_key": (),
        "key_is_unique": False,
        **more,
    }
    return plan_load(
        stream, run_id="r", connector="shop", table=TableName("orders", "shop"), state=state,
        resumed=resume_from(stream, state, full_refresh=full_refresh), full_refresh=full_refresh, **settings,
    )  # fmt: skip


def stream(**more: object) -> Stream:
    return Stream("orders", table="orders", **more)


@pytest.mark.parametrize(
    ("cursor", "key", "expected"),
    [
        (None, (), Disposition.REPLACE),
        (None, ("id",), Disposition.REPLACE),
        ("at", (), Disposition.APPEND),
        ("at", ("id",), Disposition.MERGE),
    ],
)
def test_the_disposition_follows_from_cursor_and_key(
    cursor: str | None, key: tuple[str, ...], expected: Disposition
) -> None:
    assert disposition_of(stream(cursor=cursor), key) is expected


def test_merge_without_a_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="primary key"):
        plan(stream(disposition=Disposition.MERGE))


def test_an_append_goes_on_from_its_tail() -> None:
    found = plan(stream(cursor="at"), LOADED)
    assert (found.disposition, found.tail, found.changes) == (Disposition.APPEND, CHECKPOINT, ())


def test_the_first_append_has_no_tail() -> None:
    found = plan(stream(cursor="at"))
    assert (found.disposition, found.tail, found.changes) == (Disposition.APPEND, None, (CreateTable(),))


def test_without_a_checkpoint_or_a_cursor_the_whole_table_is_the_tail() -> None:
    forgotten = TableState(SCHEMA, None, loaded_by_atlas=True, empty=False)
    assert plan(stream(cursor="at"), forgotten).disposition is Disposition.REPLACE
    no_cursor = stream(disposition=Disposition.APPEND)
    assert plan(no_cursor, forgotten).disposition is Disposition.REPLACE


@pytest.mark.parametrize("disposition", [Disposition.APPEND, Disposition.REPLACE])
def test_rows_of_somebody_else_are_never_deleted(disposition: Disposition) -> None:
    with pytest.raises(DestinationError, match=r"shop\.orders") as caught:
        plan(stream(disposition=disposition, cursor="at"), FOREIGN)
    assert caught.value.code == "table_not_ours"
    with pytest.raises(DestinationError):
        plan(stream(cursor="at"), FOREIGN, full_refresh=True)
    assert plan(stream(), TableState(SCHEMA, empty=True)).disposition is Disposition.REPLACE


def test_rows_of_others_beside_the_streams_own_are_never_deleted() -> None:
    shared = replace(LOADED, shared=True)
    for disposition, full_refresh in [
        (Disposition.APPEND, False), (Disposition.REPLACE, False), (Disposition.MERGE, True),
    ]:  # fmt: skip
        again = stream(disposition=disposition, cursor="at")
        with pytest.raises(DestinationError) as caught:
            plan(again, shared, primary_key=("id",), full_refresh=full_refresh)
        assert caught.value.code == "table_not_ours"
    merged = plan(stream(cursor="at"), shared, primary_key=("id",))
    assert (merged.disposition, merged.joins, merged.begins) == (Disposition.MERGE, False, False)
    emptied = replace(shared, checkpoint=None, empty=True)
    again = plan(stream(cursor="at", disposition=Disposition.REPLACE), emptied)
    assert (again.disposition, again.begins) == (Disposition.REPLACE, True)


def test_the_first_load_beside_rows_of_others_is_remembered() -> None:
    assert plan(stream(cursor="at"), FOREIGN, primary_key=("id",)).joins
    assert not plan(stream(cursor="at"), LOADED, primary_key=("id",)).joins
    assert not plan(stream(cursor="at"), NOTHING, primary_key=("id",)).joins


def test_the_first_merge_into_an_empty_table_only_inserts() -> None:
    keyed = stream(cursor="at")
    assert plan(keyed, primary_key=("id",)).disposition is Disposition.MERGE
    assert plan(keyed, primary_key=("id",), key_is_unique=True).disposition is Disposition.APPEND
    assert plan(keyed, LOADED, primary_key=("id",), key_is_unique=True).disposition is Disposition.MERGE


@pytest.mark.parametrize(
    ("wanted", "unique", "full_refresh", "expected"),
    [
        (Disposition.MERGE, False, False, True),
        (Disposition.MERGE, True, False, True),  # loaded by an append, for nothing is there
        (Disposition.MERGE, True, True, True),
        (Disposition.MERGE, False, True, True),  # the latest row of each key is kept
        (Disposition.REPLACE, True, False, True),
        (Disposition.REPLACE, False, False, False),
        (Disposition.APPEND, True, False, False),  # a row comes again each time that it changed
    ],
)
def test_a_table_declares_its_key_where_no_two_rows_will_share_it(
    wanted: Disposition, unique: bool, full_refresh: bool, expected: bool
) -> None:
    found = plan(
        stream(cursor="at", disposition=wanted),
        primary_key=("id",), key_is_unique=unique, full_refresh=full_refresh,
    )  # fmt: skip
    assert found.keyed is expected


def test_a_full_refresh_of_a_merge_goes_by_key_where_the_source_has_it_several_times() -> None:
    merged = stream(cursor="at", disposition=Disposition.MERGE)
    found = plan(merged, LOADED, primary_key=("id",), full_refresh=True)
    assert (found.disposition, found.merges) == (Disposition.REPLACE, True)
    unique = plan(merged, LOADED, primary_key=("id",), full_refresh=True, key_is_unique=True)
    assert (unique.disposition, unique.merges) == (Disposition.REPLACE, False)
    replaced = plan(stream(disposition=Disposition.REPLACE), LOADED, primary_key=("id",))
    assert not replaced.merges


def test_a_full_refresh_replaces_and_may_change_types() -> None:
    other = pa.schema([("id", pa.bool_()), ("at", pa.timestamp("us"))])
    with pytest.raises(SchemaChangeError):
        plan(stream(cursor="at"), LOADED, read=other)
    found = plan(stream(cursor="at"), LOADED, full_refresh=True, read=other)
    assert (found.disposition, found.tail) == (Disposition.REPLACE, None)
    assert found.changes == (DropTable(), CreateTable())


def test_another_cursor_makes_the_checkpoint_meaningless() -> None:
    with pytest.raises(ConfigError, match=r"'id'.*'at'") as caught:
        plan(stream(cursor="id"), LOADED)
    assert caught.value.code == "cursor_changed"
    assert plan(stream(cursor="id"), LOADED, full_refresh=True).tail is None


def test_rows_that_lack_the_key_are_not_merged_with() -> None:
    renamed = pa.schema([("number", pa.int64()), ("at", pa.timestamp("us"))])
    by_number = stream(cursor="at", primary_key=("number",))
    kept = {"read": renamed, "primary_key": ("number",)}
    with pytest.raises(SchemaChangeError) as caught:
        plan(by_number, LOADED, **kept)
    assert (caught.value.code, caught.value.column) == ("key_changed", "number")
    assert plan(by_number, LOADED, full_refresh=True, **kept).disposition is Disposition.REPLACE


def test_another_key_is_refused_and_a_full_refresh_makes_its_table() -> None:
    by_id = stream(cursor="at", primary_key=("id",))
    both = {"primary_key": ("at", "id")}
    assert merge_mark_of(plan(by_id, primary_key=("id",)).load_id) == '["id"]'
    window = next_window(plan(by_id, LOADED, **both))
    there = replace(LOADED, merge_mark=merge_mark_of(window.load_id), key=frozenset({"id", "at"}))
    assert plan(by_id, there, primary_key=("id", "at")).merges
    assert plan(by_id, replace(there, loaded_by_atlas=False), primary_key=("id",)).merges
    with pytest.raises(SchemaChangeError, match=r"by id now.*by at, id:") as caught:
        plan(by_id, there, primary_key=("id",))
    assert caught.value.code == "key_changed"
    refreshed = plan(by_id, there, full_refresh=True, primary_key=("id",))
    assert refreshed.changes == (DropTable(), CreateTable())
    assert merge_mark_of(refreshed.load_id) == '["id"]'


def test_a_key_of_many_columns_fits_the_id_of_a_load() -> None:
    key = [f"column {number}" for number in range(99)]
    assert merge_mark(key) == merge_mark(key[::-1]) != merge_mark(key[1:])
    assert merge_mark_of(f"{merge_mark(key)}/a") == merge_mark(key)
    assert len(merge_mark(key)) <= 200


def as_text(schema: pa.Schema, _: pa.Schema | None) -> pa.Schema:
    return pa.schema([field.with_type(pa.string()) for field in schema])


def test_a_number_that_is_held_as_text_is_no_cursor_of_what_is_compared_by_it() -> None:
    by_id = stream(cursor="id")
    for refused in ({}, {"primary_key": ("at",)}):  # an append's tail, and the latest row of a key
        with pytest.raises(ConfigError, match="as text") as caught:
            plan(by_id, storable=as_text, **refused)
        assert (caught.value.code, caught.value.column) == ("cursor_type", "id")
    plan(by_id, storable=as_text, primary_key=("at",), key_is_unique=True)
    plan(stream(cursor="id", disposition=Disposition.REPLACE), storable=as_text)


def test_numbers_of_any_digits_as_text_are_a_cursor_of_an_append_alone() -> None:
    unlimited = pa.schema([("id", values.UNLIMITED_DECIMAL), ("at", pa.timestamp("us"))])
    by_id = stream(cursor="id")
    for storable in (as_text, lambda schema, _: schema):
        plan(by_id, read=unlimited, storable=storable)
    plan(by_id, read=unlimited, primary_key=("at",))
    with pytest.raises(ConfigError, match="as text") as caught:
        plan(by_id, read=unlimited, storable=as_text, primary_key=("at",))
    assert caught.value.code == "cursor_type"


def test_numbers_of_any_digits_that_were_text_are_numbers_after_a_full_refresh() -> None:
    unlimited = pa.schema([("id", values.UNLIMITED_DECIMAL), ("at", pa.timestamp("us"))])
    there = replace(LOADED, schema=as_text(SCHEMA, None))
    texts = {"read": unlimited, "storable": lambda schema, _: as_text(schema, None)}
    replaced = stream(disposition=Disposition.REPLACE)
    read = {"read": pa.schema([unlimited.field("id"), pa.field("at", pa.string())])}
    kept = plan(replaced, there, **read)
    assert (kept.changes, kept.schema.field("id").type) == ((), pa.string())
    made = plan(replaced, there, full_refresh=True, **read)
    assert (made.changes, made.schema) == ((DropTable(), CreateTable()), read["read"])
    assert plan(replaced, there, full_refresh=True, **texts).changes == ()


def test_numbers_of_any_digits_become_texts_by_a_rule_or_a_full_refresh() -> None:
    """Until then such a column reads the numbers of texts."""
    there = replace(LOADED, schema=pa.schema([("id", values.UNLIMITED_DECIMAL), ("at", pa.timestamp("us"))]))
    read = pa.schema([("id", pa.string()), ("at", pa.timestamp("us"))])
    replaced = stream(disposition=Disposition.REPLACE)
    assert plan(replaced, there, read=read).changes == ()
    ruled = replace(replaced, protect={"id": Rule(Protection.HASH)})
    for found in (plan(replaced, there, read=read, full_refresh=True), plan(ruled, there, read=read)):
        assert found.changes == (WidenColumn("id", values.UNLIMITED_DECIMAL, read.field("id")),)


def test_names_are_those_of_the_destination() -> None:
    storable = pa.schema([("id_1", pa.int64()), ("at_1", pa.timestamp("us"))])
    found = plan(stream(cursor="at"), primary_key=("id",), storable=lambda *_: storable)
    assert (found.primary_key, found.cursor) == (("id_1",), "at_1")
