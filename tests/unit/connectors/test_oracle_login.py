"""Getting into Oracle with the real driver: what it is told, and what is said where no Oracle answers."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import oracledb
import pytest
from oracledb import errors
from pydantic import ValidationError

from atlas_etl.connectors import registry
from atlas_etl.connectors.sql._oracle.connection import OracleConnection, Server
from atlas_etl.connectors.sql._oracle.errors import meant
from atlas_etl.errors import ConfigError, SourceError
from tests.servers import Unavailable
from tests.servers.certified import signed

SECRET = "hunter2-secret"
Answer = Callable[[socket.socket], None]


class Listener:
    """A port of 127.0.0.1 where `answer` is all that is ever said, to each that says something."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            self._answer(client)


@pytest.fixture
def listen() -> Iterator[Callable[[Answer], int]]:
    made: list[Listener] = []

    def listening(answer: Answer) -> int:
        made.append(Listener(answer))
        return made[-1].port

    yield listening
    for each in made:
        each.close()


def says(data: bytes) -> Answer:
    def answer(client: socket.socket) -> None:
        client.recv(4096)
        client.sendall(data)

    return answer


def silence(client: socket.socket) -> None:
    while client.recv(4096):
        pass


def refuses(number: int) -> Answer:
    """As a listener does (TNS REFUSE); it hangs up when it was understood."""
    text = (
        f"(DESCRIPTION=(TMP=)(VSNNUM=0)(ERR={number})(ERROR_STACK=(ERROR=(CODE={number})(EMFI=4))))".encode()
    )
    packet = bytes([0, 12 + len(text), 0, 0, 4, 0, 0, 0, 34, 0]) + len(text).to_bytes(2, "big") + text

    def answer(client: socket.socket) -> None:
        says(packet)(client)
        silence(client)

    return answer


def failed(**more: object) -> SourceError:
    """How a test of such a connection fails, which must not tell the password."""
    adapter = registry.load("oracle")
    given = {"host": "127.0.0.1", "username": "etl", "password": SECRET, "service_name": "shop", **more}
    assert adapter.connector is not None
    with pytest.raises(SourceError) as caught:
        adapter.connector(adapter.connection.model_validate(given)).test()
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint
    return caught.value


# Where no Oracle answers


def test_a_port_where_nothing_listens(listen: Callable[[Answer], int]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = failed(port=port)
    assert (found.code, found.retryable) == ("connection_refused", True)


def test_a_host_that_there_is_not() -> None:
    assert failed(host="no.such.host.invalid").code == "host_not_found"


@pytest.mark.parametrize("tls", [False, True])
def test_a_silent_server_is_given_up_and_holds_nobody_else_up(
    listen: Callable[[Answer], int], tls: bool
) -> None:
    port, began = listen(silence), time.monotonic()
    assert failed(port=port, connect_timeout=1, tls=tls).code == "timeout"
    assert time.monotonic() - began < 10
    # One that was given up is still in the driver, which may have one login at a time.
    assert failed(port=listen(says(b"")), connect_timeout=30).code == "connection_failed"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n" * 40,
        *(b"\0\x20\0\0" + bytes([kind]) + b"\1" * 27 for kind in (2, 5, 6)),
    ],
    ids=["nothing", "http", "accept", "redirect", "data"],
)
def test_garbage_is_an_error_and_no_traceback(listen: Callable[[Answer], int], data: bytes) -> None:
    assert failed(port=listen(says(data)), connect_timeout=5).code in {
        "connection_failed",
        "server_too_old",
        "timeout",
    }


@pytest.mark.parametrize(
    ("number", "code", "retryable"),
    [
        (12514, "database_not_found", False),
        (12520, "too_many_connections", True),
        (12528, "server_starting", True),
    ],
)
def test_a_listener_that_refuses_says_why(
    listen: Callable[[Answer], int], number: int, code: str, retryable: bool
) -> None:
    found = failed(port=listen(refuses(number)))
    assert (found.code, found.retryable) == (code, retryable)


# Whom it trusts


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, Path]]:
    """One for the name localhost, and its key."""
    try:
        with signed(["DNS:localhost"]) as made:
            yield made
    except Unavailable as missing:
        pytest.skip(str(missing))


