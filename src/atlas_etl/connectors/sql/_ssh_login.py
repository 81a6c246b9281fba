"""Logging in to an SSH server: what a tunnel's settings are for asyncssh, and what its refusals mean.

asyncssh is imported where it is needed: only those who have a tunnel have it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from atlas_etl.config.exposure import refuse_exposed
from atlas_etl.connectors.base import Tunnel
from atlas_etl.connectors.sql._meaning import Failure, Meaning
from atlas_etl.errors import AtlasError, ConfigError

if TYPE_CHECKING:
    import asyncssh

_KEEPALIVE_SECONDS = 15.0  # three unanswered ones end a tunnel
# The types that a fingerprint may be of; certificates of hosts have none.
_HOST_KEYS = (
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip


class Login(Struct):
    """What a tunnel's settings are for asyncssh, and the key that the host showed and nobody knew."""

    tunnel: Tunnel
    seconds: float
    shown: asyncssh.SSHKey | None = None
    address: str = ""

    @property
    def known_hosts(self) -> Path:
        return self.tunnel.known_hosts or Path("~/.ssh/known_hosts").expanduser()

    def options(self) -> dict[str, Any]:
        """What asyncssh.connect takes; secrets are among it. Raises ConfigError for a key."""
        tunnel = self.tunnel
        found: dict[str, Any] = {
            "host": tunnel.host,
            "port": tunnel.port,
            "username": tunnel.username,
            "config": None,  # ~/.ssh/config may run programs
            "client_factory": self._client(),
            # Of a host that nothing is known of, the client above decides.
            "known_hosts": ([], [], []),
            "connect_timeout": self.seconds,
            "login_timeout": self.seconds,
            "keepalive_interval": _KEEPALIVE_SECONDS,
            "passphrase": tunnel.passphrase.get_secret_value() if tunnel.passphrase else None,
        }
        if tunnel.host_key is not None:
            found["server_host_key_algs"] = _HOST_KEYS
        elif self.known_hosts.is_file():
            found["known_hosts"] = str(self.known_hosts)
        if tunnel.password is not None:
            found["password"] = tunnel.password.get_secret_value()
        keys = self._keys()
        if keys:
            found["client_keys"] = keys
        if keys or tunnel.password is not None:
            found |= {"agent_path": None, "public_key_auth": bool(keys)}
        return found

    def refused(self, failure: Exception, kind: Failure) -> AtlasError:
        """Our error for an SSH connection that did not come about."""
        import asyncssh

        tunnel = self.tunnel
        host = f"the SSH host {tunnel.host}"
        if isinstance(failure, asyncssh.HostKeyNotVerifiable):
            return _unknown_host(self, kind)
        if isinstance(failure, asyncssh.PermissionDenied):
            meaning = Meaning(
                "authentication_failed",
                "check `username`, `key`, `private_key` and `password` of `tunnel`, "
                "and the authorized_keys of that account",
            )
            return meaning.failure(kind, f"{host} refused the login of {tunnel.username}")
        if isinstance(failure, socket.gaierror):
            return Meaning("host_not_found", "check `host` of `tunnel`").failure(kind, f"{host} is not found")
        why = "the connection failed"
        if isinstance(failure, ConnectionRefusedError):
            why = f"nothing listens on port {tunnel.port}"
        elif isinstance(failure, TimeoutError):
            why = f"it does not answer within {self.seconds:g} seconds"
        elif isinstance(failure, OSError) and failure.strerror:
            why = failure.strerror
        elif isinstance(failure, asyncssh.Error):
            why = "".join(character for character in failure.reason if character.isprintable())
        meaning = Meaning(
            "ssh_unreachable", "check `host` and `port` of `tunnel`, and that sshd runs there", True
        )
        return meaning.failure(kind, f"{host} cannot be used: {why}")

    def _keys(self) -> list[Any]:
        import asyncssh

        tunnel = self.tunnel
        passphrase = tunnel.passphrase.get_secret_value() if tunnel.passphrase else None
        what = f"the SSH key {tunnel.key}" if tunnel.key else "the SSH key in `private_key`"
        try:
            if tunnel.key is not None:
                refuse_exposed(tunnel.key, os.stat(tunnel.key))
                return list(asyncssh.load_keypairs(str(tunnel.key), passphrase))
            if tunnel.private_key is not None:
                return [asyncssh.import_private_key(tunnel.private_key.get_secret_value(), passphrase)]
        except OSError as failure:
            raise ConfigError(
                f"{what} cannot be read: {failure.strerror}",
                hint="check `key` of `tunnel`",
                code="ssh_key",
            ) from None
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
            raise ConfigError(
                f"{what} cannot be used: it is no private key, or not with this passphrase",
                hint="check `key` (a file) or `private_key` (its text) and `passphrase` of `tunnel`",
                code="ssh_key",
            ) from None
        return []

    def _client(self) -> Callable[[], asyncssh.SSHClient]:
        import asyncssh

        login = self

        class Client(asyncssh.SSHClient):
            def validate_host_public_key(
                self,
                host: str,  # noqa: ARG002
                addr: str,
                port: int,  # noqa: ARG002
                key: asyncssh.SSHKey,
            ) -> bool:
                login.shown, login.address = key, addr
                return key.get_fingerprint() == login.tunnel.host_key

        return Client


def _unknown_host(login: Login, kind: Failure) -> AtlasError:
    import asyncssh

    tunnel, key = login.tunnel, login.shown
    if key is None:  # a certificate, or a key that was revoked
        meaning = Meaning("unknown_host_key", f"see what {login.known_hosts} says of this host")
        return meaning.failure(kind, f"the key of the SSH host {tunnel.host} is not trusted")
    fingerprint = key.get_fingerprint()
    shows = f"it shows the {key.get_algorithm()} key {fingerprint}"
    compare = "compare it with what `ssh-keygen -lf` says of the host's own /etc/ssh/ssh_host_*_key.pub"
    if tunnel.host_key is not None:
        meaning = Meaning("changed_host_key", f"somebody may be in between: {compare}")
        return meaning.failure(kind, f"the SSH host {tunnel.host} is not the one of `host_key`: {shows}")
    known: Sequence[asyncssh.SSHKey] = ()
    if login.known_hosts.is_file():
        port = None if tunnel.port == 22 else tunnel.port
        known = asyncssh.match_known_hosts(str(login.known_hosts), tunnel.host, login.address, port)[0]
    if known:
        meaning = Meaning("changed_host_key", f"somebody may be in between: {compare}")
        message = f"the SSH host {tunnel.host} has another key than in {login.known_hosts}: {shows}"
        return meaning.failure(kind, message)
    at = "" if tunnel.port == 22 else f"-p {tunnel.port} "
    meaning = Meaning(
        "unknown_host_key",
        f"{compare}; then set `host_key: {fingerprint}` in `tunnel`, "
        f"or add it: ssh-keyscan {at}{tunnel.host} >> {login.known_hosts}",
    )
    return meaning.failure(kind, f"the SSH host {tunnel.host} is not known: {shows}")
