"""Folders of temporary files; what a process that was killed left of them goes when the next one is made.

A process locks its folder, and its end frees the lock however it comes: a folder that can be locked is
nobody's any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import weakref
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from types import TracebackType
from typing import Self


class Purpose(StrEnum):
    """What a folder is for, in its name."""

    LOAD = "load"
    SCRATCH = "scratch"
    QUERY = "query"
    FREETDS = "freetds"


_NAMES = tuple(f"atlas-{purpose}-" for purpose in Purpose)
_NOT_LOCKED_YET = ".atlas-new-"  # nobody looks at these: one that is left is empty


class TemporaryFolder:
    """A new folder in that for temporary files (TMPDIR), its owner's alone; gone with `close`.

    Raises OSError.
    """

    def __init__(self, purpose: Purpose) -> None:
        _remove_left()
        made = Path(mkdtemp(prefix=_NOT_LOCKED_YET))
        lock = os.open(made, os.O_RDONLY)
        with suppress(OSError):  # where folders cannot be locked, nobody takes it for one that is left
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = made.rename(made.with_name(f"atlas-{purpose}-{made.name.removeprefix(_NOT_LOCKED_YET)}"))
        self._remove = weakref.finalize(self, _remove, self.path, lock)

    def close(self) -> None:
        """May be called twice."""
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _remove(path: Path, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _remove_left() -> None:
    with suppress(OSError), os.scandir(gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_NAMES):
                with suppress(OSError):  # another one's, or in use
                    _remove_if_left(entry.path)


def _remove_if_left(path: str) -> None:
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(lock).st_uid == os.getuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)
