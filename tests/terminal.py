"""A command on a pseudo-terminal, typed to as a person does: after its question, and not before."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.project import Project

PATIENCE = 60.0  # seconds; machines of a CI are slow


@dataclass
class Terminal:
    """`shown` is what the screen was sent, what was typed included where it was echoed; `sent` its bytes."""

    process: subprocess.Popen[bytes]
    ours: int
    shown: str = ""
    sent: bytes = b""
    _from: int = field(default=0)

    def answer(self, question: str, typed: str, *, hidden: bool = False) -> None:
        """Wait for a question, behind the last one, and type a line. Raises AssertionError."""
        self._wait_for_prompt(question)
        deadline = time.monotonic() + PATIENCE
        while hidden and termios.tcgetattr(self.ours)[3] & termios.ECHO:  # what is typed before that is lost
            assert time.monotonic() < deadline, self.shown
        self.type(f"{typed}\n")

    def interrupt(self, question: str) -> None:
        """Wait for a question, behind the last one, and press Ctrl-C. Raises AssertionError.

        The command sleeps by then: a signal between the prompt and the read that follows it, which no person
        is fast enough for, is noted by Python and looked at when the read returns, with the next key.
        """
        self._wait_for_prompt(question)
        deadline = time.monotonic() + PATIENCE
        while not self._sleeps():
            assert time.monotonic() < deadline, self.shown
        self.type("\x03")

    def end_input(self, question: str) -> None:
        """Wait for a question, behind the last one, and press Ctrl-D. Raises AssertionError."""
        self._wait_for_prompt(question)
        self.type("\x04")

    def wait_for(self, text: str) -> None:
        """Wait until the screen shows this, behind what was waited for before."""
        deadline = time.monotonic() + PATIENCE
        while (at := self.shown.find(text, self._from)) < 0:
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.shown}"
            assert self._read(deadline), f"ended without {text!r}:\n{self.shown}"
        self._from = at + len(text)

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def end(self) -> int:
        """The exit code, once the command has ended."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            assert time.monotonic() < deadline, self.shown
        return self.process.wait(PATIENCE)

    def _wait_for_prompt(self, question: str) -> None:
        self.wait_for(question)
        deadline = time.monotonic() + PATIENCE
        while not self.shown.endswith(": "):
            assert self._read(deadline), self.shown

    def _sleeps(self) -> bool:
        state = ["ps", "-o", "stat=", "-p", str(self.process.pid)]
        return subprocess.run(state, capture_output=True, text=True, check=True).stdout.startswith("S")

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self.ours], [], [], max(deadline - time.monotonic(), 0))
        more = b""
        with suppress(OSError):  # the other end is closed
            more = os.read(self.ours, 4096) if ready else b""
        self.sent += more  # which may end within a character, or a control sequence
        self.shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.sent.decode(errors="replace")).replace(
            "\r", ""
        )
        return bool(more)


@contextmanager
def on_terminal(
    project: Project, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """`atlas ARGUMENTS` with a terminal of its own, 100 columns wide; killed at the end of the block."""
    with program_on_terminal(project, sys.executable, "-c", _ATLAS, *arguments, env=env) as terminal:
        yield terminal


@contextmanager
def program_on_terminal(
    project: Project, *command: str, env: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Another program likewise, in the project's folder."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_TERMINAL, *command],
        cwd=project.folder, env={**project.environment(), "TERM": "xterm", **(env or {})},
        start_new_session=True, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


# Ctrl-C reaches a process only where the terminal is that of its session.
_WITH_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_ATLAS = """
import sys
from atlas_etl.cli.start import main
sys.argv[0] = "atlas"
main()
"""
