"""One COPY by the socket and by libpq: the same rows, and the same ends, in clear and through TLS."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from atlas_etl.connectors.sql._postgresql import messages
from atlas_etl.connectors.sql._postgresql.messages import CopyMessages, LibpqMessages, SocketMessages
from atlas_etl.connectors.sql._postgresql.session import Session
from tests.servers import ServerAddress
from tests.unit.connectors.postgres_database import Database

WAYS = {"socket": messages._by_socket, "libpq": messages._by_libpq}


@pytest.fixture
def database(postgres: ServerAddress) -> Iterator[Database]:
    found = Database(postgres)
    yield found
    found.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with database.session() as found:
        yield found


def copied(reader: CopyMessages) -> list[bytes]:
    found: list[bytes] = []
    while (payloads := reader.read()) is not None:
        places = zip(payloads.starts.tolist(), payloads.ends.tolist(), strict=True)
        found += [bytes(payloads.buffer[start:end]) for start, end in places]
    return found


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 WHERE false",
        "SELECT n, repeat('x', n % 1000), NULLIF(n % 3, 0) FROM generate_series(1, 20000) n",
        "SELECT repeat(chr(64 + n), n * 1500000) FROM generate_series(1, 4) n",
        "SELECT CASE WHEN n % 50 = 0 THEN repeat('y', 3000000) END FROM generate_series(1, 200) n",
        "SELECT FROM generate_series(1, 1000)",
        # The last byte of a text, and what follows it, look like a message of two fields.
        "SELECT repeat('d', n % 30), (2 << 16) + n FROM generate_series(1, 20000) n",
        "SELECT decode(repeat('6400000006000164000000', n % 60), 'hex') FROM generate_series(1, 20000) n",
    ],
)
def test_both_ways_give_what_the_server_sent(session: Session, query: str) -> None:
    statement = f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()
    found = []
    for way in WAYS.values():
        with way(session, statement) as reader:
            found.append(copied(reader))
        assert session.execute("SELECT 1").fetchall() == [(1,)]
    with session.cursor().copy(statement) as copy:
        assert b"".join(copy) == b"".join(found[0]) == b"".join(found[1])
    assert found[0] == found[1]


@pytest.mark.parametrize("way", WAYS)
def test_an_error_of_the_server_is_the_drivers_own(session: Session, way: str) -> None:
    for query, kind, told in (
        ("SELECT nothing", psycopg.errors.UndefinedColumn, 'column "nothing" does not exist'),
        (
            "SELECT 1 / (n - 90000) FROM generate_series(1, 100000) n",
            psycopg.errors.DivisionByZero,
            "division",
        ),
    ):
        statement = f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()
        with pytest.raises(kind) as caught, WAYS[way](session, statement) as reader:
            copied(reader)
        assert told in (caught.value.diag.message_primary or "")
        assert caught.value.sqlstate == kind.sqlstate
        assert session.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("way", WAYS)
def test_a_statement_that_is_left_is_cancelled(session: Session, way: str) -> None:
    statement = (
        b"COPY (SELECT n, repeat('x', 500) FROM generate_series(1, 100000000) n) TO STDOUT (FORMAT binary)"
    )
    with WAYS[way](session, statement) as reader:
        assert reader.read() is not None
    assert session.execute("SELECT 1").fetchall() == [(1,)]


def test_a_server_that_goes_away_is_an_error(database: Database, session: Session) -> None:
    statement = (
        b"COPY (SELECT n, repeat('x', 500) FROM generate_series(1, 100000000) n) TO STDOUT (FORMAT binary)"
    )
    with pytest.raises(psycopg.Error), messages.copy_messages(session, statement) as reader:
        assert isinstance(reader, SocketMessages)
        reader.read()
        database.execute(f"SELECT pg_terminate_backend({session.info.backend_pid})")
        copied(reader)


def test_notices_and_parameters_on_the_way_are_no_rows(database: Database, session: Session) -> None:
    database.execute(
        "CREATE FUNCTION loud(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE NOTICE 'row %', n; PERFORM set_config('application_name', 'n' || n, false); RETURN n; END $$"
    )
    with messages.copy_messages(
        session, b"COPY (SELECT loud(n) FROM generate_series(1, 100) n) TO STDOUT (FORMAT binary)"
    ) as reader:
        assert len(copied(reader)) == 101  # the header comes with the first row, the trailer alone


def test_what_is_encrypted_is_read_by_libpq(database: Database, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    (folder,) = database.rows("SHOW data_directory")[0]
    here = Path(str(folder))
    if openssl is None or not os.access(here, os.W_OK):
        pytest.skip("needs openssl, and a PostgreSQL of the tests' own to turn its TLS on")
    key, certificate = here / "atlas-test.key", here / "atlas-test.crt"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    owner = here.stat()
    key.chmod(0o600)
    for file in (key, certificate):
        os.chown(file, owner.st_uid, owner.st_gid)
    try:
        database.execute(
            f"ALTER SYSTEM SET ssl_cert_file = '{certificate}'", f"ALTER SYSTEM SET ssl_key_file = '{key}'",
            "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()",
        )  # fmt: skip
        session = _through_tls(database)
        statement = b"COPY (SELECT n FROM generate_series(1, 300000) n) TO STDOUT (FORMAT binary)"
        with session, messages.copy_messages(session, statement) as reader:
            assert isinstance(reader, LibpqMessages)
            assert len(copied(reader)) == 300001
    finally:
        database.execute(
            "ALTER SYSTEM RESET ssl", "ALTER SYSTEM RESET ssl_cert_file", "ALTER SYSTEM RESET ssl_key_file",
            "SELECT pg_reload_conf()",
        )  # fmt: skip


def _through_tls(database: Database) -> Session:
    """As soon as the server has read its configuration again."""
    parameters = {**database.config().libpq_parameters(), "sslmode": "require"}
    for _ in range(1000):
        try:
            return psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
        except psycopg.OperationalError as failure:
            assert "does not support SSL" in str(failure)
    raise AssertionError("the server does not take up TLS")