def test_a_server_that_is_to_prove_itself_does(
    listen: Callable[[Answer], int], certificate: tuple[Path, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def over_tls(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True) as secured:
            refuses(12514)(secured)

    port, (authority, _) = listen(over_tls), certificate
    reached = {"port": port, "tls": True}
    for trusted in (
        {"host": "localhost", "ssl_ca": authority},
        {"ssl_ca": authority, "certificate_host": "localhost"},
        {"trust_server_certificate": True},
    ):
        assert failed(**reached, **trusted).code == "database_not_found"
    for refused in ({}, {"ssl_ca": authority}, {"ssl_ca": authority, "certificate_host": "db.example.com"}):
        assert failed(**reached, **refused).code == "tls"
    assert failed(port=listen(says(b"plain")), tls=True).code == "tls"


def test_servers_elsewhere_prove_who_they_are_by_default(tmp_path: Path) -> None:
    def told(**given: object) -> oracledb.ConnectParams:
        return OracleConnection.model_validate({"service_name": "shop", **given}).params(None)

    assert (told().protocol, told(host="db.example.com").protocol) == ("tcp", "tcps")
    assert told(host="db.example.com").ssl_server_dn_match is True
    assert told(host="db.example.com").ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert told(host="db.example.com", tls=False).protocol == "tcp"
    with pytest.raises(ConfigError, match="without TLS"):
        told(service_name=None, dsn="db.example.com:1521/shop")
    assert told(service_name=None, dsn="db.example.com/shop", tls=False).service_name == "shop"
    assert told(service_name=None, dsn="tcps://db.example.com:2484/shop").port == 2484
    (tmp_path / "tnsnames.ora").write_text(
        "SHOP = (DESCRIPTION = (ADDRESS = (PROTOCOL = TCPS)(HOST = db.example.com)(PORT = 2484))"
        "(CONNECT_DATA = (SERVICE_NAME = shop)))"
    )
    assert told(service_name=None, dsn="SHOP", config_dir=tmp_path).host == "db.example.com"
    unknown = OracleConnection.model_validate({"dsn": "NOT_THERE", "config_dir": tmp_path})
    with pytest.raises(SourceError) as caught:
        Server(unknown, SourceError).connected()
    assert caught.value.code == "invalid_dsn"


def test_a_tunnels_end_is_compared_with_the_hosts_own_name() -> None:
    tunnel = {"host": "bastion.example.com", "username": "etl"}
    config = OracleConnection.model_validate(
        {"host": "db.example.com", "service_name": "shop", "tunnel": tunnel}
    )
    found = config.params(5000)
    assert (found.host, found.port, found.protocol) == ("127.0.0.1", 5000, "tcps")
    assert found.ssl_server_dn_match is False  # the driver's own comparison, with 127.0.0.1
    assert found.ssl_context._name == "db.example.com"


# What it is told


def test_the_address_is_said_once() -> None:
    for wrong in (
        {"service_name": "a", "database": "b"},
        {"service_name": "a", "sid": "b"},
        {"host": "db", "dsn": "db/shop"},
        {"dsn": f"etl/{SECRET}@db/shop"},
        {"dsn": f"config-azure://store?key=shop&azure_client_secret={SECRET}"},
        {"options": {"pool_size": 3}},
    ):
        with pytest.raises(ValidationError) as caught:
            OracleConnection.model_validate(wrong)
        assert SECRET not in str(caught.value)
    assert OracleConnection.model_validate({"database": "shop"}).service_name == "shop"
    found = OracleConnection.model_validate({"options": {"service_name": "shop"}})
    assert (found.service_name, found.database, found.options) == ("shop", "shop", {})
    assert OracleConnection.model_validate({"sid": "XE"}).params(None).sid == "XE"


def server_error(number: int, text: str) -> oracledb.DatabaseError:
    account = errors._Error(f"ORA-{number:05}: {text}", code=number)
    found: oracledb.DatabaseError = account.exc_type(account)
    return found


@pytest.mark.parametrize(
    ("number", "code", "retryable"),
    [
        (1017, "authentication_failed", False),
        (942, "table_not_found", False),
        (904, "column_not_found", False),
        (1031, "permission_denied", False),
        (1555, "snapshot_too_old", True),
        (8177, "conflict", True),
        (3113, "server_gone", True),
        (1652, "disk_full", False),
        (933, "sql", False),
        (4242, "source_error", False),
    ],
)
def test_what_the_servers_errors_mean(number: int, code: str, retryable: bool) -> None:
    found = meant(server_error(number, "some words"), SourceError)
    assert (found.code if code != "source_error" else code, found.retryable) == (code, retryable)
    assert f"ORA-{number:05}: some words" in found.message
    assert "Help:" not in found.message


def test_values_of_rows_are_not_in_messages() -> None:
    found = meant(
        server_error(1722, "unable to convert string value containing 'Ada' to a number"), SourceError
    )
    assert "Ada" not in found.message
    found = meant(
        server_error(1, "unique constraint (T) violated\nORA-03301: row with values (ID:4711)"), SourceError
    )
    assert "4711" not in found.message
