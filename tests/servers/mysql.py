"""MySQL's protocol for the tests: MariaDB, one private server a session, one database a test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from tests.servers.address import ServerAddress, Unavailable
from tests.servers.process import Server, own, private_folder, run, runnable

MENDING = "run scripts/test as root, or: apt-get install mariadb-server, or set ATLAS_TEST_MYSQL_URL"


def connect(address: ServerAddress) -> Connection[Cursor]:
    """A client of this database in autocommit mode."""
    return pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.username,
        password=address.password,
        database=address.database,
        connect_timeout=10,
        autocommit=True,
        charset="utf8mb4",
    )


@contextmanager
def serve() -> Iterator[ServerAddress]:
    """A server for many tests, as its root account: the user's own or a private one, else `Unavailable`."""
    if url := os.environ.get("ATLAS_TEST_MYSQL_URL"):
        yield ServerAddress.from_url(url, port=3306, database="mysql")
        return
    with private_server() as (_, address):
        yield address


@contextmanager
def private_server(*options: str) -> Iterator[tuple[Server, ServerAddress]]:
    """A server of one's own, to be killed, stopped and started at will; `Unavailable` if no program.

    The only account is root at 127.0.0.1 with a password, so a wrong password is refused. The character
    set is utf8mb4, the time zone UTC. Nothing is synced to disk. `options` are more of the program's own.
    """
    program, installer = find_programs()
    with private_folder("atlas-my-") as folder:
        address = ServerAddress("127.0.0.1", 0, "root", secrets.token_hex(16), "mysql")
        accounts = folder / "accounts.sql"
        # One statement a line, as --init-file wants; it runs at each start, so each must bear repetition.
        accounts.write_text(
            "DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys' AND Host <> '127.0.0.1';\n"
            "FLUSH PRIVILEGES;\n"
            f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY '{address.password}';\n"
            "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;\n"
        )
        own(accounts)
        shared = [
            f"--datadir={folder / 'data'}",
            f"--tmpdir={folder}",  # of one that many have, a server that starts deletes the others' tables
            "--skip-name-resolve",
            "--innodb-log-file-size=16M",
        ]
        run(
            [
                *(str(installer), "--no-defaults", f"--basedir={_base(program)}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
                *shared,
            ],
            folder=folder,
        )
        flags = [
            *shared,
            "--bind-address=127.0.0.1",
            f"--socket={folder / 's'}",
            f"--pid-file={folder / 'pid'}",
            f"--init-file={accounts}",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+00:00",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=64M",
            *options,
        ]
        with Server(
            lambda port: [str(program), "--no-defaults", f"--port={port}", *flags],
            folder=folder,
            handshake=lambda port: connect(replace(address, port=port)).close(),
            not_ready=pymysql.err.OperationalError,
            stop_signal=signal.SIGTERM,
        ) as server:
            yield server, replace(address, port=server.port)


@contextmanager
def fresh_database(server: ServerAddress) -> Iterator[ServerAddress]:
    """An empty database of this server, dropped afterwards with whoever is still connected to it."""
    address = replace(server, database=f"atlas_test_{secrets.token_hex(6)}")
    with connect(server) as client, client.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{address.database}` CHARACTER SET utf8mb4")
    try:
        yield address
    finally:
        with connect(server) as client, client.cursor() as cursor:
            cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", [address.database])
            for (thread,) in cursor.fetchall():
                cursor.execute("KILL %s", [thread])
            cursor.execute("SET SESSION lock_wait_timeout = 20")
            cursor.execute(f"DROP DATABASE `{address.database}`")


def find_programs() -> tuple[Path, Path]:
    """`mariadbd` and `mariadb-install-db`; `Unavailable` when there are none that we may run."""
    if named := os.environ.get("ATLAS_TEST_MYSQL_BIN"):
        if not runnable(Path(named)):
            raise FileNotFoundError(f"ATLAS_TEST_MYSQL_BIN is not a program that can be run: {named}")
        return Path(named), _installer(Path(named))
    found = shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")
    if found and runnable(Path(found)):
        return Path(found), _installer(Path(found))
    raise Unavailable(f"no MariaDB server program here; {MENDING}")


def _base(program: Path) -> Path:
    return program.resolve().parent.parent


def _installer(program: Path) -> Path:
    for folder in ("bin", "scripts"):
        installer = _base(program) / folder / "mariadb-install-db"
        if runnable(installer):
            return installer
    raise Unavailable(f"{program} is here but mariadb-install-db is not; {MENDING}")
