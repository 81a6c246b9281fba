"""What a close look at PostgreSQL finds, on a real server in the states that it is to find."""

from __future__ import annotations

import dataclasses
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from msgspec.structs import replace

from atlas_etl.errors import ExitCode
from atlas_etl.model import Disposition, NullCursor, Severity, Stream, TableName
from tests.servers import ServerAddress
from tests.servers import postgres as postgres_recipe
from tests.servers.process import Server, private_folder, run
from tests.unit.connectors.findings import look
from tests.unit.connectors.postgres_database import Database


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


GOOD = """
CREATE TABLE orders (id int PRIMARY KEY, at timestamptz NOT NULL);
CREATE INDEX ON orders (at);
INSERT INTO orders SELECT g, timestamptz '2026-01-01' + g * interval '1 s' FROM generate_series(1, 500) g;
ANALYZE orders"""
ORDERS = Stream("orders", table="orders", cursor="at")


def test_nothing_is_wrong_with_what_is_right(database: Database) -> None:
    database.execute(GOOD)
    found = look(database.connector(), ORDERS)
    assert {each.severity for each in found.values()} == {Severity.OK}
    checks = {check for check, _ in found}
    assert checks == {
        "open_transactions", "connections", "replica_lag", "clock", "primary_key", "cursor_index",
        "cursor_nulls", "cursor_ties",
    }  # fmt: skip


def test_a_cursor_without_an_index(database: Database) -> None:
    database.execute(
        'CREATE TABLE "My orders%" (id int PRIMARY KEY, "At%" timestamptz NOT NULL, other int)',
        'CREATE INDEX ON "My orders%" (other, "At%")',
        'CREATE INDEX ON "My orders%" ("At%") WHERE other > 0',
        'CREATE INDEX ON "My orders%" USING hash ("At%")',
        'CREATE INDEX ON "My orders%" ((other + 1))',
    )
    stream = Stream("orders", table="My orders%", cursor="At%")
    index = look(database.connector(), stream)["cursor_index", "orders.At%"]
    assert index.severity is Severity.WARNING  # nobody has counted the rows
    assert index.fix == 'CREATE INDEX CONCURRENTLY ON "public"."My orders%" ("At%")'
    database.execute(index.fix)
    assert look(database.connector(), stream).severity("cursor_index", "orders.At%") is Severity.OK


def test_a_small_table_needs_no_index(database: Database) -> None:
    database.execute(GOOD, "DROP INDEX orders_at_idx", "ANALYZE orders")
    assert look(database.connector(), ORDERS).severity("cursor_index", "orders.at") is Severity.NOTE


def test_cursors_that_are_null(database: Database) -> None:
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz)",
        "CREATE INDEX ON orders (at)",
        "INSERT INTO orders SELECT g, CASE WHEN g > 7 THEN now() END FROM generate_series(1, 20) g",
    )
    nulls = look(database.connector(), ORDERS)["cursor_nulls", "orders.at"]
    assert (nulls.severity, nulls.exit_code) == (Severity.PROBLEM, ExitCode.DATA)
    assert "7 rows" in nulls.message
    assert nulls.fix is not None
    assert "null_cursor: include" in nulls.fix
    included = Stream("orders", table="orders", cursor="at", null_cursor=NullCursor.INCLUDE)
    assert look(database.connector(), included).severity("cursor_nulls", "orders.at") is Severity.NOTE
    database.execute("DELETE FROM orders WHERE at IS NULL")
    nulls = look(database.connector(), ORDERS)["cursor_nulls", "orders.at"]
    assert nulls.severity is Severity.NOTE
    assert nulls.fix is not None
    database.execute(nulls.fix)
    assert look(database.connector(), ORDERS).severity("cursor_nulls", "orders.at") is Severity.OK


def test_many_nulls_are_not_counted_to_the_end(database: Database) -> None:
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz)",
        "INSERT INTO orders (id) SELECT generate_series(1, 2000)",
        "ANALYZE orders",
    )
    nulls = look(database.connector(), ORDERS)["cursor_nulls", "orders.at"]
    assert "more than 1,000 rows" in nulls.message


