"""A connection that is hung up on ends at its server, too."""

from __future__ import annotations

import socket

import pytest

from atlas_etl.connectors.sql._fetching import hang_up

_MIB = 1024 * 1024


def test_a_server_that_waits_for_room_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
        with server:
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    server.send(bytes(_MIB))
            hang_up(client.fileno())
            while client.recv(_MIB):
                pass
            client.close()
            server.settimeout(30)
            with pytest.raises(ConnectionError):
                while True:
                    server.sendall(bytes(_MIB))
