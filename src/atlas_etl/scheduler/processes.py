"""Runs and tests as processes: each in a group of its own, so that its memory and crashes stay its own."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from atlas_etl.model import Slot

_OF_SERVICES = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})  # a run is none of its own
_OF_BROKERS = frozenset(
    {"CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND"}
)  # their passwords are none of its business


def environment_of_runs(environ: Mapping[str, str]) -> dict[str, str]:
    """What a run or a test needs of the environment of the process that starts it."""
    return {name: value for name, value in environ.items() if name not in _OF_SERVICES | _OF_BROKERS}


class Execution(Protocol):
    """One run that goes on elsewhere."""

    def poll(self) -> int | None:
        """Its exit code once it ended, negative for a signal (see errors.ExitCode); None before."""

    def interrupt(self) -> None:
        """Ask it to end: what it committed stays."""

    def kill(self) -> None:
        """End it now."""


class AnsweringExecution(Execution, Protocol):
    """A test of a connection that goes on elsewhere."""

    def answer(self) -> bytes:
        """What it wrote to its standard output, once it ended."""


class Executor(Protocol):
    """Where runs are executed."""

    poll_seconds: float | None
    """How often runs have to be asked whether they ended; None: the clock's sleep ends when one does."""

    def start(self, slot: Slot) -> Execution:
        """Begin the run of this slot. Raises OSError where it cannot be begun."""


class Tester(Protocol):
    """Where connections are tested."""

    def start_test(self, connector: str, limit: float) -> AnsweringExecution:
        """Begin to test; it ends by itself after `limit` seconds. Raises OSError where it cannot be begun."""


# The alarm is kept across exec, and ends the process even where nobody is left who would.
_LIMITED = "import os, signal, sys; signal.alarm(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
_LONGEST_ANSWER = 1024 * 1024


class ProcessExecutor:
    """Runs `atlas connector sync`, and tests with `atlas connector test`, on this machine."""

    poll_seconds: float | None = None

    def __init__(self, project: Path, environ: Mapping[str, str], options: Sequence[str] = ()) -> None:
        self._command = [sys.executable, "-m", "atlas_etl", "--project", str(project.absolute()), *options]
        self._environ = environment_of_runs(environ)

    def start(self, slot: Slot) -> Execution:
        cause = "retry" if slot.attempts else "scheduled"
        at = slot.scheduled_at.isoformat().replace("+00:00", "Z")
        of_run = ["connector", "sync", slot.connector, "--slot", at, "--triggered-by", cause]
        return _Process([*self._command, *of_run], self._environ, subprocess.DEVNULL)

    def start_test(self, connector: str, limit: float) -> AnsweringExecution:
        ended_after = [sys.executable, "-I", "-S", "-c", _LIMITED, str(math.ceil(limit))]
        test = ["connector", "test", connector, "--json"]
        return _TestProcess([*ended_after, *self._command, *test], self._environ)


class _Process:
    def __init__(self, command: Sequence[str], environ: Mapping[str, str], output: int) -> None:
        self._process = subprocess.Popen(
            command, env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, start_new_session=True
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


class _TestProcess(_Process):
    def __init__(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._answer = b""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `poll`; a pipe would have to be read
        super().__init__(command, environ, self._output.fileno())

    def poll(self) -> int | None:
        code = super().poll()
        if code is not None and not self._output.closed:
            self._output.seek(0)
            self._answer = self._output.read(_LONGEST_ANSWER)
            self._output.close()
        return code

    def answer(self) -> bytes:
        return self._answer