def test_ties_at_the_end_of_the_table(database: Database) -> None:
    """A batch job that gives all its rows one time: each sync reads them again."""
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz NOT NULL)",
        "CREATE INDEX ON orders (at)",
        "INSERT INTO orders SELECT g, timestamptz '2025-01-01' + g * interval '1 s' "
        "FROM generate_series(1, 100) g",
        "INSERT INTO orders SELECT g, timestamptz '2026-01-01' FROM generate_series(101, 400) g",
    )
    ties = look(database.connector(), ORDERS)["cursor_ties", "orders.at"]
    assert ties.severity is Severity.WARNING
    assert "75 % of the newest 400 rows" in ties.message
    assert "300 of them" in ties.message
    assert ties.fix == "cursor: id"
    by_id = Stream("orders", table="orders", cursor="id")
    assert look(database.connector(), by_id).severity("cursor_ties", "orders.id") is Severity.OK


def test_times_without_a_zone(database: Database) -> None:
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamp NOT NULL, seen timestamp, sent timestamptz)",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Europe/Berlin''', "
        "current_database()); END $$",
    )
    zone = look(database.connector(), ORDERS)["time_zone", "orders"]
    assert zone.severity is Severity.WARNING  # it is the cursor's
    assert "at, seen:" in zone.message
    assert "Europe/Berlin" in zone.message
    assert zone.fix is not None
    assert zone.fix.startswith("timezone: Europe/Berlin")
    told = Stream("orders", table="orders", cursor="at", timezone="Europe/Berlin")
    assert look(database.connector(), told).severity("time_zone", "orders") is Severity.OK
    by_id = Stream("orders", table="orders", cursor="id")
    assert look(database.connector(), by_id).severity("time_zone", "orders") is Severity.NOTE
    without = Stream("orders", table="orders", cursor="id", exclude=("at", "seen"))
    assert ("time_zone", "orders") not in look(database.connector(), without)


def test_keys(database: Database) -> None:
    database.execute(
        "CREATE TABLE orders (id int, line int, at timestamptz NOT NULL)",
        "INSERT INTO orders SELECT g / 2, g % 2, now() FROM generate_series(1, 21) g",
        "ANALYZE orders",
    )

    def key(**more: object) -> tuple[Severity, str, str | None]:
        stream = Stream("orders", table="orders", cursor="at", **more)  # type: ignore[arg-type]
        found = look(database.connector(), stream)["primary_key", "orders"]
        return found.severity, found.message, found.fix

    severity, message, fix = key()
    assert severity is Severity.WARNING
    assert "append" in message
    assert key(disposition=Disposition.MERGE)[0] is Severity.PROBLEM
    assert key(disposition=Disposition.REPLACE)[0] is Severity.OK
    severity, message, fix = key(primary_key=("id",))
    assert severity is Severity.PROBLEM
    assert "20 of 21 rows share id" in message
    assert fix is not None
    assert len(database.rows(fix)) == 10
    assert key(primary_key=("lines",))[2] == "did you mean 'line'?"
    severity, message, fix = key(primary_key=("id", "line"))
    assert severity is Severity.NOTE
    assert fix is not None
    database.execute(fix)
    assert key(primary_key=("id", "line"))[0] is Severity.OK
    assert key()[2] == "primary_key: [id, line]"
    database.execute("INSERT INTO orders VALUES (NULL, 1, now())")
    stream = Stream("orders", table="orders", cursor="at", primary_key=("id", "line"))
    found = look(database.connector(), stream)
    assert found.problems() == [("key_nulls", "orders.id")]


def test_a_role_that_may_do_little(database: Database) -> None:
    database.execute(GOOD)
    with database.role() as role, database.session():
        found = look(role.connector(), ORDERS)
        assert found.problems() == [("stream", "orders")]
        denied = found["stream", "orders"]
        assert denied.exit_code is ExitCode.SOURCE
        assert denied.fix is not None
        assert denied.fix.startswith('GRANT SELECT ON "public"."orders" TO')
        database.execute(denied.fix)
        found = look(role.connector(), ORDERS)
        assert not found.problems()
        unseen = found["open_transactions", "source"]
        assert unseen.severity is Severity.WARNING
        assert unseen.fix is not None
        assert f"{unseen.message}: {unseen.fix}" in role.connector().test().warnings
        database.execute(unseen.fix)
        assert look(role.connector(), ORDERS).severity("open_transactions", "source") is Severity.OK


