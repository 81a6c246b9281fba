"""One snapshot of MySQL and MariaDB: what it does not see, what the catalog tells, and who may see it."""

from __future__ import annotations

import pytest

from atlas_etl.connectors.sql._mysql.errors import quoted
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import CursorKind, CursorValue, ReadRequest, Stream, Window
from tests.servers import ServerAddress
from tests.unit.connectors.mysql_database import Database, read, read_all


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


def test_every_statement_of_a_snapshot_sees_the_same_rows(database: Database) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    stream = Stream("t", table="t", cursor="id")
    with database.connector().open(ReadRequest(stream)) as extract:
        database.execute(
            "INSERT INTO t VALUES (3)", "UPDATE t SET id = 9 WHERE id = 1", "DELETE FROM t WHERE id = 2"
        )
        rows = [row for batch in extract.batches() for row in batch.column(0).to_pylist()]
        checkpoint = extract.checkpoint()
    assert rows == [1, 2]
    assert checkpoint is not None
    assert checkpoint.high.text == "2"


def test_a_table_that_is_remade_meanwhile_is_an_error_and_not_empty(database: Database) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    with database.connector().open(ReadRequest(Stream("t", table="t"))) as extract:
        database.execute("TRUNCATE TABLE t")
        with pytest.raises(SourceError) as caught:
            list(extract.batches())
    assert (caught.value.code, caught.value.retryable) == ("conflict", True)


def test_a_read_cannot_write(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (id INT)",
        "CREATE FUNCTION sneak() RETURNS INT BEGIN INSERT INTO t VALUES (1); RETURN 1; END",
    )
    with pytest.raises(SourceError):
        read(database.connector(), Stream("q", query="SELECT sneak() AS n"))
    assert database.rows("SELECT COUNT(*) FROM t") == [(0,)]


def test_tables_without_snapshots_are_named(database: Database) -> None:
    database.execute("CREATE TABLE old (n INT) ENGINE=MyISAM", "CREATE VIEW seen AS SELECT * FROM old")
    status = database.connector().test()
    assert status.message == "2 tables and views can be read"
    assert str(status.server_version).startswith("MariaDB 1")
    (warning,) = status.warnings
    assert "old (MyISAM)" in warning


def test_a_table_is_found_by_its_names(database: Database) -> None:
    name = database.address.database
    database.execute(
        "CREATE TABLE people (id INT PRIMARY KEY)",
        "CREATE TABLE `a.b` (id INT)",
        "CREATE VIEW v AS SELECT 1 AS one",
    )
    connector = database.connector()
    for wanted in ("people", f"{name}.people", "a.b", f"{name}.a.b", "v"):
        assert connector.describe(Stream("s", table=wanted)).columns
    outside = database.connector(database=None)
    assert outside.describe(Stream("s", table=f"{name}.a.b")).columns
    assert f"{name}.people" in {found.name for found in outside.discover()}
    assert {found.name for found in connector.discover()} == {"people", "a.b", "v"}
    with pytest.raises(SourceError) as caught:
        outside.describe(Stream("s", table="people"))
    assert caught.value.code == "table_not_found"
    with pytest.raises(SourceError) as caught:
        connector.describe(Stream("s", table="People"))
    assert "'people'" in str(caught.value.hint)


def test_keys_cursors_and_hidden_columns_come_from_the_catalog(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (b INT, a INT, hidden INT INVISIBLE DEFAULT 5, twice INT AS (a * 2) VIRTUAL, "
        "changed TIMESTAMP NOT NULL DEFAULT NOW(), made DATETIME, day DATE, "
        "number BIGINT NOT NULL AUTO_INCREMENT, `order` INT, PRIMARY KEY (a, b), "
        "KEY (changed), KEY (made, day), KEY (day), KEY (number), KEY (`order`))",
        "INSERT INTO t (a, b, changed, `order`) VALUES (1, 2, NOW(), 3)",
    )
    (found,) = database.connector().discover()
    assert found.primary_key == ("a", "b")
    assert found.cursor_candidates == ("changed", "number", "made", "day")
    assert found.indexed == {"a", "changed", "made", "day", "number", "order"}
    assert found.estimated_rows is not None
    row = read(database.connector(), Stream("t", table="t")).to_pylist()[0]
    assert (row["hidden"], row["twice"]) == (5, 2)


def test_a_query_that_gives_a_name_twice(database: Database) -> None:
    with pytest.raises((ConfigError, SourceError)) as caught:
        read(database.connector(), Stream("q", query="SELECT 1 AS n, 2 AS n"))
    assert caught.value.code == "duplicate_column"


def test_what_is_not_granted_names_the_grant(database: Database) -> None:
    database.execute("CREATE TABLE secret (id INT, open INT)", "INSERT INTO secret VALUES (1, 2)")
    with database.account("SELECT (open) ON {}.secret", "INSERT (id) ON {}.secret") as account:
        assert read(account.connector(), Stream("s", table="secret")).to_pylist() == [{"open": 2}]
        with pytest.raises(SourceError) as caught:
            read(account.connector(), Stream("s", query="SELECT id FROM secret"))
        assert caught.value.code == "permission_denied"
    with database.account("CREATE ON {}.*") as account:
        with pytest.raises(SourceError) as caught:
            read(account.connector(), Stream("s", query="SELECT id FROM secret"))
        assert caught.value.code == "permission_denied"
        grant = str(caught.value.hint)
        assert grant.startswith("GRANT SELECT ON ")
        database.execute(grant)
        assert read(account.connector(), Stream("s", query="SELECT id FROM secret")).num_rows == 1
    with database.account() as account, pytest.raises(SourceError) as caught:
        account.connector().test()
    assert caught.value.code == "permission_denied"
    assert f"GRANT SELECT ON {quoted(database.address.database)}.*" in str(caught.value.hint)


def test_the_first_value_of_a_cursor_is_exact(database: Database) -> None:
    database.execute("CREATE TABLE t (id INT, at TIMESTAMP(6) NOT NULL)")
    database.execute("INSERT INTO t VALUES (1, '2024-01-01 00:00:00.000001')")
    _, checkpoint, _ = read_all(database.connector(), Stream("t", table="t", cursor="at"))
    assert checkpoint is not None
    assert checkpoint.tail_from == CursorValue(CursorKind.TIMESTAMPTZ, "2024-01-01T00:00:00.000001Z")


@pytest.mark.parametrize(("cursor", "in_order"), [("id", True), ("changed", False)])
def test_a_long_table_is_read_in_its_keys_order_and_never_sorted(
    database: Database, cursor: str, in_order: bool
) -> None:
    database.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, changed INT NOT NULL, note TEXT)",
        "INSERT INTO t SELECT seq, 5000 - seq, 'x' FROM seq_1_to_5000",
        "ANALYZE TABLE t",
    )
    request = ReadRequest(Stream("t", table="t", cursor=cursor), window=Window(rows=10))
    with database.connector().open(request) as extract:
        ids = [row for batch in extract.batches() for row in batch.column(0).to_pylist()]
        reached = extract.reached()
    assert sorted(ids) == list(range(1, 5001))
    assert (reached is not None) is in_order
