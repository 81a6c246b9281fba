"""Which process this is and who runs it; whether the process that holds a lease is certainly gone."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from atlas_etl.model import Actor

_LONGEST = 200  # characters of what an environment claims

# Who began a process that runs as another account, as these say in their manuals.
_BEHIND = {
    "SUDO_USER": "sudo",
    "DOAS_USER": "doas",
    "GITHUB_ACTOR": "GitHub Actions",
    "GITLAB_USER_LOGIN": "GitLab CI",
    "BUILDKITE_BUILD_CREATOR": "Buildkite",
    "CIRCLE_USERNAME": "CircleCI",
    "BITBUCKET_STEP_TRIGGERER_UUID": "Bitbucket Pipelines",
    "BUILD_REQUESTEDFOR": "Azure Pipelines",
    "BUILD_USER_ID": "Jenkins",
}


class Holder(Struct, frozen=True):
    """A process, told apart from a later one with the same pid.

    `place` names the boot and the pid namespace in which `pid` and the monotonic clock mean the same thing
    to two processes; None where the system does not say (only Linux does), and then only a late heartbeat
    tells that the holder is gone. `started` is the process's start in clock ticks since the boot.
    """

    host: str
    pid: int
    place: str | None
    started: int | None

    def shares_clock_with(self, other: Holder) -> bool:
        return self.place is not None and self.place == other.place


def this_process() -> Holder:
    pid = os.getpid()
    stat = _stat(pid)
    return Holder(socket.gethostname(), pid, _place(), None if stat is None else stat[1])


def this_user() -> str:
    """`user@host`: the account that this process runs as, whatever its environment says of it."""
    number = os.geteuid()
    try:
        name = pwd.getpwuid(number).pw_name
    except KeyError:  # a container may run as a number without an account
        name = str(number)
    return f"{name}@{socket.gethostname()}"


def this_actor(environ: Mapping[str, str], command: str | None = None) -> Actor:
    """This process as who changes something; `command` is what it does, by default its program's name."""
    command = command or Path(sys.argv[0]).name
    user, _, host = this_user().rpartition("@")
    return Actor(user, host, os.getpid(), command, _on_behalf_of(environ), _address(environ))


def _on_behalf_of(environ: Mapping[str, str]) -> str | None:
    found = next(
        ((name, environ[name]) for name in _BEHIND if environ.get(name) not in (None, "", "root")), None
    )
    return None if found is None else f"{found[1][:_LONGEST]} ({_BEHIND[found[0]]})"


def _address(environ: Mapping[str, str]) -> str | None:
    """The other end of the SSH session: `client_ip client_port server_ip server_port` (ssh(1))."""
    return environ.get("SSH_CONNECTION", "").partition(" ")[0][:_LONGEST] or None


def has_ended(holder: Holder, seen_from: Holder) -> bool:
    """Whether the holder certainly runs no more; False also where that cannot be known from here."""
    if not holder.shares_clock_with(seen_from) or holder.started is None:
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's process
        pass
    stat = _stat(holder.pid)
    if stat is None:  # hidden from us (hidepid), or gone this instant: the next look will tell
        return False
    state, started = stat
    return state in {"Z", "X"} or started != holder.started


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time: fields 3 and 22 of proc_pid_stat(5); field 2 may hold any character."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return fields[0].decode(), int(fields[19])


def _place() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
    return f"{boot} {namespace}"
