"""Loading into MySQL and MariaDB: whole or not at all, by exact keys, with no more rights than it needs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pyarrow as pa
import pytest
from msgspec.structs import replace

from atlas_etl.connectors.sql._ledger import Ledger
from atlas_etl.connectors.sql._mysql.load import LoadConnection
from atlas_etl.connectors.sql._mysql.writer import refuse_old
from atlas_etl.errors import DataError, DestinationError, UsageError
from atlas_etl.model import (
    Checkpoint,
    CreateTable,
    CursorKind,
    CursorValue,
    Disposition,
    DropTable,
    LoadPlan,
    Stream,
    TableName,
)
from tests.servers import ServerAddress
from tests.unit.connectors.mysql_database import Database, load

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
HIGH = CursorValue(CursorKind.INTEGER, "2")
CHECKPOINT = Checkpoint("id", HIGH, HIGH)


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


@pytest.fixture
def new_database(database: Database) -> Iterator[str]:
    """The name of a database that is not there, dropped afterwards."""
    name = f"{database.address.database}_new"
    yield name
    database.execute(f"DROP DATABASE IF EXISTS `{name}`")


def rows(*rows: tuple[object, ...], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def into(database: Database, name: str = "orders") -> TableName:
    return TableName(name, database.address.database)


def merge(database: Database, batch: pa.RecordBatch, *key: str) -> int:
    return load(
        database.destination(), [batch], Disposition.MERGE, into=into(database), primary_key=key
    ).rows  # fmt: skip


def test_keys_are_compared_exactly(database: Database) -> None:
    spellings = ["a", "A", "á", "a ", "a\0", "", " ", "ß", "ss", "x" * 1000 + "1", "x" * 1000 + "2"]
    schema = pa.schema([("name", pa.string()), ("n", pa.int32())])
    for n in (1, 2):
        merge(database, rows(*((name, n) for name in spellings), schema=schema), "name")
    found = database.destination().query("SELECT name, n FROM orders")
    assert sorted(found["name"].to_pylist()) == sorted(spellings)
    assert set(found["n"].to_pylist()) == {2}


def test_rows_whose_keys_a_table_takes_for_one_are_refused(database: Database) -> None:
    database.execute(
        "CREATE TABLE orders (n INT, "
        "name VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY)"
    )
    schema = pa.schema([("name", pa.string()), ("n", pa.int32())])
    known = {"into": into(database), "primary_key": ("name",)}

    def load_unique(*found: tuple[str, int]) -> int:
        batch = rows(*found, schema=schema)
        return load(database.destination(), [batch], Disposition.MERGE, unique=True, **known).rows

    assert load_unique(("a", 1), ("b", 1)) == 2
    for alike in ("B", "b "):
        with pytest.raises(DestinationError) as caught:
            load_unique(("b", 2), (alike, 2))
        assert caught.value.code == "keys_alike"
    assert database.rows("SELECT name, n FROM orders ORDER BY name") == [("a", 1), ("b", 1)]
    assert (
        load(
            database.destination(), [rows(("b", 2), ("B", 3), schema=schema)], Disposition.MERGE, **known
        ).rows
        == 1
    )


def test_short_keys_are_primary_and_long_ones_are_indexed(database: Database) -> None:
    schema = pa.schema(
        [("id", pa.uuid()), ("day", pa.date32()), ("name", pa.string()), ("blob", pa.binary())]
    )
    for number, key in enumerate([("id", "day"), ("name", "day", "blob"), ("day", "name")]):
        load(
            database.destination(), [pa.RecordBatch.from_pylist([], schema=schema)], Disposition.MERGE,
            into=into(database, f"t{number}"), primary_key=key,
        )  # fmt: skip
    found = database.rows(
        "SELECT table_name, index_name, column_name, sub_part FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND table_name LIKE 't_' ORDER BY table_name, seq_in_index"
    )
    assert found == [
        ("t0", "PRIMARY", "id", None), ("t0", "PRIMARY", "day", None),
        ("t1", "_atlas_key", "name", 191), ("t1", "_atlas_key", "day", None),
        ("t1", "_atlas_key", "blob", 191),
        ("t2", "_atlas_key", "day", None), ("t2", "_atlas_key", "name", 191),
    ]  # fmt: skip


def test_a_key_that_becomes_text_is_indexed(database: Database) -> None:
    assert merge(database, rows((1, "a"), (2, "b")), "id") == 2
    wider = pa.schema([("id", pa.string()), ("name", pa.string())])
    merge(database, rows(("2", "B"), ("x", "c"), schema=wider), "id")
    found = database.destination().query("SELECT id, name FROM orders ORDER BY id").to_pylist()
    assert found == [{"id": "1", "name": "a"}, {"id": "2", "name": "B"}, {"id": "x", "name": "c"}]
    assert database.rows(
        "SELECT index_name FROM information_schema.statistics "
        "WHERE table_schema = DATABASE() AND table_name = 'orders'"
    ) == [("_atlas_key",)]


def test_rows_that_others_point_at_stay_where_they_are(database: Database) -> None:
    merge(database, rows((1, "a"), (2, "b")), "id")
    database.execute(
        "CREATE TABLE parts (o BIGINT, FOREIGN KEY (o) REFERENCES orders (id) ON DELETE CASCADE)",
        "INSERT INTO parts VALUES (1), (2)",
    )
    merge(database, rows((1, "changed"), (3, "c")), "id")
    assert database.rows("SELECT COUNT(*) FROM parts") == [(2,)]
    with pytest.raises(DestinationError) as caught:
        load(database.destination(), [rows((1, "a"))], Disposition.REPLACE, into=into(database))
    assert caught.value.code == "referenced"
    assert database.rows("SELECT COUNT(*) FROM parts") == [(2,)]


def test_an_upsert_never_hits_another_row_by_another_key(database: Database) -> None:
    database.execute("CREATE TABLE orders (id BIGINT PRIMARY KEY, name VARCHAR(9) UNIQUE)")
    merge(database, rows((1, "a"), (2, "b")), "id")
    with pytest.raises(DataError) as caught:
        merge(database, rows((3, "a")), "id")
    assert caught.value.code == "duplicate_key"
    assert database.rows("SELECT id, name FROM orders ORDER BY id") == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("made", "may_be_altered"),
    [("TABLE orders (id BIGINT, name TEXT) ENGINE=MyISAM", True), ("VIEW orders AS SELECT 1 AS id", False)],
)
def test_where_a_load_cannot_be_undone_nothing_is_loaded(
    database: Database, made: str, may_be_altered: bool
) -> None:
    database.execute(f"CREATE {made}")
    with pytest.raises(DestinationError) as caught:
        load(database.destination(), [rows((1, "a")).select(["id"])], into=into(database))
    assert caught.value.code == "not_transactional"
    assert ("ENGINE=InnoDB" in str(caught.value.hint)) is may_be_altered


def test_a_lost_connection_undoes_the_load(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = database.destination()
    load(destination, [rows((1, "a"))], into=into(database), checkpoint=CHECKPOINT)
    ingest = LoadConnection.ingest

    def kill_then_ingest(connection: LoadConnection, table: str, batch: pa.RecordBatch) -> None:
        ingest(connection, table, batch)
        database.execute(f"KILL {connection.session.rows('SELECT CONNECTION_ID()')[0][0]}")
        ingest(connection, table, batch)

    monkeypatch.setattr(LoadConnection, "ingest", kill_then_ingest)
    with pytest.raises(DestinationError) as caught:
        load(destination, [rows((2, "b"))], into=into(database))
    assert (caught.value.code, caught.value.retryable) == ("server_gone", True)
    assert database.rows("SELECT id FROM orders") == [(1,)]
    assert destination.inspect("shop", "orders", into(database)).checkpoint == CHECKPOINT


def test_a_row_is_as_large_as_the_server_takes(database: Database) -> None:
    text = "x" * 12_000_000
    load(database.destination(), [rows((1, text), (2, "b"), (3, text))], into=into(database))
    assert database.rows("SELECT SUM(LENGTH(name)) FROM orders") == [(24_000_001,)]
    with pytest.raises(DestinationError) as caught:
        load(database.destination(), [rows((4, "x" * 17_000_000))], into=into(database))
    assert caught.value.code == "packet_too_large"
    assert database.rows("SELECT COUNT(*) FROM orders") == [(3,)]


def test_rows_that_are_many_packets_for_the_server(database: Database) -> None:
    ((before,),) = database.rows("SELECT @@GLOBAL.max_allowed_packet")
    database.execute("SET GLOBAL max_allowed_packet = 1024 * 1024")
    try:
        load(database.destination(), [rows(*((n, "x" * 999) for n in range(3000)))], into=into(database))
    finally:
        database.execute(f"SET GLOBAL max_allowed_packet = {before}")
    assert database.rows("SELECT COUNT(*) FROM orders") == [(3000,)]


def test_more_columns_than_a_table_can_have(database: Database) -> None:
    for count, kind in ((1100, pa.int8()), (400, pa.string())):
        wide = pa.schema([(f"c{n}", kind) for n in range(count)])
        with pytest.raises(DestinationError) as caught:
            load(database.destination(), [pa.RecordBatch.from_pylist([{}], schema=wide)], into=into(database))
        assert caught.value.code == "row_too_large"
        assert "exclude" in str(caught.value.hint)


def test_loads_of_one_schema_do_not_wait_for_each_other(database: Database) -> None:
    """Both hold their rows and ledger lines at the same time, for streams that were never loaded."""
    together = Barrier(2, timeout=30)

    def run(name: str) -> int:
        plan = LoadPlan(
            "run-1",
            "shop",
            name,
            into(database, name),
            Disposition.APPEND,
            SCHEMA,
            (),
            "id",
            (CreateTable(),),
        )
        with database.destination(lock_timeout=5).begin(plan) as session:
            session.write(rows((1, "a"), (2, "b")))
            ledger = Ledger(session._dialect, "shop", name, plan.table)
            ledger.record_checkpoint(session._connection, CHECKPOINT, run_id="run-1", version=1)
            together.wait()
            return session.commit(CHECKPOINT).rows

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(run, ("one", "two"))) == [2, 2]
    assert len(database.destination().checkpoints("shop")) >= 2


def remake(database: Database) -> LoadPlan:
    """A full refresh that meets a table with another type."""
    load(database.destination(), [rows((1, "a"), (2, "b"))], into=into(database), checkpoint=CHECKPOINT)
    schema = pa.schema([("id", pa.int64()), ("name", pa.date32())])
    changes = (DropTable(), CreateTable())
    return LoadPlan(
        "run-2", "shop", "orders", into(database), Disposition.REPLACE, schema, ("id",), "id", changes
    )


def days(database: Database) -> list[tuple[object, ...]]:
    return database.rows("SELECT id, name FROM orders ORDER BY id")


def tables(database: Database) -> set[object]:
    return {row[0] for row in database.rows("SHOW TABLES")}


def test_a_table_that_is_made_anew_takes_the_old_ones_place_at_the_end(database: Database) -> None:
    plan = remake(database)
    with database.destination().begin(plan) as session:
        session.write(rows((7, datetime(2026, 1, 1, tzinfo=UTC).date()), schema=plan.schema))
        assert days(database) == [(1, "a"), (2, "b")]
        session.commit(CHECKPOINT)
    assert days(database) == [(7, datetime(2026, 1, 1, tzinfo=UTC).date())]
    assert database.destination().inspect("shop", "orders", into(database)).checkpoint == CHECKPOINT
    assert tables(database) == {"orders", "_atlas_checkpoints", "_atlas_loads", "_atlas_quarantine"}


def test_a_table_that_is_made_anew_by_its_key_has_the_latest_row_of_each(database: Database) -> None:
    plan = replace(remake(database), by_key=True)
    day = datetime(2026, 1, 1, tzinfo=UTC).date()
    with database.destination().begin(plan) as session:
        session.write(rows((7, None), (8, day), (7, day), schema=plan.schema))
        assert session.commit(CHECKPOINT).rows == 2
    assert days(database) == [(7, day), (8, day)]
    assert tables(database) == {"orders", "_atlas_checkpoints", "_atlas_loads", "_atlas_quarantine"}


def test_a_table_that_is_not_made_anew_after_all_stays(database: Database) -> None:
    plan = remake(database)
    with pytest.raises(KeyError), database.destination().begin(plan) as session:
        session.write(rows((7, None), schema=plan.schema))
        raise KeyError
    assert days(database) == [(1, "a"), (2, "b")]
    assert database.destination().inspect("shop", "orders", into(database)).checkpoint == CHECKPOINT
    assert tables(database) == {"orders", "_atlas_checkpoints", "_atlas_loads", "_atlas_quarantine"}


@pytest.mark.parametrize("step", ["RENAME TABLE", "DROP TABLE `", "START TRANSACTION"])
def test_whoever_dies_while_tables_change_places_reads_everything_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    plan = remake(database)
    with pytest.raises(KeyError), database.destination().begin(plan) as session:
        session.write(rows((7, None), schema=plan.schema))
        execute = LoadConnection.execute

        def die(connection: LoadConnection, sql: str, parameters: tuple[object, ...] = ()) -> object:
            if sql.startswith(step):
                connection.session.close()
                raise KeyError
            return execute(connection, sql, parameters)

        monkeypatch.setattr(LoadConnection, "execute", die)
        session.commit(CHECKPOINT)
    monkeypatch.undo()
    assert days(database) == ([(1, "a"), (2, "b")] if step == "RENAME TABLE" else [(7, None)])
    state = database.destination().inspect("shop", "orders", into(database))
    assert state.checkpoint is None
    assert state.loaded_by_atlas


def test_databases_are_made_where_that_is_granted(database: Database, new_database: str) -> None:
    name = f"`{new_database}`"
    table = TableName("orders", new_database)
    own = f"`{database.address.database}`"
    with database.account("ALL ON {}.*") as account:
        (warning,) = account.destination().test().warnings
        assert f"into: {database.address.database}." in warning
        with pytest.raises(DestinationError) as caught:
            load(account.destination(), [rows((1, "a"))], into=table)
        assert caught.value.code == "permission_denied"
        hint = str(caught.value.hint)
        assert "CREATE" in hint
        assert f"ON {name}.* TO '{account.address.username}'@'127.0.0.1'" in hint
        load(account.destination(), [rows((1, "a"))], into=into(database))
        assert database.rows(f"SELECT COUNT(*) FROM {own}.orders") == [(1,)]
        with pytest.raises(DestinationError) as caught:
            account.destination(database=None).test()
        assert caught.value.code == "permission_denied"
        database.execute(hint.partition(";")[0])
        for disposition in Disposition:
            load(account.destination(), [rows((1, "a"))], disposition, into=table, primary_key=("id",))
    with database.account("SELECT ON {}.*") as account, pytest.raises(DestinationError) as caught:
        account.destination().test()
    assert caught.value.code == "permission_denied"
    assert database.destination(database=None).test().warnings == ()
    assert not [row for row in database.rows("SHOW DATABASES") if str(row[0]).startswith("_atlas_test")]


def test_names_are_shortened_to_what_a_file_and_a_server_hold(database: Database) -> None:
    destination = database.destination()
    for name in ("字" * 64, "x" * 65, "é-" * 32, "ends with a blank ", "😀", "a\0b"):
        stream = Stream("s", into=TableName(name, database.address.database))
        table = destination.table_name("shop", stream)
        assert table.name != name
        assert len(table.name) <= 64
        load(destination, [rows((1, name))], into=table)
        assert destination.inspect("shop", "orders", table).loaded_by_atlas
    for name in ("字" * 50, "x" * 64, "ü" * 50, 'we"ird;--`'):
        stream = Stream("s", into=TableName(name, database.address.database))
        assert destination.table_name("shop", stream).name == name
        load(destination, [rows((1, name))], into=TableName(name, database.address.database))


@pytest.mark.parametrize(
    "sql",
    ["DROP TABLE t", "DELETE FROM t", "INSERT INTO t VALUES (1) RETURNING a", "SELEC", "SELECT nope FROM t",
     "SELECT * FROM nowhere", "SELECT a FROM t INTO OUTFILE '/tmp/atlas'", "SELECT COUNT(DISTINCT) FROM t",
     ""],
)  # fmt: skip
def test_only_statements_that_read_are_answered(database: Database, sql: str) -> None:
    database.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)")
    with pytest.raises(UsageError) as caught:
        database.destination().query(sql)
    assert caught.value.code == "query"
    assert database.rows("SELECT * FROM t") == [(1,)]


def test_a_server_that_cannot_compare_exactly_is_refused() -> None:
    for version in ("MySQL 5.7.44", "MySQL 8.0.16", "MariaDB 10.1.48"):
        with pytest.raises(DestinationError) as caught:
            refuse_old(version)
        assert caught.value.code == "server_too_old"
    for version in ("MySQL 8.0.17", "MySQL 9.1.0", "MariaDB 10.11.6", "MariaDB 11.4.2"):
        refuse_old(version)
