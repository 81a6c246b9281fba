"""A project folder of a test's own, and the `atlas` command run in it as a user's shell would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import forks

# Only these reach the command: no ATLAS_*, PG*, NO_COLOR or proxy of whoever runs the tests changes a result.
PASSED_ON = frozenset({"PATH", "LANG", "LC_ALL", "TMPDIR", "TZ", "COVERAGE_PROCESS_START"})


class Finished(subprocess.CompletedProcess[str]):
    """A command that ended: `returncode`, `stdout`, `stderr`."""

    def json(self) -> Any:
        """The one JSON document on stdout; `AssertionError`, with stderr, when it is not exactly that."""
        try:
            return json.loads(self.stdout)
        except ValueError as error:
            raise AssertionError(
                f"exit {self.returncode}, stdout is not one JSON document: {error}\n"
                f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
            ) from error


@dataclass(frozen=True, slots=True)
class Project:
    """An empty project folder and a home folder beside it; `atlas` runs there, the tests need no chdir."""

    folder: Path
    home: Path

    def write(self, path: str, text: str) -> Path:
        """A file of the project, parents made; its path."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What the command sees: the little it needs, and `more`."""
        kept = {name: value for name, value in os.environ.items() if name in PASSED_ON}
        return {**kept, "HOME": str(self.home), **(more or {})}

    def atlas(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        input: str | None = None,
        cwd: Path | None = None,
        timeout: float = 60,
    ) -> Finished:
        """Runs `atlas ARGUMENTS` to its end, without a terminal; without `input`, stdin is empty."""
        done = forks.runner(env or {})(
            arguments, cwd=cwd or self.folder, env=self.environment(env), given=input or "", timeout=timeout
        )
        return Finished(done.args, done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts `atlas ARGUMENTS` in a session of its own, to be signalled or killed; the caller ends it."""
        return subprocess.Popen(
            [sys.executable, "-m", "atlas_etl", *arguments],
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
