"""Reading PostgreSQL: what the catalog tells, what a snapshot sees, and where its tail begins."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from unittest.mock import patch

import pytest

from atlas_etl.connectors.sql._postgresql.messages import SocketMessages
from atlas_etl.connectors.sql._postgresql.reader import PostgresConnector
from atlas_etl.connectors.sql._postgresql.snapshot import UNSEEN_LAG
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import BatchLimits, Checkpoint, CursorKind, CursorValue, ReadRequest, Stream
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database, read, read_all


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


EVENTS = "CREATE TABLE events (id serial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(), note text)"


def test_names_are_found_as_people_write_them(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA sales", 'CREATE SCHEMA "Odd.One"', "CREATE TABLE orders (here text)",
        "CREATE TABLE sales.orders (there text)", 'CREATE TABLE "sales.orders" (dotted text)',
        'CREATE TABLE "Odd.One"."Mixed.T" (odd text)', 'CREATE TABLE "we""ird;--" (weird text)',
        "CREATE TABLE sales.returns (r text)",
    )  # fmt: skip

    def column(name: str, **more: object) -> str:
        return database.connector(**more).describe(Stream("s", table=name)).columns[0].name

    assert column("orders") == "here"
    assert column("ORDERS") == "here"
    assert column("orders", options={"search_path": "sales, public"}) == "there"
    assert column("sales.orders") == "dotted"
    assert column("public.sales.orders") == "dotted"
    assert column('sales."orders"') == "there"
    assert column("Sales.Returns") == "r"
    assert column("Odd.One.Mixed.T") == "odd"
    assert column('"Odd.One"."Mixed.T"') == "odd"
    assert column('we"ird;--') == column('"we""ird;--"') == "weird"
    with pytest.raises(SourceError) as caught:
        column("sales.return")
    assert (caught.value.code, caught.value.hint) == (
        "table_not_found",
        "did you mean 'sales.returns' or 'sales.orders'?",
    )


def test_every_kind_of_relation_is_discovered_with_its_key(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA other",
        "CREATE TABLE plain (b int, a int GENERATED ALWAYS AS (b * 2) STORED, gone int, c text NOT NULL,"
        " PRIMARY KEY (c, b) INCLUDE (a))",
        "ALTER TABLE plain DROP COLUMN gone",
        "CREATE TABLE parts (n int NOT NULL, at date) PARTITION BY RANGE (n)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "CREATE VIEW seen AS SELECT * FROM plain",
        "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one",
        "CREATE TABLE other.thing (x inet)",
        "CREATE TABLE _atlas_loads (x int)",
        "CREATE TABLE nothing ()",
        "INSERT INTO parts SELECT n % 10 FROM generate_series(1, 500) n",
        "ANALYZE",
    )
    found = {info.name: info for info in database.connector().discover()}
    assert set(found) == {"plain", "parts", "seen", "kept", "other.thing", "nothing"}
    plain = found["plain"]
    assert [(c.name, c.type, c.nullable) for c in plain.columns] == [
        ("b", "integer", False), ("a", "integer", True), ("c", "text", False),
    ]  # fmt: skip
    assert plain.primary_key == ("c", "b")
    assert (found["parts"].estimated_rows, found["seen"].estimated_rows) == (500, None)
    assert found["nothing"].columns == ()
    for name, info in found.items():
        assert database.connector().describe(Stream(name, table=name)).columns == info.columns
    with pytest.raises(SourceError, match="no columns"):
        read(database.connector(), Stream("nothing", table="nothing"))
    assert read(database.connector(), Stream("parts", table="parts")).num_rows == 500
    assert read(database.connector(), Stream("kept", table="kept")).to_pylist() == [{"one": 1}]


def test_cursor_candidates_are_indexed_and_the_best_comes_first(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id bigserial PRIMARY KEY, made date, changed timestamptz NOT NULL, seen timestamp,"
        " loose timestamptz, customer int, half timestamptz, second timestamptz)",
        *(f"CREATE INDEX ON t ({columns})" for columns in ("made", "changed", "seen", "customer")),
        "CREATE INDEX ON t (half) WHERE half IS NOT NULL",
        "CREATE INDEX ON t (customer, second)",
    )
    (found,) = database.connector().discover()
    assert found.cursor_candidates == ("changed", "id", "seen", "made")
    assert found.indexed == {"id", "made", "changed", "seen", "customer"}


def test_discovery_is_one_message_however_many_tables_there_are(database: Database) -> None:
    database.execute(*(f"CREATE TABLE t{n} (id int PRIMARY KEY, at timestamptz)" for n in range(40)))
    connector = database.connector()
    with counted(connector) as messages:
        assert len(connector.discover()) == 40
        assert messages() == 2  # the last one rolls back


def test_an_incremental_read_is_five_messages_and_up_to_three_for_the_watermark_of_an_id(
    database: Database,
) -> None:
    database.execute(
        "CREATE TABLE events (id serial PRIMARY KEY, at timestamptz DEFAULT now())",
        "INSERT INTO events SELECT FROM generate_series(1, 10)",
    )
    for stream, expected in (
        (Stream("events", table="events", cursor="at"), 5),
        (Stream("events", query="SELECT * FROM events", cursor="at"), 5),
        (Stream("events", table="events", cursor="id"), 7),
        (Stream("events", query="SELECT * FROM events", cursor="id"), 8),
    ):
        _, checkpoint, _ = read_all(database.connector(), stream)
        assert checkpoint is not None
        connector = database.connector()
        with counted(connector) as messages:
            assert read(connector, stream, checkpoint.tail_from).num_rows >= 1
            assert messages() == expected


@contextmanager
def counted(connector: PostgresConnector) -> Iterator[Callable[[], int]]:
    """How many statements the connector's one connection has sent since, by libpq and past it."""
    read(connector, Stream("one", query="SELECT 1 AS one"))
    ((session, _),) = connector._pool._idle
    with tempfile.TemporaryFile("w+") as trace:
        session.pgconn.trace(trace.fileno())

        with patch.object(
            SocketMessages, "__init__", autospec=True, side_effect=SocketMessages.__init__
        ) as own:

            def messages() -> int:
                session.pgconn.untrace()
                trace.seek(0)
                return own.call_count + sum("\tF\t" in line and "\tQuery" in line for line in trace)

            yield messages


