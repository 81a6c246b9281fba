"""Redis for the tests: a private server, from Debian's package."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import redis

from tests.servers.address import Unavailable
from tests.servers.process import Server, private_folder

MENDING = "run scripts/test as root, or: apt-get install redis-server, or set ATLAS_TEST_REDIS_URL"


@contextmanager
def serve() -> Iterator[str]:
    """The URL of a server that the tests may fill and empty, else `Unavailable`."""
    if url := os.environ.get("ATLAS_TEST_REDIS_URL"):
        yield url
        return
    program = find_programs()
    with private_folder("atlas-redis-") as folder:

        def command(port: int) -> list[str]:
            return [
                str(program),
                "--port",
                str(port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(folder),
                "--save",
                "",
            ]

        server = Server(
            command,
            folder=folder,
            handshake=_handshake,
            not_ready=redis.exceptions.ConnectionError,
            stop_signal=signal.SIGTERM,
        )
        with server:
            yield f"redis://127.0.0.1:{server.port}/0"


def find_programs() -> Path:
    """redis-server; `Unavailable` without it."""
    found = os.environ.get("ATLAS_TEST_REDIS_BIN") or shutil.which("redis-server")
    if found is None:
        raise Unavailable(f"no redis-server: {MENDING}")
    return Path(found)


def _handshake(port: int) -> None:
    with closing(redis.Redis(host="127.0.0.1", port=port, socket_timeout=5)) as client:
        client.ping()
