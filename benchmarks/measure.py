"""One command, measured: wall and CPU seconds, and the peak memory of its whole process tree.

Memory is resident (RSS): what `ps` and the kernel's out-of-memory killer see, pages shared between processes
of the tree counted once for each. On Linux the tree is sampled from /proc and each process's own high-water
mark (VmHWM) is read along, so a spike between two samples of a single process is seen too. Elsewhere it is
getrusage's maximum: that of the largest process in the tree. CPU is getrusage's of the command and of every
child that it waited for; a database server that the command talks to is not its child, and is not counted.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_PROC = Path("/proc")
_SAMPLE_SECONDS = 0.02
_SCAN_EVERY = 5  # samples; in between only processes known by then are looked at
_RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes


@dataclass(frozen=True, slots=True)
class Command:
    """A program to run in a folder, `environment` on top of ours."""

    arguments: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command took, and what it said."""

    exit_code: int
    wall_seconds: float
    cpu_seconds: float  # user and system
    peak_bytes: int
    stdout: str
    stderr: str


def measure(command: Command, *, timeout: float) -> Measured:
    """Run a command to its end. Raises TimeoutError, its process group killed, when that takes too long."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        began = time.monotonic()
        process = subprocess.Popen(
            command.arguments,
            cwd=command.folder,
            env={**os.environ, **command.environment},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        expired = threading.Event()
        clock = threading.Timer(timeout, _kill, (process.pid, expired))
        clock.start()
        watcher = _Watcher(process.pid)
        watcher.start()
        try:
            # Not Popen.wait: this one gives the resources of the whole tree of children that were waited for.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
        finally:
            clock.cancel()
            _kill(process.pid)
            watcher.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        if expired.is_set():
            raise TimeoutError(f"{command.arguments[0]} did not end within {timeout:.0f} s")
        stdout.seek(0)
        stderr.seek(0)
        return Measured(
            exit_code=process.returncode,
            wall_seconds=wall,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=watcher.peak_bytes or _largest_child(usage),
            stdout=stdout.read().decode(errors="replace"),
            stderr=stderr.read().decode(errors="replace"),
        )


class _Watcher(threading.Thread):
    """Samples the memory of every process in one session."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._session = session
        self._ended = threading.Event()

    def run(self) -> None:
        if not (_PROC / "self" / "status").exists():
            return
        known: set[int] = set()
        sample = 0
        while not self._ended.is_set():
            if sample % _SCAN_EVERY == 0:
                known = _in_session(self._session)
            sizes = [size for pid in known if (size := _memory(pid)) is not None]
            if sizes:
                together = sum(now for now, _ in sizes)
                self.peak_bytes = max(self.peak_bytes, together, *(most for _, most in sizes))
            sample += 1
            self._ended.wait(_SAMPLE_SECONDS)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _in_session(session: int) -> set[int]:
    found = set()
    for entry in os.listdir(_PROC):
        if entry.isdigit():
            with suppress(OSError):
                text = (_PROC / entry / "stat").read_text(errors="replace")
                # The name, in parentheses, may hold anything; the session is the fourth field after it.
                if int(text.rpartition(")")[2].split()[3]) == session:
                    found.add(int(entry))
    return found


def _memory(pid: int) -> tuple[int, int] | None:
    """Resident bytes now and at their most; None for a process that has ended."""
    try:
        text = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    found = dict(line.split(":", 1) for line in text.splitlines() if line.startswith(("VmRSS", "VmHWM")))
    if len(found) < 2:
        return None
    now, most = (int(found[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def _largest_child(usage: resource.struct_rusage) -> int:
    return usage.ru_maxrss * _RUSAGE_UNIT


def _kill(group: int, expired: threading.Event | None = None) -> None:
    if expired is not None:
        expired.set()
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
