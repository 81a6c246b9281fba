"""Writing PostgreSQL: what tables become, what meets those that were there, and what others see of a load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from atlas_etl import values
from atlas_etl.connectors.sql._postgresql.writer import PostgresDestination
from atlas_etl.errors import DataError, DestinationError, UsageError
from atlas_etl.model import (
    Checkpoint,
    CursorKind,
    CursorValue,
    Deletes,
    Disposition,
    LoadPlan,
    ReconcilePlan,
    Stream,
    TableName,
)
from atlas_etl.pipeline.schema import conform, evolve, reading_texts
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database, read

AT = datetime(2026, 3, 1, tzinfo=UTC)
ORDERS = TableName("orders", "shop")
APPEND, MERGE, REPLACE = Disposition.APPEND, Disposition.MERGE, Disposition.REPLACE


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


def plan_of(
    destination: PostgresDestination,
    schema: pa.Schema,
    disposition: Disposition,
    into: TableName,
    **more: object,
) -> LoadPlan:
    there = destination.inspect("shop", into.name, into).schema
    as_planned = reading_texts(there, destination.storable(schema, there))
    stored, changes = evolve(as_planned, schema, destination.storable)
    settings = {"primary_key": ("id",), "cursor": None, **more}
    return LoadPlan("run", "shop", into.name, into, disposition, stored, changes=changes, **settings)


def load(
    destination: PostgresDestination,
    table: pa.Table,
    disposition: Disposition = APPEND,
    into: TableName = ORDERS,
    **more: object,
) -> int:
    plan = plan_of(destination, table.schema, disposition, into, **more)
    with destination.begin(plan) as session:
        for batch in table.to_batches():
            session.write(conform(batch, plan.schema))
        return session.commit(None).rows


def orders(*rows: tuple[int, str | None]) -> pa.Table:
    return pa.table({"id": pa.array([r[0] for r in rows], pa.int64()), "name": [r[1] for r in rows]})


def test_columns_are_declared_in_postgresqls_own_types(database: Database) -> None:
    jsonb = values.with_source_type(pa.field("jsonb", pa.json_()), "jsonb")
    fields = {
        "uint64": (pa.uint64(), "numeric(20,0)"),
        "decimal": (pa.decimal128(12, 2), "numeric(12,2)"),
        "decimal256": (pa.decimal256(70, 30), "numeric(70,30)"),
        "utc": (pa.timestamp("ms", "Europe/Berlin"), "timestamp with time zone"),
        "naive": (pa.timestamp("s"), "timestamp without time zone"),
        "nanoseconds": (pa.timestamp("ns"), "text"),
        "uuid": (pa.uuid(), "uuid"),
        "json": (pa.json_(), "json"),
        "uuids": (pa.list_(pa.uuid()), "uuid[]"),
        "grid": (pa.list_(pa.list_(pa.int8())), "json"),
        "record": (pa.struct([("a", pa.int8())]), "json"),
        "code": (pa.dictionary(pa.int8(), pa.string()), "text"),
        "nothing": (pa.null(), "text"),
        "interval": (pa.month_day_nano_interval(), "interval"),
    }
    schema = pa.schema([jsonb, *(pa.field(name, kind) for name, (kind, _) in fields.items())])
    destination = database.destination()
    with destination.begin(plan_of(destination, schema, APPEND, ORDERS)) as session:
        session.commit(None)
    found = dict(
        database.rows(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'shop.orders'::regclass AND attnum > 0"
        )
    )
    assert found == {"jsonb": "jsonb", **{name: native for name, (_, native) in fields.items()}}


def test_jsonb_goes_from_postgresql_to_postgresql_as_it_was(database: Database) -> None:
    database.execute("CREATE TABLE source (id int PRIMARY KEY, b jsonb, j json, a jsonb[])")
    database.execute("""INSERT INTO source VALUES (1, '{"b":1,"a":2.50}', '{"b":1, "a":2.50}', '{"[1]"}')""")
    table = read(database.connector(), Stream("source", table="source"))
    load(database.destination(), table, MERGE)
    both = "SELECT b::text, j::text, a::text FROM {} ORDER BY id"
    assert database.rows(both.format("shop.orders")) == database.rows(both.format("source"))


TARGET = (
    "CREATE SCHEMA shop", "CREATE TYPE mood AS ENUM ('sad', 'happy')",
    "CREATE DOMAIN small AS numeric(5,1) CHECK (VALUE < 9)",
    "CREATE TABLE shop.orders (id bigint PRIMARY KEY, price numeric, place inet, how mood, span int4range, "
    "word varchar(5), tiny small, moods mood[], made timestamptz DEFAULT now(), twice numeric "
    "GENERATED ALWAYS AS (price * 2) STORED)",
)  # fmt: skip


@pytest.mark.parametrize("disposition", [APPEND, MERGE])
def test_a_table_that_somebody_made_takes_rows_in_its_own_types(
    database: Database, disposition: Disposition
) -> None:
    database.execute(*TARGET)
    table = pa.table({
        "id": pa.array([1, 2], pa.int64()),
        "price": pa.array([Decimal("1.50"), None], pa.decimal128(12, 2)),
        "place": ["10.0.0.1/8", None], "how": ["happy", None], "span": ["[1,5)", None], "word": ["abc", None],
        "tiny": pa.array([Decimal("2.5"), None], pa.decimal128(3, 1)),
        "moods": [["sad", "happy"], None],
    })  # fmt: skip
    destination = database.destination()
    for _ in range(2 if disposition is MERGE else 1):
        load(destination, table, disposition)
    found = database.rows("SELECT price::text, place::text, how::text, span::text, word, tiny, moods::text, "
                          "twice::text, made IS NULL FROM shop.orders ORDER BY id")  # fmt: skip
    assert found == [
        ("1.50", "10.0.0.1/8", "happy", "[1,5)", "abc", Decimal("2.5"), "{sad,happy}", "3.00", False),
        (*[None] * 8, False),
    ]


@pytest.mark.parametrize(
    ("column", "cells", "said"),
    [
        ("name", pa.array(["a\0b"]), "NUL"),
        ("word", pa.array(["too long"]), "varying\\(5\\)"),
        ("how", pa.array(["hunter2"]), "enum"),
        ("tiny", pa.array([Decimal("9.5")], pa.decimal128(3, 1)), "small_check"),
        ("price", pa.array(["12x"]), "numeric"),
        ("span", pa.array(["[5,1)"]), "range"),
        (
            "document",
            pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{hunter2}"])),
            "'document'.* json",
        ),
    ],
)
def test_values_that_cannot_be_stored_are_refused_and_not_told(
    database: Database, column: str, cells: pa.Array, said: str
) -> None:
    database.execute(*TARGET)
    database.execute("ALTER TABLE shop.orders DROP twice, ADD COLUMN name text")
    table = pa.table({"id": pa.array([1], pa.int64()), column: cells})
    with pytest.raises(DataError, match=said) as caught:
        load(database.destination(), table)
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"
    assert database.rows("SELECT count(*) FROM shop.orders") == [(0,)]


def test_a_constraint_is_named_without_the_row(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint, name text CONSTRAINT polite CHECK (name <> 'hunter2'))",
        "CREATE UNIQUE INDEX only_once ON shop.orders (name)",
    )
    destination = database.destination()
    for rows, named in ((orders((1, "hunter2")), "polite"), (orders((1, "xyz"), (2, "xyz")), "only_once")):
        with pytest.raises(DataError, match=named) as caught:
            load(destination, rows)
        assert caught.value.code == "constraint"
        assert not {"hunter2", "xyz"} & set(f"{caught.value.message} {caught.value.hint}".split('"'))


def test_a_merge_leaves_rows_where_others_point_at_them(database: Database) -> None:
    destination = database.destination()
    load(destination, orders((1, "a"), (2, "b")), MERGE)
    database.execute(
        "CREATE TABLE notes (order_id bigint REFERENCES shop.orders ON DELETE CASCADE, note text)",
        "INSERT INTO notes VALUES (1, 'keep me')",
        "ALTER TABLE shop.orders ADD COLUMN remark text",
        "UPDATE shop.orders SET remark = 'mine'",
    )
    load(destination, orders((1, "changed"), (3, "c")), MERGE)
    assert database.rows("SELECT note FROM notes") == [("keep me",)]
    assert database.rows("SELECT id, name, remark FROM shop.orders ORDER BY id") == [
        (1, "changed", None), (2, "b", "mine"), (3, "c", None),
    ]  # fmt: skip
    with pytest.raises(DestinationError, match="notes_order_id_fkey") as caught:
        load(destination, orders((1, "a")), REPLACE)
    assert caught.value.code == "referenced"
    assert database.rows("SELECT note FROM notes") == [("keep me",)]


def test_a_merge_without_a_unique_index_replaces_rows_by_key(database: Database) -> None:
    database.execute("CREATE SCHEMA shop", "CREATE TABLE shop.orders (id bigint, name text)")
    destination = database.destination()
    load(destination, orders((1, "a"), (1, "twice")), APPEND)
    load(destination, orders((1, "once"), (2, "b")), MERGE)
    assert database.rows("SELECT * FROM shop.orders ORDER BY 1") == [(1, "once"), (2, "b")]


@pytest.mark.parametrize("key", ["PRIMARY KEY", ""])
@pytest.mark.parametrize("price", ["numeric(9, 2)", "money"])
def test_an_identity_that_is_always_generated_keeps_the_sources_values(
    database: Database, key: str, price: str
) -> None:
    """COPY writes them as it is, an INSERT does not; `money` is given as text, which is an INSERT, too."""
    always = "bigint GENERATED ALWAYS AS IDENTITY"
    database.execute("CREATE SCHEMA shop", f"CREATE TABLE shop.orders (id {always} {key}, price {price})")
    destination = database.destination()
    for ids in ([5, 7], [7, 9]):
        prices = pa.array([Decimal("1.50")] * 2, pa.decimal128(9, 2))
        load(destination, pa.table({"id": pa.array(ids, pa.int64()), "price": prices}), MERGE)
    assert database.rows("SELECT id FROM shop.orders ORDER BY 1") == [(5,), (7,), (9,)]


def test_an_identity_that_a_merge_cannot_change_is_told_with_what_to_do(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA shop",
        "CREATE TABLE shop.orders (id bigint PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY)",
    )
    rows = pa.table({"id": pa.array([1], pa.int64()), "n": pa.array([5], pa.int64())})
    with pytest.raises(DestinationError) as caught:
        load(database.destination(), rows, MERGE)
    assert "SET GENERATED BY DEFAULT" in str(caught.value.hint)
    database.execute("ALTER TABLE shop.orders ALTER COLUMN n SET GENERATED BY DEFAULT")
    load(database.destination(), rows, MERGE)
    assert database.rows("SELECT n FROM shop.orders") == [(5,)]


def test_a_merge_of_keys_alone(database: Database) -> None:
    destination = database.destination()
    keys = pa.table({"id": pa.array([1, 2, 2], pa.int64())})
    load(destination, keys, MERGE)
    load(destination, keys, MERGE)
    assert database.rows("SELECT id FROM shop.orders ORDER BY 1") == [(1,), (2,)]


def test_a_first_load_that_only_appends_declares_the_key_of_the_merges_that_follow(
    database: Database,
) -> None:
    load(database.destination(), orders((1, "a")), APPEND, keyed=True)
    assert database.connector().describe(Stream("o", table="shop.orders")).primary_key == ("id",)


def test_an_append_may_hold_a_key_many_times(database: Database) -> None:
    destination = database.destination()
    load(destination, orders((1, "a"), (1, "b")))
    load(destination, orders((1, "c")))
    assert database.rows("SELECT count(*) FROM shop.orders") == [(3,)]


def test_a_replace_keeps_what_belongs_to_the_table_and_blocks_no_reader(database: Database) -> None:
    destination = database.destination()
    load(destination, orders((1, "a")), REPLACE)
    with database.role() as role, role.session() as reader:
        name = role.address.username
        database.execute(
            "CREATE VIEW seen AS SELECT * FROM shop.orders", "CREATE INDEX by_name ON shop.orders (name)",
            f'GRANT USAGE ON SCHEMA shop TO "{name}"', f'GRANT SELECT ON shop.orders, seen TO "{name}"',
        )  # fmt: skip
        reader.execute("SET lock_timeout = '2s'")
        table = orders((2, "b"), (3, "c"))
        plan = plan_of(destination, table.schema, REPLACE, ORDERS)
        with destination.begin(plan) as session:
            for batch in table.to_batches():
                session.write(conform(batch, plan.schema))
            assert reader.execute("SELECT id FROM shop.orders").fetchall() == [(1,)]
            session.commit(None)
        assert reader.execute("SELECT id FROM seen ORDER BY 1").fetchall() == [(2,), (3,)]
    assert database.rows("SELECT count(*) FROM pg_indexes WHERE indexname = 'by_name'") == [(1,)]


def test_a_column_that_a_view_uses_is_not_widened_behind_it(database: Database) -> None:
    destination = database.destination()
    load(destination, pa.table({"id": pa.array([1], pa.int32())}))
    database.execute("CREATE VIEW seen AS SELECT * FROM shop.orders")
    with pytest.raises(DestinationError, match="view") as caught:
        load(destination, pa.table({"id": pa.array([2**40], pa.int64())}))
    assert caught.value.exit_code == 4
    assert database.rows("SELECT * FROM seen") == [(1,)]


def test_widening_keeps_every_value(database: Database) -> None:
    destination = database.destination()
    first = pa.table({"id": pa.array([1], pa.int16()), "d": pa.array([Decimal("1.50")], pa.decimal128(3, 2)),
                      "u": pa.array([None], pa.string()), "f": pa.array([1.5], pa.float32()),
                      "l": pa.array([[1]], pa.list_(pa.int16()))})  # fmt: skip
    second = pa.table({"id": pa.array([2**60], pa.int64()), "d": ["NaN"], "u": ["x"], "f": [0.1],
                       "l": pa.array([[2**60]], pa.list_(pa.int64()))})  # fmt: skip
    load(destination, first)
    load(destination, second)
    assert database.rows("SELECT id, d, u, f, l FROM shop.orders ORDER BY id") == [
        (1, "1.50", None, 1.5, [1]), (2**60, "NaN", "x", 0.1, [2**60]),
    ]  # fmt: skip


def test_many_first_loads_at_once(database: Database) -> None:
    def first(number: int) -> int:
        return load(database.destination(), orders((number, "x")), into=TableName(f"t{number}", "shop"))

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(first, range(8))) == [1] * 8
    assert database.rows("SELECT count(*) FROM shop._atlas_loads") == [(8,)]


def test_a_table_that_is_made_twice_at_once_may_be_tried_again(database: Database) -> None:
    destination, rows = database.destination(), orders((1, "a"))
    plan = plan_of(destination, rows.schema, APPEND, ORDERS)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor(1) as threads:
        with destination.begin(plan) as session:
            session.write(conform(rows.to_batches()[0], plan.schema))
            second = threads.submit(load, database.destination(), rows)
            while not database.rows(waiting) and not second.done():
                pass
            session.commit(None)
        with pytest.raises(DestinationError) as caught:
            second.result()
    assert (caught.value.code, caught.value.retryable) == ("table_exists", True)
    assert database.rows("SELECT count(*) FROM shop.orders") == [(1,)]


LOOKS: dict[str, Callable[[PostgresDestination], object]] = {
    "inspect": lambda destination: destination.inspect("shop", "orders", ORDERS),
    "has_load": lambda destination: destination.has_load("shop", "orders", ORDERS, "id"),
    "reconciled_at": lambda destination: destination.reconciled_at("shop", "orders", ORDERS),
    "checkpoints": lambda destination: destination.checkpoints("shop"),
    "set_checkpoint": lambda destination: destination.set_checkpoint("shop", "orders", ORDERS, None),
    "load": lambda destination: load(destination, orders((2, "b"))),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_waits_for_a_lock_no_longer_than_the_destination_says(database: Database, look: str) -> None:
    load(database.destination(), orders((1, "a")))
    destination = database.destination(lock_timeout=0.05)
    with database.session() as session:
        session.execute("SET idle_in_transaction_session_timeout = '20s'")  # ends one that waits for ever
        session.execute("BEGIN; LOCK TABLE shop.orders, shop._atlas_loads, shop._atlas_checkpoints")
        with pytest.raises(DestinationError) as caught:
            LOOKS[look](destination)
    assert (caught.value.code, caught.value.retryable) == ("lock_timeout", True)


def test_looks_have_the_settings_of_loads(database: Database) -> None:
    wanted = {"statement_timeout": 7, "options": {"work_mem": "8MB", "search_path": "a%b"}}
    with database.destination(**wanted).connect() as connection:
        names = ("TimeZone", "statement_timeout", "work_mem", "search_path", "lock_timeout")
        found = [connection.execute(f"SHOW {name}")[0][0] for name in names]
    assert found == ["UTC", "7s", "8MB", "a%b", "1min"]
    assert database.rows("SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'") == []


def test_a_load_that_is_open_does_not_keep_others_from_making_their_tables(database: Database) -> None:
    destination = database.destination(lock_timeout=2)
    plan = plan_of(destination, orders((1, "a")).schema, APPEND, TableName("slow", "shop"))
    with destination.begin(plan):
        assert load(destination, orders((1, "a")), into=TableName("quick", "shop")) == 1


def test_a_connection_lost_in_the_commit_leaves_the_outcome_open(database: Database) -> None:
    destination = database.destination()
    plan = plan_of(destination, orders((1, "a")).schema, APPEND, ORDERS)
    end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    with pytest.raises(DestinationError) as caught, destination.begin(plan) as session:
        session.write(conform(orders((1, "a")).to_batches()[0], plan.schema))
        commit = session._connection.commit
        session._connection.commit = lambda: (database.execute(end), commit())
        session.commit(None)
    assert (caught.value.code, caught.value.retryable) == ("commit_unknown", True)
    assert destination.inspect("shop", "orders", ORDERS).schema is None


def test_what_may_not_be_written_is_named_with_the_grant(database: Database) -> None:
    with database.role() as role:
        name, destination = role.address.username, role.destination()
        grant = f'GRANT CREATE ON DATABASE "{role.address.database}" TO "{name}"'
        for call in (destination.test, lambda: load(destination, orders((1, "a")))):
            with pytest.raises(DestinationError) as caught:
                call()
            assert (caught.value.code, caught.value.hint) == ("permission_denied", grant)
        database.execute("CREATE SCHEMA shop", f'GRANT USAGE ON SCHEMA shop TO "{name}"')
        with pytest.raises(DestinationError) as caught:
            load(destination, orders((1, "a")))
        assert caught.value.hint == f'GRANT USAGE, CREATE ON SCHEMA "shop" TO "{name}"'
        database.execute(f'GRANT CREATE ON SCHEMA shop TO "{name}"', "CREATE TABLE shop.orders (id bigint)")
        assert grant in destination.test().warnings[0]
        with pytest.raises(DestinationError) as caught:
            load(destination, orders((1, "a")))
        assert caught.value.hint == f'GRANT SELECT, INSERT, UPDATE, DELETE ON "shop"."orders" TO "{name}"'
        database.execute(f'GRANT SELECT ON shop.orders TO "{name}"')
        with pytest.raises(DestinationError) as caught:
            load(destination, pa.table({"id": pa.array([1], pa.int64())}))
        assert caught.value.hint == f'GRANT SELECT, INSERT, UPDATE, DELETE ON "shop"."orders" TO "{name}"'
        mine = TableName("mine", "shop")
        assert load(destination, orders((1, "a")), into=mine) == 1
        database.execute(
            "ALTER TABLE shop.mine OWNER TO CURRENT_USER", f'GRANT SELECT, INSERT ON shop.mine TO "{name}"'
        )
        state = destination.inspect("shop", "mine", mine)
        assert state.schema is not None
        keys = pa.schema([state.schema.field("id")])
        gone = ReconcilePlan(
            "run",
            "shop",
            "mine",
            mine,
            keys,
            Deletes(max_share=1),
            AT,
            has_marks=False,
            version=state.version,
        )
        with pytest.raises(DestinationError) as caught, destination.reconcile(gone) as session:
            session.commit()
        assert caught.value.hint == f'GRANT SELECT, INSERT, UPDATE, DELETE ON "shop"."mine" TO "{name}"'


def test_queries_read_and_only_read(database: Database) -> None:
    destination = database.destination()
    load(destination, orders((1, "100%")))
    assert destination.query("SELECT * FROM shop.orders WHERE name LIKE '1%' -- all\n;").to_pylist() == [
        {"id": 1, "name": "100%"}
    ]
    odd = destination.query("SELECT n, CASE n WHEN 2 THEN timestamp 'infinity' ELSE '2026-01-01' END AS at "
                            "FROM generate_series(1, 2) n")  # fmt: skip
    assert odd["at"].to_pylist() == ["2026-01-01 00:00:00", "infinity"]
    assert destination.query("SELECT 1 AS one WHERE false").schema.names == ["one"]
    assert destination.query("VALUES (1, 'a')").num_rows == 1
    for wrong in (
        "SELEC 1", "SELECT nope FROM shop.orders", "SELECT * FROM nope", "SELECT 1/0",
        "DROP TABLE shop.orders", "SELECT 1 AS a, 2 AS a",
        "WITH gone AS (DELETE FROM shop.orders RETURNING *) SELECT * FROM gone",
        "SELECT setval('shop.s', 1)", "", "SELECT 1) AS x; DROP TABLE shop.orders; --",
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            destination.query(wrong)
        assert (caught.value.code, caught.value.exit_code) == ("query", 2), wrong
    assert database.rows("SELECT count(*) FROM shop.orders") == [(1,)]


def test_the_ledgers_of_every_schema_are_found(database: Database) -> None:
    destination = database.destination()
    value = CursorValue(CursorKind.INTEGER, "7")
    for schema in ("one", "we%ird"):
        plan = plan_of(destination, orders((7, "a")).schema, APPEND, TableName("100%", schema), cursor="id")
        with destination.begin(plan) as session:
            session.commit(Checkpoint("id", value, value))
    assert len(destination.checkpoints("shop")) == 2