def test_what_may_not_be_read_is_named_with_the_grant(database: Database) -> None:
    database.execute(
        "CREATE SCHEMA closed", "CREATE TABLE closed.t (n int)",
        "CREATE TABLE half (open int, shut int)", "CREATE TABLE shut (n int)",
        "INSERT INTO half VALUES (1, 2)",
    )  # fmt: skip
    with database.role() as role:
        name = role.address.username
        database.execute(f'GRANT SELECT (open) ON half TO "{name}"')
        for table, grants in {
            "shut": f'GRANT SELECT ON "public"."shut" TO "{name}"',
            "closed.t": f'GRANT USAGE ON SCHEMA "closed" TO "{name}"; '
            f'GRANT SELECT ON "closed"."t" TO "{name}"',
            "half": f'GRANT SELECT ON "public"."half" TO "{name}"',
        }.items():
            with pytest.raises(SourceError) as caught:
                read(role.connector(), Stream("s", table=table))
            assert (caught.value.code, caught.value.hint) == ("permission_denied", grants)
        with pytest.raises(SourceError) as caught:
            read(role.connector(), Stream("s", query="SELECT * FROM closed.t"))
        assert caught.value.hint == f'GRANT USAGE ON SCHEMA "closed" TO "{name}"'
        found = read(role.connector(), Stream("s", table="half", columns=("open",)))
        assert found.to_pylist() == [{"open": 1}]
        assert [info.name for info in role.connector().discover()] == ["half"]


@pytest.mark.parametrize("kind", ["json", "xml", "point"])
def test_a_cursor_without_an_order(database: Database, kind: str) -> None:
    database.execute(f"CREATE TABLE t (c {kind})")
    with pytest.raises(ConfigError) as caught:
        read_all(database.connector(), Stream("t", table="t", cursor="c"))
    assert caught.value.code == "cursor_type"


