"""What a close look at MariaDB finds, on a real server in the states that it is to find."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from atlas_etl.connectors.sql._mysql import examined as mysql_examined
from atlas_etl.errors import ExitCode
from atlas_etl.model import Disposition, Severity, Stream, TableName
from tests.servers import ServerAddress
from tests.servers.mysql import private_server
from tests.unit.connectors.findings import look
from tests.unit.connectors.mysql_database import Database


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


GOOD = (
    "CREATE TABLE orders (id INT PRIMARY KEY, at TIMESTAMP(6) NOT NULL, INDEX (at))",
    "INSERT INTO orders SELECT seq, '2026-01-01' + INTERVAL seq SECOND FROM seq_1_to_500",
)
ORDERS = Stream("orders", table="orders", cursor="at")


def test_nothing_is_wrong_with_what_is_right(database: Database) -> None:
    database.execute(*GOOD)
    found = look(database.connector(), ORDERS)
    assert {each.severity for each in found.values()} == {Severity.OK}
    assert {check for check, _ in found} == {
        "open_transactions", "connections", "replica_lag", "clock", "primary_key", "cursor_index",
        "cursor_nulls", "cursor_ties",
    }  # fmt: skip


def test_a_cursor_without_an_index(database: Database) -> None:
    database.execute(
        "CREATE TABLE `My``orders` (id INT PRIMARY KEY, `a b` DATETIME(6) NOT NULL, n INT, INDEX (n, `a b`))",
        "INSERT INTO `My``orders` VALUES (1, NOW(), 1)",
    )
    stream = Stream("orders", table="My`orders", cursor="a b")
    index = look(database.connector(), stream)["cursor_index", "orders.a b"]
    assert index.severity is Severity.NOTE  # one row needs none
    assert index.fix is not None
    database.execute(index.fix)
    assert look(database.connector(), stream).severity("cursor_index", "orders.a b") is Severity.OK


def test_nulls_ties_and_zones(database: Database) -> None:
    database.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, at DATETIME(6), INDEX (at))",
        "INSERT INTO orders SELECT seq, IF(seq > 3, '2026-01-01', NULL) FROM seq_1_to_303",
    )
    found = look(database.connector(), ORDERS)
    nulls, ties = found["cursor_nulls", "orders.at"], found["cursor_ties", "orders.at"]
    assert (nulls.severity, nulls.exit_code) == (Severity.PROBLEM, ExitCode.DATA)
    assert "3 rows" in nulls.message
    assert ties.severity is Severity.WARNING
    assert ties.fix == "cursor: id"
    zone = found["time_zone", "orders"]
    assert zone.severity is Severity.NOTE
    assert "+00:00" in zone.message
    database.execute("DELETE FROM orders WHERE at IS NULL")
    nulls = look(database.connector(), ORDERS)["cursor_nulls", "orders.at"]
    assert nulls.fix is not None
    database.execute(nulls.fix)
    assert look(database.connector(), ORDERS).severity("cursor_nulls", "orders.at") is Severity.OK


def test_keys(database: Database) -> None:
    database.execute(
        "CREATE TABLE orders (id VARCHAR(40) NOT NULL, at TIMESTAMP NOT NULL, UNIQUE (id(3)), INDEX (at))",
        "INSERT INTO orders VALUES ('a', '2026-01-01'), ('b', '2026-01-01')",
    )
    keyed = Stream("orders", table="orders", cursor="at", primary_key=("id",))
    found = look(database.connector(), keyed)["primary_key", "orders"]
    assert found.severity is Severity.NOTE  # a unique beginning is not the key's own index
    assert found.fix is not None
    database.execute(found.fix)
    assert look(database.connector(), keyed).severity("primary_key", "orders") is Severity.OK
    database.execute("CREATE TABLE twice (id INT, at TIMESTAMP NOT NULL)")
    database.execute("INSERT INTO twice VALUES (1, NOW()), (1, NOW()), (NULL, NOW())")
    twice = look(database.connector(), Stream("twice", table="twice", cursor="at", primary_key=("id",)))
    assert twice.problems() == [("key_nulls", "twice.id"), ("primary_key", "twice")]
    fix = twice["primary_key", "twice"].fix
    assert fix is not None
    assert database.rows(fix) == [(1, 2)]


def test_an_account_that_may_do_little(database: Database) -> None:
    database.execute(*GOOD)
    with database.account("SELECT ON {}.*") as account:
        found = look(account.connector(), ORDERS)
        unseen, lag = found["open_transactions", "source"], found["replica_lag", "source"]
        assert unseen.severity is Severity.WARNING
        assert unseen.fix is not None
        assert f"{unseen.message}: {unseen.fix}" in account.connector().test().warnings
        assert lag.severity is Severity.NOTE
        assert lag.fix is not None
        assert "could not be looked at" in lag.message
        database.execute(unseen.fix, lag.fix)
        found = look(account.connector(), ORDERS)
        assert found.severity("open_transactions", "source") is Severity.OK
        assert found.severity("replica_lag", "source") is Severity.OK


def test_connections_that_are_all_taken(database: Database) -> None:
    database.execute(*GOOD)
    many = Stream("orders", table="orders", cursor="at", partitions=4)
    with database.account("SELECT ON {}.*") as account, ExitStack() as held:
        who = f"'{account.address.username}'@'127.0.0.1'"
        database.execute(f"ALTER USER {who} WITH MAX_USER_CONNECTIONS 6")
        assert look(account.connector(), many).severity("connections", "source") is Severity.OK
        for _ in range(2):
            held.enter_context(account.client())
        left = look(account.connector(), many)["connections", "source"]
        assert left.severity is Severity.WARNING
        assert "4 are left" in left.message
        assert left.fix is not None
        more = (Stream("a", table="orders"), Stream("b", table="orders"))
        assert look(account.connector(), many, *more, jobs=3).problems() == [("connections", "source")]
        database.execute(left.fix.partition("    --")[0])
        assert look(account.connector(), many).severity("connections", "source") is Severity.OK


def test_a_look_that_takes_too_long_is_no_failure(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_examined, "SECONDS", 1)
    database.execute(*GOOD)
    query = "SELECT id, at FROM orders WHERE SLEEP(1) = 0"
    slow = Stream("slow", query=query, cursor="at", primary_key=("id",))
    found = look(database.connector(), slow)
    for check, subject in (("primary_key", "slow"), ("cursor_ties", "slow.at")):
        assert found.severity(check, subject) is Severity.NOTE
        assert "could not be looked at" in found[check, subject].message


def test_rights_at_the_destination(database: Database) -> None:
    stream, subject = Stream("orders", table="orders"), "destination shop.orders"
    assert look(database.destination(), stream).severity("write_permission", subject) is Severity.OK
    with database.account("SELECT ON {}.*", "SELECT, INSERT ON `sho_`.*") as account:
        refused = look(account.destination(), stream)["write_permission", subject]
        assert (refused.severity, refused.exit_code) == (Severity.PROBLEM, ExitCode.DESTINATION)
        assert refused.fix is not None
        assert "SELECT" not in refused.fix
        assert "CREATE" in refused.fix
        database.execute(refused.fix)
        assert look(account.destination(), stream).severity("write_permission", subject) is Severity.OK
        who = f"'{account.address.username}'@'127.0.0.1'"
        database.execute("CREATE ROLE IF NOT EXISTS atlas_loaders")
        try:
            database.execute(
                f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {who}",
                f"GRANT SELECT ON `{database.address.database}`.* TO {who}",
                f"GRANT atlas_loaders TO {who}",
                f"SET DEFAULT ROLE atlas_loaders FOR {who}",
            )
            found = look(account.destination(), stream)
            assert found.severity("write_permission", subject) is Severity.NOTE  # its role may have them
        finally:
            database.execute("DROP ROLE atlas_loaders")


@pytest.fixture
def replica() -> Iterator[Database]:
    """A server that follows another one, which is not there."""
    with private_server("--server-id=7") as (_, address):
        found = Database(address)
        found.execute(
            "CREATE DATABASE shop",
            "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = 1, MASTER_USER = 'x'",
        )
        yield found


def test_a_replica_that_does_not_replicate(replica: Database) -> None:
    replica.execute("CREATE TABLE shop.orders (id INT PRIMARY KEY)", "SET GLOBAL read_only = ON")
    found = look(replica.connector(database="shop"), Stream("orders", table="orders"))
    lag = found["replica_lag", "source"]
    assert lag.severity is Severity.WARNING
    assert "does not replicate" in lag.message
    assert "replica" in found["open_transactions", "source"].message
    there = look(replica.destination(database="shop"))
    assert there.problems() == [("write_permission", "destination")]


def test_the_key_of_merges_at_the_destination(database: Database) -> None:
    schema = database.address.database
    table, subject = f"`{schema}`.`my``orders`", f"destination {schema}.my`orders"
    stream = Stream(
        "orders",
        primary_key=("id", "a b"),
        disposition=Disposition.MERGE,
        into=TableName("my`orders", schema),
    )
    assert ("merge_key", subject) not in look(database.destination(), stream)
    database.execute(
        f"CREATE TABLE {table} (id INT, `a b` VARCHAR(50), UNIQUE (id, `a b`(1), n), n INT)",
        f"INSERT INTO {table} VALUES (1, 'a', 1), (1, 'b', 2), (1, 'b', 3)",
    )
    found = look(database.destination(), stream)
    assert found.problems() == [("merge_key", subject)]
    assert "2 of the 3 rows" in found["merge_key", subject].message
    database.execute(f"DELETE FROM {table} WHERE n = 3")
    found = look(database.destination(), stream)
    assert found.severity("merge_key", subject) is Severity.NOTE
    database.execute(str(found["merge_key", subject].fix))
    assert look(database.destination(), stream).severity("merge_key", subject) is Severity.OK