def test_connections_that_are_all_taken(database: Database) -> None:
    """By role, by database and by server: the tightest counts, without our own session."""
    database.execute(GOOD)
    many = Stream("orders", table="orders", cursor="at", partitions=4)
    with database.role() as role, ExitStack() as held:
        database.execute(
            f'ALTER ROLE "{role.address.username}" CONNECTION LIMIT 6',
            f'GRANT SELECT ON orders TO "{role.address.username}"',
        )
        assert look(role.connector(), many).severity("connections", "source") is Severity.OK
        for _ in range(2):
            held.enter_context(role.session())
        left = look(role.connector(), many)["connections", "source"]
        assert left.severity is Severity.WARNING
        assert "allows 6 sessions" in left.message
        assert "4 are left" in left.message
        assert left.fix is not None
        few = look(role.connector(), ORDERS)
        assert few.severity("connections", "source") is Severity.OK
        others = (Stream("a", table="orders"), Stream("b", table="orders"))
        twice = look(role.connector(), many, *others, jobs=3)
        assert twice.severity("connections", "source") is Severity.PROBLEM
        database.execute(left.fix.partition("    --")[0])
        assert look(role.connector(), many).severity("connections", "source") is Severity.OK


def test_a_view_and_a_query_have_no_index(database: Database) -> None:
    database.execute(GOOD, "CREATE VIEW seen AS SELECT * FROM orders")
    view = Stream("seen", table="seen", cursor="at", primary_key=("id",))
    query = Stream("asked", query="SELECT * FROM orders WHERE id % 2 = 0", cursor="at", primary_key=("id",))
    found = look(database.connector(), view, query)
    for subject in ("seen", "asked"):
        assert found.severity("cursor_index", f"{subject}.at") is Severity.NOTE
        nulls = found["cursor_nulls", f"{subject}.at"]
        assert (nulls.severity, nulls.fix) == (Severity.OK, None)
    assert "250 rows" in found["cursor_ties", "asked.at"].message


def test_a_look_that_takes_too_long_is_no_failure(database: Database) -> None:
    slow = Stream(
        "slow",
        query="SELECT g AS id, now() AS at, pg_sleep(1)::text AS nap FROM generate_series(1, 30) g",
        cursor="at",
        primary_key=("id",),
    )
    found = look(database.connector(statement_timeout=0.2), slow)
    for check, subject in (("primary_key", "slow"), ("cursor_nulls", "slow.at"), ("cursor_ties", "slow.at")):
        assert found.severity(check, subject) is Severity.NOTE
        assert "could not be looked at" in found[check, subject].message


def test_a_large_table_is_asked_for_samples_only(database: Database) -> None:
    """Statements are few, and none of them reads the whole of a table without an index."""
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, at timestamptz)",
        "INSERT INTO orders SELECT g, now() FROM generate_series(1, 150000) g",
        "ANALYZE orders",
    )
    read = (
        "SELECT coalesce(seq_tup_read, 0) FROM pg_stat_get_tuples_returned('orders'::regclass) seq_tup_read"
    )
    ((before,),) = database.rows(read)
    connector = database.connector()
    found = look(connector, ORDERS)
    connector.close()
    assert "among the first 10,000" in found["cursor_nulls", "orders.at"].message
    assert "first 10,000 rows" in found["cursor_ties", "orders.at"].message
    assert found.severity("cursor_index", "orders.at") is Severity.WARNING
    database.execute("SELECT pg_stat_force_next_flush()")
    ((after,),) = database.rows(read)
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after - before < 50_000


def test_rights_at_the_destination(database: Database) -> None:
    stream = Stream("orders", table="orders")
    subject = "destination shop.orders"
    with database.role() as role:
        found = look(role.destination(), stream)
        refused = found["write_permission", subject]
        assert (refused.severity, refused.exit_code) == (Severity.PROBLEM, ExitCode.DESTINATION)
        assert refused.fix is not None
        assert refused.fix.startswith("GRANT CREATE ON DATABASE")
        database.execute(refused.fix)
        assert look(role.destination(), stream).severity("write_permission", subject) is Severity.OK
        database.execute("CREATE SCHEMA shop")
        refused = look(role.destination(), stream)["write_permission", subject]
        assert refused.fix == f'GRANT USAGE, CREATE ON SCHEMA "shop" TO "{role.address.username}"'
        database.execute(refused.fix, "CREATE TABLE shop.orders (id int)")
        refused = look(role.destination(), stream)["write_permission", subject]
        assert refused.severity is Severity.PROBLEM
        assert refused.fix is not None
        database.execute(refused.fix)
        found = look(role.destination(), stream)
        assert found.severity("write_permission", subject) is Severity.NOTE  # it belongs to another role
        database.execute(str(found["write_permission", subject].fix))
        assert look(role.destination(), stream).severity("write_permission", subject) is Severity.OK


