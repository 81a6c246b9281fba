"""No secret of SQL Server or Oracle is shown or written down, however they do not let us in."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.cage import CLOSED, Cage, kept
from tests.servers import Unavailable
from tests.servers.certified import signed
from tests.servers.stub_mssql import StubServer, serve

STREAMS = [{"table": "t"}]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubServer]:
    """A stand-in for SQL Server whose certificate nobody knows."""
    try:
        with (
            signed(["DNS:localhost"]) as (certificate, key),
            serve(tmp_path_factory.mktemp("stub tls"), certificate, key) as server,
        ):
            yield server
    except Unavailable as missing:
        pytest.skip(str(missing))


@contextmanager
def babbler() -> Iterator[int]:
    """The port of a server that says back whatever it hears, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve_all() -> None:
            with suppress(OSError):  # closed: the end
                while True:
                    client, _ = listening.accept()
                    with client, suppress(OSError):
                        client.settimeout(2)
                        client.sendall(client.recv(65536))

        threading.Thread(target=serve_all, daemon=True).start()
        yield int(listening.getsockname()[1])
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("kind", ["literal", "env", "cmd", "secret"])
def test_a_sql_server_that_does_not_let_us_in(
    cage: Cage, kind: str, stub_mssql_server: StubServer, encrypted: StubServer
) -> None:
    there = stub_mssql_server.connection(stub_mssql_server.fresh_database())
    closed, nowhere = {"host": "127.0.0.1", "port": CLOSED}, {"host": "no-such-host.invalid"}
    tls = {"host": "localhost", "port": encrypted.port, "trust_server_certificate": False}
    with babbler() as port:
        places: dict[str, dict[str, object]] = {
            "denied": there, "closed": closed, "nowhere": nowhere, "tls": tls,
            "babbler": {"host": "127.0.0.1", "port": port},
            "no tls": {"host": "127.0.0.1", "port": stub_mssql_server.port, "encrypt": "mandatory",
                       "trust_server_certificate": False},
        }  # fmt: skip
        for how, where in places.items():
            password = kept(cage, kind, f"mssql {how}")
            connection = {**where, "username": "etl", "password": password, "connect_timeout": 3}
            cage.define(how.replace(" ", "-"), "mssql", connection, STREAMS)
        cage.atlas("connector", "test", "--all", "-vv")
        cage.atlas("connector", "sync", "--all", "-vv")
        cage.try_everything("denied", "tls")
    assert cage.codes >= {0, 3}
    assert cage.leaks() == ""


@pytest.mark.parametrize("kind", ["literal", "env", "cmd", "secret"])
def test_an_oracle_that_does_not_let_us_in(cage: Cage, kind: str, tmp_path: Path) -> None:
    """The driver itself: no server of Oracle's is needed to turn somebody away."""
    (tmp_path / "wallet").mkdir()
    (tmp_path / "wallet/ewallet.pem").write_text("no certificate\n")
    with babbler() as port:
        places: dict[str, dict[str, object]] = {
            "closed": {"host": "127.0.0.1", "port": CLOSED, "service_name": "x"},
            "nowhere": {"host": "no-such-host.invalid", "service_name": "x"},
            "babbler": {"host": "127.0.0.1", "port": port, "service_name": "x"},
            "tls": {"host": "127.0.0.1", "port": port, "service_name": "x", "tls": True},
            "wallet": {"host": "127.0.0.1", "port": port, "service_name": "x", "tls": True,
                       "wallet_location": str(tmp_path / "wallet"),
                       "wallet_password": kept(cage, kind, "oracle wallet password")},
            "dsn": {"dsn": f"tcp://127.0.0.1:{CLOSED}/x"},
            "odd": {"dsn": "(DESCRIPTION=(ADDRESS="},
        }  # fmt: skip
        for how, where in places.items():
            password = kept(cage, kind, f"oracle {how}")
            connection = {**where, "username": "etl", "password": password, "connect_timeout": 3}
            cage.define(how, "oracle", connection, STREAMS)
        cage.atlas("connector", "test", "--all", "-vv")
        cage.atlas("connector", "sync", "--all", "-vv")
        cage.try_everything("closed", "wallet")
    assert cage.codes >= {0, 3}
    assert cage.leaks() == ""
