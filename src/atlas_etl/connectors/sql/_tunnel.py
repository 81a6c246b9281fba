"""The way to a database server: straight, or through an SSH server that forwards to it.

A tunnel is a port of 127.0.0.1 that this process listens on while it is open, as `ssh -L` does. The sessions
of one connector, or destination, share it; it is opened by the first one, again after it broke, and closed
with the connector. Drivers are told the database's own name beside that port, to verify certificates against.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from atlas_etl.connectors.base import ServerConnection, Tunnel
from atlas_etl.connectors.sql._meaning import Failure, Meaning
from atlas_etl.connectors.sql._ssh_login import Login
from atlas_etl.errors import AtlasError, MissingDriverError

if TYPE_CHECKING:
    import asyncssh

LOOPBACK = "127.0.0.1"

_GOODBYE_SECONDS = 2.0
_PIECE_BYTES = 256 * 1024
_NOT_ALLOWED = 1  # https://www.rfc-editor.org/rfc/rfc4254#section-5.1, administratively prohibited


class Route:
    """How the sessions of one server get there. Any number of threads may ask."""

    def __init__(self, config: ServerConnection, port: int, kind: Failure) -> None:
        """`port` is the server's; `kind` is what a failing tunnel raises."""
        self._config = config
        self._port = port
        self._kind = kind
        self._lock = threading.Lock()
        self._opened: _Forwarding | None = None

    def local_port(self) -> int | None:
        """The port of 127.0.0.1 that leads to the server, None without a tunnel.

        Raises `kind`, ConfigError (a key that cannot be used) and MissingDriverError.
        """
        tunnel = self._config.tunnel
        if tunnel is None:
            return None
        with self._lock:
            if self._opened is None or self._opened.is_broken:
                self._opened = None
                self._opened = self._open(tunnel)
            return self._opened.port

    def refusal(self) -> AtlasError | None:
        """Why the SSH server did not forward the last session to the database, None where it did."""
        with self._lock:
            opened = self._opened
        found = opened.refusal if opened is not None else None
        if self._config.tunnel is None or found is None:
            return None
        where = f"{self._config.host} port {self._port}"
        host = self._config.tunnel.host
        if found == _NOT_ALLOWED:
            meaning = Meaning(
                "forwarding_refused",
                "allow it there with AllowTcpForwarding and PermitOpen of sshd_config",
            )
            return meaning.failure(self._kind, f"the SSH host {host} does not allow forwarding to {where}")
        meaning = Meaning(
            "connection_refused",
            "check `host` and `port`, as the SSH host sees them, and that the server runs",
            True,
        )
        return meaning.failure(self._kind, f"the SSH host {host} does not reach {where}")

    def close(self) -> None:
        """Close the tunnel, under whatever still goes through it. It may be opened again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def _open(self, tunnel: Tunnel) -> _Forwarding:
        try:
            import asyncssh
        except ImportError:
            raise MissingDriverError(
                "a tunnel needs the package 'asyncssh', which is not installed",
                hint='pip install "atlas-etl[ssh]"',
            ) from None
        login = Login(tunnel, self._config.connect_timeout)
        options = login.options()
        try:
            return _Forwarding(options, self._config.host, self._port)
        except (OSError, asyncssh.Error) as failure:
            # The library's errors have nothing that a person needs beyond this.
            raise login.refused(failure, self._kind) from None


class _Forwarding:
    """One SSH connection and the local port that it forwards, on an event loop in a thread of its own.

    The library's own forwarding leaves sockets open whose SSH connection broke while they were written to:
    a session would wait for ever. Here each one ends with its task.
    """

    def __init__(self, options: dict[str, Any], host: str, port: int) -> None:
        self.refusal: int | None = None  # the last reason not to forward (RFC 4254, section 5.1)
        self._target = (host, port)
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
        self._opened: Future[tuple[asyncssh.SSHClientConnection, int]] = Future()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._hold(options),), name="atlas-tunnel", daemon=True
        )
        self._thread.start()
        try:
            self._connection, self.port = self._opened.result()
        except BaseException:
            self.close()
            raise

    @property
    def is_broken(self) -> bool:
        return not self._thread.is_alive() or self._connection.is_closed()

    def close(self) -> None:
        loop, task = self._started.result()
        with suppress(RuntimeError):  # the loop has ended with a connection that broke
            loop.call_soon_threadsafe(task.cancel)
        self._thread.join(2 * _GOODBYE_SECONDS)

    async def _hold(self, options: dict[str, Any]) -> None:
        import asyncssh

        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for mypy: asyncio.run makes one
        self._started.set_result((asyncio.get_running_loop(), task))
        try:
            connection = await asyncssh.connect(**options)
        except BaseException as failure:
            self._opened.set_exception(failure)
            return

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Python 3.11 would print a cancelled one's traceback.
            with suppress(asyncio.CancelledError):
                await self._forward(connection, reader, writer)

        try:
            server = await asyncio.start_server(forward, LOOPBACK, 0, limit=_PIECE_BYTES)
            try:
                self._opened.set_result((connection, server.sockets[0].getsockname()[1]))
                await connection.wait_closed()
            finally:
                server.close()
        except asyncio.CancelledError:  # by `close`; leaving here ends the loop, and with it every task
            await _hang_up(connection)
        except OSError as failure:
            self._opened.set_exception(failure)
            await _hang_up(connection)

    async def _forward(
        self,
        connection: asyncssh.SSHClientConnection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        import asyncssh

        try:
            there_reader, there_writer = await connection.open_connection(*self._target)
            self.refusal = None
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(_copy(reader, there_writer))
                    ways.create_task(_copy(there_reader, writer))
                writer.close()
                await writer.wait_closed()
            finally:
                there_writer.close()
        except* asyncssh.ChannelOpenError as failures:
            self.refusal = min(
                each.code for each in failures.exceptions if isinstance(each, asyncssh.ChannelOpenError)
            )
        except* (OSError, asyncssh.Error):
            pass  # what uses the socket sees it closed
        finally:
            writer.transport.abort()


async def _copy(
    reader: asyncio.StreamReader | asyncssh.SSHReader[bytes],
    writer: asyncio.StreamWriter | asyncssh.SSHWriter[bytes],
) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()


async def _hang_up(connection: asyncssh.SSHClientConnection) -> None:
    """Close it, and do not wait for a server that no longer takes anything."""
    connection.close()
    try:
        await asyncio.wait_for(connection.wait_closed(), _GOODBYE_SECONDS)
    except TimeoutError:
        connection.abort()
