"""`${cmd:PROGRAM ARGUMENT...}`: what a program of the user's prints, such as a password manager's."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from atlas_etl.config.project import PREFIX
from atlas_etl.errors import ConfigError

SECONDS = 30.0
_MOST_BYTES = 1024 * 1024


def output_of(written: str, folder: Path, environ: Mapping[str, str], seconds: float = SECONDS) -> str:
    """The program's output as text, without the line break at its end.

    `written` is split as a POSIX shell splits words, quotes and backslashes included, and no shell sees it:
    nothing in it is expanded. It is given none of Atlas's own variables (`ATLAS_...`), which hold keys and
    passwords. What it says on its stderr is dropped, for it may quote secrets.
    Raises ConfigError (`command_failed`).
    """
    arguments = _split(written)
    program = arguments[0]
    try:
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env={name: value for name, value in environ.items() if not name.startswith(PREFIX)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as failure:
        why = getattr(failure, "strerror", None) or type(failure).__name__
        raise _failed(program, f"cannot be run: {why}") from None
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        raise _failed(program, f"did not end within {seconds:g} s") from None
    finally:
        _end(process)
    if process.returncode != 0:
        raise _failed(program, f"ended with exit code {process.returncode}")
    return _text(output, program)


def _split(written: str) -> list[str]:
    try:
        arguments = shlex.split(written)
    except ValueError:
        arguments = []
    if not arguments:
        raise ConfigError(
            "a `cmd` reference needs a program and its arguments",
            hint="${cmd:pass show shop/password}",
            code="reference_syntax",
        )
    return arguments


def _end(process: subprocess.Popen[bytes]) -> None:
    """The program with whatever it started, where they are still there."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _text(output: bytes, program: str) -> str:
    if len(output) > _MOST_BYTES or b"\0" in output:
        raise _failed(program, f"printed something that is not text of at most {_MOST_BYTES} bytes")
    try:
        text = output.decode()
    except UnicodeDecodeError:
        raise _failed(program, "printed something that is not UTF-8") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise _failed(program, "printed nothing")
    return text


def _failed(program: str, why: str) -> ConfigError:
    return ConfigError(
        f"the program {program!r} {why}", hint="run it by hand to see why", code="command_failed"
    )