MERGED = Stream("My orders%", primary_key=("id", "Li%ne"), disposition=Disposition.MERGE)


def test_the_key_of_merges_at_the_destination(database: Database) -> None:
    check = ("merge_key", "destination shop.My orders%")
    assert check not in look(database.destination(), MERGED)  # the first load makes the table, with its key
    database.execute(
        "CREATE SCHEMA shop",
        'CREATE TABLE shop."My orders%" (id int, "Li%ne" int, x int)',
        'CREATE INDEX ON shop."My orders%" (id, "Li%ne")',
        'CREATE UNIQUE INDEX ON shop."My orders%" (id, "Li%ne") WHERE x > 0',
        'INSERT INTO shop."My orders%" VALUES (1, 1), (1, 2), (1, 2), (2, 1)',
    )
    found = look(database.destination(), MERGED)
    assert found.problems() == [check]
    assert found[check].exit_code is ExitCode.DATA
    assert "2 of the 4 rows that are there share id, Li%ne with another one" in found[check].message
    assert str(found[check].fix).startswith("atlas connector sync shop --stream 'My orders%' --full-refresh")
    database.execute('DELETE FROM shop."My orders%" WHERE "Li%ne" = 2')
    found = look(database.destination(), MERGED)
    assert found.severity(*check) is Severity.NOTE
    database.execute(str(found[check].fix))
    assert look(database.destination(), MERGED).severity(*check) is Severity.OK
    appended = replace(MERGED, disposition=Disposition.APPEND)
    assert check not in look(database.destination(), appended)


def test_a_look_at_the_destination_makes_nothing(database: Database) -> None:
    look(database.destination(), Stream("orders", table="orders", into=TableName("orders", "elsewhere")))
    query = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('shop', 'elsewhere') OR nspname ~ '^_atlas'"
    assert database.rows(query) == [(0,)]


@pytest.fixture
def replica() -> Iterator[tuple[Database, Database]]:
    """A server, and a replica of it."""
    programs = postgres_recipe.find_programs()
    copying = programs / "pg_basebackup"
    if not copying.exists():
        pytest.skip(f"there is no {copying}")
    with postgres_recipe.private_server() as (_, address), private_folder("atlas-pg-replica-") as folder:
        data = folder / "data"
        source = address.url("postgresql")
        run([str(copying), "-D", str(data), "-R", "-X", "stream", "-c", "fast", "-d", source], folder=folder)
        settings = (
            "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off",
            "max_prepared_transactions=10",
        )  # fmt: skip
        flags = [part for setting in settings for part in ("-c", setting)]
        with Server(
            lambda port: [str(programs / "postgres"), "-D", str(data), "-p", str(port), *flags],
            folder=folder,
            handshake=lambda port: postgres_recipe.connect(dataclasses.replace(address, port=port)).close(),
            not_ready=psycopg.OperationalError,
            stop_signal=signal.SIGINT,
        ) as server:
            yield Database(address), Database(dataclasses.replace(address, port=server.port))


def until(database: Database, condition: str) -> None:
    """Wait for what a query tells."""
    deadline = time.monotonic() + 60
    while database.rows(f"SELECT {condition}") != [(True,)]:
        assert time.monotonic() < deadline, condition


def test_a_replica_that_waits(replica: tuple[Database, Database]) -> None:
    primary, copy = replica
    behind = "pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()"
    primary.execute("CREATE TABLE orders (id int PRIMARY KEY, at timestamptz NOT NULL)")
    until(copy, "to_regclass('orders') IS NOT NULL")
    copy.execute("SELECT pg_wal_replay_pause()")
    until(copy, "pg_get_wal_replay_pause_state() = 'paused'")
    primary.execute("INSERT INTO orders VALUES (1, now())")
    until(copy, behind)
    with closing(copy.connector()) as connector:
        found = look(connector, ORDERS)
    lag = found["replica_lag", "source"]
    assert lag.severity is Severity.NOTE
    assert "s behind its primary" in lag.message
    assert found.severity("open_transactions", "source") is Severity.WARNING
    copy.execute("SELECT pg_wal_replay_resume()")
    until(copy, f"NOT ({behind})")
    with closing(copy.connector()) as connector:
        assert look(connector, ORDERS).severity("replica_lag", "source") is Severity.OK
    with closing(copy.destination()) as destination:
        assert look(destination).problems() == [("write_permission", "destination")]
