"""An SSH server for the tests: OpenSSH's own sshd with a private configuration, from Debian's package."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from tests.servers.address import Unavailable
from tests.servers.process import Server, account_name, own, private_folder, runnable

MENDING = "run scripts/test as root, or: apt-get install openssh-server, or set ATLAS_TEST_SSH_BIN"


@dataclass(frozen=True, slots=True)
class SshServer:
    """A server that lets one account in, by one key, and forwards for it."""

    server: Server
    username: str
    key: Path
    known_hosts: Path
    fingerprint: str

    @property
    def port(self) -> int:
        return self.server.port

    def tunnel(self, **more: object) -> dict[str, object]:
        """A connection's `tunnel`."""
        found: dict[str, object] = {
            "host": "127.0.0.1", "port": self.port, "username": self.username,
            "key": str(self.key), "known_hosts": str(self.known_hosts),
        }  # fmt: skip
        return {name: value for name, value in (found | more).items() if value is not None}

    def kill(self) -> None:
        """End the server and its connections, each of which is a process in a session of its own."""
        found = _children(self.server.pid)
        self.server.kill()
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def start(self) -> None:
        """Start it again on the same port, with the same keys."""
        self.server.start()


@contextmanager
def serve(folder: Path, *settings: str) -> Iterator[SshServer]:
    """A server, its client's files in `folder`; more lines of sshd_config. `Unavailable` without sshd.

    It runs as an ordinary account, and so lets only that one in.
    """
    program = find_programs()
    host, client = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    key, known_hosts = folder / "id_ed25519", folder / "known_hosts"
    key.touch(mode=0o600)
    key.write_bytes(client.export_private_key())
    with private_folder("atlas-ssh-") as private:
        host_key, allowed = private / "host_key", private / "authorized_keys"
        host_key.touch(mode=0o600)
        host_key.write_bytes(host.export_private_key())
        allowed.write_bytes(client.export_public_key())
        lines = [
            f"HostKey {host_key}",
            f"AuthorizedKeysFile {allowed}",
            "ListenAddress 127.0.0.1",
            "PidFile none",
            "StrictModes no",
            "UsePAM yes",  # without it an account that has no password counts as locked
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            *settings,
        ]
        config = private / "sshd_config"
        config.write_text("".join(f"{line}\n" for line in lines))
        for path in (host_key, allowed, config):
            own(path)
        server = Server(
            lambda port: [str(program), "-D", "-e", "-f", str(config), "-p", str(port)],
            folder=private,
            handshake=_handshake,
            not_ready=OSError,
            stop_signal=signal.SIGTERM,
        )
        with server:
            public = host.export_public_key().decode()
            known_hosts.write_text(f"[127.0.0.1]:{server.port} {public}")
            found = SshServer(server, account_name(), key, known_hosts, host.get_fingerprint())
            try:
                yield found
            finally:
                found.kill()


def find_programs() -> Path:
    """sshd, which wants to be called by its whole path; `Unavailable` without it."""
    given = os.environ.get("ATLAS_TEST_SSH_BIN") or shutil.which("sshd", path=f"{os.defpath}:/usr/sbin")
    if given is None or not runnable(Path(given)):
        raise Unavailable(f"no sshd: {MENDING}")
    return Path(given)


def _handshake(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
        stream.settimeout(5)
        if not stream.recv(8).startswith(b"SSH-2.0"):
            raise ConnectionError("no SSH server answers")


def _children(process: int) -> Sequence[int]:
    listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    found = [int(line) for line in listed.stdout.split()]
    return [*found, *(below for each in found for below in _children(each))]