@pytest.mark.parametrize(
    ("kind", "values", "high"),
    [
        ("numeric", ["9", "10", "9.50"], "10"),  # as text 9.50 would be the greatest
        ("mood", ["happy", "sad"], "happy"),  # the order is the type's, not the alphabet's
        ("uuid", ["00000000-0000-0000-0000-00000000000a", "ffffffff-0000-0000-0000-000000000000"],
         "ffffffff-0000-0000-0000-000000000000"),
        ("double precision", ["1e300", "-1"], "1e+300"),
        ("inet", ["10.0.0.2", "9.0.0.1"], "10.0.0.2"),
        ("char(3)", ["b", "a"], "b  "),
        ("oid", ["4000000000", "1"], "4000000000"),
        ("timestamp(3)", ["2026-01-01 00:00:00.123", "2025-01-01"], "2026-01-01T00:00:00.123000"),
        ("bigint", [str(2**62), "1"], str(2**62)),
    ],
)  # fmt: skip
def test_cursors_are_ordered_as_the_source_orders_them(
    database: Database, kind: str, values: list[str], high: str
) -> None:
    database.execute(
        "CREATE TYPE mood AS ENUM ('sad', 'happy')", f"CREATE TABLE t (c {kind} NOT NULL)",
        *(f"INSERT INTO t VALUES ('{value}')" for value in values),
    )  # fmt: skip
    stream = Stream("t", table="t", cursor="c")
    _, checkpoint, _ = read_all(database.connector(), stream)
    assert checkpoint is not None
    assert checkpoint.high.text == high
    assert read(database.connector(), stream, checkpoint.tail_from).num_rows == 1


def test_a_snapshot_is_one_moment_while_others_write(database: Database) -> None:
    """Every transaction moves a sum from one row to another: any other sum was never there."""
    database.execute(
        "CREATE TABLE accounts (id int PRIMARY KEY, sum int NOT NULL, filler text)",
        "INSERT INTO accounts SELECT n, 100, repeat('x', 300) FROM generate_series(1, 3000) n",
    )
    stop = threading.Event()

    def move() -> None:
        with database.session() as session:
            while not stop.is_set():
                one, other = random.sample(range(1, 3001), 2)
                session.execute(
                    f"BEGIN; UPDATE accounts SET sum = sum - 1 WHERE id = {one};"
                    f"UPDATE accounts SET sum = sum + 1 WHERE id = {other}; COMMIT".encode()
                )

    writer = threading.Thread(target=move)
    writer.start()
    try:
        connector = database.connector()
        for _ in range(5):
            table, checkpoint, _ = read_all(
                connector, Stream("accounts", table="accounts", cursor="id"), limits=BatchLimits(rows=100)
            )
            assert table.num_rows == 3000
            assert sum(table["sum"].to_pylist()) == 300_000
            assert checkpoint is not None
            assert checkpoint.high.text == "3000"
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("more", [{"table": "events"}, {"table": "seen"}, {"query": "SELECT * FROM seen"}])
def test_a_table_rewritten_after_the_snapshot_is_no_empty_table(
    database: Database, more: dict[str, str]
) -> None:
    database.execute(EVENTS, "CREATE VIEW seen AS SELECT * FROM events")
    database.execute("INSERT INTO events (note) SELECT 'old' FROM generate_series(1, 10)")
    connector = database.connector()
    with database.session() as session, ThreadPoolExecutor() as threads:
        session.execute("BEGIN; TRUNCATE events; INSERT INTO events (note) VALUES ('new')")
        reading = threads.submit(read, connector, Stream("events", **more))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass"
        while session.execute(waiting).fetchall() == [(0,)]:
            assert not reading.done()
        session.execute("COMMIT")
        with pytest.raises(SourceError) as caught:
            reading.result()
    assert (caught.value.code, caught.value.retryable) == ("table_rewritten", True)
    assert "events" in caught.value.message
    assert read(connector, Stream("events", **more))["note"].to_pylist() == ["new"]


OLDER_THAN_THE_MARGIN = "SELECT now() FROM pg_sleep(1.1)"  # the guard reaches back a second in any case


def tail(database: Database, since: CursorValue | None = None, **more: object) -> Checkpoint:
    stream = Stream("events", **{"table": "events", "cursor": "at", **more})
    _, checkpoint, _ = read_all(database.connector(), stream, since)
    assert checkpoint is not None
    return checkpoint


def moment(value: CursorValue) -> datetime:
    return datetime.fromisoformat(value.text)


def test_the_tail_reaches_back_to_the_oldest_open_transaction(database: Database) -> None:
    database.execute(EVENTS)
    with database.session() as late, database.session() as quick:
        late.execute("BEGIN")
        (began,) = late.execute(OLDER_THAN_THE_MARGIN).fetchall()[0]  # it has written nothing yet
        quick.execute("INSERT INTO events (note) VALUES ('quick')")
        first = tail(database)
        assert moment(first.tail_from) == began - timedelta(seconds=1) < moment(first.high)
        late.execute("INSERT INTO events (note) VALUES ('late')")
        late.execute("COMMIT")
    found = read(database.connector(), Stream("events", table="events", cursor="at"), first.tail_from)
    assert set(found["note"].to_pylist()) == {"quick", "late"}


