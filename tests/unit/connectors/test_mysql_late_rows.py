"""Rows that MySQL and MariaDB commit late: whoever may still write is found, and the tail waits for them."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymysql
import pytest
from pymysql.constants import COMMAND

from atlas_etl.connectors.sql._mysql.connection import MySQLConnection, Server
from atlas_etl.connectors.sql._mysql.open_writers import WriterProbe
from atlas_etl.connectors.sql._mysql.reader import session_of
from atlas_etl.errors import SourceError
from atlas_etl.model import Stream
from tests.conftest import unavailable
from tests.servers import ServerAddress, Unavailable
from tests.servers.mysql import find_programs
from tests.servers.process import private_folder
from tests.unit.connectors.mysql_database import Database, read_all

MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


@pytest.fixture
def database(mysql: ServerAddress) -> Database:
    return Database(mysql)


@pytest.mark.parametrize(
    ("kind", "zone"),
    [("TIMESTAMP(6)", "+09:00"), ("DATETIME(6)", "+13:00"), ("DATETIME", "-11:00")],
)
def test_the_tail_reaches_back_to_the_oldest_open_transaction(
    database: Database, kind: str, zone: str
) -> None:
    database.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at {kind} NOT NULL)")
    stream = Stream("t", table="t", cursor="at")
    with database.client() as writer, writer.cursor() as cursor:
        cursor.execute(f"SET time_zone = '{zone}'")
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO t VALUES (1, NOW(6))")
        cursor.execute("SELECT SLEEP(3)")
        database.execute(f"SET STATEMENT time_zone = '{zone}' FOR INSERT INTO t VALUES (2, NOW(6))")
        read, checkpoint, _ = read_all(database.connector(), stream)
        cursor.execute("COMMIT")
    assert read["id"].to_pylist() == [2]
    assert checkpoint is not None
    high, tail = (
        datetime.fromisoformat(value.text.rstrip("Z")) for value in (checkpoint.high, checkpoint.tail_from)
    )
    assert high - tail < timedelta(seconds=8)
    again, _, _ = read_all(database.connector(), stream, checkpoint.tail_from)
    assert sorted(again["id"].to_pylist()) == [1, 2]


def test_a_statement_that_waits_for_a_table_is_seen_before_its_transaction_is(database: Database) -> None:
    database.execute("CREATE TABLE t (at TIMESTAMP(6) NOT NULL)", "CREATE TABLE other (n INT)")
    with database.client() as holder, holder.cursor() as cursor, database.client() as waiter:
        cursor.execute("LOCK TABLES t WRITE")
        waiter._execute_command(COMMAND.COM_QUERY, b"INSERT INTO t VALUES (NOW(6))")
        began = datetime.now(UTC)
        waiting = f"SELECT time FROM information_schema.processlist WHERE id = {waiter.thread_id()}"
        while database.rows(waiting)[0][0] < 2:
            pass
        with session_of(Server(database.config(), SourceError)) as session:
            found = WriterProbe().writers(session)
        cursor.execute("UNLOCK TABLES")
        waiter._read_ok_packet()
    assert found.visible
    assert began - timedelta(seconds=5) < found.began <= began


def test_readers_do_not_move_the_tail(database: Database) -> None:
    database.execute("CREATE TABLE t (id INT)")
    with database.client() as reader, reader.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        cursor.execute("SELECT * FROM t, (SELECT SLEEP(3)) AS slept")
        with session_of(Server(database.config(), SourceError)) as session:
            ((before,),) = session.rows("SELECT UTC_TIMESTAMP(6)")
            found = WriterProbe().writers(session)
        assert isinstance(before, datetime)
        assert before.replace(tzinfo=UTC) - found.began < timedelta(seconds=3)


def test_a_copy_of_innodbs_list_that_is_read_all_the_time_is_not_trusted(database: Database) -> None:
    """InnoDB renews it only when nobody has read it for a tenth of a second."""
    database.execute("CREATE TABLE t (id INT)")
    reading, stop = threading.Event(), threading.Event()

    def monitor() -> None:
        with database.client() as client, client.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("SELECT COUNT(*) FROM information_schema.INNODB_TRX")
                reading.set()

    with ThreadPoolExecutor() as pool, database.client() as writer, writer.cursor() as cursor:
        watching = [pool.submit(monitor) for _ in range(2)]
        try:
            assert reading.wait(30)
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t VALUES (1)")
            cursor.execute("SELECT UTC_TIMESTAMP(), SLEEP(3)")
            ((slept_from, _),) = cursor.fetchall()
            with session_of(Server(database.config(), SourceError)) as session:
                found = WriterProbe().writers(session)
        finally:
            stop.set()
        for watch in watching:
            watch.result()
    assert found.began <= slept_from.replace(tzinfo=UTC)


def test_who_may_not_see_others_is_told_and_a_lag_is_kept(database: Database) -> None:
    database.execute("CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP(6) NOT NULL DEFAULT NOW(6))")
    database.execute("INSERT INTO t (id) VALUES (1)")
    assert database.connector().test().warnings == ()
    with database.account("SELECT ON {}.*") as account:
        (warning,) = account.connector().test().warnings
        assert f"GRANT PROCESS ON *.* TO '{account.address.username}'@'127.0.0.1'" in warning
        _, checkpoint, _ = read_all(account.connector(), Stream("t", table="t", cursor="at"))
    assert checkpoint is not None
    high, tail = (datetime.strptime(value.text, MOMENT) for value in (checkpoint.high, checkpoint.tail_from))
    assert timedelta(minutes=4) < high - tail < timedelta(minutes=6)


@pytest.fixture
def far_away() -> Iterator[ZonedDatabase]:
    """A server whose own zone is not UTC, and whose sessions have another one."""
    try:
        program, installer = find_programs()
    except Unavailable as missing:
        unavailable("mysql", str(missing))
    with private_folder("atlas-zone-") as folder:
        yield from zoned_server(program, installer, folder, folder / "data")


def zoned_server(program: Path, installer: Path, folder: Path, data: Path) -> Iterator[ZonedDatabase]:
    user = ["--user=root"] if os.getuid() == 0 else []
    subprocess.run(
        [str(installer), "--no-defaults", "--basedir=/usr", f"--datadir={data}", "--skip-test-db",
         "--auth-root-authentication-method=normal", *user],
        check=True, capture_output=True,
    )  # fmt: skip
    with subprocess.Popen(
        [str(program), "--no-defaults", f"--datadir={data}", f"--socket={folder / 's'}", "--skip-networking",
         "--default-time-zone=+05:00", "--innodb-log-file-size=16M", f"--pid-file={folder / 'pid'}", *user],
        env={**os.environ, "TZ": "EST5EDT,M3.2.0,M11.1.0"}, stderr=subprocess.DEVNULL,
    ) as server:  # fmt: skip
        try:
            yield ZonedDatabase(folder / "s")
        finally:
            server.terminate()


class ZonedDatabase(Database):
    def __init__(self, path: Path) -> None:
        super().__init__(ServerAddress("localhost", 1, "root", "", "mysql"))
        self.path = path
        deadline = time.monotonic() + 30
        while True:
            try:
                self.client_of().close()
                return
            except pymysql.err.OperationalError:
                if time.monotonic() > deadline:
                    raise

    def client_of(self) -> pymysql.connections.Connection:
        return pymysql.connect(unix_socket=str(self.path), user="root", autocommit=True)

    def config(self, **more: object) -> MySQLConnection:
        return MySQLConnection(unix_socket=str(self.path), username="root", **more)


def test_transactions_are_as_old_wherever_the_server_stands(far_away: ZonedDatabase) -> None:
    with far_away.client_of() as writer, writer.cursor() as cursor:
        cursor.execute("CREATE DATABASE d")
        cursor.execute("CREATE TABLE d.t (n INT)")
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO d.t VALUES (1)")
        cursor.execute("SELECT UTC_TIMESTAMP(), SLEEP(3)")
        ((slept_from, _),) = cursor.fetchall()
        with session_of(Server(far_away.config(), SourceError)) as session:
            found = WriterProbe().writers(session)
    assert found.visible
    assert timedelta() <= slept_from.replace(tzinfo=UTC) - found.began < timedelta(seconds=3)
