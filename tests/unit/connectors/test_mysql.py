"""Getting into MySQL and MariaDB: settings, sessions, encryption, and what goes wrong on the way."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy
from pydantic import ValidationError
from pymysql.connections import Connection

from atlas_etl.connectors import registry
from atlas_etl.connectors.sql._mysql.connection import MySQLConnection
from atlas_etl.errors import ConfigError, SourceError
from atlas_etl.model import BatchLimits, ReadRequest, Stream
from tests.conftest import unavailable
from tests.servers import ServerAddress, Unavailable
from tests.servers.certified import serve_mysql
from tests.servers.mysql import private_server
from tests.unit.connectors.mysql_database import Database, read

BIG = Stream("big", query="SELECT seq AS n, REPEAT('x', 1000) AS filler FROM seq_1_to_200000")


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


def variable(database: Database, name: str, **more: object) -> object:
    return read(database.connector(**more), Stream("v", query=f"SELECT @@{name} AS v"))["v"][0].as_py()


def test_sessions_are_pinned_whatever_the_server_says(database: Database) -> None:
    spoilt = (
        "GLOBAL sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'", "GLOBAL time_zone = '+05:30'",
        "GLOBAL sql_select_limit = 2", "GLOBAL tx_isolation = 'READ-COMMITTED'",
        "GLOBAL max_join_size = 2", "GLOBAL sql_big_selects = 0", "GLOBAL sql_quote_show_create = 0",
    )  # fmt: skip
    names = [setting.removeprefix("GLOBAL ").partition(" =")[0] for setting in spoilt]
    before = [(name, database.rows(f"SELECT @@GLOBAL.{name}")[0][0]) for name in names]
    database.execute("CREATE TABLE t (document json)", "INSERT INTO t VALUES ('{}')")
    try:
        database.execute(*(f"SET {setting}" for setting in spoilt))
        stream = Stream("q", query='SELECT "text" AS t, TIMESTAMP(FROM_UNIXTIME(0)) AS at FROM seq_1_to_3')
        rows = read(database.connector(), stream).to_pylist()
        assert len(rows) == 3
        assert (rows[0]["t"], str(rows[0]["at"])) == ("text", "1970-01-01 00:00:00")
        assert variable(database, "tx_isolation") == "REPEATABLE-READ"
        (document,) = read(database.connector(), Stream("t", table="t")).schema
        assert isinstance(document.type, pa.JsonType)
    finally:
        with database.client() as client, client.cursor() as cursor:
            for name, value in before:
                cursor.execute(f"SET GLOBAL {name} = %s", [value])


def test_an_option_of_the_driver_reaches_it(database: Database) -> None:
    options = {"init_command": "SET @note = '100% '' x'", "read_timeout": "9"}
    assert variable(database, "net_write_timeout", options=options) == 3600
    stream = Stream("q", query="SELECT @note AS note")
    assert read(database.connector(options=options), stream)["note"][0].as_py() == "100% ' x"
    assert database.config(options=options).parameters()["read_timeout"] == 9.0


def test_fields_may_be_given_as_other_drivers_name_them() -> None:
    config = MySQLConnection.model_validate(
        {"options": {"ssl-mode": "REQUIRED", "user": "etl", "db": "shop", "connect_timeout": "3"}}
    )
    assert (config.ssl_mode, config.username, config.database, config.connect_timeout) == (
        "required", "etl", "shop", 3,
    )  # fmt: skip
    assert config.options == {}
    assert config.port == 3306


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"options": {"read_timout": 3}}, "did you mean 'read_timeout'"),
        ({"options": {"compress": True}}, "`compress` cannot be had: the driver does not compress"),
        ({"options": {"autocommit": True}}, "unknown option 'autocommit'"),
        ({"options": {"sql_mode": "ANSI"}}, "unknown option"),
        ({"ssl_mode": "required", "options": {"ssl-mode": "disabled"}}, "given twice"),
        ({"ssl_mode": "verify-full"}, "'verify_identity'"),
        ({"charset": "latin1"}, "'utf8mb4'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_reached(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MySQLConnection.model_validate(given)


def test_local_infile_is_off_unless_it_is_asked_for(database: Database) -> None:
    assert database.config().parameters()["local_infile"] is False
    assert MySQLConnection.model_validate({"options": {"local_infile": True}}).local_infile


@pytest.mark.parametrize(
    ("more", "code", "retryable"),
    [
        ({"port": 1}, "connection_refused", True),
        ({"unix_socket": "/nowhere/s"}, "connection_refused", False),
        ({"host": "no-such-host.invalid"}, "host_not_found", False),
        ({"password": "hunter2secret"}, "authentication_failed", False),
        ({"username": "nobody_of_that_name"}, "authentication_failed", False),
        ({"database": "no_such_database"}, "database_not_found", False),
        ({"ssl_mode": "required"}, "tls", False),
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
    assert database.address.password not in told


def test_a_password_of_any_letters_is_sent_as_it_is(database: Database) -> None:
    database.execute("CREATE USER 'Łukasz'@'127.0.0.1' IDENTIFIED BY 'żółw 😀'")
    try:
        connector = database.connector(username="Łukasz", password="żółw 😀", database=None)
        assert read(connector, Stream("q", query="SELECT 1 AS n")).num_rows == 1
    finally:
        database.execute("DROP USER 'Łukasz'@'127.0.0.1'")


def test_the_native_client_is_an_engine_without_the_password(database: Database) -> None:
    adapter = registry.load("mariadb")
    engine = adapter.client(database.config())
    assert isinstance(engine, sqlalchemy.Engine)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE made (n INT)"))
        assert connection.execute(sqlalchemy.text("SELECT DATABASE()")).scalar() == database.address.database
    assert database.address.password not in f"{engine!r} {engine.url!r} {database.config()!r}"
    adapter.dispose(engine)


def kill_readers(client: Connection) -> None:
    with client.cursor() as cursor:
        cursor.execute("SELECT id FROM information_schema.processlist WHERE info LIKE '%seq_1_to_200000%'")
        for (thread,) in cursor.fetchall():
            if thread != client.thread_id():
                cursor.execute(f"KILL {thread}")


def test_a_session_that_is_killed_in_the_middle_is_an_error_and_no_end(database: Database) -> None:
    connector = database.connector()
    with (
        database.client() as client,
        pytest.raises(SourceError) as caught,
        connector.open(ReadRequest(BIG, limits=BatchLimits(rows=100))) as extract,
    ):
        batches = extract.batches()
        next(batches)
        kill_readers(client)
        for _ in batches:
            pass
    assert (caught.value.code, caught.value.retryable) == ("server_gone", True)
    assert read(connector, Stream("one", query="SELECT 1 AS one")).num_rows == 1


def test_a_read_that_is_left_early_leaves_nothing_behind(database: Database) -> None:
    connector = database.connector()
    with connector.open(ReadRequest(BIG, limits=BatchLimits(rows=100))) as extract:
        assert next(iter(extract.batches())).num_rows == 100
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT `n`%'"
    while database.rows(running) != [(0,)]:
        pass


def test_an_error_of_the_query_is_told_without_values(database: Database) -> None:
    database.execute("CREATE TABLE cards (number TEXT)", "INSERT INTO cards VALUES ('4111 secret')")
    wrong = Stream("cards", query="SELECT (SELECT number FROM cards UNION SELECT 'x') AS number")
    with pytest.raises(SourceError) as caught:
        read(database.connector(), wrong)
    assert caught.value.code == "sql"
    assert "4111" not in f"{caught.value.message} {caught.value.hint}"


def test_locks_have_an_end(database: Database) -> None:
    database.execute("CREATE TABLE busy (n INT)")
    with database.client() as client, client.cursor() as cursor:
        cursor.execute("LOCK TABLES busy WRITE")
        with pytest.raises(SourceError) as caught:
            read(database.connector(lock_timeout=1), Stream("busy", table="busy"))
    assert (caught.value.code, caught.value.retryable) == ("lock_timeout", True)


@pytest.fixture(scope="module")
def encrypted() -> Iterator[tuple[ServerAddress, Path]]:
    """A server with a certificate for 127.0.0.1, and that certificate."""
    try:
        with serve_mysql(["IP:127.0.0.1"]) as served:
            yield served
        return
    except Unavailable as missing:
        reason = str(missing)
    unavailable("mysql", reason)


@pytest.mark.parametrize("mode", ["preferred", "required", "verify_ca", "verify_identity", "disabled"])
def test_encryption_is_as_wanted(encrypted: tuple[ServerAddress, Path], mode: str) -> None:
    address, certificate = encrypted
    given = {"ssl_ca": str(certificate)} if mode.startswith("verify") else {}
    connector = Database(address).connector(ssl_mode=mode, **given)
    stream = Stream("q", query="SELECT variable_value AS v FROM information_schema.session_status "
                    "WHERE variable_name = 'ssl_cipher'")  # fmt: skip
    assert bool(read(connector, stream)["v"][0].as_py()) is (mode != "disabled")


def test_a_server_that_cannot_prove_itself_is_not_trusted(
    encrypted: tuple[ServerAddress, Path], tmp_path: Path
) -> None:
    address, certificate = encrypted
    database = Database(address)
    for more in (
        {"ssl_mode": "verify_ca"},
        {"ssl_mode": "verify_identity", "ssl_ca": str(certificate), "host": "localhost"},
    ):
        with pytest.raises(SourceError) as caught:
            database.connector(**more).test()
        assert caught.value.code == "tls"
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (empty, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError) as refused:
            database.connector(ssl_ca=str(path)).test()
        assert refused.value.code == "tls"


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
    except Unavailable as missing:
        reason = str(missing)
    else:
        return
    unavailable("mysql", reason)
