"""Environments of their own for programs of others, made in build/ when first asked for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers import Unavailable

_FOLDER = Path(__file__).resolve().parents[1] / "build" / "peers"


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with exactly these requirements."""

    name: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        digest = hashlib.sha256("\n".join((sys.version, *self.requirements)).encode()).hexdigest()[:8]
        return _FOLDER / f"{self.name.replace(' ', '-')}-{digest}"

    @property
    def programs(self) -> Path:
        return self.folder / "bin"

    def install(self) -> None:
        """Make it unless it is there. Raises tests.servers.Unavailable."""
        ready = self.folder / "ready"
        if ready.exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        python = str(self.programs / "python")
        if uv := shutil.which("uv"):
            _succeed([uv, "venv", "--quiet", "--python", sys.executable, str(self.folder)])
            install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        else:
            _succeed([sys.executable, "-m", "venv", str(self.folder)])
            install = [python, "-m", "pip", "install", "--quiet"]
        _succeed([*install, *self.requirements])
        ready.touch()


def _succeed(arguments: Sequence[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise Unavailable(" ".join(done.stderr.split())[:300])