def test_a_transaction_that_ends_between_the_snapshot_and_its_rows_is_in_the_tail(database: Database) -> None:
    database.execute(EVENTS)
    stream = Stream("events", table="events", cursor="at")
    with database.session() as late:
        late.execute("BEGIN; INSERT INTO events (note) VALUES ('late')")
        database.execute("INSERT INTO events (note) VALUES ('quick')")
        with database.connector().open(ReadRequest(stream)) as extract:
            late.execute("COMMIT")
            assert sum(batch.num_rows for batch in extract.batches()) == 1
            checkpoint = extract.checkpoint()
    assert checkpoint is not None
    assert read(database.connector(), stream, checkpoint.tail_from).num_rows == 2


def test_our_own_snapshots_do_not_hold_the_tail_back(database: Database) -> None:
    database.execute(EVENTS)
    other = database.connector(application_name="another sync")
    with other.open(ReadRequest(Stream("events", table="events"))) as extract:
        database.execute("INSERT INTO events (note) VALUES ('x')", OLDER_THAN_THE_MARGIN)
        found = tail(database)
        assert found.tail_from == found.high
        assert extract.schema.names == ["id", "at", "note"]


def test_prepared_transactions_keep_the_tail_where_it_was(database: Database) -> None:
    database.execute(EVENTS, "INSERT INTO events (at) VALUES (now() - interval '1 hour')")
    before = tail(database)
    with database.session() as session:
        session.execute(
            "BEGIN; INSERT INTO events (note) VALUES ('prepared'); PREPARE TRANSACTION 'atlas-test'"
        )
        try:
            database.execute("INSERT INTO events (note) VALUES ('after')")
            found = tail(database, before.tail_from)
            assert found.tail_from == before.tail_from
            assert moment(found.high) > moment(before.high)
            assert any("prepared" in warning for warning in database.connector().test().warnings)
        finally:
            session.execute("COMMIT PREPARED 'atlas-test'")
    notes = read(database.connector(), Stream("events", table="events", cursor="at"), found.tail_from)
    assert "prepared" in notes["note"].to_pylist()


def test_rows_from_the_future_do_not_hide_those_that_follow(database: Database) -> None:
    database.execute(EVENTS, "INSERT INTO events (at) VALUES ('2999-01-01')")
    first = tail(database)
    assert moment(first.high).year == 2999
    database.execute("INSERT INTO events (note) VALUES ('today')")
    found = read(database.connector(), Stream("events", table="events", cursor="at"), first.tail_from)
    assert "today" in found["note"].to_pylist()


def test_a_role_that_sees_nobody_reads_the_last_minutes_again(database: Database) -> None:
    database.execute(EVENTS, "INSERT INTO events (note) VALUES ('x')")
    with database.role() as role, database.session() as other:
        database.execute(f'GRANT SELECT ON events TO "{role.address.username}"')
        other.execute("BEGIN")
        blind = tail(role)
        behind = moment(blind.high) - moment(blind.tail_from)
        assert abs(UNSEEN_LAG - behind) < timedelta(minutes=1)
        database.execute(f'GRANT pg_read_all_stats TO "{role.address.username}"')
        assert role.connector().test().warnings == ()
        assert moment(tail(role).tail_from) > moment(blind.tail_from)


def test_naive_times_have_a_tail_where_their_zone_is_known(database: Database) -> None:
    database.execute(
        "CREATE TABLE events (at timestamp DEFAULT (now() AT TIME ZONE 'Asia/Tokyo'), note text)"
    )
    with database.session() as late:
        late.execute("BEGIN; INSERT INTO events (note) VALUES ('late')")
        (began,) = late.execute("SELECT at FROM events, pg_sleep(1.1)").fetchall()[0]
        database.execute("INSERT INTO events (note) VALUES ('quick')")
        found = tail(database, timezone="Asia/Tokyo")
        assert found.high.kind is CursorKind.TIMESTAMP
        assert moment(found.tail_from) == began - timedelta(seconds=1)
