"""Getting into PostgreSQL: settings, sessions, and what goes wrong on the way."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import psycopg
import pytest
import sqlalchemy
from pydantic import ValidationError

from atlas_etl import values
from atlas_etl.connectors import registry
from atlas_etl.connectors.sql._postgresql.connection import PostgresConnection
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import BatchLimits, ReadRequest, Stream
from tests.servers import ServerAddress, Unavailable
from tests.servers.postgres import private_server
from tests.unit.connectors.postgres_database import Database, read

BIG = Stream("big", query="SELECT n, repeat('x', 1000) AS filler FROM generate_series(1, 200000) AS n")


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


def setting(database: Database, name: str, **more: object) -> str:
    stream = Stream("setting", query=f"SELECT current_setting('{name}') AS value")
    value = read(database.connector(**more), stream)["value"][0].as_py()
    assert isinstance(value, str)
    return value


def test_options_reach_libpq_and_the_server(database: Database) -> None:
    options = {"work_mem": "7MB", "enable_sort": False, "keepalives_idle": 11, "atlas.note": "100% ' \\ x"}
    assert setting(database, "work_mem", options=options) == "7MB"
    assert setting(database, "enable_sort", options=options) == "off"
    assert setting(database, "atlas.note", options=options) == "100% ' \\ x"
    assert database.config(options=options).libpq_parameters()["keepalives_idle"] == "11"
    assert setting(database, "search_path", options={"options": "-c search_path=sales"}) == "sales"
    assert setting(database, "statement_timeout", statement_timeout=1.5) == "1500ms"


def test_sessions_are_pinned_whatever_the_role_says(database: Database) -> None:
    database.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET TimeZone = ''Asia/Tokyo''', current_database()); "
        "EXECUTE format('ALTER DATABASE %I SET DateStyle = ''German''', current_database()); END $$"
    )
    assert setting(database, "TimeZone") == "UTC"
    assert setting(database, "DateStyle").startswith("ISO")
    stream = Stream("t", query="SELECT ARRAY[timestamptz '2026-07-01 12:00:00+02']::text AS at")
    assert read(database.connector(), stream)["at"][0].as_py() == '{"2026-07-01 10:00:00+00"}'


def test_arrays_and_types_are_read_as_they_are_whatever_the_database_says(database: Database) -> None:
    database.execute(
        "CREATE TABLE t (n numeric[], document jsonb)",
        "INSERT INTO t VALUES (ARRAY[1.50, NULL], '{}')",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET array_nulls = off', current_database()); "
        "EXECUTE format('ALTER DATABASE %I SET quote_all_identifiers = on', current_database()); END $$",
    )
    found = read(database.connector(), Stream("t", table="t"))
    assert found["n"][0].as_py() == ["1.50", None]
    assert values.source_type(found.schema.field("document")) == "jsonb"


def test_fields_may_be_given_as_libpq_names_them() -> None:
    config = PostgresConnection.model_validate(
        {"options": {"sslmode": "require", "connect_timeout": "3", "dbname": "shop"}}
    )
    assert (config.sslmode, config.connect_timeout, config.database) == ("require", 3, "shop")
    assert config.options == {}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"options": {"sslmod": "require"}}, "did you mean 'sslmode'"),
        ({"options": {"keepalive_idle": 1}}, "did you mean 'keepalives_idle'"),
        ({"options": {"TimeZone": "Europe/Berlin"}}, "set by Atlas itself"),
        ({"sslmode": "require", "options": {"sslmode": "disable"}}, "given twice"),
        ({"sslmode": "requires"}, "'require'"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_reached(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        PostgresConnection.model_validate(given)


@pytest.mark.parametrize(
    ("options", "hint"),
    [({"work_memm": "4MB"}, "'work_mem'"), ({"work_mem": "much"}, "options"), ({"port_": "1"}, "'port'")],
)
def test_settings_that_the_server_refuses(database: Database, options: dict[str, object], hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        database.connector(options=options).test()
    assert caught.value.code == "option"
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("more", "code", "retryable"),
    [
        ({"port": 1}, "connection_refused", True),
        ({"host": "/nowhere"}, "connection_refused", True),
        ({"host": "no-such-host.invalid"}, "host_not_found", False),
        ({"password": "hunter2secret"}, "authentication_failed", False),
        ({"username": "nobody_of_that_name"}, "authentication_failed", False),
        ({"database": "no_such_database"}, "database_not_found", False),
        ({"sslmode": "require"}, "tls", False),
    ],
)
def test_who_cannot_get_in_is_told_why(
    database: Database, more: dict[str, object], code: str, retryable: bool
) -> None:
    with pytest.raises(SourceError) as caught:
        database.connector(**more).test()
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    told = "".join(traceback.format_exception(caught.value))
    assert "hunter2secret" not in told
    assert caught.value.__cause__ is None  # the driver's error holds the password


def test_the_native_client_is_an_engine_without_the_password(database: Database) -> None:
    adapter = registry.load("postgres")
    engine = adapter.client(database.config(options={"work_mem": "5MB"}))
    assert isinstance(engine, sqlalchemy.Engine)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SHOW work_mem")).scalar() == "5MB"
    assert database.address.password not in f"{engine!r} {engine.url!r} {database.config()!r}"
    adapter.dispose(engine)


def test_the_connection_is_kept_and_one_that_died_is_not_used(database: Database) -> None:
    connector = database.connector()
    stream = Stream("pid", query="SELECT pg_backend_pid() AS pid")
    first = read(connector, stream)["pid"][0].as_py()
    assert read(connector, stream)["pid"][0].as_py() == first
    with database.session() as session:
        session.execute("SELECT pg_terminate_backend(%s, 10000)", [first])
    assert read(connector, stream)["pid"][0].as_py() != first


def test_a_read_that_is_left_early_gives_its_connection_back(database: Database) -> None:
    connector = database.connector()
    pid = Stream("pid", query="SELECT pg_backend_pid() AS pid")
    before = read(connector, pid)["pid"][0].as_py()
    with connector.open(ReadRequest(BIG, limits=BatchLimits(rows=100))) as extract:
        assert 0 < next(iter(extract.batches())).num_rows <= 100
    assert read(connector, pid)["pid"][0].as_py() == before
    assert database.rows("SELECT count(*) FROM pg_stat_activity WHERE state LIKE '%in transaction%'") == [
        (0,)
    ]


def test_a_server_that_goes_away_in_the_middle_is_an_error_and_no_end(database: Database) -> None:
    connector = database.connector()
    with (
        pytest.raises(SourceError) as caught,
        connector.open(ReadRequest(BIG, limits=BatchLimits(rows=100))) as extract,
    ):
        batches = extract.batches()
        next(batches)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'atlas [%'"
        )
        for _ in batches:
            pass
    assert (caught.value.code, caught.value.retryable) == ("server_gone", True)
    assert read(connector, Stream("one", query="SELECT 1 AS one")).num_rows == 1


def test_a_server_that_is_killed_in_the_middle() -> None:
    try:
        with private_server() as (server, address):
            database = Database(address)
            with pytest.raises(SourceError) as caught, database.connector().open(ReadRequest(BIG)) as extract:
                batches = extract.batches()
                next(batches)
                server.kill()
                for _ in batches:
                    pass
            assert (caught.value.code, caught.value.retryable) == ("server_gone", True)
            with pytest.raises(SourceError) as caught:
                database.connector().test()
            assert (caught.value.code, caught.value.retryable) == ("connection_refused", True)
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_an_error_in_the_middle_of_the_rows(database: Database) -> None:
    stream = Stream("odd", query="SELECT 1000 / (50000 - n) AS n FROM generate_series(1, 60000) AS n")
    with pytest.raises(SourceError, match="division by zero") as caught:
        read(database.connector(), stream)
    assert (caught.value.code, caught.value.retryable) == ("data", False)


def test_errors_do_not_tell_values(database: Database) -> None:
    database.execute("CREATE TABLE cards (number text)", "INSERT INTO cards VALUES ('4111 secret')")
    stream = Stream("cards", query="SELECT number::int AS number FROM cards")
    with pytest.raises(SourceError) as caught:
        read(database.connector(), stream)
    assert "4111" not in f"{caught.value.message} {caught.value.hint}"
    assert "type integer" in caught.value.message


def test_locks_and_slow_statements_have_an_end(database: Database) -> None:
    database.execute("CREATE TABLE busy (n int)")
    with database.session() as session:
        session.execute("BEGIN; LOCK TABLE busy")
        with pytest.raises(SourceError) as caught:
            read(database.connector(lock_timeout=0.05), Stream("busy", table="busy"))
    assert (caught.value.code, caught.value.retryable) == ("lock_timeout", True)
    with pytest.raises(SourceError, match="longer than its `statement_timeout`") as caught:
        read(database.connector(statement_timeout=0.05), Stream("s", query="SELECT 1 AS n FROM pg_sleep(9)"))
    assert caught.value.code == "timeout"


def test_a_statement_that_somebody_ended_did_not_take_too_long(database: Database) -> None:
    ended = "SELECT count(pg_cancel_backend(pg_backend_pid())) AS n"
    with pytest.raises(SourceError, match="user request") as caught:
        read(database.connector(), Stream("s", query=ended))
    assert caught.value.code == "cancelled"
    assert "statement_timeout" not in str(caught.value.hint)


def test_test_says_what_it_found(database: Database) -> None:
    database.execute("CREATE TABLE one (n int)", "CREATE VIEW two AS SELECT * FROM one")
    status = database.connector().test()
    assert status.message == "2 tables and views can be read"
    assert str(status.server_version).startswith("PostgreSQL 1")
    assert status.warnings == ()
    with database.role() as role, database.session() as other:
        (warning,) = role.connector().test().warnings
        assert f'GRANT pg_read_all_stats TO "{role.address.username}"' in warning
        assert isinstance(other, psycopg.Connection)
