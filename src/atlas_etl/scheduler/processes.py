"""Runs as processes: each in a process group of its own, so that its memory and its crashes stay its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from atlas_etl.model import Slot

_OURS = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})  # a run is no service of its own


class Execution(Protocol):
    """One run that goes on elsewhere."""

    def poll(self) -> int | None:
        """Its exit code once it ended, negative for a signal (see errors.ExitCode); None before."""

    def interrupt(self) -> None:
        """Ask it to end: what it committed stays."""

    def kill(self) -> None:
        """End it now."""


class Executor(Protocol):
    """Where runs are executed."""

    poll_seconds: float | None
    """How often runs have to be asked whether they ended; None: the clock's sleep ends when one does."""

    def start(self, slot: Slot) -> Execution:
        """Begin the run of this slot. Raises OSError where it cannot be begun."""


class ProcessExecutor:
    """Runs `atlas connector sync` on this machine."""

    poll_seconds: float | None = None

    def __init__(self, project: Path, environ: Mapping[str, str], options: Sequence[str] = ()) -> None:
        self._command = [sys.executable, "-m", "atlas_etl", "--project", str(project.absolute()), *options]
        self._environ = {name: value for name, value in environ.items() if name not in _OURS}

    def start(self, slot: Slot) -> Execution:
        cause = "retry" if slot.attempts else "scheduled"
        at = slot.scheduled_at.isoformat().replace("+00:00", "Z")
        of_run = ["connector", "sync", slot.connector, "--slot", at, "--triggered-by", cause]
        return _RunProcess([*self._command, *of_run], self._environ)


class _RunProcess:
    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is not None:
            self.kill()  # what it started and left behind
        return code

    def interrupt(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS forbids signalling a group of zombies
            os.killpg(self._process.pid, number)
