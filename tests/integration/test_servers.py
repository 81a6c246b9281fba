"""The test servers themselves: who is let in, what a fresh database is, and that nothing is left running."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import psycopg
import pymysql
import pytest
from tests.conftest import unavailable
from tests.servers import ServerAddress, Unavailable, required
from tests.servers import mysql as mysql_recipe
from tests.servers import postgres as postgres_recipe
from tests.servers.process import Server, ServerFailed, private_folder

ROOT = Path(__file__).parents[2]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_postgres_refuses_a_wrong_password(postgres: ServerAddress) -> None:
    with postgres_recipe.connect(postgres) as client:
        assert client.execute("SELECT current_database()").fetchone() == (postgres.database,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres_recipe.connect(replace(postgres, password="wrong"))


def test_mysql_refuses_a_wrong_password_and_no_account(mysql: ServerAddress) -> None:
    with mysql_recipe.connect(mysql) as client, client.cursor() as cursor:
        cursor.execute("SELECT database()")
        assert cursor.fetchone() == (mysql.database,)
    for intruder in (replace(mysql, password="wrong"), replace(mysql, username="", password="")):
        with pytest.raises(pymysql.err.OperationalError, match="Access denied"):
            mysql_recipe.connect(intruder)


def test_a_postgres_database_is_dropped_under_open_transactions(postgres_server: ServerAddress) -> None:
    with postgres_recipe.fresh_database(postgres_server) as address:
        left_open = postgres_recipe.connect(address)
        left_open.execute("BEGIN; CREATE TABLE t (i int)")
    with postgres_recipe.connect(postgres_server) as client:
        found = client.execute("SELECT FROM pg_database WHERE datname = %s", [address.database]).fetchall()
    left_open.close()
    assert found == []


def test_a_mysql_database_is_dropped_under_open_transactions(mysql_server: ServerAddress) -> None:
    with mysql_recipe.fresh_database(mysql_server) as address:
        left_open = mysql_recipe.connect(address)
        with left_open.cursor() as cursor:
            cursor.execute("CREATE TABLE t (i int)")
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO t VALUES (1)")
    with mysql_recipe.connect(mysql_server) as client, client.cursor() as cursor:
        assert cursor.execute("SHOW DATABASES LIKE %s", [address.database]) == 0


@pytest.mark.parametrize("recipe", [postgres_recipe, mysql_recipe], ids=["postgres", "mysql"])
def test_a_private_server_comes_back_with_its_data(
    recipe: ModuleType, request: pytest.FixtureRequest
) -> None:
    try:
        with recipe.private_server() as (server, address):
            for end in (server.stop, server.kill):
                with recipe.connect(address) as client:
                    client.cursor().execute(f"CREATE DATABASE after_{end.__name__}")
                end()
                assert not listening(server.port)
                server.start()
                recipe.connect(replace(address, database=f"after_{end.__name__}")).close()
    except Unavailable as reason:
        unavailable(request.node.callspec.id, str(reason))
    assert not listening(server.port)


@pytest.mark.timeout(30)
def test_a_server_does_not_outlive_a_killed_test_run(postgres_server: ServerAddress) -> None:
    program = (
        "from tests.servers import postgres\n"
        "with postgres.private_server() as (server, _):\n"
        "    print(server.port, flush=True)\n"
        "    input()\n"
    )
    with (
        private_folder("atlas-killed-") as left_behind,
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "ATLAS_TEST_SERVERS_FOLDER": str(left_behind)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder,
    ):
        assert holder.stdout
        port = int(holder.stdout.readline())
        assert listening(port)
        holder.kill()
        while listening(port):
            pass


def test_a_program_that_ends_is_reported_with_what_it_said(tmp_path: Path) -> None:
    def refused(port: int) -> None:
        raise ConnectionRefusedError(port)

    server = Server(
        lambda port: ["sh", "-c", "echo no such flag; exit 3"],
        folder=tmp_path,
        handshake=refused,
        not_ready=ConnectionRefusedError,
        stop_signal=signal.SIGTERM,
    )
    with pytest.raises(ServerFailed, match="no such flag"):
        server.start()


def test_a_missing_server_skips_or_fails_as_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATLAS_TEST_REQUIRE", "postgres")
    with pytest.raises(pytest.fail.Exception, match="no program"):
        unavailable("postgres", "no program")
    with pytest.raises(pytest.skip.Exception, match="no program"):
        unavailable("mysql", "no program")
    monkeypatch.setenv("ATLAS_TEST_REQUIRE", "postgers")
    with pytest.raises(ValueError, match="postgers"):
        required()


def test_an_address_survives_its_url() -> None:
    address = ServerAddress("127.0.0.1", 5433, "a@b", "p:/?#w", "d b")
    assert ServerAddress.from_url(address.url("postgresql"), port=1, database="x") == address
    assert ServerAddress.from_url("mysql://h", port=1, database="x") == ServerAddress("h", 1, "", "", "x")
