"""One server process: a free loopback port, a session of its own, a handshake, and a certain end."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_IXOTH
from typing import IO

START_SECONDS = 60.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.02

# The server replaces this shell; the orphan it leaves behind kills the group when our end of standard
# input closes, so a test run that is itself killed leaves no server running.
_WITH_WATCHER = '( { cat >/dev/null; kill -9 0; } <&3 & ) 3<&0 </dev/null; exec "$@" </dev/null'


class ServerFailed(Exception):
    """A server program ended or never answered; the text ends with what it logged."""


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A folder for a server's data, owned by the account it runs as, removed afterwards.

    It is in the folder that ATLAS_TEST_SERVERS_FOLDER names, else among the temporary ones.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=os.environ.get("ATLAS_TEST_SERVERS_FOLDER")))
    try:
        own(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def own(path: Path) -> None:
    """Gives a file or folder to the account that servers run as."""
    if account := _account():
        os.chown(path, account.pw_uid, account.pw_gid)


def runnable(program: Path) -> bool:
    """Whether the account that servers run as can reach and execute this program."""
    if not os.access(program, os.X_OK):
        return False
    places = (program, *program.resolve().parents)
    return _account() is None or all(place.stat().st_mode & S_IXOTH for place in places)


def run(command: Sequence[str], *, folder: Path) -> None:
    """Runs a preparing command to its end as the servers' account; `ServerFailed` with its output."""
    with _spawn(command, folder=folder, stdin=subprocess.DEVNULL, output=subprocess.PIPE) as process:
        output, _ = process.communicate(timeout=START_SECONDS)
    if process.returncode:
        said = output.decode(errors="replace")
        raise ServerFailed(f"{command[0]} ended with {process.returncode}:\n{said}")


class Server:
    """A server program that listens on one loopback port.

    `command` makes the command line for a port. `handshake` connects to a port as a real client and raises
    one of `not_ready` until the server answers. `stop_signal` asks the program to end without waiting for
    its clients. After `kill` or `stop`, `start` starts it again on the same port with the same data.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        *,
        folder: Path,
        handshake: Callable[[int], None],
        not_ready: type[Exception],
        stop_signal: signal.Signals,
    ) -> None:
        self.port = _free_port()
        self._command = command
        self._folder = folder
        self._log = folder / "server.log"
        self._handshake = handshake
        self._not_ready = not_ready
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        for _ in range(3):
            try:
                self.start()
            except ServerFailed as failure:
                # Between our look for a free port and the server's bind, somebody else may take the port.
                if os.strerror(errno.EADDRINUSE) not in str(failure):
                    raise
                self.port = _free_port()
            else:
                return self
        raise ServerFailed("three free ports in a row were taken by others before the server bound them")

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the program and returns once a client got through; `ServerFailed` otherwise."""
        with self._log.open("wb") as log:
            command = ["/bin/sh", "-c", _WITH_WATCHER, "sh", *self._command(self.port)]
            self._process = _spawn(command, folder=self._folder, stdin=subprocess.PIPE, output=log)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._handshake(self.port)
            except self._not_ready as failure:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(POLL_SECONDS)
                if self._process.returncode is None and time.monotonic() < deadline:
                    continue
                logged = self._log.read_text(errors="replace")[-3000:]
                self.kill()
                raise ServerFailed(f"no handshake on port {self.port}: {failure}\n{logged}") from failure
            return

    @property
    def pid(self) -> int:
        """The program's process; it has to be running."""
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """Ends the program's process group: asked first, killed when that takes too long."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """Ends the program's process group at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _signal_group(process.pid, how)
            process.wait(STOP_SECONDS)
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin:
                process.stdin.close()


def _signal_group(group: int, how: signal.Signals) -> None:
    # macOS answers EPERM, not ESRCH, for a group in which only a zombie is left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, how)


def _spawn(
    command: Sequence[str], *, folder: Path, stdin: int, output: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    account = _account()
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH"}}
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**kept, "HOME": str(folder), "LC_ALL": "C", "TZ": "UTC"},
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def account_name() -> str:
    """The name of the account that servers run as."""
    return (_account() or pwd.getpwuid(os.geteuid())).pw_name


def _account() -> pwd.struct_passwd | None:
    """Who servers run as where we are root, whom PostgreSQL refuses; None: as ourselves."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
