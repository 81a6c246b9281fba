"""Writing a file whole or not at all, whatever kills the process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from atlas_etl.errors import ConfigError

PRIVATE = 0o600
ORDINARY = 0o666  # less the umask that the process began with
_OWNER_ONLY = 0o077

_umasks: list[int] = []


def keep_new_files_private() -> None:
    """Have whatever this process, or a library in it, makes from now on be its owner's alone.

    A database makes logs and temporary files beside its own, with whatever mode the umask leaves.
    """
    _umasks.append(os.umask(_OWNER_ONLY))


def mode_for_data(path: Path) -> int:
    """Of a file with rows: one that is there keeps its own, and a new one is for its owner alone."""
    return ORDINARY if path.exists() else PRIVATE


def write_atomically(path: Path, text: str, mode: int) -> None:
    """The same for a text, in a folder that need not be there. Raises ConfigError (`file_unwritable`)."""
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode) as file:
            file.write(text.encode())
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}",
            hint="make it and its folder writable for this user, on a disk with room that is not read-only",
            code="file_unwritable",
        ) from None


@contextmanager
def replacing(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A file beside this one, flushed to the disk and renamed over it when the block ends without an error.

    `mode` (PRIVATE or ORDINARY) never widens what a file that is there allows. A link is followed, so
    that what it points to changes. Raises OSError.
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        file = open(handle, "wb", closefd=False)  # noqa: SIM115  # who writes may close it
        try:
            if path.exists():
                os.fchmod(handle, path.stat().st_mode & mode)
            elif mode == PRIVATE:
                os.fchmod(handle, PRIVATE)  # whatever the umask
            elif _umasks:
                os.fchmod(handle, mode & ~_umasks[0])
            yield file
            file.close()
            os.fsync(handle)
        finally:
            with suppress(OSError):
                file.close()
            os.close(handle)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
